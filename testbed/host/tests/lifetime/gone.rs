// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls into a driver that is unloaded: reported, with what was to be called, and not made.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use fltport_nt::bindings::*;
use nt_host::Rule;

use crate::driver::*;
use crate::notify::{self, CALLS, KINDS};
use crate::support::Shared;

#[test]
fn a_notify_routine_of_a_driver_that_is_gone_is_not_called() {
    for kind in KINDS {
        let kernel = boot();
        load(
            &kernel,
            move |_| assert_eq!(kind.add(), STATUS_SUCCESS),
            |_| {},
        );
        unload_it(&kernel);
        CALLS.store(0, Ordering::SeqCst);
        notify::events(&kernel, 100);
        notify::events(&kernel, 200);
        assert_eq!(CALLS.load(Ordering::SeqCst), 0, "{kind:?}");
        let reports = kernel.shutdown();
        let expected = [Rule::NotifyRoutineLeft, Rule::CallIntoUnloadedDriver];
        assert_broken(&reports, &expected);
        assert_eq!(reports[1].function, kind.function());
        assert_shows_driver(&reports[1].stack.to_string());
    }
}

#[test]
fn a_callback_routine_of_a_driver_that_is_gone_is_not_called() {
    static OBJECT: AtomicUsize = AtomicUsize::new(0);
    let kernel = boot();
    load(
        &kernel,
        |_| {
            let (object, _) = notify::register_callback("\\Callback\\Gone");
            OBJECT.store(object as usize, Ordering::SeqCst);
            dereference(object as *const c_void);
        },
        |_| {},
    );
    unload_it(&kernel);
    CALLS.store(0, Ordering::SeqCst);
    for _ in 0..2 {
        notify::notify_callback(OBJECT.load(Ordering::SeqCst) as PCALLBACK_OBJECT);
    }
    assert_eq!(CALLS.load(Ordering::SeqCst), 0);
    let reports = kernel.shutdown();
    assert_broken(
        &reports,
        &[Rule::CallbackLeft, Rule::CallIntoUnloadedDriver],
    );
    assert_eq!(reports[1].function, "ExRegisterCallback");
    assert_made_in(&reports[1], "register_callback");
}

/// What a thread waits for, what it sets when it runs, and what it sets at its end.
static GATE: AtomicUsize = AtomicUsize::new(0);
static RUNS: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Makes the events of a test; the gate and the end.
fn make_events() -> (Shared, Shared) {
    let [gate, runs, done] = [&GATE, &RUNS, &DONE].map(|event| {
        event.store(lasting_event().0, Ordering::SeqCst);
        Shared(event.load(Ordering::SeqCst))
    });
    assert_ne!(gate.0, runs.0);
    (gate, done)
}

/// Starts a thread and waits until it runs.
fn start_running(routine: unsafe extern "system" fn(*mut c_void), context: *const c_void) {
    close(start_thread(routine, context));
    wait_for(Shared(RUNS.load(Ordering::SeqCst)));
}

fn wait_until_unloaded() {
    set(Shared(RUNS.load(Ordering::SeqCst)));
    wait_for(Shared(GATE.load(Ordering::SeqCst)));
}

/// Calls the kernel after its driver is gone, and again.
unsafe extern "system" fn outlives(_: *mut c_void) {
    wait_until_unloaded();
    // SAFETY: takes nothing.
    unsafe { KeQueryInterruptTimePrecise(&mut 0) };
    set(Shared(DONE.load(Ordering::SeqCst)));
}

#[test]
fn a_thread_of_a_driver_that_is_gone_is_reported_when_it_calls_the_kernel() {
    let kernel = boot();
    let (gate, done) = make_events();
    load(
        &kernel,
        |_| start_running(outlives, std::ptr::null()),
        |_| {},
    );
    unload_it(&kernel);
    set(gate);
    wait_for(done);
    let reports = kernel.shutdown();
    assert_broken(&reports, &[Rule::ThreadLeft, Rule::CallIntoUnloadedDriver]);
    assert_eq!(reports[1].function, "KeQueryInterruptTimePrecise");
    assert_made_in(&reports[1], "outlives");
}

/// Queues a work item of the driver that is gone.
unsafe extern "system" fn queues_late(object: *mut c_void) {
    wait_until_unloaded();
    // SAFETY: the driver's object, which is gone: the mistake.
    let item = unsafe { IoAllocateWorkItem(object.cast()) };
    let routine = untyped(late as *const ());
    // SAFETY: the item above.
    unsafe { IoQueueWorkItem(item, routine, DelayedWorkQueue, std::ptr::null()) };
    set(Shared(DONE.load(Ordering::SeqCst)));
}

unsafe extern "system" fn late(_: *mut c_void, _: *mut c_void) {
    unreachable!("its driver is gone");
}

#[test]
fn a_work_item_queued_by_a_driver_that_is_gone_does_not_run() {
    let kernel = boot();
    let (gate, done) = make_events();
    load(
        &kernel,
        |object| start_running(queues_late, object.cast()),
        |_| {},
    );
    unload_it(&kernel);
    set(gate);
    wait_for(done);
    let gone = Rule::CallIntoUnloadedDriver;
    let reports = kernel.shutdown();
    assert_broken(&reports, &[Rule::ThreadLeft, gone, gone]);
    assert_eq!(reports[2].function, "IoQueueWorkItem");
}
