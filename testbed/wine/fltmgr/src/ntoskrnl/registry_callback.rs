// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registry callbacks, which can be registered here and are never called: under Wine the registry is
//! a server's, which asks no driver. Wine's ntoskrnl.exe has functions for those without an altitude,
//! which do nothing.

use alloc::vec::Vec;
use core::ffi::c_void;

use fltmgr::Status;
use fltport_nt::bindings::{NTSTATUS, UNICODE_STRING};
use fltport_nt::ke::SpinLock;
use fltport_nt::rtl::units_of;

struct Registration {
    cookie: i64,
    altitude: Vec<u16>,
}

struct Registrations {
    present: Vec<Registration>,
    last_cookie: i64,
}

static REGISTRATIONS: SpinLock<Registrations> = SpinLock::new(Registrations {
    present: Vec::new(),
    last_cookie: 0,
});

/// Altitudes are compared as texts, which is simpler than in NT.
pub(super) unsafe extern "system" fn register(
    function: *const c_void,
    altitude: *const UNICODE_STRING,
    _driver: *const c_void,
    _context: *const c_void,
    cookie: *mut i64,
    _reserved: *const c_void,
) -> NTSTATUS {
    // SAFETY: the caller passes a string or NULL.
    let altitude = unsafe { units_of(altitude) };
    let (Some(altitude), false) = (altitude, function.is_null()) else {
        return Status::INVALID_PARAMETER.0;
    };
    let altitude = altitude.to_vec();
    let mut registrations = REGISTRATIONS.lock();
    let mut present = registrations.present.iter();
    if present.any(|other| other.altitude == altitude) {
        return Status::FLT_INSTANCE_ALTITUDE_COLLISION.0;
    }
    registrations.last_cookie += 1;
    let registered = registrations.last_cookie;
    registrations.present.push(Registration {
        cookie: registered,
        altitude,
    });
    drop(registrations);
    // SAFETY: the caller passes a place for the result.
    unsafe { cookie.write(registered) };
    Status::SUCCESS.0
}

pub(super) unsafe extern "system" fn unregister(cookie: i64) -> NTSTATUS {
    let mut registrations = REGISTRATIONS.lock();
    let present = &mut registrations.present;
    let Some(found) = present.iter().position(|it| it.cookie == cookie) else {
        return Status::INVALID_PARAMETER.0;
    };
    let removed = present.swap_remove(found);
    // Its memory is freed at a lower level than that of the lock.
    drop(registrations);
    drop(removed);
    Status::SUCCESS.0
}

/// No callback has been told of a key, so nothing that is passed is one.
pub(super) unsafe extern "system" fn key_path(
    _cookie: *const i64,
    _object: *const c_void,
    _id: *mut usize,
    _path: *mut *mut UNICODE_STRING,
    _flags: u32,
) -> NTSTATUS {
    Status::INVALID_PARAMETER.0
}

/// No path has been given.
pub(super) unsafe extern "system" fn release_key_path(_path: *const UNICODE_STRING) {}
