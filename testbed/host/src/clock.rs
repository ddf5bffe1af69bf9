// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one clock of the hosted kernel: that of the host system, or in a simulation virtual time.
//! All times are in units of 100 ns.

mod counter;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sim;

/// 100 ns units in one second.
pub const SECOND: u64 = 10_000_000;

/// 100 ns units from 1601-01-01, where NT's system time begins, to 1970-01-01.
const UNIX_EPOCH_AS_SYSTEM_TIME: i64 = 116_444_736_000_000_000;

/// The system time at which a simulation's clock was zero: 2025-12-31 00:00 UTC. Each seed begins a
/// day later, with the year 2026.
const SIMULATED_BOOT: i64 = 134_116_128_000_000_000;

/// A clock of the host system in 100 ns.
fn read(clock: libc::clockid_t) -> u64 {
    nanoseconds(clock) / 100
}

/// A clock of the host system.
fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` outlives the call; the clock ids used here exist on every Linux.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(result, 0);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The time since boot, sleep included (interrupt time).
#[must_use]
pub fn interrupt_time() -> u64 {
    sim::now().unwrap_or_else(|| read(libc::CLOCK_BOOTTIME))
}

/// The time since boot without the time asleep (unbiased interrupt time).
#[must_use]
pub fn unbiased_interrupt_time() -> u64 {
    sim::now().unwrap_or_else(|| read(libc::CLOCK_MONOTONIC))
}

/// The wall clock as a FILETIME: 100 ns units since 1601-01-01 UTC.
#[must_use]
pub fn system_time() -> i64 {
    if let Some(now) = sim::now() {
        return SIMULATED_BOOT.saturating_add_unsigned(now);
    }
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ticks = i64::try_from(since_1970.as_nanos() / 100).unwrap_or(i64::MAX);
    UNIX_EPOCH_AS_SYSTEM_TIME.saturating_add(ticks)
}

/// As [`system_time`], outside of a simulation: cheaper, and less than a microsecond away from it.
pub(crate) fn quick_system_time() -> i64 {
    let since_1970 = counter::read().map(|now| i64::try_from(now.real / 100));
    match since_1970 {
        Some(Ok(ticks)) => UNIX_EPOCH_AS_SYSTEM_TIME.saturating_add(ticks),
        _ => system_time(),
    }
}

/// As [`interrupt_time`], outside of a simulation: cheaper, and less than a microsecond away from it.
pub(crate) fn quick_interrupt_time() -> u64 {
    counter::read().map_or_else(interrupt_time, |now| now.boot / 100)
}

/// A moment of the unbiased clock until which something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub(crate) u64);

impl Deadline {
    /// The moment that lies `ticks` (100 ns) from now.
    #[must_use]
    pub fn after(ticks: u64) -> Deadline {
        Deadline(unbiased_interrupt_time().saturating_add(ticks))
    }

    /// The moment of an NT timeout: negative is relative to now, positive an absolute system time.
    ///
    /// An absolute time is converted once; a later step of the wall clock does not move the
    /// deadline as it would on NT.
    #[must_use]
    pub fn from_timeout(timeout: i64) -> Deadline {
        if timeout <= 0 {
            Deadline::after(timeout.unsigned_abs())
        } else {
            Deadline::after(timeout.saturating_sub(system_time()).max(0).unsigned_abs())
        }
    }

    /// How long it is from now to this moment; zero when it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        let ticks = self.0.saturating_sub(unbiased_interrupt_time());
        Duration::from_nanos(ticks.saturating_mul(100))
    }
}
