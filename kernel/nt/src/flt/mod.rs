// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flt: the filter registration and its communication ports.
//!
//! Order of ends, kept by the types: every [`ClientPort`] and the [`ServerPort`] hold the
//! [`Filter`], so the filter is unregistered when the last of them is gone, and never before.

mod client_port;
mod filter;
mod port_state;
mod server_port;

pub use client_port::{ClientPort, SendOutcome};
pub use filter::{Filter, FilterCallbacks, Instances};
pub use server_port::{PendingPort, PortCallbacks, ServerPort};
