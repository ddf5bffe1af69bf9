// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clocks that drivers read. Units are 100 ns.

use crate::clock;
use crate::entry::nt;
use crate::irql::HIGH_LEVEL;
use crate::verifier;

nt! {
    /// The wall clock, 100 ns units since 1601 UTC.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeQuerySystemTimePrecise(time: *mut i64) {
        let now = if verifier::is_off() { clock::quick_system_time() } else { clock::system_time() };
        // SAFETY: the caller passes memory for a time.
        unsafe { time.write(now) };
    }

    /// The time since boot, time asleep included.
    simplified = "the performance counter ticks every 100 ns";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeQueryInterruptTimePrecise(counter: *mut u64) -> u64 {
        let time = if verifier::is_off() {
            clock::quick_interrupt_time()
        } else {
            clock::interrupt_time()
        };
        if !counter.is_null() {
            // SAFETY: the caller passes memory for a counter. One tick of the performance
            // counter is 100 ns here, as on most Windows machines.
            unsafe { counter.write(time) };
        }
        time
    }

    /// The time since boot, time asleep left out.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeQueryUnbiasedInterruptTime() -> u64 {
        clock::unbiased_interrupt_time()
    }
}
