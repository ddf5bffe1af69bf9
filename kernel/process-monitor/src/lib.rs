// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process monitor, `process-monitor.sys`: the first client driver.
//!
//! It stands on no device stack and attaches to nothing. NT tells it of processes, threads and
//! images; it offers each as a notification, and before a process is created it asks the decider,
//! if there is one, whether it may be. Services can give it a list of images that it should not
//! offer.
//!
//! Asking a service from inside a process callback is what Microsoft's rules for these callbacks
//! advise against. It is done knowingly, because a verdict is worth it to those who ask for one:
//! bounded by a deadline, answered by the default (allow) without a decider, never asked of the
//! decider's own process, and not asked at all while the decider does not answer.

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
mod exclusions;
mod listing;
mod monitor;
mod processes;

pub use entry::driver_entry;

/// The name of the service, and of the image without its extension.
pub const IMAGE_NAME: &str = "process-monitor";
