// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's side: what fltlib.dll asks of the message device. The transport calls it.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fltmgr::{Connecting, ConnectionId, GetId, GetOutcome, MessageCallId, Security, Status};

use super::table::{self, FilterTable, PortRecord};
use super::{handle, inside, security};
use crate::abi::NTSTATUS;
use crate::frame;
use crate::process::Process;
use crate::sched::{self, Waiter};
use crate::thread;
use crate::user_memory::UserSlice;
use crate::user_memory::shadow::UserCall;
use crate::verifier::{Report, Rule};

/// FLT_PORT_CONNECT.
const PORT_CONNECT: u32 = 1;
/// The first address that no user-mode buffer reaches.
const USER_LIMIT: u64 = 0x0000_8000_0000_0000;
/// What the driver's output length is set to before MessageNotify, to see whether it is set.
const NOT_SET: u32 = 0xFFFF_FFFE;

/// One user-mode file handle on the message device: the service's end of a connection.
///
/// Dropping it closes it.
pub struct UserPort {
    filters: Arc<FilterTable>,
    connection: ConnectionId,
    port: Arc<PortRecord>,
    closed: AtomicBool,
}

impl UserPort {
    /// FilterConnectCommunicationPort. The driver's ConnectNotify runs in this thread, attached to
    /// `caller`, before this returns.
    ///
    /// # Errors
    /// STATUS_OBJECT_NAME_NOT_FOUND, STATUS_ACCESS_DENIED by the port's descriptor,
    /// STATUS_CONNECTION_COUNT_LIMIT, STATUS_INTEGER_OVERFLOW for a context that is too long, or
    /// the driver's refusal.
    pub fn connect(
        caller: &Arc<Process>,
        name: &[u16],
        context: &[u8],
    ) -> Result<Arc<UserPort>, NTSTATUS> {
        sched::point("FilterConnectCommunicationPort");
        let filters = table::current();
        let begun = begin(&filters, caller, name, context);
        if begun
            .as_ref()
            .is_err_and(|status| *status == Status::OBJECT_NAME_NOT_FOUND)
        {
            filters.report_ghost(name);
        }
        let (connecting, port) = begun.map_err(|status| status.0)?;
        let id = connecting.connection;
        let answer = if filters.may_call("ConnectNotify", &port) {
            let call = || connect_notify(&connecting, &port, context);
            caller.attach(|| inside::connect(port.filter, id, call))
        } else {
            Err(Status::OBJECT_NAME_NOT_FOUND)
        };
        let mut tables = filters.lock();
        let closed_inside = tables
            .machine
            .connection_state(id)
            .is_some_and(|c| !c.driver_open);
        let (result, effects) = tables.machine.connect_finish(id, answer);
        drop(tables);
        if closed_inside && answer.is_err() {
            of_callback(Rule::RefusedPortClosed, "ConnectNotify", &port)
                .expected("a driver that refuses a connection leaves its client port alone")
                .found("FltCloseClientPort before ConnectNotify returned an error")
                .detail("the Filter Manager disposes of the port itself")
                .file();
        }
        filters.execute(effects);
        result.map_err(|status| status.0)?;
        Ok(Arc::new(UserPort {
            filters,
            connection: id,
            port,
            closed: AtomicBool::new(false),
        }))
    }

    /// The connection's number, the same that the snapshot shows.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// FilterGetMessage with a buffer of `capacity` bytes, header included. `done` is called once,
    /// now or later, from whatever thread, with no lock held.
    pub fn get(&self, capacity: usize, done: Box<dyn FnOnce(GetOutcome) + Send>) -> GetId {
        sched::point("FilterGetMessage");
        let mut tables = self.filters.lock();
        let (get, effects) = tables.machine.get(self.connection, capacity);
        tables.gets.insert(get, done);
        drop(tables);
        self.filters.execute(effects);
        get
    }

    /// CancelIoEx: cancels one get, or all of this handle.
    pub fn cancel(&self, get: Option<GetId>) {
        sched::point("CancelIoEx");
        let mut tables = self.filters.lock();
        let effects = match get {
            Some(get) => tables.machine.cancel_get(self.connection, get),
            None => tables.machine.cancel_all_gets(self.connection),
        };
        drop(tables);
        self.filters.execute(effects);
    }

    /// FilterReplyMessage: reply header and payload. Returns a status as the driver's device would;
    /// STATUS_FLT_NO_WAITER_FOR_REPLY when the sender has stopped waiting.
    #[must_use]
    pub fn reply(&self, bytes: &[u8]) -> NTSTATUS {
        sched::point("FilterReplyMessage");
        let (result, effects) = self.filters.lock().machine.reply(self.connection, bytes);
        self.filters.execute(effects);
        result.map_or_else(|status| status.0, |()| Status::SUCCESS.0)
    }

    /// FilterSendMessage: MessageNotify runs in this thread, attached to `caller`, with addresses
    /// that stand for the caller's buffers: only the fault-safe copies reach them. Returns the
    /// status and the number of bytes put into `output`.
    #[must_use]
    pub fn send(
        &self,
        caller: &Arc<Process>,
        input: UserSlice,
        output: UserSlice,
    ) -> (NTSTATUS, u32) {
        sched::point("FilterSendMessage");
        if !is_user_memory(&input) || !is_user_memory(&output) {
            return (Status::ACCESS_VIOLATION.0, 0);
        }
        if !self.filters.may_call("MessageNotify", &self.port) {
            return (Status::PORT_DISCONNECTED.0, 0);
        }
        let begun = self.filters.lock().machine.message_begin(self.connection);
        let (call, cookie) = match begun {
            Ok(begun) => begun,
            Err(status) => return (status.0, 0),
        };
        let (status, count) = inside::callback(self.port.filter, || {
            caller.attach(|| message_notify(&self.port, cookie, &input, &output))
        });
        let returned = self.end_message(call, status, count);
        (status.0, returned)
    }

    fn end_message(&self, call: MessageCallId, status: Status, count: u32) -> u32 {
        let mut tables = self.filters.lock();
        let returned = tables.machine.decisions().bytes_returned(status, count);
        let effects = tables.machine.message_end(call);
        drop(tables);
        self.filters.execute(effects);
        returned
    }

    /// One more handle to the same connection (duplicated or inherited); each needs its close.
    ///
    /// # Errors
    /// STATUS_INVALID_HANDLE after the last close.
    pub fn duplicate(&self) -> Result<(), NTSTATUS> {
        let duplicated = self
            .filters
            .lock()
            .machine
            .duplicate_handle(self.connection);
        duplicated.map_err(|status| status.0)
    }

    /// Closes one duplicated handle.
    pub fn close_duplicate(&self) {
        self.close_one();
    }

    /// CloseHandle. With the last handle the gets are cancelled, senders are woken, and
    /// DisconnectNotify runs in this thread, after the message callbacks that still run. Closing
    /// twice does nothing.
    pub fn close(&self) {
        sched::point("CloseHandle");
        if !self.closed.swap(true, Ordering::AcqRel) {
            // For its report only, in any case: the machine decides whether the callback is due, and
            // `disconnect` does not call one whose driver is gone.
            self.filters.may_call("DisconnectNotify", &self.port);
            self.close_one();
        }
    }

    fn close_one(&self) {
        let id = self.connection;
        let filters = &self.filters;
        let mut tables = filters.lock();
        let effects = tables.machine.close_handle(id);
        let due = tables
            .machine
            .connection_state(id)
            .is_some_and(|c| c.disconnect_due);
        let turn = due.then(|| {
            let turn = Arc::new(Waiter::new());
            tables.closers.insert(id, turn.clone());
            turn
        });
        drop(tables);
        filters.execute_as(Some(id), effects);
        if let Some(turn) = turn {
            // Message callbacks still run; the last one to return wakes this thread. On NT the
            // close waits for them too.
            sched::block(&turn, None);
            self.disconnect_in_turn();
        }
    }

    fn disconnect_in_turn(&self) {
        let filters = &self.filters;
        let mut tables = filters.lock();
        tables.closers.remove(&self.connection);
        let pending = tables.pending_disconnects.remove(&self.connection);
        drop(tables);
        if let Some((port, cookie)) = pending {
            let effects = filters.disconnect(self.connection, port, cookie);
            filters.execute(effects);
        }
    }
}

impl Drop for UserPort {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for UserPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserPort")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// The connect up to the driver.
fn begin(
    filters: &FilterTable,
    caller: &Arc<Process>,
    name: &[u16],
    context: &[u8],
) -> Result<(Connecting, Arc<PortRecord>), Status> {
    let token = thread::client_token().unwrap_or_else(|| caller.token().clone());
    let mut tables = filters.lock();
    let tables = &mut *tables;
    let descriptors = &tables.descriptors;
    let connecting =
        tables
            .machine
            .connect_begin(name, context.len(), |security| match security {
                Security::Descriptor(key) => {
                    let descriptor = descriptors.get(&key);
                    descriptor.is_some_and(|known| known.check(&token, PORT_CONNECT).is_ok())
                }
                Security::HostDefault => security::default_admits(&token),
            })?;
    let port = tables
        .ports
        .get(&connecting.port)
        .cloned()
        .ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
    Ok((connecting, port))
}

/// Calls ConnectNotify with a kernel copy of the context.
fn connect_notify(
    connecting: &Connecting,
    port: &PortRecord,
    context: &[u8],
) -> Result<u64, Status> {
    let Some(callback) = port.connect else {
        return Err(Status::INVALID_PARAMETER);
    };
    let copy = context.to_vec();
    let address = if copy.is_empty() {
        std::ptr::null()
    } else {
        copy.as_ptr().cast::<c_void>()
    };
    let length = u32::try_from(copy.len()).unwrap_or(u32::MAX);
    let client = handle::of_client_port(connecting.connection);
    let mut cookie = std::ptr::null_mut();
    let status = frame::call("ConnectNotify", Some(&port.driver), || {
        // SAFETY: the driver registered this routine and its port is open or was a moment ago,
        // which keeps the driver loaded; context and cookie live across the call.
        Status(unsafe {
            callback(
                client,
                port.cookie as *const c_void,
                address,
                length,
                &raw mut cookie,
            )
        })
    });
    if status.is_success() {
        Ok(cookie as u64)
    } else {
        Err(status)
    }
}

/// Calls MessageNotify with addresses that stand for the caller's buffers; its status and its
/// output length.
fn message_notify(
    port: &PortRecord,
    cookie: u64,
    input: &UserSlice,
    output: &UserSlice,
) -> (Status, u32) {
    let Some(callback) = port.message else {
        return (Status::INVALID_DEVICE_REQUEST, 0);
    };
    let buffers = match UserCall::begin(&port.driver, input, output) {
        Ok(buffers) => buffers,
        Err(status) => return (Status(status), 0),
    };
    let mut returned = NOT_SET;
    let status = frame::call("MessageNotify", Some(&port.driver), || {
        // SAFETY: the driver registered this routine, and unregistering waits for it; it treats the
        // user addresses as it must on NT, with copies that may fail.
        Status(unsafe {
            callback(
                cookie as *const c_void,
                buffers.input as *const c_void,
                input.length,
                buffers.output as *mut c_void,
                output.length,
                &raw mut returned,
            )
        })
    });
    drop(buffers);
    (status, check_returned(port, returned, output.length))
}

fn check_returned(port: &PortRecord, returned: u32, room: u32) -> u32 {
    if returned == NOT_SET {
        of_callback(Rule::OutputLengthNotSet, "MessageNotify", port)
            .expected("MessageNotify sets *ReturnOutputBufferLength on every path")
            .found("it returned without doing so")
            .detail("on NT the service would be told an arbitrary number")
            .file();
        return 0;
    }
    if returned > room {
        of_callback(Rule::OutputLengthTooLong, "MessageNotify", port)
            .expected(format!(
                "an output length of at most {room} bytes, the size of the buffer"
            ))
            .found(format!("{returned} bytes"))
            .detail("the service would read beyond its buffer")
            .file();
        return room;
    }
    returned
}

/// A report about a callback of a port that has returned, so that the thread's stack no longer
/// leads to it.
fn of_callback(rule: Rule, callback: &'static str, port: &PortRecord) -> Report {
    Report::new(rule)
        .driver(Some(port.driver.name()))
        .function(callback)
        .at("the port was created here", port.stack.clone())
}

/// What ProbeForRead and ProbeForWrite check of a range: nothing if it is empty, else that it lies
/// in user space. The pages themselves are met by the copy.
fn is_user_memory(slice: &UserSlice) -> bool {
    let end = slice.address.checked_add(u64::from(slice.length));
    slice.length == 0 || slice.address == 0 || end.is_some_and(|end| end <= USER_LIMIT)
}
