// SPDX-License-Identifier: MIT OR Apache-2.0
//! DriverEntry. There is no way back: what was grafted onto ntoskrnl.exe points into this image, so
//! it has no unload routine and Wine refuses to stop it.

use fltmgr::Status;
use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};

use crate::{device, ntoskrnl, table};

#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    _registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    table::initialize();
    let started = ntoskrnl::graft().and_then(|()| {
        // SAFETY: this driver's object, in DriverEntry.
        unsafe { device::create(driver) }
    });
    started.err().unwrap_or(Status::SUCCESS).0
}
