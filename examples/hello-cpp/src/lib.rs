// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in `hello.cpp` for tests on the hosted kernel: what Rust has to know of it is its entry
//! point. `docs/writing-a-driver.md` explains it.

// What the driver imports.
extern crate fltport_driver;

use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use nt_host::DriverImage;

unsafe extern "system" {
    fn hello_cpp_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
}

/// The driver.
pub const DRIVER: DriverImage = DriverImage {
    name: "hello-cpp",
    entry: hello_cpp_entry,
    force_integrity: false,
};
