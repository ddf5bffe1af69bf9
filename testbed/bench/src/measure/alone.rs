// SPDX-License-Identifier: MIT OR Apache-2.0

//! Producers without a consumer: laps for which there is room, and between them all is forgotten.

use anyhow::Result;

use super::producer::Producer;
use super::{Budget, Part, Plan};
use crate::clock;
use crate::contestant::{Contestant, RING, Receiver};
use crate::control::Control;
use crate::process::Processors;
use crate::statistics::median;

/// Room for what any contestant adds to a record, and for the unused end of a ring.
const HEADER: usize = 64;
/// Laps that are not counted.
const WARM_UP: u32 = 8;

pub(super) fn run<C: Contestant, const N: usize>(
    plan: &Plan,
    control: &Control,
    shared: C::Shared<N>,
    index: usize,
) -> Result<Part> {
    Processors::pin(&[plan.producer(index)])?;
    // The first producer forgets for all of them.
    let mut receiver = match index {
        0 => Some(C::receiver::<N>(C::share::<N>(&shared)?)?),
        _ => None,
    };
    let mut sender = C::sender::<N>(shared, index)?;
    let mut probes = Vec::new();
    control.ready(1)?;
    if let Some(side) = plan.producer_side(index) {
        probes.push(control.probe(side)?);
    }
    control.ready(2)?;
    let mut producer = Producer {
        sender: &mut sender,
        index,
        sent: 0,
        full: 0,
    };
    let count = (RING / (N + HEADER) / plan.setting.producers) as u64;
    let started = clock::nanoseconds();
    let mut laps = Vec::new();
    for lap in 0.. {
        control.begin_lap(index, lap)?;
        if control.is_stopped() {
            break;
        }
        let end = producer.sent + count;
        while producer.sent < end {
            producer.burst::<N>((end - producer.sent).min(BURST))?;
        }
        control.end_lap(index);
        let Some(receiver) = &mut receiver else {
            continue;
        };
        let time = control.lap_time(lap)?;
        if lap >= WARM_UP {
            laps.push(time as f64);
        }
        receiver.skip()?;
        if is_over(plan.budget, started, lap) {
            control.stop();
        }
    }
    if let Some(side) = plan.producer_side(index) {
        probes.push(control.probe(side)?);
    }
    if index > 0 {
        probes.clear();
    }
    // The lap in the middle: in some of them the processor was taken away.
    let lap = median(&laps).unwrap_or(0.0);
    let records = if index == 0 {
        producer.sent * plan.setting.producers as u64
    } else {
        0
    };
    let rate = (count * plan.setting.producers as u64) as f64 * 1000.0 / lap.max(1.0);
    Ok(Part::Alone {
        records,
        rate,
        probes,
    })
}

/// As large as the largest of any contestant.
const BURST: u64 = 512;

fn is_over(budget: Budget, started: u64, lap: u32) -> bool {
    match budget {
        Budget::Records(_) => lap > WARM_UP,
        Budget::Time { measured, .. } => {
            let time = clock::nanoseconds() - started;
            lap > WARM_UP && u128::from(time) > measured.as_nanos()
        }
    }
}
