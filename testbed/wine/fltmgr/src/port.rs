// SPDX-License-Identifier: MIT OR Apache-2.0
//! Server ports and the driver's end of connections.

use alloc::sync::Arc;
use alloc::vec::Vec;

use fltmgr::{FilterId, PortAttributes, Status};
use fltport_nt::bindings::{OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES};
use fltport_nt::rtl::units_of;

use crate::table::{self, PortRecord};
use crate::{effects, handle};

/// Creates a server port, which listens at once. `store` puts its value where the driver wants it,
/// before anybody can connect.
///
/// # Safety
/// `attributes` are null or valid, and so is their name.
pub(crate) unsafe fn create(
    filter: FilterId,
    attributes: *const OBJECT_ATTRIBUTES,
    record: PortRecord,
    max_connections: i32,
    store: impl FnOnce(isize),
) -> Result<(), Status> {
    // SAFETY: null or valid by contract.
    let attributes = unsafe { attributes.as_ref() }.ok_or(Status::INVALID_PARAMETER)?;
    // SAFETY: null or valid by contract.
    let name: Vec<u16> = unsafe { units_of(attributes.ObjectName) }
        .unwrap_or(&[])
        .to_vec();
    let mut tables = table::lock();
    let id = tables.machine.create_port(
        filter,
        PortAttributes {
            name,
            kernel_handle: attributes.Attributes & OBJ_KERNEL_HANDLE != 0,
            case_insensitive: attributes.Attributes & OBJ_CASE_INSENSITIVE != 0,
            max_connections,
            has_connect_notify: record.connect.is_some(),
            has_disconnect_notify: record.disconnect.is_some(),
            has_message_notify: record.message.is_some(),
            // Nobody is checked.
            security: None,
            cookie: record.cookie as u64,
        },
    )?;
    tables.ports.insert(id, Arc::new(record));
    store(handle::of_server_port(id));
    Ok(())
}

/// FltCloseCommunicationPort.
pub(crate) fn close_server(value: isize) {
    let Some(id) = handle::server_port(value) else {
        return;
    };
    let effects = table::lock().machine.close_server_port(id);
    effects::execute(effects);
}

/// FltCloseClientPort. `take` reads the driver's variable and stores NULL in it, under the lock
/// under which sends read it.
pub(crate) fn close_client(filter: FilterId, take: impl FnOnce() -> isize) {
    let mut tables = table::lock();
    let value = take();
    let connection = handle::client_port(value)
        .and_then(|id| tables.machine.connection_state(id))
        .filter(|connection| connection.filter == filter);
    let Some(connection) = connection else {
        return;
    };
    let effects = tables.machine.close_client_port(connection.connection);
    drop(tables);
    effects::execute(effects);
}
