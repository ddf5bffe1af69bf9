// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an operation asks the host to do.

use alloc::vec::Vec;

use crate::id::{ConnectionId, FilterId, GetId, PortId, SendId};
use crate::status::Status;

/// One thing the host must do now. Effects are executed in order, outside the host's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A FilterGetMessage is over. Each get completes exactly once.
    GetCompleted {
        /// Where it was pended.
        connection: ConnectionId,
        /// Which one.
        get: GetId,
        /// With what.
        outcome: GetOutcome,
    },
    /// A FltSendMessage returns. Each send completes exactly once.
    SendCompleted {
        /// Which one.
        send: SendId,
        /// With what.
        outcome: SendOutcome,
    },
    /// Call the port's DisconnectNotify with `cookie` at PASSIVE_LEVEL, then report
    /// [`FilterManager::disconnect_returned`](crate::FilterManager::disconnect_returned).
    /// At most once per accepted connection.
    CallDisconnect {
        /// The connection that ended.
        connection: ConnectionId,
        /// The port it was made on; the port may be closed already.
        port: PortId,
        /// What the driver's ConnectNotify returned for it.
        cookie: u64,
    },
    /// Both ends are closed and no callback runs: the machine has forgotten the connection.
    ConnectionGone {
        /// The connection.
        connection: ConnectionId,
    },
    /// The server port is closed and no connection needs its callbacks any more.
    PortGone {
        /// The port.
        port: PortId,
    },
    /// FltUnregisterFilter may return. Nothing of this filter follows.
    FilterGone {
        /// The filter.
        filter: FilterId,
    },
}

/// How a FilterGetMessage ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetOutcome {
    /// FILTER_MESSAGE_HEADER and payload; as many bytes as are transferred.
    Message(Vec<u8>),
    /// STATUS_FLT_BUFFER_TOO_SMALL. The message is not lost: its sender goes on waiting.
    TooSmall {
        /// What a get must offer, in bytes, header included.
        needed: usize,
    },
    /// STATUS_CANCELLED: the user cancelled it, or closed the last handle.
    Cancelled,
    /// STATUS_PORT_DISCONNECTED: the driver closed its end, or the filter is unloading.
    Disconnected,
}

impl GetOutcome {
    /// The status the request completes with.
    pub fn status(&self) -> Status {
        match self {
            GetOutcome::Message(_) => Status::SUCCESS,
            GetOutcome::TooSmall { .. } => Status::FLT_BUFFER_TOO_SMALL,
            GetOutcome::Cancelled => Status::CANCELLED,
            GetOutcome::Disconnected => Status::PORT_DISCONNECTED,
        }
    }

    /// The request's byte count: bytes written, or for a buffer that is too small bytes needed.
    pub fn information(&self) -> usize {
        match self {
            GetOutcome::Message(bytes) => bytes.len(),
            GetOutcome::TooSmall { needed } => *needed,
            GetOutcome::Cancelled | GetOutcome::Disconnected => 0,
        }
    }
}

/// How a FltSendMessage ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendOutcome {
    /// What FltSendMessage returns.
    pub status: Status,
    /// What goes to the reply buffer from offset 0, without a header; never more than its capacity.
    /// Its length is the `*ReplyLength` on return.
    pub reply: Vec<u8>,
}

impl SendOutcome {
    pub(crate) fn without_reply(status: Status) -> SendOutcome {
        SendOutcome {
            status,
            reply: Vec::new(),
        }
    }
}
