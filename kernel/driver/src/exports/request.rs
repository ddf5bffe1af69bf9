// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests.

use super::{bytes, driver_of, registered, revised};
use crate::asynchronous;
use crate::ffi::Completer;
use crate::request::{self, Asked};
use core::slice;
use fltport_abi::interface::{AsyncRequest, ProviderHandle, REQUEST_DECLARED_DEFAULT, Request};
use fltport_abi::limits::MAX_DEADLINE_MS;
use fltport_nt::bindings::{
    NTSTATUS, STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{APC_LEVEL, DISPATCH_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};

pub(super) unsafe extern "system" fn request(
    handle: ProviderHandle,
    place: *mut Request,
) -> NTSTATUS {
    if current_irql() > APC_LEVEL {
        return STATUS_INVALID_LEVEL;
    }
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    // SAFETY: and a valid request that nobody else touches during the call.
    let request = unsafe { revised(place.cast_const()) };
    let (Some(provider), Some(request)) = (provider, request) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some(driver) = driver_of(provider) else {
        return STATUS_DELETE_PENDING;
    };
    if request.deadline_ms == 0
        || request.deadline_ms > MAX_DEADLINE_MS
        || request.reply.is_null()
        || request.flags & !REQUEST_DECLARED_DEFAULT != 0
    {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: whose payload is valid for its length.
    let Ok(payload) = (unsafe { bytes(request.payload, request.length) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: whose reply is valid for its length, not null, and nobody else's during the call.
    let reply = unsafe { slice::from_raw_parts_mut(request.reply, request.reply_length as usize) };
    if request.flags & REQUEST_DECLARED_DEFAULT != 0 {
        match provider.default_reply(request.message) {
            Some(declared) if declared.len() == reply.len() => reply.copy_from_slice(declared),
            _ => return STATUS_INVALID_PARAMETER,
        }
    }
    let asked = Asked {
        message: request.message,
        fixed: request.fixed,
        payload,
        deadline_ms: request.deadline_ms,
    };
    match request::ask(&driver, provider, &asked, reply) {
        Ok((outcome, waited_us)) => {
            // SAFETY: within the request, for every revision has that field.
            let told = unsafe { &raw mut (*place).outcome };
            // SAFETY: valid, as the request is.
            unsafe { told.write(outcome as u32) };
            if request.size as usize >= size_of::<Request>() {
                // SAFETY: within the request, whose size says that it has that field.
                let told = unsafe { &raw mut (*place).waited_us };
                // SAFETY: valid, as the request is.
                unsafe { told.write(waited_us) };
            }
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}

pub(super) unsafe extern "system" fn request_async(
    handle: ProviderHandle,
    request: *const AsyncRequest,
) -> NTSTATUS {
    if current_irql() > DISPATCH_LEVEL {
        return STATUS_INVALID_LEVEL;
    }
    // SAFETY: the client driver passes a valid request, for the duration of the call.
    let Some(request) = (unsafe { revised(request) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: a handle that is registered, and a request whose pointers are valid.
    to_status(unsafe { ask_async(handle, &request) })
}

/// # Safety
/// The handle is registered. Payload and reply are valid for their lengths during the call, routine
/// and context until the routine has been called, which unregistering waits for.
unsafe fn ask_async(handle: ProviderHandle, request: &AsyncRequest) -> Result<()> {
    let invalid = NtError(STATUS_INVALID_PARAMETER);
    // SAFETY: as the caller vouches.
    let provider = unsafe { registered(handle) }.ok_or(invalid)?;
    let driver = driver_of(provider).ok_or(NtError(STATUS_DELETE_PENDING))?;
    let routine = request.on_completion.ok_or(invalid)?;
    if request.deadline_ms == 0
        || request.deadline_ms > MAX_DEADLINE_MS
        || request.flags & !REQUEST_DECLARED_DEFAULT != 0
    {
        return Err(invalid);
    }
    // SAFETY: as the caller vouches.
    let payload = unsafe { bytes(request.payload, request.length) }?;
    let default = if request.flags & REQUEST_DECLARED_DEFAULT == 0 {
        // SAFETY: as the caller vouches.
        unsafe { bytes(request.reply, request.reply_length) }?
    } else {
        let declared = provider.default_reply(request.message).ok_or(invalid)?;
        Some(declared)
            .filter(|declared| declared.len() == request.reply_length as usize)
            .ok_or(invalid)?
    };
    let asked = Asked {
        message: request.message,
        fixed: request.fixed,
        payload,
        deadline_ms: request.deadline_ms,
    };
    // SAFETY: as the caller vouches.
    let completer = unsafe { Completer::new(routine, request.context) };
    asynchronous::ask(&driver, provider, &asked, default, completer)
}
