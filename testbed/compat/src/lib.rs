// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client drivers and common drivers of neighbouring revisions meet.
//!
//! The folder `1.0` has the header and the stub of revision 1.0, frozen: whoever has compiled a driver
//! with them goes on with every common driver of the major version. A crate of its own, because two
//! revisions of the same functions are in one program.

// What the importing driver imports.
extern crate fltport_driver;

pub mod contract;

use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use nt_host::DriverImage;

unsafe extern "system" {
    fn old_client_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
    fn new_client_entry(driver: *mut DRIVER_OBJECT, path: *const UNICODE_STRING) -> NTSTATUS;
    fn compat_call_everything(outcomes: *mut Outcomes);
}

/// The example in C, compiled with the header and the stub of revision 1.0.
pub const OLD_CLIENT: DriverImage = DriverImage {
    name: "hello-c",
    entry: old_client_entry,
    force_integrity: false,
};

/// A driver with today's header and stub.
pub const NEW_CLIENT: DriverImage = DriverImage {
    name: "compat",
    entry: new_client_entry,
    force_integrity: false,
};

/// What came of each call of [`call_everything`]; as in `client.c`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named for the functions")]
pub struct Outcomes {
    pub listening: u8,
    pub notify: NTSTATUS,
    pub reserve: NTSTATUS,
    pub commit: NTSTATUS,
    pub reserve_to_discard: NTSTATUS,
    pub book: NTSTATUS,
    pub notify_booked: NTSTATUS,
    pub book_to_unbook: NTSTATUS,
    pub request: NTSTATUS,
    pub outcome: u32,
    pub yes: u32,
    pub request_async: NTSTATUS,
    pub completed: i32,
    pub async_outcome: u32,
    pub async_yes: u32,
    pub statistics: NTSTATUS,
    pub offered: u64,
}

/// Has the loaded [`NEW_CLIENT`] call every function once.
pub fn call_everything() -> Outcomes {
    let mut outcomes = Outcomes::default();
    // SAFETY: a place for the outcomes; the driver is loaded, as the caller sees to.
    unsafe { compat_call_everything(&raw mut outcomes) };
    outcomes
}
