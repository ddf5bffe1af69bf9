// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events that a service has made.

use crate::bindings::{
    EVENT_MODIFY_STATE, HANDLE, KEVENT, KeSetEvent, ObReferenceObjectByHandle,
    ObfDereferenceObject, STATUS_INVALID_HANDLE, UserMode,
};
use crate::linked::ExEventObjectType;
use crate::status::{NtError, Result, check};
use core::ptr::{NonNull, null_mut};

/// An event of user mode, referenced: it lives on when the service closes its handle or ends.
pub struct UserEvent(NonNull<KEVENT>);

// SAFETY: NT synchronises all access to an event; the reference belongs to no thread.
unsafe impl Send for UserEvent {}
// SAFETY: as above.
unsafe impl Sync for UserEvent {}

impl UserEvent {
    /// IRQL: PASSIVE_LEVEL, in the thread of the process. The event that a handle stands for in the
    /// process that the thread runs in, and that it may set.
    ///
    /// Errors: `STATUS_INVALID_HANDLE`, `STATUS_OBJECT_TYPE_MISMATCH` if it is no event,
    /// `STATUS_ACCESS_DENIED`.
    pub fn from_handle(handle: u64) -> Result<Self> {
        // SAFETY: a variable of NT's, written before any driver runs.
        let type_of_events = unsafe { ExEventObjectType };
        // SAFETY: it points to the type.
        #[cfg(not(windows))]
        let type_of_events = unsafe { type_of_events.read() };
        let handle = handle as usize as HANDLE;
        let mut object = null_mut();
        // SAFETY: in UserMode the handle may be anything: NT looks it up in the process's own table,
        // and checks type and access.
        check(unsafe {
            ObReferenceObjectByHandle(
                handle,
                EVENT_MODIFY_STATE,
                type_of_events,
                UserMode as i8,
                &raw mut object,
                null_mut(),
            )
        })?;
        let event = NonNull::new(object.cast()).ok_or(NtError(STATUS_INVALID_HANDLE))?;
        Ok(UserEvent(event))
    }

    /// IRQL: <= DISPATCH_LEVEL. Sets it and wakes who waits.
    pub fn set(&self) {
        // SAFETY: a referenced event; `Wait` is false, so this may be called at DISPATCH_LEVEL.
        unsafe { KeSetEvent(self.0.as_ptr(), 0, false) };
    }
}

impl Drop for UserEvent {
    /// IRQL: <= DISPATCH_LEVEL.
    fn drop(&mut self) {
        // SAFETY: referenced by `from_handle`.
        unsafe { ObfDereferenceObject(self.0.as_ptr().cast()) };
    }
}
