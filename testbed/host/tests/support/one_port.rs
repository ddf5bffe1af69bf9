// SPDX-License-Identifier: MIT OR Apache-2.0
//! A filter driver with one port, to which one service connects: all of it but what becomes of messages.

use super::filter;
use fltport_nt::bindings::*;
use std::ffi::c_void;
use std::sync::atomic::{AtomicIsize, Ordering};

static FILTER: AtomicIsize = AtomicIsize::new(0);
static SERVER: AtomicIsize = AtomicIsize::new(0);
static CLIENT: AtomicIsize = AtomicIsize::new(0);

/// What the entry point does.
pub fn start(
    object: *mut DRIVER_OBJECT,
    unload: PFLT_FILTER_UNLOAD_CALLBACK,
    setup: PFLT_INSTANCE_SETUP_CALLBACK,
    name: &str,
    message: PFLT_MESSAGE_NOTIFY,
) -> NTSTATUS {
    let filter = filter::register(object, unload, setup);
    FILTER.store(filter, Ordering::Release);
    let server = filter::listen(filter, name, Some(connect), Some(disconnect), message, 4);
    SERVER.store(server, Ordering::Release);
    // SAFETY: a registered filter.
    unsafe { FltStartFiltering(filter) }
}

/// What the unload routine does.
pub fn stop() {
    // SAFETY: the port that the entry point created.
    unsafe { FltCloseCommunicationPort(SERVER.load(Ordering::Acquire)) };
    // SAFETY: the filter that it registered.
    unsafe { FltUnregisterFilter(FILTER.load(Ordering::Acquire)) };
}

/// The filter, for what a callback does with it.
pub fn filter() -> PFLT_FILTER {
    FILTER.load(Ordering::Acquire)
}

/// The variable with the client port.
pub fn client_port() -> *const PFLT_PORT {
    CLIENT.as_ptr()
}

unsafe extern "system" fn connect(
    port: PFLT_PORT,
    _server_cookie: *const c_void,
    _context: *const c_void,
    _length: u32,
    _cookie: *mut *mut c_void,
) -> NTSTATUS {
    CLIENT.store(port, Ordering::Release);
    STATUS_SUCCESS
}

unsafe extern "system" fn disconnect(_cookie: *const c_void) {
    // SAFETY: the filter and the variable that holds the port.
    unsafe { FltCloseClientPort(FILTER.load(Ordering::Acquire), CLIENT.as_ptr()) };
}
