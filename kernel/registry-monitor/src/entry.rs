// SPDX-License-Identifier: MIT OR Apache-2.0
//! DriverEntry and the end.

use crate::monitor;
use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::zw::Key;

/// IRQL: PASSIVE_LEVEL. What NT calls when it has loaded the driver.
///
/// # Safety
/// For NT to call, with this image's driver object and the path of its service key.
pub unsafe extern "system" fn driver_entry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: NT passes this image's driver object; nothing made from it outlives the unload.
    let object = unsafe { DriverObject::new(driver) };
    // SAFETY: NT passes a valid path.
    let key = unsafe { Key::open(registry_path) };
    object.set_unload(unload);
    to_status(key.and_then(|key| monitor::start(object, &key)))
}

/// The name that the Windows linker is told. It lies, with what only it needs, in the section that
/// NT frees when it has returned.
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
    monitor::stop();
}
