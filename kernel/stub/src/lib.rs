// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the common driver and calls it, whether it comes before the client driver or after it, and
//! stands in for it while it is not there. Nothing here imports `fltport.sys`.
//!
//! Messages are bytes here, as in `include/fltport.c`, which is the same in C. Client drivers use
//! `fltport-client`, which puts types over it; who passes on what others have encoded can do with
//! this.

#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod asynchronous;
mod binding;
mod booking;
#[allow(
    unsafe_code,
    reason = "calls through the common driver's function table, and is called by it"
)]
mod ffi;
mod gate;
mod publication;
mod reservation;
mod staging;
mod stub;
mod unheard;

pub use booking::Booking;
pub use ffi::Snapshot;
pub use reservation::Reservation;
pub use stub::{DefaultReply, Routines, Stub, Terms};
