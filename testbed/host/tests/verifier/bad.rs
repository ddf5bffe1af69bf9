// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of these tests: its entry point does what a test says.

use fltport_nt::bindings::*;
use nt_host::{DriverImage, Kernel, Report, Rule};
use std::sync::Mutex;

use crate::support::{assert_rules, boot};

/// What the entry point does.
static ACTION: Mutex<Option<fn()>> = Mutex::new(None);

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {}

unsafe extern "system" fn entry(object: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    let action = *ACTION.lock().unwrap();
    action.expect("a test says what to do")();
    STATUS_SUCCESS
}

const IMAGE: DriverImage = DriverImage {
    name: "bad",
    entry,
    force_integrity: false,
};

/// Boots, lets the driver do something, unloads it.
pub(crate) fn run(action: fn()) -> Vec<Report> {
    let kernel = boot();
    load(&kernel, action);
    kernel.shutdown()
}

/// Lets the driver do something as it is loaded.
pub(crate) fn load(kernel: &Kernel, action: fn()) {
    // One kernel at a time, so nobody else's action is in the way.
    *ACTION.lock().unwrap() = Some(action);
    kernel.load(&IMAGE).unwrap();
}

/// The bad driver breaks these rules and no other, the good one breaks none.
#[track_caller]
pub(crate) fn compare(bad: fn(), broken: &[Rule], good: fn()) -> Vec<Report> {
    let reports = run(bad);
    assert_rules(&reports, broken);
    for report in &reports {
        assert_eq!(report.driver.as_deref(), Some("bad"), "{report}");
    }
    let silent: String = run(good).iter().map(Report::to_string).collect();
    assert!(silent.is_empty(), "the good twin: {silent}");
    reports
}
