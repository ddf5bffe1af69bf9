// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drivers that are gone: on NT their image is unmapped, so none of their code may run any more.
//!
//! What a driver leaves registered is reported at its unload and kept, so that the event that would
//! enter the driver is reported, too, instead of silently missing it.

use std::sync::Arc;

use crate::driver::Driver;
use crate::stack::Stack;
use crate::verifier::{Report, Rule};

/// Whether a routine of `driver` may be called: not once the driver is unloaded, which is reported.
/// `what` names the routine; `function` and `made_at` say where it was registered.
pub(crate) fn may_call(
    what: &str,
    driver: Option<&Arc<Driver>>,
    function: &'static str,
    made_at: &Stack,
) -> bool {
    match driver.filter(|driver| driver.is_unloaded()) {
        Some(gone) => {
            call(what, gone, function, made_at).file();
            false
        }
        None => true,
    }
}

/// The report about a call into an unloaded driver that is not made.
pub(crate) fn call(what: &str, driver: &Driver, function: &'static str, made_at: &Stack) -> Report {
    Report::new(Rule::CallIntoUnloadedDriver)
        .driver(Some(driver.name()))
        .function(function)
        .expected(format!(
            "{what} is taken back before its driver is unloaded"
        ))
        .found(format!("{what} is due, and its driver is gone"))
        .detail(
            "on NT this jumps into unmapped memory and stops the system; here it is not called; \
             the stack is that of its registration",
        )
        .made_at(made_at.clone())
}

/// Reports the calling thread, which runs code of a driver that is gone.
pub(crate) fn report_caller() {
    Report::new(Rule::CallIntoUnloadedDriver)
        .expected("all code of a driver has returned before the driver is unloaded")
        .found("a thread that still runs in it calls the kernel")
        .detail(
            "on NT its code is unmapped by now; wait for every thread's object (not for an event \
             that the thread sets) and for every routine in DriverUnload",
        )
        .file();
}
