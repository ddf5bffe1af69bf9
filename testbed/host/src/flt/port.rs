// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltCreateCommunicationPort, FltCloseCommunicationPort, FltCloseClientPort.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fltmgr::{FilterId, PortAttributes, PortId, Status};

use super::table::{FilterTable, PortRecord, report};
use super::{handle, variable};
use crate::abi::{
    OBJECT_ATTRIBUTES, PFLT_CONNECT_NOTIFY, PFLT_DISCONNECT_NOTIFY, PFLT_FILTER,
    PFLT_MESSAGE_NOTIFY,
};
use crate::se::descriptor::Descriptor;
use crate::stack::Stack;
use crate::unicode;
use crate::verifier::{Report, Rule};

const OBJ_CASE_INSENSITIVE: u32 = 0x40;
const OBJ_KERNEL_HANDLE: u32 = 0x200;

/// The callbacks and limits of a new port.
pub(super) struct NewPort {
    pub(super) cookie: usize,
    pub(super) connect: PFLT_CONNECT_NOTIFY,
    pub(super) disconnect: PFLT_DISCONNECT_NOTIFY,
    pub(super) message: PFLT_MESSAGE_NOTIFY,
    pub(super) max_connections: i32,
}

/// A port's name, flags and descriptor, copied from the driver.
pub(super) struct NewName {
    name: Vec<u16>,
    flags: u32,
    descriptor: Option<Descriptor>,
}

impl NewName {
    /// Copies what object attributes point to.
    ///
    /// # Safety
    /// `attributes` point to valid object attributes; their name and descriptor are valid or null.
    pub(super) unsafe fn read(attributes: *const OBJECT_ATTRIBUTES) -> Result<NewName, Status> {
        if attributes.is_null() {
            report_attributes("NULL");
            return Err(Status::INVALID_PARAMETER);
        }
        // SAFETY: not null, and valid by contract.
        let attributes = unsafe { attributes.read() };
        if attributes.Length as usize != size_of::<OBJECT_ATTRIBUTES>() {
            report_attributes("a Length that is not the structure's size");
        }
        if attributes.Attributes & OBJ_KERNEL_HANDLE == 0 {
            report_attributes("Attributes without OBJ_KERNEL_HANDLE");
        }
        // SAFETY: null or valid by contract.
        let name = unsafe { unicode::read(attributes.ObjectName) };
        if name.is_empty() {
            report_attributes("no name");
        }
        let security = attributes.SecurityDescriptor;
        // SAFETY: null or valid by contract.
        let descriptor = unsafe { Descriptor::capture(security) }.map_err(Status)?;
        let descriptor = (!security.is_null()).then_some(descriptor);
        Ok(NewName {
            name,
            flags: attributes.Attributes,
            descriptor,
        })
    }
}

/// Creates a server port, which listens at once. `store` puts the new port's value where the driver
/// wants it, before anybody can connect.
pub(super) fn create(
    filters: &FilterTable,
    filter: FilterId,
    name: NewName,
    with: NewPort,
    store: impl FnOnce(isize),
) -> Result<PortId, Status> {
    with.report_mistakes();
    let mut tables = filters.lock();
    let record = tables
        .filters
        .get(&filter)
        .ok_or(Status::INVALID_PARAMETER)?;
    let driver = record.driver.clone();
    let key = name
        .descriptor
        .as_ref()
        .map(|_| tables.descriptors.keys().max().map_or(1, |k| k + 1));
    let attributes = PortAttributes {
        name: name.name,
        kernel_handle: name.flags & OBJ_KERNEL_HANDLE != 0,
        case_insensitive: name.flags & OBJ_CASE_INSENSITIVE != 0,
        max_connections: with.max_connections,
        has_connect_notify: with.connect.is_some(),
        has_disconnect_notify: with.disconnect.is_some(),
        has_message_notify: with.message.is_some(),
        security: key,
        cookie: with.cookie as u64,
    };
    let id = tables.machine.create_port(filter, attributes)?;
    if let (Some(key), Some(descriptor)) = (key, name.descriptor) {
        tables.descriptors.insert(key, Arc::new(descriptor));
    }
    let record = PortRecord {
        driver,
        filter,
        cookie: with.cookie,
        connect: with.connect,
        disconnect: with.disconnect,
        message: with.message,
        descriptor: key,
        abandoned: AtomicBool::new(false),
        stack: Stack::capture(),
    };
    tables.ports.insert(id, Arc::new(record));
    if let Some(name) = tables.machine.port_name(id).map(<[u16]>::to_vec) {
        tables.lay_ghost(&name);
    }
    store(handle::of_server_port(id));
    Ok(id)
}

/// Closes a server port: no new connections.
pub(super) fn close_server(filters: &FilterTable, value: isize) {
    let mut tables = filters.lock();
    let open = handle::server_port(value).filter(|id| tables.machine.is_listening(*id));
    let Some(id) = open else {
        let closed =
            handle::server_port(value).and_then(|id| tables.closed_ports.get(&id).cloned());
        drop(tables);
        return report_no_server_port(value, closed.as_ref());
    };
    tables.note_closed(id);
    let effects = tables.machine.close_server_port(id);
    drop(tables);
    filters.execute(effects);
}

/// Closes the driver's end of a connection. `take` reads the driver's variable at `address` and
/// stores NULL in it; it runs under the lock that sends read the variable under.
pub(super) fn close_client(
    filters: &FilterTable,
    filter: PFLT_FILTER,
    address: usize,
    take: impl FnOnce() -> isize,
) {
    let mut tables = filters.lock();
    let value = take();
    let id = handle::client_port(value);
    let known = id
        .and_then(|id| tables.machine.connection_state(id))
        .filter(|connection| handle::of_filter(connection.filter) == filter);
    let Some(connection) = known.filter(|connection| connection.driver_open) else {
        // Unregistering closes ports by itself; a driver that comes a moment later does no harm.
        let deleting = |state: &fltmgr::FilterState| {
            state.deleting && handle::of_filter(state.filter) == filter
        };
        let late = tables.machine.snapshot().filters.iter().any(deleting);
        let closed = match id {
            Some(id) => tables.variables.closed(id),
            None => tables.variables.closed_through(address),
        };
        drop(tables);
        if !late {
            report_no_client_port(value, closed.as_ref());
        }
        return;
    };
    let differs = tables.variables.differs(connection.connection, address);
    tables.variables.close(connection.connection, address);
    let effects = tables.machine.close_client_port(connection.connection);
    drop(tables);
    if let Some(first) = differs {
        variable::report_differs(&first, address);
    }
    filters.execute(effects);
}

impl NewPort {
    /// Reports what the Filter Manager refuses, or is documented to.
    fn report_mistakes(&self) {
        let callbacks = [
            (self.connect.is_some(), "ConnectNotify"),
            (self.disconnect.is_some(), "DisconnectNotify"),
        ];
        for (_, name) in callbacks.iter().filter(|(given, _)| !given) {
            report(
                Rule::PortCallbackMissing,
                "a ConnectNotify and a DisconnectNotify; MessageNotify alone is optional",
                format!("no {name}"),
                "the call fails with STATUS_INVALID_PARAMETER",
            );
        }
        if self.max_connections <= 0 {
            report(
                Rule::PortLimitInvalid,
                "MaxConnections of at least 1",
                self.max_connections.to_string(),
                "the call fails with STATUS_INVALID_PARAMETER",
            );
        }
    }
}

fn report_attributes(found: &str) {
    report(
        Rule::PortAttributesInvalid,
        "object attributes with a name and OBJ_KERNEL_HANDLE, made by InitializeObjectAttributes",
        found,
        "the call fails with STATUS_INVALID_PARAMETER or a status of the object manager",
    );
}

fn report_no_server_port(value: isize, closed: Option<&Stack>) {
    match closed {
        Some(closed) => Report::new(Rule::PortClosedTwice)
            .expected("each server port is closed once")
            .found(format!("{value:#x}, a server port that was closed"))
            .detail("set the variable to NULL after the close")
            .related("it was closed here", closed.clone())
            .file(),
        None => report(
            Rule::PortUnknown,
            "a server port from FltCreateCommunicationPort",
            format!("{value:#x}"),
            "the value must not be NULL, a client port or another variable's",
        ),
    }
}

fn report_no_client_port(value: isize, closed: Option<&variable::Use>) {
    match (closed, handle::client_port(value)) {
        (None, None) => variable::report_unknown(value, "no client port"),
        _ => variable::report_closed(Rule::PortClosedTwice, value, closed),
    }
}
