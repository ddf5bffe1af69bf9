// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the common driver calls: commands, and snapshots with what they call in turn.

use super::{Bound, NOT_SUPPORTED, Table, bytes, bytes_mut, notification};
use crate::binding::Registration;
use crate::stub::Routines;
use core::ffi::c_void;
use fltport_abi::interface::{CommandCaller, SnapshotHandle};
use fltport_nt::Result;
use fltport_nt::bindings::{
    NTSTATUS, STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER, STATUS_RETRY, STATUS_SUCCESS,
};
use fltport_nt::status::{check, to_status};

/// The present state of a provider, for a service that begins to observe it. Lives as long as
/// [`Routines::snapshot`] runs.
pub struct Snapshot {
    table: Table,
    handle: SnapshotHandle,
    types: u64,
}

impl Snapshot {
    /// IRQL: any. Whether objects that are told of with this message are wanted; others are passed
    /// over.
    pub fn wants(&self, message: u16) -> bool {
        self.types.checked_shr(message.into()).unwrap_or(0) & 1 != 0
    }

    /// IRQL: <= DISPATCH_LEVEL. Adds an object, as the notification that tells of it.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES`: no memory, or more than 8 MiB;
    /// `STATUS_BUFFER_OVERFLOW`: one object is too large. The service is not subscribed then.
    pub fn add(&self, message: u16, fixed: u16, payload: &[u8]) -> Result<()> {
        let object = notification(message, fixed, payload)?;
        let add = self.table.0.snapshot_add.ok_or(NOT_SUPPORTED)?;
        // SAFETY: a handle whose routine runs, for this does not outlive it; a valid notification.
        check(unsafe { add(self.handle, &raw const object) })
    }

    /// IRQL: <= DISPATCH_LEVEL. The snapshot is complete, and what is offered from now on is live.
    /// Without it, it is when the routine returns.
    ///
    /// Errors: those of the service's subscription, which reach it; there is nothing to be done here.
    pub fn live(&self) -> Result<()> {
        let live = self.table.0.snapshot_live.ok_or(NOT_SUPPORTED)?;
        // SAFETY: as above.
        check(unsafe { live(self.handle) })
    }
}

pub(super) unsafe extern "system" fn on_snapshot<R: Routines>(
    context: *mut c_void,
    handle: SnapshotHandle,
    types: u64,
) -> NTSTATUS {
    // SAFETY: `register` passed the registration, which is there until it has been ended.
    let Some(registration) = (unsafe { context.cast::<Registration<R>>().as_ref() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    let (bound, binding) = registration.gate.bound_or_binding();
    let Some(Bound { table, .. }) = bound else {
        // While it binds, what was staged has not been offered yet: it would come behind the snapshot
        // that it is older than. Otherwise the provider or the common driver goes.
        return match binding {
            true => STATUS_RETRY,
            false => STATUS_DELETE_PENDING,
        };
    };
    let snapshot = Snapshot {
        table,
        handle,
        types,
    };
    to_status(registration.routines.snapshot(&snapshot))
}

pub(super) unsafe extern "system" fn on_command<R: Routines>(
    context: *mut c_void,
    caller: *const CommandCaller,
    message: u16,
    input: *const u8,
    length: u32,
    output: *mut u8,
    capacity: u32,
    returned: *mut u32,
) -> NTSTATUS {
    // SAFETY: `register` passed the registration, which is there until it has been ended.
    let registration = unsafe { context.cast::<Registration<R>>().as_ref() };
    // SAFETY: the common driver passes a valid caller.
    let caller = unsafe { caller.as_ref() };
    let (Some(registration), Some(caller)) = (registration, caller) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: a kernel copy of `length` bytes, unchanged during the call.
    let input = unsafe { bytes(input, length) };
    // SAFETY: a kernel buffer of `capacity` initialised bytes, nobody else's during the call.
    let output = unsafe { bytes_mut(output, capacity) };
    match registration
        .routines
        .command(caller, message, input, output)
    {
        Ok(written) => {
            // SAFETY: the common driver passes a valid place.
            unsafe { returned.write(written as u32) };
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}
