// SPDX-License-Identifier: MIT OR Apache-2.0

//! One measurement of one contestant: starts its processes, and makes one figure of what they tell.

mod alone;
mod consumer;
mod producer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::contestant::{Contestant, Idle, Setting};
use crate::control::{Control, Side};
use crate::process::{self, Child, Processors};
use crate::statistics::Stratum;

/// How long anything but the measurement itself may take.
const SLACK: Duration = Duration::from_secs(15);

/// The pause before a record whose delay is measured, in nanoseconds.
pub(crate) const PAUSE: u64 = 50_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// As many records as will go.
    Flow,
    /// One record at a time, after a pause.
    Delay,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    Time {
        warm_up: Duration,
        measured: Duration,
    },
    /// That many records of each producer, and no warm-up.
    Records(u64),
}

/// All that a measurement needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) setting: Setting,
    pub(crate) work: Work,
    pub(crate) budget: Budget,
    pub(crate) processors: Processors,
}

impl Plan {
    /// Where a producer runs.
    fn producer(&self, index: usize) -> usize {
        match index {
            0 => self.processors.first,
            _ => self.processors.second,
        }
    }

    /// Where the consumer runs: on the processor that no producer has, or on any.
    fn consumer(&self) -> Vec<usize> {
        match self.setting.producers {
            1 => vec![self.processors.second],
            _ => vec![self.processors.first, self.processors.second],
        }
    }

    fn producer_side(&self, index: usize) -> Option<Side> {
        let two = self.setting.producers > 1 || self.setting.idle != Idle::Nobody;
        let side = if index == 0 {
            Side::First
        } else {
            Side::Second
        };
        two.then_some(side)
    }

    fn consumer_side(&self) -> Option<Side> {
        (self.setting.producers == 1).then_some(Side::Second)
    }

    /// How many records a producer sends at most.
    fn limit(&self) -> u64 {
        match self.budget {
            Budget::Time { .. } => u64::MAX,
            Budget::Records(count) => count,
        }
    }

    fn deadline(&self) -> Instant {
        let time = match self.budget {
            Budget::Time { warm_up, measured } => warm_up + measured,
            Budget::Records(_) => Duration::ZERO,
        };
        Instant::now() + time + SLACK
    }
}

/// What one process tells.
#[derive(Debug, Serialize, Deserialize)]
enum Part {
    Producer {
        full: u64,
        wakes: Option<u64>,
        probes: Vec<f64>,
    },
    Consumer {
        /// In the time that was measured.
        records: u64,
        nanoseconds: u64,
        received: u64,
        sleeps: u64,
        late: u64,
        delay: Option<Delay>,
    },
    /// A producer without a consumer. The first one tells for all.
    Alone {
        records: u64,
        /// Million records a second.
        rate: f64,
        probes: Vec<f64>,
    },
}

/// Times of single records, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delay {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Delay {
    pub(crate) fn of(histogram: &hdrhistogram::Histogram<u64>) -> Delay {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Delay {
            p50: at(0.5),
            p99: at(0.99),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// The outcome of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Million records a second.
    pub(crate) rate: f64,
    /// Records in all, warm-up included.
    pub(crate) records: u64,
    pub(crate) delay: Option<Delay>,
    /// How often producers woke the consumer, for a million records.
    pub(crate) wakes: Option<f64>,
    /// How often the consumer slept, for a million records.
    pub(crate) sleeps: f64,
    /// How often a producer met a full ring, for a million records.
    pub(crate) full: f64,
    /// How often a sleeping consumer was woken by nothing but the end of its patience, although
    /// there was something.
    pub(crate) late: u64,
    pub(crate) probes: Vec<f64>,
    pub(crate) stratum: Option<Stratum>,
}

/// Measures once, with payloads of that many bytes.
pub(crate) fn measure<C: Contestant>(plan: &Plan, payload: usize) -> Result<Outcome> {
    match payload {
        64 => sized::<C, 64>(plan),
        256 => sized::<C, 256>(plan),
        4096 => sized::<C, 4096>(plan),
        _ => bail!("no contestant is compiled for payloads of {payload} bytes"),
    }
}

fn sized<C: Contestant, const N: usize>(plan: &Plan) -> Result<Outcome> {
    let consumer = plan.setting.idle != Idle::Nobody;
    let control = Control::new(plan.setting.producers, consumer)?;
    let shared = C::set_up::<N>(&plan.setting).context("cannot set it up")?;
    let children = if C::ABOUT.threads {
        vec![process::start(|| threads::<C, N>(plan, &control, shared))?]
    } else {
        processes::<C, N>(plan, &control, shared)?
    };
    let deadline = plan.deadline();
    let mut parts = Vec::new();
    let mut errors = Vec::new();
    for child in children {
        match child.outcome::<Vec<Part>>(deadline) {
            Ok(told) => parts.extend(told),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if !errors.is_empty() {
        bail!(errors.join("; "));
    }
    summary(&parts)
}

fn processes<C: Contestant, const N: usize>(
    plan: &Plan,
    control: &Control,
    shared: C::Shared<N>,
) -> Result<Vec<Child>> {
    // Each child takes it out of its own copy of this variable.
    let mut shared = Some(shared);
    let mut children = Vec::new();
    if plan.setting.idle == Idle::Nobody {
        for index in 0..plan.setting.producers {
            children.push(process::start(|| {
                let shared = shared.take().context("taken already")?;
                Ok([alone::run::<C, N>(plan, control, shared, index)?])
            })?);
        }
        return Ok(children);
    }
    children.push(process::start(|| {
        let shared = shared.take().context("taken already")?;
        Ok([consumer::run::<C, N>(plan, control, shared)?])
    })?);
    for index in 0..plan.setting.producers {
        children.push(process::start(|| {
            let shared = shared.take().context("taken already")?;
            Ok([producer::run::<C, N>(plan, control, shared, index)?])
        })?);
    }
    Ok(children)
}

/// One producer and one consumer in one process.
fn threads<C: Contestant, const N: usize>(
    plan: &Plan,
    control: &Control,
    shared: C::Shared<N>,
) -> Result<Vec<Part>> {
    let other = C::share::<N>(&shared)?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| producer::run::<C, N>(plan, control, other, 0));
        let part = consumer::run::<C, N>(plan, control, shared);
        let other = sender
            .join()
            .map_err(|_| anyhow!("the producer panicked"))?;
        Ok(vec![part?, other?])
    })
}

fn summary(parts: &[Part]) -> Result<Outcome> {
    let mut outcome = Outcome {
        rate: 0.0,
        records: 0,
        delay: None,
        wakes: None,
        sleeps: 0.0,
        full: 0.0,
        late: 0,
        probes: Vec::new(),
        stratum: None,
    };
    let mut time = 0;
    let mut measured = 0;
    for part in parts {
        match part {
            Part::Producer {
                full,
                wakes,
                probes,
            } => {
                outcome.full += *full as f64;
                if let Some(wakes) = wakes {
                    *outcome.wakes.get_or_insert(0.0) += *wakes as f64;
                }
                outcome.probes.extend(probes);
            }
            Part::Consumer {
                records,
                nanoseconds,
                received,
                sleeps,
                late,
                delay,
            } => {
                (measured, time) = (*records, *nanoseconds);
                outcome.records = *received;
                outcome.sleeps = *sleeps as f64;
                outcome.late = *late;
                outcome.delay = *delay;
            }
            Part::Alone {
                records,
                rate,
                probes,
            } => {
                if *records > 0 {
                    (outcome.records, outcome.rate) = (*records, *rate);
                }
                outcome.probes.extend(probes);
            }
        }
    }
    if time > 0 {
        outcome.rate = measured as f64 * 1000.0 / time as f64;
    }
    if outcome.rate == 0.0 || outcome.records == 0 {
        bail!("nothing was sent in the time that was measured");
    }
    let millions = outcome.records as f64 / 1e6;
    outcome.wakes = outcome.wakes.map(|wakes| wakes / millions);
    outcome.sleeps /= millions;
    outcome.full /= millions;
    outcome.stratum = Stratum::of(&outcome.probes);
    Ok(outcome)
}
