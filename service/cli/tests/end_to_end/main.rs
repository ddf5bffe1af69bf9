// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command from end to end, on the hosted floor: real processes, the hosted kernel in a process of its own, the drivers, the socket, the
//! output.
//!
//! Tests that need the process connector and fanotify need root; without, they say so and pass over.
#![cfg(target_os = "linux")]

mod bench;
mod hosts;
mod watch;
