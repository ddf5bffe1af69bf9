// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common driver, `fltport.sys`.
//!
//! It owns the registration with the Filter Manager, the server port and the connections, and
//! attaches to no file system. Client drivers find it through a callback object
//! ([`fltport_abi::interface`]), register providers and offer notifications; services connect to
//! the port.
//!
//! Where to begin: `entry` (load and unload), `driver` (the state and the order of the end),
//! `routes` (who gets what), `receiver` (how a stream is made), `request` (asking), `command` (what
//! services ask for).
//!
//! **Locks.** One spin lock under which anything is done, that of the routes; nothing is called
//! under it but what may be called at DISPATCH_LEVEL, and nothing that could take a lock. (The
//! other spin locks only hand a reference out.) Client drivers call with their own locks held, so
//! nothing here calls them with one of ours. The fast mutexes (`registration`, `retry`,
//! `announcement`, a connection's `sender`) each guard one owner and are never held across a wait
//! or together.

#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod announce;
mod asynchronous;
mod backlog;
mod census;
mod command;
mod command_shape;
mod connection;
mod deadlines;
mod defaults;
mod driver;
#[allow(unsafe_code, reason = "the image's entry points")]
mod entry;
#[allow(unsafe_code, reason = "what client drivers call, with pointers")]
mod exports;
mod fair;
#[allow(unsafe_code, reason = "calls to client drivers, with pointers")]
mod ffi;
mod filter;
mod instances;
mod lane;
mod ledger;
mod marks;
mod mute;
mod pending;
mod policy;
mod port;
mod provider;
mod queue;
mod receiver;
mod refusal;
mod registration;
mod reply;
mod request;
mod request_account;
mod retention;
mod rings;
mod routes;
mod screen;
mod snapshot;
mod stream;
mod switch;
mod tag;
mod untold;
mod usage;

pub use entry::driver_entry;

/// The name of the service, and of the image without its extension.
pub const IMAGE_NAME: &str = "fltport";
