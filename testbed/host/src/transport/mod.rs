// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user side of the hosted kernel: a Unix socket through which services in other processes
//! reach the Filter Manager's message device. [`fltport_abi::hosted`] is the protocol.
//!
//! One socket is one file handle. Whoever connects may be an enemy: every length is checked before
//! it is believed, the memory that a connection can make this process hold is bounded, and a broken
//! protocol costs the one socket on which it was broken. Who may use which port is not decided here
//! but by the port's security descriptor, with the peer's credentials as the kernel of this machine
//! gives them.
//!
//! Threads per connection: a *reader* that takes requests and runs connect and reply, a *writer*
//! for completions, and one for each send under way, because a send blocks until the driver's
//! handler returns and must not hold up the rest. Views are asked for by that one.

mod completions;
mod connection;
mod device;
mod lane;
mod listener;
mod message_device;
mod peer;
mod place;
mod views;

pub use crate::mm::MapViews;
pub use device::{Device, Got, Handle, SendBuffers};
pub use listener::{BindError, Capabilities, Endpoint, Log, Server};
pub use message_device::{MessageDevice, MessageHandle};
pub use peer::Peer;

#[cfg(test)]
mod tests;
