// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry monitor, `registry-monitor.sys`: a client driver that has nothing to do with the
//! process monitor but the common driver.
//!
//! NT tells it of every operation on the registry; it offers those that change something as
//! notifications, and before a program changes a key that is watched it asks the decider, if there
//! is one, whether it may.
//!
//! It opens no key in a callback, and what the decider's own process does is not asked about, so
//! nothing comes back to where it began. A question has a deadline, is answered by the default
//! (allow) without a decider, and is not asked at all while the decider does not answer.

#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[allow(unsafe_code, reason = "the image's entry points")]
mod entry;
mod monitor;
mod paths;
mod watched;

pub use entry::driver_entry;

/// The name of the service, and of the image without its extension.
pub const IMAGE_NAME: &str = "registry-monitor";
