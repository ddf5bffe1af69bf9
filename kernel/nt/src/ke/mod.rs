// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ke: IRQL, processors and their gates, critical regions, spin locks, events, DPCs, time.

mod critical_region;
mod dpc;
mod event;
mod gates;
mod processor;
mod spin_lock;
mod time;
mod user_event;

pub use critical_region::CriticalRegion;
pub use dpc::{Dpc, DpcHandle};
pub use event::{Event, EventKind, Timeout, wait_any};
pub use gates::{Apart, Gated, GatedOwner, Gates, Here, Inside, MAX_GATES, PerProcessor, Reading};
pub use processor::{AtDispatch, current_processor, maximum_processor_count, processor_count};
pub use spin_lock::{SpinLock, SpinLockGuard};
pub use time::{interrupt_time, system_time};
pub use user_event::UserEvent;

/// IRQL: any. The present IRQL of this thread.
pub fn current_irql() -> u8 {
    // SAFETY: only reads the processor's state.
    unsafe { crate::bindings::KeGetCurrentIrql() }
}
