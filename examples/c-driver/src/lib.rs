// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver in C for tests on the hosted kernel: what Rust has to know of it are the names of its
//! entry points. `docs/testing-your-driver.md` explains it.

use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use nt_host::DriverImage;

unsafe extern "system" {
    fn c_driver_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
    fn c_driver_mended_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
}

/// The driver with its bug.
pub const DRIVER: DriverImage = DriverImage {
    name: "cdriver",
    entry: c_driver_entry,
    force_integrity: false,
};

/// The same driver, mended.
pub const MENDED: DriverImage = DriverImage {
    name: "cdriver",
    entry: c_driver_mended_entry,
    force_integrity: false,
};
