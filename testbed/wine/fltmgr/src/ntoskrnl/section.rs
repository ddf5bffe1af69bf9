// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sections: there are none for drivers. Under Wine drivers and services are processes of the host
//! system, each with an address space of its own, and Wine's ntoskrnl.exe has no address space of
//! the system's to map anything into. A driver that would share memory learns it from its first
//! call.

use core::ffi::c_void;

use fltport_nt::bindings::{HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, STATUS_NOT_SUPPORTED};

pub(super) unsafe extern "system" fn create(
    _handle: *mut HANDLE,
    _access: u32,
    _attributes: *const OBJECT_ATTRIBUTES,
    _size: *const i64,
    _protection: u32,
    _allocation: u32,
    _file: HANDLE,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}

pub(super) unsafe extern "system" fn map_in_system_space(
    _section: *const c_void,
    _base: *mut *mut c_void,
    _size: *mut usize,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}

pub(super) unsafe extern "system" fn unmap_in_system_space(_base: *const c_void) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}
