// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt request level, as data of each thread.
//!
//! On NT the IRQL belongs to a processor and keeps other threads off it. Here it is a number in
//! the thread's context: it restricts what the thread may call, which is what the rules of the
//! road are about. It schedules nothing but this: a thread at DISPATCH_LEVEL or above has one of
//! the kernel's processors for itself.

use crate::ex::special_pool;
use crate::processor;
use crate::thread;
use crate::verifier::{self, paged_code};

/// Threads run here, everything may be called and everything may block.
pub const PASSIVE_LEVEL: u8 = 0;
/// Asynchronous procedure calls are held back; page faults are still allowed.
pub const APC_LEVEL: u8 = 1;
/// No blocking, no paged memory: spin locks and deferred procedure calls.
pub const DISPATCH_LEVEL: u8 = 2;
/// The highest level.
pub const HIGH_LEVEL: u8 = 15;

/// The IRQL of the calling thread.
#[must_use]
pub fn current() -> u8 {
    thread::with_context(|context| context.irql.get())
}

/// Sets the IRQL of the calling thread and returns the former one.
pub(crate) fn set(irql: u8) -> u8 {
    let former = thread::with_context(|context| {
        let former = context.irql.get();
        match (former >= DISPATCH_LEVEL, irql >= DISPATCH_LEVEL) {
            (false, true) => processor::take(context),
            (true, false) => processor::give_back(context),
            _ => {}
        }
        context.irql.replace(irql)
    });
    if former < DISPATCH_LEVEL && irql >= DISPATCH_LEVEL && !verifier::is_off() {
        special_pool::page_out();
        paged_code::raised();
    }
    former
}

/// The name of a level, as Microsoft's documentation writes it.
#[must_use]
pub fn name(irql: u8) -> &'static str {
    match irql {
        PASSIVE_LEVEL => "PASSIVE_LEVEL",
        APC_LEVEL => "APC_LEVEL",
        DISPATCH_LEVEL => "DISPATCH_LEVEL",
        3..=14 => "DIRQL",
        _ => "HIGH_LEVEL",
    }
}
