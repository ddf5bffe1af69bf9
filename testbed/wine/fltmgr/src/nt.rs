// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this driver uses of NT beyond `fltport_nt`'s bindings, as Wine exports it; and the layout of
//! the requests, whose aligned fields the metadata does not show.

use core::ffi::c_void;
use core::mem::offset_of;

use fltport_nt::bindings::{
    DEVICE_OBJECT, DRIVER_CANCEL, DRIVER_OBJECT, FILE_OBJECT, HANDLE, IRP, KEVENT, MDL, NTSTATUS,
    OBJECT_ATTRIBUTES, UNICODE_STRING,
};

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn ExAllocatePoolWithTag(kind: u32, size: usize, tag: u32) -> *mut c_void;
    pub(crate) fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        characteristics: u32,
        exclusive: u8,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS;
    pub(crate) fn IoCreateSymbolicLink(
        link: *const UNICODE_STRING,
        target: *const UNICODE_STRING,
    ) -> NTSTATUS;
    pub(crate) fn IoFreeMdl(mdl: *mut MDL);
    pub(crate) fn IofCompleteRequest(irp: *mut IRP, increment: i8);
    pub(crate) fn IoAcquireCancelSpinLock(irql: *mut u8);
    pub(crate) fn IoReleaseCancelSpinLock(irql: u8);
    pub(crate) fn KeQuerySystemTime(now: *mut i64);
    pub(crate) fn RtlPcToFileHeader(address: *const c_void, base: *mut *mut c_void) -> *mut c_void;
    pub(crate) fn ZwAllocateVirtualMemory(
        process: HANDLE,
        base: *mut *mut c_void,
        zero_bits: usize,
        size: *mut usize,
        kind: u32,
        protection: u32,
    ) -> NTSTATUS;
    pub(crate) fn ZwCreateDirectoryObject(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS;
    pub(crate) fn ZwProtectVirtualMemory(
        process: HANDLE,
        base: *mut *mut c_void,
        size: *mut usize,
        protection: u32,
        former: *mut u32,
    ) -> NTSTATUS;
    pub(crate) fn ZwLoadDriver(service: *const UNICODE_STRING) -> NTSTATUS;
    pub(crate) fn ZwUnloadDriver(service: *const UNICODE_STRING) -> NTSTATUS;
}

#[link(name = "hal.dll", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub(crate) fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
}

/// `NtCurrentProcess()`.
pub(crate) const CURRENT_PROCESS: HANDLE = -1_isize as HANDLE;

pub(crate) const IRP_MJ_CREATE: usize = 0;
pub(crate) const IRP_MJ_CLOSE: usize = 2;
pub(crate) const IRP_MJ_DEVICE_CONTROL: usize = 14;
pub(crate) const IRP_MJ_CLEANUP: usize = 18;

/// `IoMarkIrpPending` sets it in the stack location's Control.
pub(crate) const SL_PENDING_RETURNED: u8 = 1;

/// IO_STACK_LOCATION of a device control, as wdm.h lays it out for x64: 32-bit fields marked
/// POINTER_ALIGNMENT there begin at a multiple of eight, which the metadata's struct does not say.
#[repr(C)]
pub(crate) struct StackLocation {
    pub(crate) major: u8,
    pub(crate) minor: u8,
    pub(crate) flags: u8,
    pub(crate) control: u8,
    _padding: u32,
    pub(crate) output_length: u32,
    _padding1: u32,
    pub(crate) input_length: u32,
    _padding2: u32,
    pub(crate) code: u32,
    _padding3: u32,
    pub(crate) type3_input: *const u8,
    pub(crate) device: *mut DEVICE_OBJECT,
    pub(crate) file: *mut FILE_OBJECT,
    completion_routine: *const c_void,
    context: *const c_void,
}

const _: () = {
    assert!(offset_of!(StackLocation, code) == 0x18);
    assert!(offset_of!(StackLocation, device) == 0x28);
    assert!(size_of::<StackLocation>() == 0x48);
    // What wdm.h says of x64, as a check of the metadata where it is relied on.
    assert!(offset_of!(IRP, IoStatus) == 0x30);
    assert!(offset_of!(IRP, Cancel) == 0x44);
    assert!(offset_of!(IRP, CancelRoutine) == 0x68);
    assert!(offset_of!(IRP, UserBuffer) == 0x70);
    assert!(size_of::<DRIVER_CANCEL>() == 8);
    assert!(size_of::<KEVENT>() == 0x18);
};
