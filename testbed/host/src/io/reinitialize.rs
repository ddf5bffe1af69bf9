// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reinitialisation: routines that a driver wants to be called when others have initialised.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::abi::{DRIVER_OBJECT, DRIVER_REINITIALIZE};
use crate::driver::Driver;
use crate::entry::nt;
use crate::frame;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel::{self, State};
use crate::stack::Stack;
use crate::thread;
use crate::verifier::{Report, Rule};

type Reinitialize = unsafe extern "system" fn(*const DRIVER_OBJECT, *const c_void, u32);

/// A routine that waits for its call.
pub(crate) struct Routine {
    routine: Reinitialize,
    context: usize,
    boot: bool,
    /// The function that it was registered with, and where.
    function: &'static str,
    stack: Stack,
}

/// Runs the routines of `driver` that wait, of the boot kind or of the other. A routine that
/// registers itself again is called in the next round, up to a limit.
pub(crate) fn run(driver: &Arc<Driver>, boot: bool) {
    const MOST_ROUNDS: u32 = 100;
    for _ in 0..MOST_ROUNDS {
        let due: Vec<Routine> = {
            let mut waiting = driver.reinitialize.lock();
            waiting
                .extract_if(.., |routine| routine.boot == boot)
                .collect()
        };
        if due.is_empty() {
            return;
        }
        for routine in due {
            call(driver, &routine);
        }
    }
    Report::new(Rule::ReinitializeMisuse)
        .driver(Some(driver.name()))
        .expected("a routine that stops registering itself")
        .found(format!("{MOST_ROUNDS} calls"))
        .detail("where the thing waited for may take long, use a timer")
        .file();
    driver
        .reinitialize
        .lock()
        .retain(|routine| routine.boot != boot);
}

/// Reports the routines that a driver registered whose entry point then failed, and forgets them.
pub(crate) fn report_failed_entry(driver: &Driver) {
    let left = std::mem::take(&mut *driver.reinitialize.lock());
    for routine in left {
        Report::new(Rule::ReinitializeMisuse)
            .driver(Some(driver.name()))
            .function(routine.function)
            .expected("a registration only if DriverEntry will return success")
            .found("a DriverEntry that registered, and then failed")
            .detail("register last, when nothing can fail any more")
            .made_at(routine.stack)
            .file();
    }
}

fn call(driver: &Arc<Driver>, routine: &Routine) {
    let extension = driver.extension();
    // SAFETY: the extension lives as long as the driver; only the kernel counts.
    let count = unsafe { &mut (*extension).Count };
    *count += 1;
    let count = *count;
    driver.reinitializing.store(true, Ordering::Release);
    frame::call("a reinitialisation routine", Some(driver), || {
        // SAFETY: the driver registered the routine with this context.
        unsafe { (routine.routine)(driver.object(), routine.context as *const c_void, count) };
    });
    driver.reinitializing.store(false, Ordering::Release);
}

fn register(
    state: &State,
    object: *const DRIVER_OBJECT,
    routine: DRIVER_REINITIALIZE,
    context: usize,
    boot: bool,
) {
    let driver = state.drivers.by_object(object as usize);
    let (Some(driver), Some(routine)) = (driver, routine) else {
        Report::new(Rule::ReinitializeMisuse)
            .expected("the driver object of a loaded driver, and a routine")
            .found(format!("{object:p}"))
            .file();
        return;
    };
    let again = driver.reinitializing.load(Ordering::Acquire);
    let mut waiting = driver.reinitialize.lock();
    let twice = waiting.iter().any(|other| other.boot == boot && !again);
    if (!driver.is_in_entry() && !again) || twice {
        drop(waiting);
        Report::new(Rule::ReinitializeMisuse)
            .expected("one registration, from DriverEntry or from the routine itself")
            .found(if twice {
                "a second one"
            } else {
                "one from elsewhere"
            })
            .file();
        return;
    }
    waiting.push(Routine {
        routine,
        context,
        boot,
        function: thread::with_context(|context| context.function.get()),
        stack: Stack::capture(),
    });
}

nt! {
    /// Lets a routine be called after DriverEntry has returned with success.
    simplified = "runs at once after DriverEntry; no other driver is waited for";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn IoRegisterDriverReinitialization(
        driver: *const DRIVER_OBJECT,
        routine: DRIVER_REINITIALIZE,
        context: *const c_void,
    ) {
        register(&kernel::state(), driver, routine, context as usize, false);
    }

    /// Lets a routine be called after all boot drivers and their devices have started.
    simplified = "runs when the test or the program says that the boot drivers have started";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn IoRegisterBootDriverReinitialization(
        driver: *const DRIVER_OBJECT,
        routine: DRIVER_REINITIALIZE,
        context: *const c_void,
    ) {
        register(&kernel::state(), driver, routine, context as usize, true);
    }
}
