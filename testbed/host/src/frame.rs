// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls from the hosted kernel into a driver, with the check that the driver gives the thread
//! back as it got it.

use std::sync::Arc;

use crate::driver::Driver;
use crate::irql;
use crate::thread::{self, Context};
use crate::verifier::{Report, Rule};

/// The part of a thread's context that a callback must restore.
struct Frame {
    irql: u8,
    critical_regions: u32,
    held: usize,
}

impl Frame {
    fn take(context: &Context) -> Frame {
        Frame {
            irql: context.irql.get(),
            critical_regions: context.critical_regions.get(),
            held: context.held.borrow().len(),
        }
    }
}

/// Calls a routine of `driver`. `what` names the routine in reports ("DriverEntry",
/// "a work item's routine").
pub(crate) fn call<R>(
    what: &'static str,
    driver: Option<&Arc<Driver>>,
    f: impl FnOnce() -> R,
) -> R {
    let before = thread::with_context(Frame::take);
    let result = thread::as_driver(driver, || {
        let result = f();
        check(what, &before);
        result
    });
    restore(&before);
    result
}

fn check(what: &'static str, before: &Frame) {
    let after = thread::with_context(Frame::take);
    if after.irql != before.irql {
        Report::new(Rule::IrqlNotRestored)
            .expected(format!("{what} returns at {}", irql::name(before.irql)))
            .found(irql::name(after.irql))
            .file();
    }
    if after.critical_regions != before.critical_regions {
        Report::new(Rule::CriticalRegionUnbalanced)
            .expected(format!(
                "{what} returns with {} regions entered",
                before.critical_regions
            ))
            .found(format!("{} regions entered", after.critical_regions))
            .detail("every KeEnterCriticalRegion needs its KeLeaveCriticalRegion")
            .file();
    }
    if after.held > before.held {
        let held = thread::with_context(|context| context.held.borrow().last().copied());
        Report::new(Rule::LockLeft)
            .expected(format!("{what} returns without new locks"))
            .found(held.map_or_else(String::new, |held| {
                format!("a {:?} at {:#x} is held", held.kind, held.address)
            }))
            .file();
    }
}

fn restore(before: &Frame) {
    thread::with_context(|context| {
        context.irql.set(before.irql);
        context.critical_regions.set(before.critical_regions);
        context.held.borrow_mut().truncate(before.held);
    });
}
