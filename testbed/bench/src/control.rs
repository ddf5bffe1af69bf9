// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the processes of a measurement say to each other beside the contestant.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::clock;
use crate::record::PRODUCERS;
use crate::shared::Line;
use crate::shared::memory::{Shareable, Shared};

/// Round trips of a probe.
const PROBES: u32 = 2000;
/// How long anybody waits for the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// All begins as zero.
#[derive(Debug)]
#[repr(C)]
struct Page {
    ready: Line<AtomicU32>,
    stop: Line<AtomicU32>,
    done: Line<AtomicU32>,
    lap: Line<AtomicU32>,
    arrived: Line<AtomicU32>,
    ball: Line<AtomicU32>,
    sent: [Line<AtomicU64>; PRODUCERS],
    began: [Line<AtomicU64>; PRODUCERS],
    ended: [Line<AtomicU64>; PRODUCERS],
}

// SAFETY: atomics and padding.
unsafe impl Shareable for Page {}

/// The page, and how many take part.
#[derive(Debug)]
pub(crate) struct Control {
    page: Shared<Page>,
    parties: u32,
    producers: usize,
}

/// Who throws the ball, and who throws it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    First,
    Second,
}

impl Control {
    /// For that many producers and, if there is one, a consumer.
    pub(crate) fn new(producers: usize, consumer: bool) -> Result<Control> {
        let parties = producers as u32 + u32::from(consumer);
        Ok(Control {
            page: Shared::new()?,
            parties,
            producers,
        })
    }

    /// Waits until all have come to this stage; the first is 1.
    pub(crate) fn ready(&self, stage: u32) -> Result<()> {
        self.page.ready.fetch_add(1, Ordering::AcqRel);
        wait_until(|| self.page.ready.load(Ordering::Acquire) >= stage * self.parties)
    }

    pub(crate) fn stop(&self) {
        self.page.stop.store(1, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.page.stop.load(Ordering::Acquire) != 0
    }

    /// A producer has sent its last.
    pub(crate) fn done(&self, producer: usize, sent: u64) {
        self.page.sent[producer].store(sent, Ordering::Relaxed);
        self.page.done.fetch_add(1, Ordering::AcqRel);
    }

    /// How many records there are in all, once all producers have sent their last.
    pub(crate) fn total(&self) -> Option<u64> {
        if self.page.done.load(Ordering::Acquire) < self.producers as u32 {
            return None;
        }
        let sent = self.page.sent[..self.producers].iter();
        Some(sent.map(|sent| sent.load(Ordering::Relaxed)).sum())
    }

    /// All producers begin a lap together.
    pub(crate) fn begin_lap(&self, producer: usize, lap: u32) -> Result<()> {
        self.page.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (lap + 1) * self.producers as u32;
        if producer == 0 {
            wait_until(|| self.page.arrived.load(Ordering::Acquire) >= all)?;
            self.page.lap.store(lap + 1, Ordering::Release);
        } else {
            wait_until(|| self.page.lap.load(Ordering::Acquire) > lap)?;
        }
        self.page.began[producer].store(clock::nanoseconds(), Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn end_lap(&self, producer: usize) {
        self.page.ended[producer].store(clock::nanoseconds(), Ordering::Relaxed);
        self.page.done.fetch_add(1, Ordering::AcqRel);
    }

    /// For the first producer: how long the lap was, from the first beginning to the last end.
    pub(crate) fn lap_time(&self, lap: u32) -> Result<u64> {
        let all = (lap + 1) * self.producers as u32;
        wait_until(|| self.page.done.load(Ordering::Acquire) >= all)?;
        let times = |of: &[Line<AtomicU64>; PRODUCERS]| {
            [0, self.producers - 1].map(|producer| of[producer].load(Ordering::Relaxed))
        };
        let [one, other] = times(&self.page.began);
        let [one_end, other_end] = times(&self.page.ended);
        Ok(one_end.max(other_end).saturating_sub(one.min(other)))
    }

    /// How long a spinning round trip between the two processors takes, in nanoseconds: the median
    /// of runs of a hundred. Both sides must call it, and neither may have given up.
    pub(crate) fn probe(&self, side: Side) -> Result<f64> {
        let ball = &self.page.ball;
        let (mine, theirs) = match side {
            Side::First => (1, 0),
            Side::Second => (0, 1),
        };
        let limit = Instant::now() + PATIENCE;
        let mut times = Vec::new();
        let mut began = clock::nanoseconds();
        for round in 1..=PROBES {
            if side == Side::First {
                ball.store(mine, Ordering::Release);
            }
            let mut looks = 0u32;
            while ball.load(Ordering::Acquire) != theirs {
                looks = looks.wrapping_add(1);
                if looks.is_multiple_of(1 << 14) {
                    if Instant::now() > limit {
                        bail!("the other process does not answer");
                    }
                    yield_now();
                }
            }
            if side == Side::Second {
                ball.store(mine, Ordering::Release);
            }
            if round % 100 == 0 {
                let now = clock::nanoseconds();
                times.push((now - began) as f64 / 100.0);
                began = now;
            }
        }
        Ok(crate::statistics::median(&times).unwrap_or(0.0))
    }
}

/// Waits for something that comes soon.
fn wait_until(is_so: impl Fn() -> bool) -> Result<()> {
    let limit = Instant::now() + PATIENCE;
    let mut looks = 0u32;
    while !is_so() {
        looks += 1;
        if looks.is_multiple_of(64) {
            if Instant::now() > limit {
                bail!("the other process does not come");
            }
            yield_now();
        }
        spin_loop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_known_when_all_are_done() {
        let control = Control::new(2, true).unwrap();
        control.done(1, 5);
        assert_eq!(control.total(), None);
        control.done(0, 3);
        assert_eq!(control.total(), Some(8));
    }

    #[test]
    fn a_probe_takes_two() {
        let control = Control::new(1, true).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| control.probe(Side::Second).unwrap());
            assert!(control.probe(Side::First).unwrap() > 0.0);
            assert!(other.join().unwrap() > 0.0);
        });
    }

    #[test]
    fn a_lap_is_as_long_as_the_longest() {
        let control = Control::new(1, false).unwrap();
        for lap in 0..3 {
            control.begin_lap(0, lap).unwrap();
            clock::spin(1000);
            control.end_lap(0);
            assert!(control.lap_time(lap).unwrap() >= 1000);
        }
    }
}
