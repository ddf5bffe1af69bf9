// SPDX-License-Identifier: MIT OR Apache-2.0
//! The platform's way to the port. Both edges have the same face:
//!
//! * `Port::connect(options, context)`: opens the port;
//! * `post(slot, capacity)`: has a get wait at the port; each slot has at most one;
//! * `wait(limit)`: the next get that completed; called by one thread at a time, which also serves
//!   the other callers on the hosted edge;
//! * `reply`, `send`: from any thread;
//! * `maps_views()`: whether a driver can be asked for views of its memory at all;
//! * `send_with_views(input, capacity)`: as `send`, and the driver may map views meanwhile;
//! * `take_view(address, length)`: the view that a driver says it has mapped during such a command. It
//!   is this process's from then on: the driver leaves it, and dropping it unmaps it;
//! * `settle()`: when the port is disconnected, by who waits: lets come to their end what others have
//!   begun;
//! * `shutdown()`: ends everything, from any thread; `wait` and all blocked callers return.
//!
//! The handle is closed when the port is dropped. A [`View`] and a [`Signal`], the event that a driver
//! sets, live on without it.

use crate::failure::Failure;

#[allow(unsafe_code)]
mod mapped;

#[cfg(any(windows, test))]
mod arguments;
#[cfg(unix)]
mod hosted;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod socket;
#[cfg(windows)]
#[allow(unsafe_code)]
mod windows;

#[cfg(unix)]
pub use hosted::{HostDescription, describe_host};
#[cfg(unix)]
pub(crate) use hosted::{Port, Signal, View};
#[cfg(unix)]
pub use place::socket_path;
#[cfg(windows)]
pub(crate) use windows::{Port, Signal, View};

pub(crate) use mapped::MappedRings;

/// A get that has completed.
#[derive(Debug)]
pub(crate) struct Got {
    /// Which one.
    pub(crate) slot: u32,
    /// The message with the Filter Manager's header.
    pub(crate) outcome: Result<Vec<u8>, Failure>,
}
