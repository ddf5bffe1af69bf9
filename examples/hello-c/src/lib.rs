// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver in `hello.c` for tests on the hosted kernel: what Rust has to know of it is its entry
//! point. `docs/writing-a-driver.md` explains it.

use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use nt_host::DriverImage;

unsafe extern "system" {
    fn hello_c_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
}

/// The driver.
pub const DRIVER: DriverImage = DriverImage {
    name: "hello-c",
    entry: hello_c_entry,
    force_integrity: false,
};
