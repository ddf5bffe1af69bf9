// SPDX-License-Identifier: MIT OR Apache-2.0
//! The load generator, `loadgen.sys`: a client driver that does what the scenarios tell it.
//!
//! It sends notifications from system threads and from DPCs, asks from threads of its own, and
//! takes commands. What takes its time is a *job*: the command that starts it returns at once with
//! the job's number, and [`messages::Await`] waits for its end and brings the account.
//!
//! It is not shipped. It keeps the rules of kernel code all the same: it is also the client driver
//! that shows how to keep them with threads and DPCs.

#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[cfg(feature = "driver")]
mod asking;
#[cfg(feature = "driver")]
mod commands;
#[cfg(feature = "driver")]
mod deeds;
#[cfg(feature = "driver")]
mod deferred;
#[cfg(feature = "driver")]
#[allow(unsafe_code, reason = "the image's entry points")]
mod entry;
#[cfg(feature = "driver")]
mod flood;
#[cfg(feature = "driver")]
mod job;
#[cfg(feature = "driver")]
mod load;
pub mod messages;
#[cfg(feature = "driver")]
mod objects;
#[cfg(feature = "driver")]
mod pairs;
#[cfg(feature = "driver")]
mod share;
#[cfg(feature = "driver")]
mod wrong;

#[cfg(feature = "driver")]
pub use entry::driver_entry;

/// The name of the service, and of the image without its extension.
pub const IMAGE_NAME: &str = "loadgen";
