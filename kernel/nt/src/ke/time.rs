// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two clocks: the calendar, and the one that only goes forward.

use crate::bindings::{KeQuerySystemTimePrecise, KeQueryUnbiasedInterruptTime};

/// IRQL: any. 100-nanosecond intervals since 1601-01-01 UTC. Jumps when somebody sets the clock.
pub fn system_time() -> i64 {
    let mut now = 0;
    // SAFETY: writes one i64 to a valid place.
    unsafe { KeQuerySystemTimePrecise(&raw mut now) };
    now
}

/// IRQL: any. 100-nanosecond intervals since the start, not counting the time that the machine
/// slept: right for deadlines.
pub fn interrupt_time() -> u64 {
    // SAFETY: takes nothing, returns a number.
    unsafe { KeQueryUnbiasedInterruptTime() }
}
