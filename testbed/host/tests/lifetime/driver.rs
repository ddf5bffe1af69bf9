// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of these tests: what it does at its entry and at its unload is put into hooks. There
//! is one kernel at a time in a process, so there is one such driver at a time.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use fltport_nt::bindings::*;
use nt_host::{Config, DriverImage, Kernel, Report, Rule, Unload, clock};

use crate::support;
pub(crate) use crate::support::thread::{by_handle, join, start_thread};
pub(crate) use crate::support::untyped;

pub(crate) const NAME: &str = "lifetime";

type Hook = Arc<dyn Fn(*mut DRIVER_OBJECT) + Send + Sync>;

/// What DriverEntry returns.
static STATUS: AtomicI32 = AtomicI32::new(STATUS_SUCCESS);

static HOOKS: Mutex<Option<(Hook, Hook)>> = Mutex::new(None);

fn hooks() -> (Hook, Hook) {
    HOOKS
        .lock()
        .unwrap()
        .clone()
        .expect("a test sets the hooks")
}

unsafe extern "system" fn entry(
    object: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    hooks().0(object);
    STATUS.load(Ordering::SeqCst)
}

unsafe extern "system" fn unload(object: *const DRIVER_OBJECT) {
    hooks().1(object.cast_mut());
}

/// A kernel in which a wait without a limit counts as a hang after 50 ms.
pub(crate) fn boot() -> Kernel {
    let kernel = Kernel::boot(Config::default());
    nt_host::flt::configure(nt_host::flt::Decisions::default(), clock::SECOND / 20);
    kernel
}

/// Loads the driver; `entry` and `unload` run as its code.
pub(crate) fn load(
    kernel: &Kernel,
    entry: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
    unload: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
) {
    *HOOKS.lock().unwrap() = Some((Arc::new(entry), Arc::new(unload)));
    kernel.load(&image()).expect("the entry succeeds");
}

/// Loads the driver, whose entry fails after what it does.
pub(crate) fn load_failing(
    kernel: &Kernel,
    entry: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
) {
    *HOOKS.lock().unwrap() = Some((Arc::new(entry), Arc::new(|_| {})));
    STATUS.store(STATUS_UNSUCCESSFUL, Ordering::SeqCst);
    assert_eq!(kernel.load(&image()), Err(STATUS_UNSUCCESSFUL));
    STATUS.store(STATUS_SUCCESS, Ordering::SeqCst);
}

pub(crate) fn image() -> DriverImage {
    DriverImage {
        name: NAME,
        entry,
        force_integrity: true,
    }
}

pub(crate) fn unload_it(kernel: &Kernel) {
    kernel
        .unload(NAME, Unload::Stop)
        .expect("it has an unload routine");
}

/// A life of the driver: its entry, its unload, the end of the kernel.
pub(crate) fn life(
    entry: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
    unload: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
) -> Vec<Report> {
    life_in(boot(), entry, unload)
}

/// As [`life`], in a kernel that is booted; events have to be made in one.
pub(crate) fn life_in(
    kernel: Kernel,
    entry: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
    unload: impl Fn(*mut DRIVER_OBJECT) + Send + Sync + 'static,
) -> Vec<Report> {
    load(&kernel, entry, unload);
    unload_it(&kernel);
    kernel.shutdown()
}

/// The reports are about these rules, and about this driver.
#[track_caller]
pub(crate) fn assert_broken(reports: &[Report], expected: &[Rule]) {
    support::assert_rules(reports, expected);
    for report in reports {
        assert_eq!(report.driver.as_deref(), Some(NAME), "{report}");
    }
}

/// As [`assert_broken`] with one rule, in a function; the report.
#[track_caller]
pub(crate) fn assert_one(reports: &[Report], rule: Rule, function: &str) -> Report {
    assert_broken(reports, &[rule]);
    assert_eq!(reports[0].function, function, "{}", reports[0]);
    reports[0].clone()
}

/// The report's own stack shows this function of a test.
#[track_caller]
pub(crate) fn assert_made_in(report: &Report, function: &str) {
    assert_shows(&report.stack.to_string(), function);
}

/// One of the other moments that a report shows was in this function of the test.
#[track_caller]
pub(crate) fn assert_relates(report: &Report, function: &str) {
    let stacks = report.related.iter().map(|it| it.stack.to_string());
    assert_shows(&stacks.collect::<String>(), function);
}

/// A stack leads to a driver of these tests. Which of its functions are on it depends on what the
/// compiler has inlined.
#[track_caller]
pub(crate) fn assert_shows_driver(stack: &str) {
    assert!(stack.contains("(tests/lifetime/"), "no driver in\n{stack}");
}

/// A stack shows this function of a test, with its path or without.
#[track_caller]
pub(crate) fn assert_shows(stack: &str, function: &str) {
    let line = format!("{function} (");
    assert!(stack.contains(&line), "{function} is not in\n{stack}");
}

pub(crate) fn dereference(object: *const c_void) {
    // SAFETY: referenced by the caller, unless a test means not to.
    unsafe { ObfDereferenceObject(object) };
}

pub(crate) fn close(handle: HANDLE) {
    // SAFETY: an open handle, unless a test means another.
    unsafe { ZwClose(handle) };
}

pub(crate) fn set(event: support::Shared) {
    // SAFETY: the test's event, which it keeps until all is over.
    unsafe { KeSetEvent(event.pointer(), 0, false) };
}

/// Waits for an event, with a limit that no test reaches.
pub(crate) fn wait_for(event: support::Shared) {
    let status = support::wait(event.pointer::<c_void>(), Some(-100_000 * support::MS));
    assert_eq!(status, STATUS_SUCCESS);
}

/// An event for the whole run of the test process.
pub(crate) fn lasting_event() -> support::Shared {
    support::Shared::of(Box::leak(support::event(false, false)))
}
