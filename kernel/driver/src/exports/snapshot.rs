// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a provider's snapshot routine calls.

use super::{bytes, revised};
use crate::snapshot::{Object, Snapshot};
use fltport_abi::interface::{Notification, SnapshotHandle};
use fltport_nt::bindings::{NTSTATUS, STATUS_INVALID_PARAMETER};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{DISPATCH_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::status::to_status;

/// The snapshot of a handle.
///
/// # Safety
/// The snapshot routine that was given the handle has not returned, and uses it in one thread at a
/// time.
unsafe fn snapshot<'a>(handle: SnapshotHandle) -> Option<&'a mut Snapshot<'a>> {
    let snapshot = core::ptr::with_exposed_provenance_mut::<Snapshot<'a>>(handle.0);
    // SAFETY: null, or what `snapshot::subscribe` has on its stack until the routine returns.
    unsafe { snapshot.as_mut() }
}

pub(super) unsafe extern "system" fn add(
    handle: SnapshotHandle,
    object: *const Notification,
) -> NTSTATUS {
    if current_irql() > DISPATCH_LEVEL {
        return STATUS_INVALID_LEVEL;
    }
    // SAFETY: the client driver calls this from its snapshot routine only.
    let snapshot = unsafe { snapshot(handle) };
    // SAFETY: with a valid notification, for the duration of the call.
    let object = unsafe { revised(object) };
    let (Some(snapshot), Some(object)) = (snapshot, object) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: whose payload is valid for its length.
    let Ok(payload) = (unsafe { bytes(object.payload, object.length) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    to_status(snapshot.add(&Object {
        message: object.message,
        fixed: object.fixed,
        time: object.time,
        payload,
    }))
}

pub(super) unsafe extern "system" fn live(handle: SnapshotHandle) -> NTSTATUS {
    if current_irql() > DISPATCH_LEVEL {
        return STATUS_INVALID_LEVEL;
    }
    // SAFETY: the client driver calls this from its snapshot routine only.
    match unsafe { snapshot(handle) } {
        Some(snapshot) => to_status(snapshot.become_live()),
        None => STATUS_INVALID_PARAMETER,
    }
}
