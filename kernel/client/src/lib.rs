// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client driver links: it registers a [`Provider`], offers notifications, asks, and takes
//! commands.
//!
//! The common driver need not be loaded, nor the Filter Manager be up: until the common driver
//! announces itself, notifications are kept in a bounded staging buffer of the client's own, and
//! requests are answered by their defaults. When the common driver is unloaded, it is the same
//! again. Nothing here imports `fltport.sys`.
//!
//! ```ignore
//! static PROVIDER: Global<Provider<Monitor>> = Global::empty();
//!
//! struct Monitor;
//!
//! impl Handler for Monitor {
//!     fn command(&self, _: &CommandCaller, message: u16, payload: &[u8], out: &mut [u8]) -> Result<usize> {
//!         Err(NtError(STATUS_INVALID_DEVICE_REQUEST))
//!     }
//! }
//!
//! let options = Options { tag: TAG, backlog: 256 * 1024, policy: BacklogPolicy::KeepNewest, staging: 64 * 1024 };
//! let provider = Provider::register(object, &messages::PROVIDER, Monitor, options)?;
//! provider.notify(&ProcessExit { pid, exit_status })?;
//! let answer = provider.ask(&ProcessCreate { .. }, Timeout, ProcessVerdict { deny: false })?;
//! ```

#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[allow(
    unsafe_code,
    reason = "calls through the common driver's function table"
)]
mod ffi;
mod provider;
mod staging;

pub use fltport_abi::interface::{BacklogPolicy, CommandCaller};
pub use provider::{Answer, Handler, Options, Provider};
