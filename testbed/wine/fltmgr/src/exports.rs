// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exported functions. Each turns pointers into values, calls one safe function, and turns its
//! result into a status.

use alloc::boxed::Box;
use alloc::vec;
use core::ffi::c_void;

use fltmgr::Status;
use fltport_nt::bindings::{
    DRIVER_OBJECT, FLT_REGISTRATION, NTSTATUS, OBJECT_ATTRIBUTES, PFLT_CONNECT_NOTIFY,
    PFLT_DISCONNECT_NOTIFY, PFLT_FILTER, PFLT_MESSAGE_NOTIFY, PFLT_PORT, PSECURITY_DESCRIPTOR,
};

use crate::table::{self, PortRecord};
use crate::{effects, handle, port, registration, send};

fn status(result: Result<(), Status>) -> NTSTATUS {
    result.err().unwrap_or(Status::SUCCESS).0
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltRegisterFilter(
    driver: *mut DRIVER_OBJECT,
    with: *const FLT_REGISTRATION,
    filter: *mut PFLT_FILTER,
) -> NTSTATUS {
    if driver.is_null() || with.is_null() || filter.is_null() {
        return Status::INVALID_PARAMETER.0;
    }
    // SAFETY: the caller passes its driver object and a registration that says its own size.
    let registered = unsafe { registration::register(driver, with) };
    status(registered.map(|id| {
        // SAFETY: not null; the caller passes memory for the result.
        unsafe { filter.write(handle::of_filter(id)) };
    }))
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltStartFiltering(filter: PFLT_FILTER) -> NTSTATUS {
    let Some(id) = handle::filter(filter) else {
        return Status::INVALID_PARAMETER.0;
    };
    status(table::lock().machine.start_filtering(id))
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltUnregisterFilter(filter: PFLT_FILTER) {
    if let Some(id) = handle::filter(filter) {
        registration::unregister(id);
    }
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltObjectReference(object: *mut c_void) -> NTSTATUS {
    let Some(id) = handle::filter(object as isize) else {
        return Status::INVALID_PARAMETER.0;
    };
    status(table::lock().machine.reference(id))
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltObjectDereference(object: *mut c_void) {
    if let Some(id) = handle::filter(object as isize) {
        let effects = table::lock().machine.dereference(id);
        effects::execute(effects.unwrap_or_default());
    }
}

/// An absolute descriptor without an access list: nobody looks at it here.
#[unsafe(no_mangle)]
unsafe extern "system" fn FltBuildDefaultSecurityDescriptor(
    descriptor: *mut PSECURITY_DESCRIPTOR,
    _access: u32,
) -> NTSTATUS {
    /// `sizeof(SECURITY_DESCRIPTOR)` on x64, in 64-bit words; the first byte is the revision.
    const WORDS: usize = 5;
    if descriptor.is_null() {
        return Status::INVALID_PARAMETER.0;
    }
    let mut built = Box::new([0_u64; WORDS]);
    built[0] = 1;
    // SAFETY: not null; the caller passes memory for the result.
    unsafe { descriptor.write(Box::into_raw(built).cast()) };
    Status::SUCCESS.0
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltFreeSecurityDescriptor(descriptor: PSECURITY_DESCRIPTOR) {
    if !descriptor.is_null() {
        // SAFETY: made by the function above, freed once.
        drop(unsafe { Box::from_raw(descriptor.cast::<[u64; 5]>()) });
    }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
unsafe extern "system" fn FltCreateCommunicationPort(
    filter: PFLT_FILTER,
    server_port: *mut PFLT_PORT,
    attributes: *const OBJECT_ATTRIBUTES,
    cookie: *const c_void,
    connect: PFLT_CONNECT_NOTIFY,
    disconnect: PFLT_DISCONNECT_NOTIFY,
    message: PFLT_MESSAGE_NOTIFY,
    max_connections: i32,
) -> NTSTATUS {
    let Some(filter) = handle::filter(filter).filter(|_| !server_port.is_null()) else {
        return Status::INVALID_PARAMETER.0;
    };
    let record = PortRecord {
        cookie: cookie as usize,
        connect,
        disconnect,
        message,
    };
    let store = |value| {
        // SAFETY: not null; the caller passes memory for the result.
        unsafe { server_port.write(value) };
    };
    // SAFETY: the caller passes object attributes.
    status(unsafe { port::create(filter, attributes, record, max_connections, store) })
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltCloseCommunicationPort(server_port: PFLT_PORT) {
    port::close_server(server_port);
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltCloseClientPort(filter: PFLT_FILTER, client_port: *mut PFLT_PORT) {
    let Some(filter) = handle::filter(filter).filter(|_| !client_port.is_null()) else {
        return;
    };
    port::close_client(filter, || {
        // SAFETY: not null; the caller passes its variable, which sends read under the same lock.
        unsafe { client_port.replace(0) }
    });
}

#[unsafe(no_mangle)]
unsafe extern "system" fn FltSendMessage(
    filter: PFLT_FILTER,
    client_port: *const PFLT_PORT,
    message: *const c_void,
    length: u32,
    reply: *mut c_void,
    reply_length: *mut u32,
    timeout: *const i64,
) -> NTSTATUS {
    let lengthless = !reply.is_null() && reply_length.is_null();
    let Some(filter) = handle::filter(filter) else {
        return Status::INVALID_PARAMETER.0;
    };
    if client_port.is_null() || message.is_null() || lengthless {
        return Status::INVALID_PARAMETER.0;
    }
    let mut payload = vec![0; length as usize];
    // SAFETY: the caller passes a message of `length` bytes.
    unsafe {
        payload
            .as_mut_ptr()
            .copy_from(message.cast(), length as usize)
    };
    // SAFETY: not null where there is a reply buffer; the caller passes a length.
    let capacity = (!reply.is_null()).then(|| unsafe { reply_length.read() } as usize);
    // SAFETY: not null; the caller passes a time.
    let timeout = (!timeout.is_null()).then(|| unsafe { timeout.read_unaligned() });
    let outcome = send::send(filter, payload, capacity, timeout, || {
        // SAFETY: not null; the caller passes its variable, read under the lock under which
        // FltCloseClientPort writes it.
        unsafe { client_port.read_volatile() }
    });
    if capacity.is_some() && outcome.status == Status::SUCCESS {
        let bytes = outcome.reply.len();
        // SAFETY: the machine gives no more bytes than the buffer's length said.
        unsafe { reply.cast::<u8>().copy_from(outcome.reply.as_ptr(), bytes) };
        // SAFETY: not null where there is a reply buffer.
        unsafe { reply_length.write(bytes as u32) };
    }
    outcome.status.0
}
