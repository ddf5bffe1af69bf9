// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager's communication ports as a pure state machine.
//!
//! A driver registers a filter, creates a server port, and gets one connection for every service
//! that connects. On a connection the service pends *gets* (FilterGetMessage) and the driver makes
//! *sends* (FltSendMessage): a send meets a get or waits for one; a send that wants a reply then
//! waits for FilterReplyMessage. Nothing is buffered: what queues up is waiting senders and pended
//! gets, never both kinds that fit each other.
//!
//! The machine does no I/O, has no threads and no clock, and calls nothing. Every operation changes
//! the state and returns what must now happen, in order, as a `Vec` of [`Effect`]; the host (a
//! hosted kernel, or a driver that stands in for fltmgr.sys) holds one lock around the machine and
//! executes the effects outside it. A callback into the driver is therefore two operations: the one
//! that asks for it and the one that reports its return.
//!
//! Behaviour follows Microsoft's documentation; what it leaves open is a switch in [`Decisions`].
//! `docs/filter-manager-facts.md` lists both with the test that shows each.
//!
//! ```
//! use fltmgr::*;
//! let mut manager = FilterManager::new(Decisions::default());
//! manager.set_initialized();
//! let filter = manager.register_filter(&FilterRegistration::example(1))?;
//! let name: Vec<u16> = "\\MyPort".encode_utf16().collect();
//! let port = manager.create_port(filter, PortAttributes::example(&name))?;
//! // A service connects, and the driver's ConnectNotify accepts with the cookie 7.
//! let connecting = manager.connect_begin(&name, 0, |_security| true)?;
//! let (accepted, _) = manager.connect_finish(connecting.connection, Ok(7));
//! accepted?;
//! // It pends a get; the driver's send meets it.
//! let (_get, none) = manager.get(connecting.connection, 64);
//! assert!(none.is_empty());
//! let (_send, effects) = manager.send(connecting.connection, b"hello".to_vec(), None, None);
//! assert!(matches!(effects[0], Effect::GetCompleted { .. }));
//! assert!(matches!(effects[1], Effect::SendCompleted { .. }));
//! # assert_eq!(connecting.port, port);
//! # Ok::<(), Status>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod connection;
mod decisions;
pub mod device;
mod effect;
mod filter;
mod get;
mod id;
mod manager;
mod message;
mod name;
mod port;
mod send;
mod snapshot;
mod status;

pub use connection::{CONTEXT_LIMIT, Connecting};
pub use decisions::{
    Decisions, DisconnectOrder, DriverClose, EmptyMessage, InstanceRoot, NoDescriptor, ReplyStatus,
    ReplyTimeout, SecondRegistration, SlotRelease, UndersizedGet, VersionCheck, WarningBytes,
    ZeroTimeout,
};
pub use effect::{Effect, GetOutcome, SendOutcome};
pub use filter::{
    DO_NOT_SUPPORT_SERVICE_STOP, DriverUnload, FilterRegistration, Holders, InstanceKeys,
    NameProvider, UNLOAD_MANDATORY, UnloadTrigger, Unloaded,
};
pub use id::{ConnectionId, FilterId, GetId, MessageCallId, MessageId, PortId, SendId, Time};
pub use manager::FilterManager;
pub use message::{MESSAGE_HEADER, Message, REPLY_HEADER, Reply};
pub use name::PortName;
pub use port::{PortAttributes, Security};
pub use send::Phase;
pub use snapshot::{ConnectionState, FilterState, GetState, PortState, SendState, Snapshot};
pub use status::Status;
