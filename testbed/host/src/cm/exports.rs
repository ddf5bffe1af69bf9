// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of the configuration manager's callbacks.

use std::ffi::c_void;
use std::sync::Arc;

use super::altitude::Altitude;
use crate::abi::{NTSTATUS, PEX_CALLBACK_FUNCTION, UNICODE_STRING};
use crate::entry::nt;
use crate::irql::APC_LEVEL;
use crate::kernel::{self, State};
use crate::object::Object;
use crate::registry::Key;
use crate::status::{STATUS_INVALID_PARAMETER, STATUS_KEY_DELETED, STATUS_SUCCESS};
use crate::unicode;
use crate::verifier::{Report, Rule};

fn report_unknown_cookie(cookie: i64) {
    Report::new(Rule::RegistryCallbackUnknown)
        .expected("the cookie of a registry callback that is registered")
        .found(format!("{cookie:#x}"))
        .file();
}

/// The key object at an address that a driver was told in a callback, or has open.
fn key_at(state: &State, address: usize) -> Option<Arc<Key>> {
    let told = state.registry_callbacks.names.find(address);
    let found = told.or_else(|| match state.objects.find(address) {
        Some(Object::Key(key)) => Some(key),
        _ => None,
    });
    if found.is_none() {
        Report::new(Rule::ObjectUnknown)
            .expected("a key object of the operation that the callback is told of")
            .found(format!("{address:#x}"))
            .detail(
                "the Object of a post-notification is undefined unless its Status is \
                 STATUS_SUCCESS, and no key object is valid longer than the callback",
            )
            .file();
    }
    found
}

nt! {
    /// Registers a registry callback. STATUS_FLT_INSTANCE_ALTITUDE_COLLISION if one has that
    /// altitude, STATUS_INVALID_PARAMETER if that is no number.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "it is told of creating, opening, deleting and renaming keys and of setting and \
        deleting values; not of reading, of handles and of hives";
    max_irql = APC_LEVEL;
    pub unsafe fn CmRegisterCallbackEx(
        function: PEX_CALLBACK_FUNCTION,
        altitude: *const UNICODE_STRING,
        driver: *const c_void,
        context: *const c_void,
        cookie: *mut i64,
        _reserved: *const c_void,
    ) -> NTSTATUS {
        let state = kernel::state();
        // SAFETY: the caller passes null or a string.
        let altitude = unicode::decode(&unsafe { unicode::read(altitude) });
        let (Some(function), Some(altitude)) = (function, Altitude::parse(&altitude)) else {
            return STATUS_INVALID_PARAMETER;
        };
        if !matches!(state.objects.find(driver as usize), Some(Object::Driver(_))) {
            Report::new(Rule::ObjectUnknown)
                .expected("the driver's own driver object")
                .found(format!("{driver:p}"))
                .file();
        }
        let callbacks = &state.registry_callbacks;
        match callbacks.register(altitude, function as usize, context as usize) {
            Ok(registered) => {
                // SAFETY: the caller passes memory for it.
                unsafe { cookie.write(registered) };
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// Ends the registration of a registry callback and waits for its calls.
    max_irql = APC_LEVEL;
    pub unsafe fn CmUnRegisterCallback(cookie: i64) -> NTSTATUS {
        if kernel::state().registry_callbacks.unregister(cookie) {
            return STATUS_SUCCESS;
        }
        report_unknown_cookie(cookie);
        STATUS_INVALID_PARAMETER
    }

    /// The number of a key, and its path, which CmCallbackReleaseKeyObjectIDEx gives back.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "a key that was deleted has no path any more; which registration the cookie stands \
        for makes no difference";
    max_irql = APC_LEVEL;
    pub unsafe fn CmCallbackGetKeyObjectIDEx(
        cookie: *const i64,
        object: *const c_void,
        id: *mut usize,
        name: *mut *mut UNICODE_STRING,
        flags: u32,
    ) -> NTSTATUS {
        let state = kernel::state();
        if cookie.is_null() || flags != 0 {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: not null, and a cookie by contract.
        let cookie = unsafe { cookie.read() };
        if !state.registry_callbacks.knows(cookie) {
            report_unknown_cookie(cookie);
            return STATUS_INVALID_PARAMETER;
        }
        let Some(key) = key_at(&state, object as usize) else {
            return STATUS_INVALID_PARAMETER;
        };
        if !name.is_null() {
            if key.is_deleted() {
                return STATUS_KEY_DELETED;
            }
            let handed = state.registry_callbacks.names.hand_out(&key);
            // SAFETY: the caller passes null or memory for a pointer.
            unsafe { name.write(handed) };
        }
        if !id.is_null() {
            let number = usize::try_from(key.number()).unwrap_or(usize::MAX);
            // SAFETY: the caller passes null or memory for a number.
            unsafe { id.write(number) };
        }
        STATUS_SUCCESS
    }

    /// Gives back the path of a key.
    max_irql = APC_LEVEL;
    pub unsafe fn CmCallbackReleaseKeyObjectIDEx(name: *const UNICODE_STRING) {
        if !kernel::state().registry_callbacks.names.take_back(name) {
            Report::new(Rule::KeyPathUnknown)
                .expected("a path that CmCallbackGetKeyObjectIDEx has given")
                .found(format!("{name:p}"))
                .file();
        }
    }
}
