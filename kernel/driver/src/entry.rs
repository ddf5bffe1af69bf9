// SPDX-License-Identifier: MIT OR Apache-2.0
//! DriverEntry and the end.

use crate::announce::Announcement;
use crate::deadlines::Deadlines;
use crate::driver::{DRIVER, Driver};
use crate::policy::ServiceKey;
use crate::{instances, registration};
use fltport_nt::Result;
use fltport_nt::bindings::{DRIVER_OBJECT, NTSTATUS, UNICODE_STRING};
use fltport_nt::io::DriverObject;
use fltport_nt::rtl::units_of;
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
    // SAFETY: as above; it is used before this returns.
    let path = unsafe { units_of(registry_path) }.unwrap_or(&[]);
    // Before the registration, which replaces it: the Filter Manager calls it after its own work,
    // and so does NT if the registration has not happened yet.
    object.set_unload(unload);
    to_status(key.and_then(|key| start(object, &key, path)))
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
    shut_down();
}

/// Brings the driver up; [`shut_down`] is its mirror, and undoes what was done if this fails on the
/// way.
fn start(object: DriverObject, key: &Key, path: &[u16]) -> Result<()> {
    instances::write(key)?;
    let driver = Driver::new(ServiceKey::new(path)?)?;
    DRIVER.replace(Some(driver.clone()));
    let started = registration::begin(&driver, object).and_then(|()| {
        let deadlines = Deadlines::start(&driver)?;
        *driver.deadlines().lock() = Some(deadlines);
        let announcement = Announcement::new(&driver)?;
        *driver.announcement().lock() = Some(announcement);
        Ok(())
    });
    match started {
        Ok(()) => registration::remind(&driver, object),
        Err(_) => shut_down(),
    }
    started
}

/// IRQL: PASSIVE_LEVEL. Gives everything back. Any number of times.
pub(crate) fn shut_down() {
    if let Some(driver) = DRIVER.get() {
        driver.shut_down();
        DRIVER.replace(None);
    }
}
