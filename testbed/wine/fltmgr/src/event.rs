// SPDX-License-Identifier: MIT OR Apache-2.0
//! Something to wait for.

use alloc::boxed::Box;
use core::cell::UnsafeCell;

use fltport_nt::bindings::{
    Executive, KEVENT, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject, KernelMode,
    NotificationEvent,
};

/// A notification event: once set, it stays set.
pub(crate) struct Event(Box<UnsafeCell<KEVENT>>);

// SAFETY: the functions below are made for concurrent use, and the box does not move.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) fn new() -> Event {
        let event = Box::new(UnsafeCell::new(KEVENT::default()));
        // SAFETY: valid memory that nobody else knows yet.
        unsafe { KeInitializeEvent(event.get(), NotificationEvent, false) };
        Event(event)
    }

    pub(crate) fn set(&self) {
        // SAFETY: initialised above.
        unsafe { KeSetEvent(self.0.get(), 0, false) };
    }

    /// Waits until it is set, or for `limit` in 100 ns.
    pub(crate) fn wait(&self, limit: Option<u64>) {
        let relative = limit.map(|limit| -i64::try_from(limit).unwrap_or(i64::MAX));
        let timeout = relative
            .as_ref()
            .map_or(core::ptr::null(), core::ptr::from_ref);
        let object = self.0.get().cast_const().cast();
        // SAFETY: initialised above; the time lives across the call.
        unsafe { KeWaitForSingleObject(object, Executive, KernelMode as i8, false, timeout) };
    }
}
