// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stopping the system.

use crate::abi::BUGCHECK_ERROR;
use crate::entry::nt;
use crate::irql::HIGH_LEVEL;
use crate::kernel;
use crate::sched::{self, Waiter};
use crate::verifier::{Report, Rule};

/// Reports a stop of the system. On NT nothing runs after it; here the caller goes on, or calls
/// [`never_return`].
pub(crate) fn stop(code: u32, parameters: [usize; 4]) {
    let [a, b, c, d] = parameters;
    Report::new(Rule::BugCheck)
        .expected("the system runs on")
        .found(format!(
            "bug check {code:#x} ({a:#x}, {b:#x}, {c:#x}, {d:#x})"
        ))
        .file();
}

/// Keeps the calling thread for ever, because the code it would return to cannot go on.
pub(crate) fn never_return() -> ! {
    let nobody = Waiter::new();
    loop {
        sched::block(&nobody, None);
    }
}

nt! {
    /// Stops the system: a report, and the calling thread does not return. Whoever waits in
    /// [`Kernel`](crate::Kernel) for the driver gets STATUS_UNSUCCESSFUL.
    simplified = "a report, and the calling thread is blocked for ever; no callbacks, no dump, and \
        other threads go on";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeBugCheckEx(
        code: BUGCHECK_ERROR,
        parameter1: usize,
        parameter2: usize,
        parameter3: usize,
        parameter4: usize,
    ) {
        stop(code, [parameter1, parameter2, parameter3, parameter4]);
        kernel::state().stopped();
        never_return()
    }
}
