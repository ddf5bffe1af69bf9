// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls from the hosted kernel into a driver, with the check that the driver gives the thread
//! back as it got it.

use std::sync::Arc;

use crate::driver::Driver;
use crate::ex::fast_mutex;
use crate::irql;
use crate::ke::{mutant, spin_lock};
use crate::kernel;
use crate::stack::{bounds, unwind};
use crate::thread::{self, Context, LockKind};
use crate::verifier::locks::Left;
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
    // What lies above this on the stack is the driver's, for who tells its calls apart.
    let here = (&raw const before).addr();
    let outer = thread::with_context(|context| context.driver_entered_at.replace(here));
    let result = thread::as_driver(driver, || {
        let result = f();
        check(what, &before, here);
        result
    });
    thread::with_context(|context| context.driver_entered_at.set(outer));
    restore(&before);
    result
}

/// Looks at the thread as the driver gives it back. What lies on its stack below `returned` is not
/// the driver's any more.
fn check(what: &'static str, before: &Frame, returned: usize) {
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
        for left in kernel::state().locks.take_left(before.held) {
            let gone = is_gone(left.held.address, returned);
            report_left(what, &left, gone);
            if !gone {
                release(&left);
            }
        }
    }
}

fn report_left(what: &'static str, left: &Left, gone: bool) {
    let held = &left.held;
    let report = Report::new(Rule::LockLeft)
        .expected(format!("{what} returns without new locks"))
        .found(format!("a {} at {:#x} is held", held.kind, held.address))
        .detail(if gone {
            "it was a local variable of a function that has returned: nobody can release it"
        } else {
            "the hosted kernel releases it, so that others can go on"
        });
    let stack = left.holder.stack.clone();
    let report = if left.taken_before {
        report.related("the thread had taken it before, here", stack)
    } else {
        report.made_at(stack)
    };
    report.file();
}

/// Whether a lock lay on the part of the calling thread's stack that the driver has left: the
/// hosted kernel's own frames are there now, or whatever was.
fn is_gone(address: usize, returned: usize) -> bool {
    // On a stack of which nothing is known, what may be gone counts as gone: it is not written to.
    address < returned && bounds::around(returned).is_none_or(|stack| stack.contains(&address))
}

/// Releases a lock in the place of the thread that left it.
fn release(left: &Left) {
    let address = left.held.address;
    match left.held.kind {
        // SAFETY: the lock is on the thread's account still, so its memory was not freed.
        LockKind::Mutex if left.taken_before => unsafe {
            mutant::release_again(address, left.times);
        },
        // These are taken once, and that was before.
        LockKind::SpinLock | LockKind::FastMutex if left.taken_before => {}
        // SAFETY: as above.
        LockKind::SpinLock => unsafe { spin_lock::force_release(address) },
        // SAFETY: as above.
        LockKind::FastMutex => unsafe { fast_mutex::force_release(address) },
        // SAFETY: as above.
        LockKind::Mutex => unsafe { mutant::force_release(address) },
    }
}

/// What must hold when a driver's thread ends from inside an exported function, which calls this.
#[inline(never)]
pub(crate) fn thread_ends() {
    let fresh = Frame {
        irql: irql::PASSIVE_LEVEL,
        critical_regions: 0,
        held: 0,
    };
    check("a system thread", &fresh, stack_of_drivers_call());
    restore(&fresh);
}

/// Where the stack stood when the driver called the exported function that has called
/// [`thread_ends`], which calls this.
#[inline(never)]
fn stack_of_drivers_call() -> usize {
    let here = std::hint::black_box(0_u8);
    let inner = (&raw const here).addr();
    let mut frames = Vec::with_capacity(3);
    unwind::walk(|frame| {
        if frame.stack > inner {
            frames.push(frame.stack);
        }
        frames.len() < 3
    });
    frames.last().copied().unwrap_or(inner)
}

fn restore(before: &Frame) {
    irql::set(before.irql);
    thread::with_context(|context| {
        context.critical_regions.set(before.critical_regions);
        context.held.borrow_mut().truncate(before.held);
    });
}
