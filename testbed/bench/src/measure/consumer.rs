// SPDX-License-Identifier: MIT OR Apache-2.0

//! The consumer: takes records, checks them, and is idle in the way that was asked for.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Budget, Delay, Part, Plan, Work};
use crate::clock;
use crate::contestant::{Contestant, Idle, Receiver, Woken};
use crate::control::Control;
use crate::process::Processors;
use crate::record::{Checked, Sink, Timed};

/// How long the consumer looks before it sleeps, in nanoseconds, if it does.
const LOOKING: u64 = 5_000;
/// How long a lazy one looks away.
const LAZINESS: u64 = 2_000;
/// How long it sleeps before it looks by itself. Under a steady flow nothing but a lost wake-up lets
/// it sleep as long.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long records may be under way once all were sent.
const LOST: Duration = Duration::from_secs(2);
/// Rounds without a look at the clock.
const ROUNDS: u64 = 64;
/// Records without a look at the clock.
const RECORDS: u64 = 2048;

/// The whole life of the consumer.
pub(super) fn run<C: Contestant, const N: usize>(
    plan: &Plan,
    control: &Control,
    shared: C::Shared<N>,
) -> Result<Part> {
    Processors::pin(&plan.consumer())?;
    let mut receiver = C::receiver::<N>(shared)?;
    control.ready(1)?;
    if let Some(side) = plan.consumer_side() {
        control.probe(side)?;
    }
    let mut consumer = Consumer::new(plan, control, C::ABOUT.wakes_for_each);
    let mut checked;
    let mut delay = None;
    match plan.work {
        Work::Flow => {
            checked = Checked::default();
            consumer.begin()?;
            while consumer.is_on(checked.received())? {
                consumer.round::<N, _>(&mut receiver, &mut checked)?;
            }
        }
        Work::Delay => {
            let mut timed = Timed::new()?;
            consumer.begin()?;
            while consumer.is_on(timed.checked.received())? {
                consumer.round::<N, _>(&mut receiver, &mut timed)?;
            }
            delay = Some(Delay::of(&timed.histogram));
            checked = timed.checked;
        }
    }
    control.ready(3)?;
    if let Some(side) = plan.consumer_side() {
        control.probe(side)?;
    }
    if let Some(fault) = checked.fault() {
        bail!("{fault}");
    }
    Ok(consumer.part(checked.received(), delay))
}

/// A point of the flow.
#[derive(Debug, Clone, Copy)]
struct Mark {
    time: u64,
    records: u64,
}

struct Consumer<'a> {
    control: &'a Control,
    idle: Idle,
    wakes_for_each: bool,
    budget: Budget,
    started: u64,
    began: Option<Mark>,
    ended: Option<Mark>,
    looked: Mark,
    rounds: u64,
    /// Since when no more have come although all were sent, and how many had.
    missing: Option<(Instant, u64)>,
    was_idle: bool,
    overslept: bool,
    sleeps: u64,
    late: u64,
}

impl<'a> Consumer<'a> {
    fn new(plan: &Plan, control: &'a Control, wakes_for_each: bool) -> Consumer<'a> {
        Consumer {
            control,
            idle: plan.setting.idle,
            wakes_for_each,
            budget: plan.budget,
            started: 0,
            began: None,
            ended: None,
            looked: Mark {
                time: 0,
                records: 0,
            },
            rounds: 0,
            missing: None,
            was_idle: false,
            overslept: false,
            sleeps: 0,
            late: 0,
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.control.ready(2)?;
        self.started = clock::nanoseconds();
        Ok(())
    }

    /// Whether there is more to come. Looks at the clock now and then.
    #[inline]
    fn is_on(&mut self, received: u64) -> Result<bool> {
        self.rounds += 1;
        let due = self.rounds.is_multiple_of(ROUNDS)
            || received - self.looked.records >= RECORDS
            || self.was_idle;
        if !due {
            return Ok(true);
        }
        self.looked = Mark {
            time: clock::nanoseconds(),
            records: received,
        };
        self.look()
    }

    fn look(&mut self) -> Result<bool> {
        let now = self.looked;
        match self.budget {
            Budget::Records(_) => {
                let zero = Mark {
                    time: self.started,
                    records: 0,
                };
                self.began.get_or_insert(zero);
                self.ended = Some(now);
            }
            Budget::Time { warm_up, measured } => {
                let age = now.time.saturating_sub(self.started);
                if self.began.is_none() && age >= nanoseconds(warm_up) {
                    self.began = Some(now);
                }
                // However short the time, something has to come in it.
                let is_long = self.began.is_some_and(|began| {
                    now.time - began.time >= nanoseconds(measured) && now.records > began.records
                });
                if self.ended.is_none() && is_long {
                    self.ended = Some(now);
                    self.control.stop();
                }
            }
        }
        match self.control.total() {
            None => Ok(true),
            Some(total) if now.records >= total => Ok(false),
            Some(total) => self.is_coming(now.records, total),
        }
    }

    /// Whether to wait for the rest: not when nothing of it has come for long.
    fn is_coming(&mut self, received: u64, total: u64) -> Result<bool> {
        let (since, before) = *self.missing.get_or_insert((Instant::now(), received));
        if received != before {
            self.missing = None;
        } else if since.elapsed() > LOST {
            bail!("{total} records were sent, but only {received} came");
        }
        Ok(true)
    }

    /// Takes what is there, or is idle.
    #[inline]
    fn round<const N: usize, R: Receiver<N>>(
        &mut self,
        receiver: &mut R,
        sink: &mut impl Sink<N>,
    ) -> Result<()> {
        if R::TAKES_BY_WAITING && self.idle == Idle::Sleeps {
            // It would wait for ever after the last record, so that is looked for each time.
            let closed = receiver.wait(sink, PATIENCE)? == Woken::Closed;
            self.was_idle = closed || self.control.total().is_some();
            return Ok(());
        }
        self.was_idle = receiver.drain(sink)? == 0;
        if self.was_idle {
            return self.rest(receiver, sink);
        }
        if self.overslept && self.wakes_for_each {
            self.late += 1;
        }
        self.overslept = false;
        Ok(())
    }

    fn rest<const N: usize>(
        &mut self,
        receiver: &mut impl Receiver<N>,
        sink: &mut impl Sink<N>,
    ) -> Result<()> {
        match self.idle {
            Idle::Lazy | Idle::Nobody => clock::spin(LAZINESS),
            Idle::Sleeps => self.sleep(receiver, sink)?,
            Idle::Spins => {
                let end = clock::nanoseconds() + LOOKING;
                while receiver.drain(sink)? == 0 {
                    if clock::nanoseconds() > end {
                        return self.sleep(receiver, sink);
                    }
                    std::hint::spin_loop();
                }
            }
        }
        Ok(())
    }

    fn sleep<const N: usize>(
        &mut self,
        receiver: &mut impl Receiver<N>,
        sink: &mut impl Sink<N>,
    ) -> Result<()> {
        let woken = receiver.wait(sink, PATIENCE)?;
        self.sleeps += u64::from(woken != Woken::NotAsleep);
        // At the end nobody has anything to wake it for.
        self.overslept = woken == Woken::TimedOut && self.control.total().is_none();
        Ok(())
    }

    fn part(&self, received: u64, delay: Option<Delay>) -> Part {
        let (records, nanoseconds) = match (self.began, self.ended) {
            (Some(began), Some(ended)) => (ended.records - began.records, ended.time - began.time),
            _ => (0, 0),
        };
        Part::Consumer {
            records,
            nanoseconds,
            received,
            sleeps: self.sleeps,
            late: self.late,
            delay,
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
