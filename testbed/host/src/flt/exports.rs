// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exported functions of fltmgr.sys. Each turns pointers into values, calls one safe function,
//! and turns its result into a status.

use std::ffi::c_void;
use std::sync::Arc;

use fltmgr::{FilterId, Status};

use super::port::{self, NewName, NewPort};
use super::reply_length::ReplyBuffer;
use super::send::{self, Request};
use super::table::{self, FilterTable, report};
use super::{handle, registration, security};
use crate::abi::{
    DRIVER_OBJECT, FLT_REGISTRATION, NTSTATUS, OBJECT_ATTRIBUTES, PFLT_CONNECT_NOTIFY,
    PFLT_DISCONNECT_NOTIFY, PFLT_FILTER, PFLT_MESSAGE_NOTIFY, PFLT_PORT, PSECURITY_DESCRIPTOR,
};
use crate::driver::Driver;
use crate::entry::nt;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use crate::kernel::{self, State};
use crate::verifier::{Report, Rule};

fn status(result: Result<(), Status>) -> NTSTATUS {
    result.map_or_else(|status| status.0, |()| Status::SUCCESS.0)
}

fn driver_at(state: &State, object: *const DRIVER_OBJECT) -> Option<Arc<Driver>> {
    let driver = state.drivers.by_object(object as usize);
    if driver.is_none() {
        report(
            Rule::ObjectUnknown,
            "the driver object that DriverEntry was given",
            format!("{object:p}"),
            "",
        );
    }
    driver
}

/// The registered filter that a driver passed; a report if there is none.
fn filter_at(filters: &FilterTable, value: isize) -> Option<FilterId> {
    let filter = handle::filter(value);
    let tables = filters.lock();
    if let Some(registered) = filter.filter(|id| tables.filters.contains_key(id)) {
        return Some(registered);
    }
    let unregistered = filter.and_then(|id| tables.unregistered.get(&id).cloned());
    drop(tables);
    match unregistered {
        Some(stack) => Report::new(Rule::FilterUsedAfterUnregister)
            .expected("a filter that is registered")
            .found(format!(
                "{value:#x}, whose FltUnregisterFilter has returned"
            ))
            .detail("on NT its memory is free")
            .related("it was unregistered here", stack)
            .file(),
        None => report(
            Rule::FilterUnknown,
            "a filter from FltRegisterFilter",
            format!("{value:#x}"),
            "the value must not be NULL or a port",
        ),
    }
    None
}

fn report_null(expected: &str) {
    report(Rule::FilterArgumentNull, expected, "a NULL pointer", "");
}

nt! {
    /// Registers a filter. STATUS_FLT_NOT_INITIALIZED until the Filter Manager is up;
    /// STATUS_OBJECT_NAME_NOT_FOUND without an instance in the registry.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "I/O callbacks, contexts and name providers are checked and never called: there is no \
        I/O";
    max_irql = APC_LEVEL;
    pub unsafe fn FltRegisterFilter(
        driver: *const DRIVER_OBJECT,
        registration: *const FLT_REGISTRATION,
        filter: *mut PFLT_FILTER,
    ) -> NTSTATUS {
        let state = kernel::state();
        let Some(driver) = driver_at(&state, driver) else {
            return Status::INVALID_PARAMETER.0;
        };
        if registration.is_null() || filter.is_null() {
            return Status::INVALID_PARAMETER.0;
        }
        // SAFETY: the caller passes a registration that says its own size.
        let registration = unsafe { registration::read(registration) };
        status(registration::register(&state, &table::of(&state), &driver, &registration).map(|id| {
            // SAFETY: not null; the caller passes memory for the result.
            unsafe { filter.write(handle::of_filter(id)) };
        }))
    }

    /// Starts filtering. Instance-setup callbacks may run before this returns.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "there is one volume, NTFS, and it is attached to before this returns";
    max_irql = APC_LEVEL;
    pub unsafe fn FltStartFiltering(filter: PFLT_FILTER) -> NTSTATUS {
        let filters = table::current();
        let Some(id) = filter_at(&filters, filter) else { return Status::INVALID_PARAMETER.0 };
        status(registration::start(&filters, id))
    }

    /// Ends a filter and waits until nothing uses it.
    simplified = "where NT would hang, it reports who holds the filter and goes on";
    max_irql = APC_LEVEL;
    pub unsafe fn FltUnregisterFilter(filter: PFLT_FILTER) {
        let filters = table::current();
        if let Some(id) = filter_at(&filters, filter) {
            registration::unregister(&filters, id);
        }
    }

    /// Takes a rundown reference. STATUS_FLT_DELETING_OBJECT once the filter is being torn down.
    simplified = "filters only, no volumes and no instances";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn FltObjectReference(object: *mut c_void) -> NTSTATUS {
        let filters = table::current();
        let Some(id) = filter_at(&filters, object as isize) else {
            return Status::INVALID_PARAMETER.0;
        };
        status(registration::reference(&filters, id))
    }

    /// Gives a rundown reference back.
    simplified = "filters only, no volumes and no instances";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn FltObjectDereference(object: *mut c_void) {
        let filters = table::current();
        if let Some(id) = filter_at(&filters, object as isize) {
            registration::dereference(&filters, id);
        }
    }

    /// Makes a descriptor that admits SYSTEM and administrators, in paged pool.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "an access list only, without owner and group";
    max_irql = APC_LEVEL;
    pub unsafe fn FltBuildDefaultSecurityDescriptor(
        descriptor: *mut PSECURITY_DESCRIPTOR,
        access: u32,
    ) -> NTSTATUS {
        if descriptor.is_null() {
            return Status::INVALID_PARAMETER.0;
        }
        status(security::build_default(access).map(|built| {
            security::remember(&table::current(), built);
            // SAFETY: not null; the caller passes memory for the result.
            unsafe { descriptor.write(built) };
        }))
    }

    /// Frees a descriptor that FltBuildDefaultSecurityDescriptor made.
    max_irql = APC_LEVEL;
    pub unsafe fn FltFreeSecurityDescriptor(descriptor: PSECURITY_DESCRIPTOR) {
        security::free(&table::current(), descriptor);
    }

    /// Creates a server port, which listens before this returns.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "the name lies in no object directory; of the descriptor the access list alone \
        counts";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn FltCreateCommunicationPort(
        filter: PFLT_FILTER,
        port: *mut PFLT_PORT,
        attributes: *const OBJECT_ATTRIBUTES,
        cookie: *const c_void,
        connect: PFLT_CONNECT_NOTIFY,
        disconnect: PFLT_DISCONNECT_NOTIFY,
        message: PFLT_MESSAGE_NOTIFY,
        max_connections: i32,
    ) -> NTSTATUS {
        let filters = table::current();
        let Some(filter) = filter_at(&filters, filter) else {
            return Status::INVALID_PARAMETER.0;
        };
        if port.is_null() {
            report_null("memory for the port");
            return Status::INVALID_PARAMETER.0;
        }
        // SAFETY: the caller passes object attributes.
        let name = match unsafe { NewName::read(attributes) } {
            Ok(name) => name,
            Err(status) => return status.0,
        };
        let cookie = cookie as usize;
        let with = NewPort { cookie, connect, disconnect, message, max_connections };
        let store = |value| {
            // SAFETY: not null; the caller passes memory for the result.
            unsafe { port.write(value) };
        };
        status(port::create(&filters, filter, name, with, store).map(|_| ()))
    }

    /// Closes a server port. Existing connections stay.
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn FltCloseCommunicationPort(port: PFLT_PORT) {
        port::close_server(&table::current(), port);
    }

    /// Closes the driver's end of a connection and stores NULL in the driver's variable.
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn FltCloseClientPort(filter: PFLT_FILTER, port: *mut PFLT_PORT) {
        if port.is_null() {
            return report_null("the address of the driver's port variable");
        }
        let filters = table::current();
        if filter_at(&filters, filter).is_none() {
            return;
        }
        port::close_client(&filters, filter, port as usize, || {
            // SAFETY: not null; the caller passes its variable, which every thread reads and
            // writes under the Filter Manager's lock only.
            unsafe { port.replace(0) }
        });
    }

    /// Sends a message to the service at the other end, and waits for it to be read, and if there
    /// is a reply buffer for the reply, no longer than the timeout.
    fails = STATUS_INSUFFICIENT_RESOURCES | STATUS_TIMEOUT | STATUS_PORT_DISCONNECTED;
    simplified = "threads are not terminated from outside: never STATUS_THREAD_IS_TERMINATING";
    max_irql = APC_LEVEL;
    pub unsafe fn FltSendMessage(
        filter: PFLT_FILTER,
        port: *const PFLT_PORT,
        message: *const c_void,
        length: u32,
        reply: *mut c_void,
        reply_length: *mut u32,
        timeout: *const i64,
    ) -> NTSTATUS {
        if port.is_null() || message.is_null() || (!reply.is_null() && reply_length.is_null()) {
            report_null("a port variable, a message, and a length for every reply buffer");
            return Status::INVALID_PARAMETER.0;
        }
        let filters = table::current();
        let Some(filter) = filter_at(&filters, filter) else {
            return Status::INVALID_PARAMETER.0;
        };
        let wants_reply = !reply.is_null();
        // SAFETY: the caller passes a message of `length` bytes.
        let payload = unsafe { std::slice::from_raw_parts(message.cast::<u8>(), length as usize) };
        let request = Request {
            filter,
            payload: payload.to_vec(),
            reply: wants_reply.then(|| ReplyBuffer {
                buffer: reply as usize,
                length: reply_length as usize,
                // SAFETY: not null where there is a reply buffer; the caller passes a length.
                capacity: unsafe { reply_length.read() } as usize,
            }),
            // SAFETY: not null; the caller passes a time.
            timeout: (!timeout.is_null()).then(|| unsafe { timeout.read_unaligned() }),
            variable: port as usize,
        };
        let outcome = send::send(&filters, request, || {
            // SAFETY: not null; the caller passes its variable, read under the lock under which
            // FltCloseClientPort writes it.
            unsafe { port.read_volatile() }
        });
        if wants_reply && outcome.status.is_success() && outcome.status != Status::TIMEOUT {
            let bytes = outcome.reply.len();
            // SAFETY: the machine gives no more bytes than the buffer's length said.
            unsafe { reply.cast::<u8>().copy_from(outcome.reply.as_ptr(), bytes) };
            // SAFETY: not null where there is a reply buffer.
            unsafe { reply_length.write(u32::try_from(bytes).unwrap_or(u32::MAX)) };
        }
        outcome.status.0
    }
}
