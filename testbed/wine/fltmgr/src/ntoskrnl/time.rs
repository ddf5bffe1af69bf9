// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clocks, with the precision that the functions promise.

use crate::nt;

const TICKS_PER_SECOND: u64 = 10_000_000;

/// 100 ns since 1601.
pub(crate) fn system_time() -> i64 {
    let mut now = 0;
    // SAFETY: a valid place for the time.
    unsafe { nt::KeQuerySystemTime(&raw mut now) };
    now
}

/// 100 ns since the machine's start, by the performance counter.
pub(crate) fn interrupt_time() -> u64 {
    let mut frequency = 0;
    // SAFETY: a valid place for the frequency.
    let counter = unsafe { nt::KeQueryPerformanceCounter(&raw mut frequency) };
    let (counter, frequency) = (counter.max(0) as u128, frequency.max(1) as u128);
    (counter * u128::from(TICKS_PER_SECOND) / frequency) as u64
}

pub(super) unsafe extern "system" fn query_system_time_precise(now: *mut i64) {
    // SAFETY: the caller passes a valid place.
    unsafe { now.write(system_time()) };
}

pub(super) unsafe extern "system" fn query_unbiased_interrupt_time() -> u64 {
    interrupt_time()
}

pub(super) unsafe extern "system" fn query_interrupt_time() -> u64 {
    interrupt_time()
}

pub(super) unsafe extern "system" fn query_interrupt_time_precise(counter: *mut u64) -> u64 {
    let mut frequency = 0;
    // SAFETY: a valid place for the frequency.
    let now = unsafe { nt::KeQueryPerformanceCounter(&raw mut frequency) };
    // SAFETY: the caller passes a valid place.
    unsafe { counter.write(now as u64) };
    interrupt_time()
}

pub(super) unsafe extern "system" fn query_performance_counter(frequency: *mut i64) -> i64 {
    // SAFETY: the caller passes NULL or a valid place, as hal.dll's function takes it.
    unsafe { nt::KeQueryPerformanceCounter(frequency) }
}
