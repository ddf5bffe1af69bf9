// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests.

use super::{bytes, registered, revised};
use crate::driver::DRIVER;
use crate::request::{self, Asked};
use core::slice;
use fltport_abi::interface::{ProviderHandle, REQUEST_DECLARED_DEFAULT, Request};
use fltport_abi::limits::MAX_DEADLINE_MS;
use fltport_nt::bindings::{NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{APC_LEVEL, STATUS_INVALID_LEVEL};

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
    let (Some(provider), Some(request), Some(driver)) = (provider, request, DRIVER.get()) else {
        return STATUS_INVALID_PARAMETER;
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
