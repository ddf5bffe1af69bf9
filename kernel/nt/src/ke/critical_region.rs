// SPDX-License-Identifier: MIT OR Apache-2.0
//! Critical regions: a thread that others wait for is not suspended meanwhile.

use super::current_irql;
use crate::bindings::{KeEnterCriticalRegion, KeLeaveCriticalRegion};
use crate::linked::DISPATCH_LEVEL;
use core::marker::PhantomData;

/// Holds back normal kernel APCs from this thread, and with them its suspension: anybody who may
/// suspend a thread of a user-mode process could otherwise do it while the driver's code runs in
/// that thread, and whoever waits for that code would wait until it is resumed. Regions nest.
#[must_use = "the region ends when this is dropped"]
pub struct CriticalRegion(PhantomData<*const ()>);

impl CriticalRegion {
    /// IRQL: any. `None` at DISPATCH_LEVEL and above, where no APC comes anyway.
    pub fn enter() -> Option<Self> {
        if current_irql() >= DISPATCH_LEVEL {
            return None;
        }
        // SAFETY: below DISPATCH_LEVEL; `Drop` leaves it in this thread, as this is not Send.
        unsafe { KeEnterCriticalRegion() };
        Some(CriticalRegion(PhantomData))
    }
}

impl Drop for CriticalRegion {
    fn drop(&mut self) {
        // SAFETY: entered by this thread; who owns this goes back below DISPATCH_LEVEL before it
        // drops it, because lock guards are dropped in the reverse order of locking.
        unsafe { KeLeaveCriticalRegion() };
    }
}
