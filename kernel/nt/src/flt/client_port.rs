// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's end of one connection.

use super::filter::Filter;
use super::port_state::PortState;
use super::server_port::PendingPort;
use crate::bindings::{
    FltCloseClientPort, FltObjectDereference, FltObjectReference, FltSendMessage, PFLT_PORT,
    STATUS_BUFFER_OVERFLOW, STATUS_PORT_DISCONNECTED, STATUS_SUCCESS, STATUS_THREAD_IS_TERMINATING,
    STATUS_TIMEOUT,
};
use crate::ex::{PoolBox, Tag};
use crate::ke::Timeout;
use crate::status::{NtError, Result, check};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// A reader took the message; no reply was asked for.
    Delivered,
    /// The service replied with this many bytes.
    Replied(usize),
    /// Not taken, or taken and not replied to in time; which of the two cannot be told.
    TimedOut,
    /// The connection has ended.
    Disconnected,
    /// The sending thread is being terminated.
    ThreadTerminating,
    /// The service replied with more bytes than there is room for.
    ReplyTooLong,
    /// Another failure.
    Failed(NtError),
}

/// The port variable of one connection. Sending and closing both get the *address* of the same
/// variable, through which the Filter Manager synchronises them; so it lies in pool of its own and
/// never moves, and no copy of the value can be had.
pub struct ClientPort {
    port: PoolBox<UnsafeCell<PFLT_PORT>>,
    filter: Filter,
    state: PortState,
}

// SAFETY: the variable is written by the one `accept` that opens the state; from then on only the
// Filter Manager touches it, under its own lock.
unsafe impl Send for ClientPort {}
// SAFETY: as above.
unsafe impl Sync for ClientPort {}

impl ClientPort {
    /// IRQL: <= DISPATCH_LEVEL. A variable without a connection; made first, so that
    /// [`ClientPort::accept`] cannot fail.
    pub fn new(tag: Tag, filter: &Filter) -> Result<Self> {
        let port = PoolBox::new(tag, UnsafeCell::new(0))?;
        Ok(ClientPort {
            port,
            filter: filter.clone(),
            state: PortState::new(),
        })
    }

    /// IRQL: <= DISPATCH_LEVEL. Takes the connection over; the connect callback must then return
    /// success. False if it has been closed or taken already: then the callback must refuse.
    pub fn accept(&self, pending: PendingPort) -> bool {
        let variable = self.port.get();
        // SAFETY: runs in the one thread that opens the state, and nobody touches the variable before
        // it is open.
        self.state.open(|| unsafe { variable.write(pending.0) })
    }

    /// IRQL: any. Whether it is connected, as far as this side knows.
    pub fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// IRQL: PASSIVE_LEVEL. Ends the connection: pending gets of the service fail, blocked senders
    /// wake. Before [`ClientPort::accept`] it makes that fail. Any number of times.
    pub fn close(&self) {
        if self.state.close() {
            // SAFETY: the filter that owns the port, and the one address of its variable, which holds
            // a port, for it was open; this is the first close.
            unsafe { FltCloseClientPort(self.filter.raw(), self.port.get()) };
        }
    }

    /// IRQL: <= APC_LEVEL. Hands `message` to the service, at the latest when `timeout` is over;
    /// with `reply` also waits, within the same time, for its answer. On [`SendOutcome::Replied`]
    /// that many bytes of `reply` have been written; otherwise its content is unspecified.
    pub fn send(&self, message: &[u8], reply: Option<&mut [u8]>, timeout: Timeout) -> SendOutcome {
        if !self.is_open() {
            return SendOutcome::Disconnected;
        }
        let Ok(length) = u32::try_from(message.len()) else {
            return SendOutcome::ReplyTooLong;
        };
        // A send in flight delays the unregistration instead of racing it.
        // SAFETY: a registered filter; `self.filter` keeps it so.
        if let Err(error) = check(unsafe { FltObjectReference(self.filter.raw() as *mut c_void) }) {
            return SendOutcome::Failed(error);
        }
        let wants_reply = reply.is_some();
        let (buffer, capacity) = reply.map_or((null_mut(), 0), |r| {
            (r.as_mut_ptr().cast::<c_void>(), r.len())
        });
        // Payload only, without FILTER_REPLY_HEADER, whatever the page of FltSendMessage says.
        let mut reply_length = u32::try_from(capacity).unwrap_or(u32::MAX);
        let timeout = timeout.raw();
        // SAFETY: the variable's one address; buffers that are valid for their lengths across the
        // call; a non-zero relative timeout.
        let status = unsafe {
            FltSendMessage(
                self.filter.raw(),
                self.port.get(),
                message.as_ptr().cast(),
                length,
                buffer,
                &raw mut reply_length,
                &raw const timeout,
            )
        };
        // SAFETY: referenced above, once.
        unsafe { FltObjectDereference(self.filter.raw() as *mut c_void) };
        match status {
            STATUS_SUCCESS if wants_reply => {
                SendOutcome::Replied(capacity.min(reply_length as usize))
            }
            STATUS_SUCCESS => SendOutcome::Delivered,
            STATUS_TIMEOUT => SendOutcome::TimedOut,
            STATUS_PORT_DISCONNECTED => SendOutcome::Disconnected,
            STATUS_THREAD_IS_TERMINATING => SendOutcome::ThreadTerminating,
            STATUS_BUFFER_OVERFLOW => SendOutcome::ReplyTooLong,
            other => SendOutcome::Failed(NtError(other)),
        }
    }
}

impl Drop for ClientPort {
    fn drop(&mut self) {
        self.close();
    }
}
