// SPDX-License-Identifier: MIT OR Apache-2.0
//! NT as fltport uses it: generated bindings, and safe owners of what NT hands out, in modules
//! named by NT's prefixes.
//!
//! Each owner gives back in `Drop` what it took, allocates fallibly, never waits without a deadline
//! (but where NT itself gives no choice: joins and rundown, each said so), and states the IRQL in
//! the first line of its docs. Facts about IRQL and statuses are from the functions' pages in
//! Microsoft's documentation, unless a comment names another source.
//!
//! The functions are declared, not implemented: ntoskrnl.exe and fltmgr.sys answer on Windows,
//! `nt-host` answers on Linux. The linker is the seam.

#![no_std]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod bindings;
pub mod cm;
pub mod ex;
pub mod flt;
#[cfg(all(windows, not(test)))]
mod guard;
pub mod io;
pub mod ke;
pub mod linked;
pub mod mm;
mod panic;
pub mod ps;
pub mod rtl;
pub mod se;
pub mod status;
pub mod user_memory;
pub mod zw;

pub use status::{NtError, Result};
