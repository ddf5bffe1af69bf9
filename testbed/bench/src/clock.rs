// SPDX-License-Identifier: MIT OR Apache-2.0

//! Time that all processes have in common.

use std::hint::spin_loop;

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, in nanoseconds.
#[inline]
pub(crate) fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

/// Lets time pass without giving the processor away.
pub(crate) fn spin(nanoseconds_: u64) {
    spin_until(nanoseconds() + nanoseconds_);
}

/// Lets time pass until then.
pub(crate) fn spin_until(end: u64) {
    while nanoseconds() < end {
        spin_loop();
    }
}

/// The time-stamp counter as a clock: what a kernel pays for the time of a record. Two instructions
/// for the counter, a multiplication and an addition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter {
    ticks: u64,
    nanoseconds: u64,
    /// Nanoseconds of a tick, times 2^32.
    scale: u64,
}

/// For how long a tick is measured, in nanoseconds.
const MEASURED: u64 = 500_000;

impl Counter {
    /// Measures how long a tick is.
    pub(crate) fn new() -> Counter {
        let (before, began) = sample();
        spin(MEASURED);
        let (ticks, nanoseconds) = sample();
        let passed = ticks.wrapping_sub(before).max(1);
        Counter {
            ticks,
            nanoseconds,
            scale: ((nanoseconds - began) << 32) / passed,
        }
    }

    /// The time in units of 100 ns.
    #[inline]
    pub(crate) fn system_time(&self) -> i64 {
        let passed = ticks().wrapping_sub(self.ticks);
        // A day of ticks does not fit into 64 bits when it is multiplied.
        let passed = (u128::from(passed) * u128::from(self.scale)) >> 32;
        ((self.nanoseconds + passed as u64) / 100) as i64
    }
}

/// The counter and the clock at one moment: of some attempts the one that was interrupted least.
fn sample() -> (u64, u64) {
    let attempts = (0..8).map(|_| {
        let before = ticks();
        let now = nanoseconds();
        let after = ticks();
        (after.wrapping_sub(before), after, now)
    });
    let best = attempts.min_by_key(|(took, ..)| *took);
    best.map_or((0, 0), |(_, ticks, now)| (ticks, now))
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    // SAFETY: every x64 processor has the instruction, and Linux lets programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    nanoseconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_goes_as_the_clock_does() {
        let counter = Counter::new();
        spin(2_000_000);
        let before = nanoseconds() / 100;
        let counted = counter.system_time() as u64;
        let after = nanoseconds() / 100;
        // A hundredth of what has passed, and what the test may be interrupted for.
        let slack = 200 + (after - before);
        assert!(
            counted + slack >= before && counted <= after + slack,
            "{counted} is not between {before} and {after}"
        );
    }
}
