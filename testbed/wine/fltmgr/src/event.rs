// SPDX-License-Identifier: MIT OR Apache-2.0
//! Something to wait for.

use alloc::boxed::Box;
use core::cell::UnsafeCell;

use fltport_nt::bindings::{
    Executive, KEVENT, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject, KernelMode,
    NotificationEvent, SynchronizationEvent,
};

/// What becomes of an event when somebody has waited for it.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// It stays set.
    Notification,
    /// It is reset.
    Synchronization,
}

/// An event.
pub(crate) struct Event(Box<UnsafeCell<KEVENT>>);

// SAFETY: the functions below are made for concurrent use, and the box does not move.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// One that stays set.
    pub(crate) fn new() -> Event {
        Event::of(Kind::Notification)
    }

    pub(crate) fn of(kind: Kind) -> Event {
        let kind = match kind {
            Kind::Notification => NotificationEvent,
            Kind::Synchronization => SynchronizationEvent,
        };
        let event = Box::new(UnsafeCell::new(KEVENT::default()));
        // SAFETY: valid memory that nobody else knows yet.
        unsafe { KeInitializeEvent(event.get(), kind, false) };
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
