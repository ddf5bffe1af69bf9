// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver object, as DriverEntry is given it.

use crate::bindings::{DRIVER_OBJECT, IoRegisterBootDriverReinitialization};
use core::ffi::c_void;

/// A routine that NT calls after the other boot drivers have been initialised.
pub trait Reinitialize: 'static {
    /// IRQL: PASSIVE_LEVEL, in a system thread.
    fn reinitialize();
}

/// This driver's driver object: valid from DriverEntry until the driver has been unloaded.
#[derive(Clone, Copy)]
pub struct DriverObject(*mut DRIVER_OBJECT);

// SAFETY: NT's object; what is done with it here is safe from any thread.
unsafe impl Send for DriverObject {}
// SAFETY: as above.
unsafe impl Sync for DriverObject {}

impl DriverObject {
    /// Takes what DriverEntry was given.
    ///
    /// # Safety
    /// `driver` is the driver object of this image, and nothing made from it is used after the
    /// driver has been unloaded.
    pub unsafe fn new(driver: *mut DRIVER_OBJECT) -> Self {
        DriverObject(driver)
    }

    /// The pointer, for calls into NT.
    pub fn as_ptr(self) -> *mut DRIVER_OBJECT {
        self.0
    }

    /// IRQL: PASSIVE_LEVEL, from DriverEntry before anything that depends on it. Sets the unload
    /// routine.
    pub fn set_unload(self, unload: unsafe extern "system" fn(*const DRIVER_OBJECT)) {
        // SAFETY: our own driver object, in DriverEntry, when nobody else writes to it.
        let field = unsafe { &raw mut (*self.0).DriverUnload };
        // SAFETY: a valid field of the driver object.
        unsafe { field.write(Some(unload)) };
    }

    /// IRQL: PASSIVE_LEVEL, from DriverEntry, once. Registers a routine for when all boot drivers
    /// have been initialised and their devices started. It has no effect if DriverEntry fails.
    pub fn on_boot_drivers_initialized<T: Reinitialize>(self) {
        // SAFETY: our own driver object and a routine of this image; called from DriverEntry.
        unsafe {
            IoRegisterBootDriverReinitialization(self.0, Some(reinitialize::<T>), core::ptr::null())
        };
    }
}

unsafe extern "system" fn reinitialize<T: Reinitialize>(
    _driver: *const DRIVER_OBJECT,
    _context: *const c_void,
    _count: u32,
) {
    T::reinitialize();
}
