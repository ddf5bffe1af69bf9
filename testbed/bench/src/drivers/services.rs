// SPDX-License-Identifier: MIT OR Apache-2.0

//! The services: each connection has a thread that serves it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fltport::{Client, Event, EventRef, MessageSet, Options};
use hdrhistogram::Histogram;

use super::generator::first::{Reply, Tick};
use super::{Page, Stage, Work, wait};
use crate::clock;
use crate::measure::Delay;
use crate::process::Processors;

/// A service says how far it is behind so many records, or when no more are there.
const TOLD: u64 = 64;

pub(super) fn run(
    stage: &Stage,
    page: &Page,
    socket: &Path,
    processors: Processors,
) -> Result<Option<Delay>> {
    wait("the port", || page.up.load(Ordering::Acquire) == 1)?;
    let mut clients = Vec::new();
    for number in 0..stage.subscribed + stage.others {
        let options = Options::new(format!("bench-{number}")).socket(socket);
        let size = if stage.others > 8 { 64 << 10 } else { 1 << 20 };
        let client = Client::connect(options.ring_size(size)).context("cannot connect")?;
        if number < stage.subscribed {
            let (observed, decided) = match stage.work {
                Work::Ask => (MessageSet::NONE, MessageSet::from(2)),
                _ => (MessageSet::from(1), MessageSet::NONE),
            };
            client.subscribe("bench", observed, decided)?;
        }
        clients.push(client);
    }
    let delays = std::thread::scope(|scope| {
        let served = clients.iter().enumerate().map(|(number, client)| {
            scope.spawn(move || {
                Processors::pin(&[processors.second])?;
                page.connected.fetch_add(1, Ordering::AcqRel);
                serve(stage, page, number, client)
            })
        });
        let served: Vec<_> = served.collect();
        while page.stop.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        clients.iter().for_each(Client::close);
        let joined = served.into_iter().map(|thread| {
            let joined = thread.join().map_err(|_| anyhow!("a service panicked"));
            joined.and_then(|done| done)
        });
        joined.collect::<Result<Vec<_>>>()
    });
    drop(clients);
    page.gone.store(1, Ordering::Release);
    Ok(delays?.into_iter().flatten().next())
}

fn serve(stage: &Stage, page: &Page, place: usize, client: &Client) -> Result<Option<Delay>> {
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut received = 0;
    let mut sum = 0_u64;
    let precise = !matches!(stage.work, Work::Flow(_));
    client.serve(|event| {
        match event {
            EventRef::Notification(record) => {
                if stage.work == Work::Full {
                    // It never comes back to its ring.
                    let _stopped = wait("the end", || page.stop.load(Ordering::Acquire) == 1);
                    return ControlFlow::Continue(());
                }
                let Ok(tick) = record.decode::<Tick>() else {
                    return ControlFlow::Break(());
                };
                let Tick {
                    number,
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                    ..
                } = tick;
                sum ^= number + (a ^ b) + (c ^ d) + (e ^ f);
                if stage.work == Work::Delay {
                    let passed = clock::nanoseconds().saturating_sub(tick.sent);
                    // Resizes itself; no delay is too long for it.
                    let _recorded = histogram.record(passed.max(1));
                }
                received += 1;
                if precise || received % TOLD == 0 {
                    page.received[place].store(received, Ordering::Release);
                }
            }
            EventRef::Other(Event::Request(request)) => {
                let reply = request.record.decode::<super::generator::first::Question>();
                let number = reply.map_or(0, |question| question.number);
                // Whoever asks sees that no answer came.
                let _replied = request.reply(&Reply { number });
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    })?;
    std::hint::black_box(sum);
    Ok((stage.work == Work::Delay).then(|| Delay::of(&histogram)))
}
