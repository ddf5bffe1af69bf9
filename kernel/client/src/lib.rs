// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client driver links: it registers a [`Provider`], offers notifications, asks, and takes
//! commands.
//!
//! The common driver need not be loaded, nor the Filter Manager be up: until the common driver
//! announces itself, notifications are kept in a bounded staging buffer of the client's own, and
//! requests are answered by their defaults. When the common driver is unloaded, it is the same
//! again. Nothing here imports `fltport.sys`. (All that is `fltport-stub`'s work, as it is
//! `include/fltport.c`'s in C; here are the types.)
//!
//! A driver, but for its DriverEntry:
//!
//! ```
//! # extern crate nt_host; // the linker's other half on Linux
//! use fltport_client::{BacklogPolicy, CommandCaller, Handler, Options, Provider};
//! use fltport_nt::ex::{Global, PoolArc, Tag};
//! use fltport_nt::{NtError, Result, bindings::STATUS_INVALID_DEVICE_REQUEST, io::DriverObject};
//!
//! fltport_abi::messages! {
//!     /// What this driver tells.
//!     provider MESSAGES = "door-monitor";
//!     /// A door has been opened.
//!     notification 1 "opened" Opened { /** Which. */ door: u32, }
//!     /// May it be opened?
//!     request 2 "open" Open { /** Which. */ door: u32, }
//!         -> /** The verdict. */ Verdict { /** No. */ deny: bool, }
//! }
//!
//! const TAG: Tag = Tag::new(b"Door");
//! static PROVIDER: Global<Provider<NoCommands>> = Global::empty();
//!
//! struct NoCommands;
//! impl Handler for NoCommands {
//!     fn command(&self, _: &CommandCaller, _: u16, _: &[u8], _: &mut [u8]) -> Result<usize> {
//!         Err(NtError(STATUS_INVALID_DEVICE_REQUEST))
//!     }
//! }
//!
//! /// From DriverEntry. Its mirror is `drop(PROVIDER.replace(None))`.
//! fn start(driver: DriverObject) -> Result<()> {
//!     let options = Options::new(TAG).backlog(65536, BacklogPolicy::KeepNewest);
//!     let provider = Provider::register(driver, &MESSAGES, NoCommands, options)?;
//!     PROVIDER.replace(Some(PoolArc::new(TAG, provider)?));
//!     Ok(())
//! }
//!
//! fn may_open(provider: &Provider<NoCommands>, door: u32) -> bool {
//!     let answer = provider.ask(&Open { door }, 500, Verdict { deny: false });
//!     let allowed = !answer.is_ok_and(|answer| answer.reply.deny);
//!     if allowed {
//!         // Never refused, for it is one of the provider's own; a loss is in the ledger.
//!         let _accounted = provider.notify(&Opened { door });
//!     }
//!     allowed
//! }
//! # fn main() { assert!(PROVIDER.get().is_none()); let _ = (start, may_open); }
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod booking;
mod default_reply;
mod message;
mod options;
mod provider;
mod request;
mod snapshot;

pub use booking::Booking;
pub use default_reply::DefaultReply;
pub use fltport_abi::interface::{BacklogPolicy, CommandCaller, ProviderStatistics};
pub use fltport_stub::Reservation;
pub use options::Options;
pub use provider::{Handler, Provider};
pub use request::Answer;
pub use snapshot::Snapshot;
