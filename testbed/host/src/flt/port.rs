// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltCreateCommunicationPort, FltCloseCommunicationPort, FltCloseClientPort.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fltmgr::{FilterId, PortAttributes, PortId, Status};

use super::handle;
use super::table::{FilterTable, PortRecord, misuse};
use crate::abi::{
    OBJECT_ATTRIBUTES, PFLT_CONNECT_NOTIFY, PFLT_DISCONNECT_NOTIFY, PFLT_FILTER,
    PFLT_MESSAGE_NOTIFY,
};
use crate::se::descriptor::Descriptor;
use crate::stack::Stack;
use crate::unicode;

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
            return Err(Status::INVALID_PARAMETER);
        }
        // SAFETY: not null, and valid by contract.
        let attributes = unsafe { attributes.read() };
        // SAFETY: null or valid by contract.
        let name = unsafe { unicode::read(attributes.ObjectName) };
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
    store(handle::of_server_port(id));
    Ok(id)
}

/// Closes a server port: no new connections.
pub(super) fn close_server(filters: &FilterTable, value: isize) {
    let mut tables = filters.lock();
    let open = handle::server_port(value).filter(|id| tables.machine.is_listening(*id));
    let Some(id) = open else {
        drop(tables);
        misuse(
            "a server port from FltCreateCommunicationPort that is open",
            format!("{value:#x}"),
            "close each server port once",
        );
        return;
    };
    let effects = tables.machine.close_server_port(id);
    drop(tables);
    filters.execute(effects);
}

/// Closes the driver's end of a connection. `take` reads the driver's variable and stores NULL in
/// it; it runs under the lock that sends read the variable under.
pub(super) fn close_client(
    filters: &FilterTable,
    filter: PFLT_FILTER,
    take: impl FnOnce() -> isize,
) {
    let mut tables = filters.lock();
    let value = take();
    let known = handle::client_port(value)
        .and_then(|id| tables.machine.connection_state(id))
        .filter(|connection| handle::of_filter(connection.filter) == filter);
    let Some(connection) = known else {
        // Unregistering closes ports by itself; a driver that comes a moment later does no harm.
        let deleting = |state: &fltmgr::FilterState| {
            state.deleting && handle::of_filter(state.filter) == filter
        };
        let late = tables.machine.snapshot().filters.iter().any(deleting);
        drop(tables);
        if late {
            return;
        }
        misuse(
            "the address of a variable that holds an open client port of this filter",
            format!("a variable that holds {value:#x}"),
            "the port was closed already through this or another variable, or is another filter's",
        );
        return;
    };
    let effects = tables.machine.close_client_port(connection.connection);
    drop(tables);
    filters.execute(effects);
}
