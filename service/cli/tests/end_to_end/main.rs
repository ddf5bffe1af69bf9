// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command from end to end, on the hosted floor: real processes, the hosted kernel in a process
//! of its own, the drivers, the socket, the output. Good days, then bad ones: floods, kills, stops,
//! garbage, unloads. What the command says is compared with what the test knows it did.
//!
//! Tests that need the process connector and fanotify need root; without, they say so and pass
//! over.
#![cfg(target_os = "linux")]

mod bench;
mod crowd;
mod elsewhere;
mod flood;
mod garbage;
mod hosts;
mod in_c;
mod metrics;
mod providers;
mod rights;
mod stop;
mod streams;
mod verdicts;
mod watch;

/// For tests that hold or load the whole machine: they run one at a time.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A test that has failed has nothing to leave behind here.
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
