// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two devices of the Filter Manager: the message device, on which every handle is one
//! connection, and the control device.

use alloc::vec::Vec;
use core::ptr::null_mut;

use fltmgr::Status;
use fltmgr::device::{CONTROL_DEVICE_LINK, MESSAGE_DEVICE_LINK};
use fltport_nt::bindings::{
    DEVICE_OBJECT, DRIVER_OBJECT, IRP, NTSTATUS, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE,
    OBJ_PERMANENT, UNICODE_STRING,
};
use fltport_nt::linked::object_attributes;
use fltport_nt::rtl::UnicodeString;

use crate::irp::Irp;
use crate::nt::{
    IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IoCreateDevice,
    IoCreateSymbolicLink, ZwCreateDirectoryObject,
};
use crate::{request, work};

const MESSAGE_DEVICE: &str = "\\FileSystem\\Filters\\FltMgrMsg";
const CONTROL_DEVICE: &str = "\\FileSystem\\Filters\\FltMgr";
/// FILE_DEVICE_DISK_FILE_SYSTEM.
const DISK_FILE_SYSTEM: u32 = 8;
/// DIRECTORY_ALL_ACCESS.
const DIRECTORY_ALL_ACCESS: u32 = 0x000F_000F;
/// DO_DEVICE_INITIALIZING.
const DEVICE_INITIALIZING: u32 = 0x80;

/// Creates both devices, their links, and sets the dispatch routines.
///
/// # Safety
/// `driver` is this driver's object, in DriverEntry.
pub(crate) unsafe fn create(driver: *mut DRIVER_OBJECT) -> Result<(), Status> {
    // SAFETY: this driver's object, which nobody else uses yet.
    let routines = unsafe { &mut (*driver).MajorFunction };
    routines[IRP_MJ_CREATE] = Some(open);
    routines[IRP_MJ_CLEANUP] = Some(cleanup);
    routines[IRP_MJ_CLOSE] = Some(close);
    routines[IRP_MJ_DEVICE_CONTROL] = Some(control);
    for directory in ["\\FileSystem", "\\FileSystem\\Filters"] {
        make_directory(directory)?;
    }
    let message = make_device(driver, MESSAGE_DEVICE, MESSAGE_DEVICE_LINK)?;
    work::set_device(message);
    make_device(driver, CONTROL_DEVICE, CONTROL_DEVICE_LINK)?;
    Ok(())
}

fn make_directory(name: &str) -> Result<(), Status> {
    with_name(name, |name| {
        let flags = OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE | OBJ_PERMANENT;
        let attributes = object_attributes(Some(name), flags, core::ptr::null());
        let mut handle = null_mut();
        // Kept open for ever: Wine knows no permanent objects. The driver is never unloaded.
        // SAFETY: valid attributes that live across the call, and a valid place for the handle.
        let status = Status(unsafe {
            ZwCreateDirectoryObject(&raw mut handle, DIRECTORY_ALL_ACCESS, &raw const attributes)
        });
        match status {
            Status::OBJECT_NAME_COLLISION => Ok(()),
            status if status.is_success() => Ok(()),
            status => Err(status),
        }
    })
}

fn make_device(
    driver: *mut DRIVER_OBJECT,
    name: &str,
    link: &str,
) -> Result<*mut DEVICE_OBJECT, Status> {
    let mut device = null_mut();
    with_name(name, |name| {
        // SAFETY: this driver's object, a valid name, and a valid place for the device.
        check(unsafe { IoCreateDevice(driver, 0, name, DISK_FILE_SYSTEM, 0, 0, &raw mut device) })?;
        with_name(link, |link| {
            // SAFETY: two valid names.
            check(unsafe { IoCreateSymbolicLink(link, name) })
        })
    })?;
    // SAFETY: created above.
    unsafe { (*device).Flags &= !DEVICE_INITIALIZING };
    Ok(device)
}

fn with_name<R>(
    name: &str,
    call: impl FnOnce(&UNICODE_STRING) -> Result<R, Status>,
) -> Result<R, Status> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let name = UnicodeString::new(&units).map_err(|_| Status::OBJECT_NAME_INVALID)?;
    call(name.raw())
}

fn check(status: NTSTATUS) -> Result<(), Status> {
    match Status(status) {
        status if status.is_success() => Ok(()),
        status => Err(status),
    }
}

unsafe extern "system" fn open(_: *const DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a request that the I/O manager passes.
    let irp = unsafe { Irp::new(irp) };
    request::open(irp)
}

unsafe extern "system" fn control(_: *const DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a request that the I/O manager passes.
    let irp = unsafe { Irp::new(irp) };
    request::control(irp)
}

unsafe extern "system" fn cleanup(_: *const DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a request that the I/O manager passes.
    let irp = unsafe { Irp::new(irp) };
    request::cleanup(irp)
}

unsafe extern "system" fn close(_: *const DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    // SAFETY: a request that the I/O manager passes.
    let irp = unsafe { Irp::new(irp) };
    request::close(irp)
}
