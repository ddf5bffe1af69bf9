// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket between a service and the hosted kernel on Linux.
//!
//! One `SOCK_STREAM` Unix socket stands for one user-mode file handle on the Filter Manager's
//! message device. The service writes requests, each a [`RequestHeader`] and a payload; the hosted
//! kernel writes completions, each a [`CompletionHeader`] and a payload. Several requests may be
//! outstanding and complete in any order; the request's id says which one it was. Operations are
//! named by Windows' own control codes where there is one.
//!
//! What travels how:
//!
//! | operation | request's payload | completion's payload |
//! | --- | --- | --- |
//! | [`op::DESCRIBE`] | none | [`Description`] and text, one line per missing capability |
//! | [`op::CONNECT`] | [`Connect`], the port's name (UTF-16), the connection context | none; `information` has [`connection`] bits |
//! | [`op::GET`] | [`Get`] | the message: the Filter Manager's 16-byte header and the driver's bytes |
//! | [`op::REPLY`] | the Filter Manager's 16-byte reply header and the reply | none |
//! | [`op::SEND`] | [`Send`]: **addresses** in the service's own memory, as on NT | none; `information` is the number of bytes written |
//! | [`op::SEND_WITH_VIEWS`] | as for [`op::SEND`] | as for [`op::SEND`] |
//! | [`op::MAPPED`] | [`Mapped`] | there is none: it is an answer itself |
//! | [`op::CANCEL`] | [`Cancel`] | none |
//!
//! The buffers of [`op::SEND`] must stay where they are until its completion arrived or the socket
//! has ended: the hosted kernel ends the socket only after the last access to the service's memory.
//!
//! While an [`op::SEND_WITH_VIEWS`] is outstanding the hosted kernel may ask for *views*: between two
//! completions stands a [`MapView`], which is as long as a completion's header and begins with another
//! magic, and with its first byte comes a descriptor (`SCM_RIGHTS`). The service maps that many bytes
//! of it, from its beginning and shared, and answers with [`op::MAPPED`]; what it maps stays mapped
//! until it has ended the socket. A hosted kernel says at the connect that it can do this
//! ([`connection::MAPS_VIEWS`]), and a service that it can by using that operation, so neither meets
//! what it does not know. A handle of an event, as a command's bytes may have one for a driver, is
//! the number of an eventfd of the service's process.
//!
//! A completion with the id [`NO_REQUEST`] answers nothing that was asked: the hosted kernel takes
//! this socket no further, its status says why ([`TOO_MANY_SOCKETS`]), and the socket ends.
//!
//! Whoever breaks the protocol (unknown operation, a length beyond its bound, a magic that is none)
//! is disconnected. All lengths are checked before anything is allocated for them:
//! [`RequestHeader::payload_len`], [`CompletionHeader::payload_len`].

use crate::fixed::Fixed;
use crate::limits::MAX_FRAME;

/// The first four bytes of a request: `FPHQ`.
pub const REQUEST_MAGIC: u32 = u32::from_le_bytes(*b"FPHQ");
/// The first four bytes of a completion: `FPHC`.
pub const COMPLETION_MAGIC: u32 = u32::from_le_bytes(*b"FPHC");

/// The first four bytes of a question for a view: `FPHM`.
pub const MAP_MAGIC: u32 = u32::from_le_bytes(*b"FPHM");

/// The environment variable that says where the socket is.
pub const SOCKET_VARIABLE: &str = "FLTPORT_SOCKET";
/// The socket's name in its directory.
pub const SOCKET_NAME: &str = "host.sock";

/// The longest port name, in bytes of UTF-16.
pub const MAX_NAME: usize = 1024;
/// The longest connection context: the Filter Manager's limit.
pub const MAX_CONTEXT: usize = 65_511;
/// The longest reply, the Filter Manager's header included.
pub const MAX_REPLY: usize = 64 * 1024;
/// The largest buffer that a get may offer.
pub const MAX_GET: usize = MAX_FRAME + 4096;
/// The longest text of a description.
pub const MAX_TEXT: usize = 8 * 1024;
/// The largest input or output of a send.
pub const MAX_SEND: u32 = 16 * 1024 * 1024;
/// Requests of one socket that may be outstanding. The hosted kernel reads no further one until a
/// completion has been taken.
pub const MAX_OUTSTANDING: usize = 128;

/// The id that no request has.
pub const NO_REQUEST: u64 = 0;
/// The hosted kernel has as many sockets as it takes: NT's STATUS_TOO_MANY_SESSIONS.
pub const TOO_MANY_SOCKETS: i32 = 0xC000_00CE_u32 as i32;

/// What is asked.
pub mod op {
    /// What the hosted kernel can do. Before or after connecting.
    pub const DESCRIBE: u32 = 1;
    /// Connect to a port; on Windows, opening the message device. Once per socket.
    pub const CONNECT: u32 = 2;
    /// Cancel gets.
    pub const CANCEL: u32 = 3;
    /// The answer to a [`MapView`](super::MapView).
    pub const MAPPED: u32 = 4;
    /// [`SEND`], by a service that answers a [`MapView`](super::MapView) meanwhile. Only where the
    /// hosted kernel has said [`MAPS_VIEWS`](super::connection::MAPS_VIEWS).
    pub const SEND_WITH_VIEWS: u32 = 5;
    /// `FilterSendMessage`.
    pub const SEND: u32 = 0x0008_801B;
    /// `FilterGetMessage`.
    pub const GET: u32 = 0x0008_401F;
    /// `FilterReplyMessage`.
    pub const REPLY: u32 = 0x0008_8023;
}

crate::fixed! {
    /// The start of a request.
    pub struct RequestHeader: 24 {
        /// [`REQUEST_MAGIC`].
        pub magic: u32,
        /// One of [`op`].
        pub op: u32,
        /// The service's name for this request; not that of another outstanding one, nor
        /// [`NO_REQUEST`].
        pub id: u64,
        /// Bytes of the payload that follows.
        pub length: u32,
        /// 0.
        pub reserved: u32,
    }

    /// The start of a completion.
    pub struct CompletionHeader: 24 {
        /// [`COMPLETION_MAGIC`].
        pub magic: u32,
        /// NTSTATUS.
        pub status: i32,
        /// The request that is complete.
        pub id: u64,
        /// As `IO_STATUS_BLOCK.Information`: bytes transferred; for a get that offered too little,
        /// the bytes needed.
        pub information: u32,
        /// Bytes of the payload that follows.
        pub length: u32,
    }

    /// The payload of [`op::CONNECT`] begins with this; name and context follow.
    pub struct Connect: 8 {
        /// Bytes of the port's name.
        pub name: u32,
        /// Bytes of the connection context.
        pub context: u32,
    }

    /// The payload of [`op::GET`].
    pub struct Get: 8 {
        /// Bytes that the service's buffer holds.
        pub capacity: u32,
        /// 0.
        pub reserved: u32,
    }

    /// The payload of [`op::SEND`].
    pub struct Send: 24 {
        /// The address of the input in the service's memory.
        pub input: u64,
        /// The address of the output buffer in the service's memory; may be 0.
        pub output: u64,
        /// Bytes of the input.
        pub input_length: u32,
        /// Bytes of the output buffer.
        pub output_length: u32,
    }

    /// A question for a view, with a descriptor beside it.
    pub struct MapView: 24 {
        /// [`MAP_MAGIC`].
        pub magic: u32,
        /// 1 if the view is to be writable, 0 if it is to be read only.
        pub writable: u32,
        /// The hosted kernel's name for this question; not 0.
        pub id: u64,
        /// Bytes: whole pages, at least one.
        pub length: u64,
    }

    /// The payload of [`op::MAPPED`].
    pub struct Mapped: 24 {
        /// The question's id.
        pub id: u64,
        /// NTSTATUS.
        pub status: i32,
        /// 0.
        pub reserved: u32,
        /// Where the view begins in the service's memory; 0 if there is none.
        pub address: u64,
    }

    /// The payload of [`op::CANCEL`].
    pub struct Cancel: 8 {
        /// The get's id; 0 for all of them.
        pub id: u64,
    }

    /// The payload of a description begins with this; text (UTF-8, lines) follows.
    pub struct Description: 8 {
        /// [`capability`] bits.
        pub capabilities: u32,
        /// The process id of the hosted kernel.
        pub pid: u32,
    }
}

/// [`Description::capabilities`].
pub mod capability {
    /// Process creations are held until the driver has answered, so a request can deny one.
    pub const HOLDS_PROCESS_CREATION: u32 = 1;
    /// No process start or end is overlooked.
    pub const SEES_EVERY_PROCESS: u32 = 2;
}

/// The `information` of a connect's completion.
pub mod connection {
    /// The hosted kernel knows [`op::SEND_WITH_VIEWS`](super::op::SEND_WITH_VIEWS).
    pub const MAPS_VIEWS: u32 = 1;
}

/// Why a peer is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The header does not begin with its magic number.
    Magic,
    /// No such operation.
    Operation,
    /// The payload is longer than this operation's may be, or not as long as its own fields say.
    Length,
    /// A field that must be 0 is not, or a value is out of its range.
    Value,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Violation::Magic => "it does not begin as the protocol says",
            Violation::Operation => "there is no such operation",
            Violation::Length => "a length is out of bounds or contradicts another one",
            Violation::Value => "a field is out of its range",
        })
    }
}

impl core::error::Error for Violation {}

impl RequestHeader {
    /// A header for a payload of `length` bytes.
    pub fn new(op: u32, id: u64, length: usize) -> Self {
        RequestHeader {
            magic: REQUEST_MAGIC,
            op,
            id,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            reserved: 0,
        }
    }

    /// The bytes of payload that follow, once they are known to be within the operation's bounds.
    pub fn payload_len(&self) -> Result<usize, Violation> {
        if self.magic != REQUEST_MAGIC {
            return Err(Violation::Magic);
        }
        if self.reserved != 0 || self.id == NO_REQUEST {
            return Err(Violation::Value);
        }
        let bounds = match self.op {
            op::DESCRIBE => 0..=0,
            op::CONNECT => Connect::SIZE..=Connect::SIZE + MAX_NAME + MAX_CONTEXT,
            op::CANCEL => Cancel::SIZE..=Cancel::SIZE,
            op::SEND | op::SEND_WITH_VIEWS => Send::SIZE..=Send::SIZE,
            op::MAPPED => Mapped::SIZE..=Mapped::SIZE,
            op::GET => Get::SIZE..=Get::SIZE,
            op::REPLY => 0..=MAX_REPLY,
            _ => return Err(Violation::Operation),
        };
        let length = self.length as usize;
        if bounds.contains(&length) {
            Ok(length)
        } else {
            Err(Violation::Length)
        }
    }
}

impl MapView {
    /// A question.
    pub fn new(id: u64, length: usize, writable: bool) -> Self {
        MapView {
            magic: MAP_MAGIC,
            writable: u32::from(writable),
            id,
            length: length as u64,
        }
    }

    /// The question in the bytes of a header, if that is what they are; an error if they begin like
    /// one and are none.
    pub fn find(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        match MapView::read(bytes) {
            Some(view) if view.magic != MAP_MAGIC => Ok(None),
            Some(view) if view.writable > 1 || view.id == NO_REQUEST || view.length == 0 => {
                Err(Violation::Value)
            }
            found => Ok(found),
        }
    }
}

impl CompletionHeader {
    /// A header for a payload of `length` bytes.
    pub fn new(id: u64, status: i32, information: u32, length: usize) -> Self {
        CompletionHeader {
            magic: COMPLETION_MAGIC,
            status,
            id,
            information,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        }
    }

    /// The bytes of payload that follow, once they are known to be within bounds.
    pub fn payload_len(&self) -> Result<usize, Violation> {
        if self.magic != COMPLETION_MAGIC {
            return Err(Violation::Magic);
        }
        let length = self.length as usize;
        if length <= MAX_GET {
            Ok(length)
        } else {
            Err(Violation::Length)
        }
    }
}

/// A request, read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// [`op::DESCRIBE`].
    Describe,
    /// [`op::CONNECT`].
    Connect {
        /// The port's name, UTF-16, an even number of bytes.
        name: &'a [u8],
        /// The connection context.
        context: &'a [u8],
    },
    /// [`op::CANCEL`]: the id of a get, or all of them.
    Cancel(Option<u64>),
    /// [`op::SEND`].
    Send(Send),
    /// [`op::SEND_WITH_VIEWS`].
    SendWithViews(Send),
    /// [`op::MAPPED`].
    Mapped(Mapped),
    /// [`op::GET`]: the bytes that the service's buffer holds.
    Get(usize),
    /// [`op::REPLY`]: what the service passes, not checked any further.
    Reply(&'a [u8]),
}

impl<'a> Request<'a> {
    /// Reads the payload that follows `header`.
    pub fn parse(header: &RequestHeader, payload: &'a [u8]) -> Result<Self, Violation> {
        if header.payload_len()? != payload.len() {
            return Err(Violation::Length);
        }
        Ok(match header.op {
            op::DESCRIBE => Request::Describe,
            op::CONNECT => connect(payload)?,
            op::CANCEL => match Cancel::read(payload).ok_or(Violation::Length)?.id {
                0 => Request::Cancel(None),
                id => Request::Cancel(Some(id)),
            },
            op::SEND => Request::Send(send(payload)?),
            op::SEND_WITH_VIEWS => Request::SendWithViews(send(payload)?),
            op::MAPPED => {
                let mapped = Mapped::read(payload).ok_or(Violation::Length)?;
                if mapped.reserved != 0 {
                    return Err(Violation::Value);
                }
                Request::Mapped(mapped)
            }
            op::GET => {
                let get = Get::read(payload).ok_or(Violation::Length)?;
                if get.capacity as usize > MAX_GET || get.reserved != 0 {
                    return Err(Violation::Value);
                }
                Request::Get(get.capacity as usize)
            }
            _ => Request::Reply(payload),
        })
    }
}

fn send(payload: &[u8]) -> Result<Send, Violation> {
    let send = Send::read(payload).ok_or(Violation::Length)?;
    if send.input_length.max(send.output_length) > MAX_SEND {
        return Err(Violation::Value);
    }
    Ok(send)
}

fn connect(payload: &[u8]) -> Result<Request<'_>, Violation> {
    let connect = Connect::read(payload).ok_or(Violation::Length)?;
    let rest = payload.get(Connect::SIZE..).ok_or(Violation::Length)?;
    let (name, context) = rest
        .split_at_checked(connect.name as usize)
        .ok_or(Violation::Length)?;
    let within = name.len() <= MAX_NAME && context.len() <= MAX_CONTEXT;
    if !within || !name.len().is_multiple_of(2) || context.len() != connect.context as usize {
        return Err(Violation::Length);
    }
    Ok(Request::Connect { name, context })
}

#[cfg(test)]
mod tests;
