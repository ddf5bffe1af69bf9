// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls into a port's driver.

use core::ffi::c_void;
use core::ptr::{null, null_mut};

use fltmgr::{Connecting, Status};

use crate::handle;
use crate::irp::UserBuffers;
use crate::table::PortRecord;

/// ConnectNotify: the driver's cookie for the connection, or its refusal.
pub(crate) fn connect(
    port: &PortRecord,
    connecting: &Connecting,
    context: &[u8],
) -> Result<u64, Status> {
    let Some(routine) = port.connect else {
        return Err(Status::INVALID_PARAMETER);
    };
    let address = if context.is_empty() {
        null()
    } else {
        context.as_ptr().cast::<c_void>()
    };
    let mut cookie = null_mut();
    let client = handle::of_client_port(connecting.connection);
    let server_cookie = port.cookie as *const c_void;
    let length = context.len() as u32;
    // SAFETY: the driver registered this routine, and unregistering waits for it; context and
    // cookie live across the call.
    let status = unsafe { routine(client, server_cookie, address, length, &raw mut cookie) };
    match Status(status) {
        status if status.is_success() => Ok(cookie as u64),
        status => Err(status),
    }
}

/// MessageNotify: its status and how much it put into the output.
pub(crate) fn message(port: &PortRecord, cookie: u64, buffers: &UserBuffers) -> (Status, u32) {
    let Some(routine) = port.message else {
        return (Status::INVALID_DEVICE_REQUEST, 0);
    };
    let mut returned = 0;
    // SAFETY: the driver registered this routine, and unregistering waits for it; the buffers are
    // those of a request that is completed after the call.
    let status = unsafe {
        routine(
            cookie as *const c_void,
            buffers.input.cast(),
            buffers.input_length,
            buffers.output.cast(),
            buffers.output_length,
            &raw mut returned,
        )
    };
    (Status(status), returned.min(buffers.output_length))
}

/// DisconnectNotify.
pub(crate) fn disconnect(port: &PortRecord, cookie: u64) {
    if let Some(routine) = port.disconnect {
        // SAFETY: the driver registered this routine, and unregistering waits for it.
        unsafe { routine(cookie as *const c_void) };
    }
}
