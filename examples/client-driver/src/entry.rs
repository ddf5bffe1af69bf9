// SPDX-License-Identifier: MIT OR Apache-2.0
//! What NT calls: the only unsafe code of the driver.

use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;

/// IRQL: PASSIVE_LEVEL. What NT calls when it has loaded the driver.
///
/// # Safety
/// For NT to call, with this image's driver object.
pub unsafe extern "system" fn driver_entry(
    driver: *mut DRIVER_OBJECT,
    _registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: NT passes this image's driver object; nothing made from it outlives the unload.
    let object = unsafe { DriverObject::new(driver) };
    object.set_unload(unload);
    to_status(crate::start(object))
}

/// The name that the linker is told. It lies in the section that NT frees when it has returned. A
/// test of two drivers would have two of the name, so it is there on Windows only.
#[cfg(windows)]
#[unsafe(no_mangle)]
#[unsafe(link_section = "INIT")]
unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: as NT calls it.
    unsafe { driver_entry(driver, registry_path) }
}

unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {
    crate::stop();
}
