// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ke: IRQL, critical regions, spin locks, events, DPCs, time.

mod critical_region;
mod dpc;
mod event;
mod spin_lock;
mod time;

pub use critical_region::CriticalRegion;
pub use dpc::{Dpc, DpcHandle};
pub use event::{Event, EventKind, Timeout, wait_any};
pub use spin_lock::{SpinLock, SpinLockGuard};
pub use time::{interrupt_time, system_time};

/// IRQL: any. The present IRQL of this thread.
pub fn current_irql() -> u8 {
    // SAFETY: only reads the processor's state.
    unsafe { crate::bindings::KeGetCurrentIrql() }
}
