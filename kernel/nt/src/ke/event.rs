// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events, and waiting for them with a deadline.

use crate::bindings::{
    Executive, KEVENT, KWAIT_BLOCK, KeClearEvent, KeInitializeEvent, KeReadStateEvent, KeSetEvent,
    KeWaitForMultipleObjects, KeWaitForSingleObject, KernelMode, NotificationEvent, STATUS_SUCCESS,
    SynchronizationEvent, WaitAny,
};
use crate::ex::{PoolBox, Tag};
use crate::status::Result;
use core::cell::UnsafeCell;
use core::ffi::c_void;

/// How long to wait at most. There is no "for ever".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(i64);

impl Timeout {
    /// Relative, not affected by changes of the clock. 0 does not wait.
    pub const fn from_millis(ms: u32) -> Self {
        Timeout(-(ms as i64 * 10_000))
    }

    /// NT's representation: negative 100-nanosecond intervals.
    pub const fn raw(self) -> i64 {
        self.0
    }
}

/// What a set event does to its waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Stays set until cleared: wakes all.
    Notification,
    /// Wakes one waiter and is cleared by that.
    Synchronization,
}

/// A kernel event, in non-paged memory of its own (NT links waiters into it, so it must not move).
pub struct Event {
    event: PoolBox<UnsafeCell<KEVENT>>,
}

// SAFETY: NT synchronises all access to a KEVENT; it belongs to no thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// IRQL: <= DISPATCH_LEVEL. A new event, not set.
    #[inline(never)]
    pub fn new(tag: Tag, kind: EventKind) -> Result<Self> {
        let event = PoolBox::new(tag, UnsafeCell::new(KEVENT::default()))?;
        let kind = match kind {
            EventKind::Notification => NotificationEvent,
            EventKind::Synchronization => SynchronizationEvent,
        };
        // SAFETY: the memory is non-paged, of the right size, not yet shared, and will not move.
        unsafe { KeInitializeEvent(event.get(), kind, false) };
        Ok(Event { event })
    }

    /// IRQL: <= DISPATCH_LEVEL. Sets it and wakes who waits.
    pub fn set(&self) {
        // SAFETY: initialised by `new`; `Wait` is false, so this may be called at DISPATCH_LEVEL.
        unsafe { KeSetEvent(self.event.get(), 0, false) };
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub fn clear(&self) {
        // SAFETY: initialised by `new`.
        unsafe { KeClearEvent(self.event.get()) };
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub fn is_set(&self) -> bool {
        // SAFETY: initialised by `new`.
        (unsafe { KeReadStateEvent(self.event.get()) }) != 0
    }

    /// IRQL: <= APC_LEVEL (<= DISPATCH_LEVEL with a timeout of 0). Waits until it is set; false if
    /// the time was over first.
    pub fn wait(&self, timeout: Timeout) -> bool {
        let timeout = timeout.raw();
        // SAFETY: the event is initialised and lives; kernel-mode, non-alertable wait with a valid
        // timeout.
        let status = unsafe {
            KeWaitForSingleObject(
                self.event.get().cast(),
                Executive,
                KernelMode as i8,
                false,
                &raw const timeout,
            )
        };
        status == STATUS_SUCCESS
    }
}

/// IRQL: <= APC_LEVEL. Waits until one of two events is set; its place, or `None` if the time was
/// over first.
pub fn wait_any(events: [&Event; 2], timeout: Timeout) -> Option<usize> {
    let objects = events.map(|e| e.event.get().cast::<c_void>().cast_const());
    let timeout = timeout.raw();
    // Up to three objects need no wait blocks of ours.
    let blocks = core::ptr::null_mut::<KWAIT_BLOCK>();
    // SAFETY: two initialised events that live across the call, kernel-mode non-alertable wait,
    // valid timeout.
    let status = unsafe {
        KeWaitForMultipleObjects(
            2,
            objects.as_ptr(),
            WaitAny,
            Executive,
            KernelMode as i8,
            false,
            &raw const timeout,
            blocks,
        )
    };
    usize::try_from(status).ok().filter(|i| *i < events.len())
}
