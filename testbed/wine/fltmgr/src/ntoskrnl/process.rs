// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process of the calling thread, also where this driver has moved the work to another thread.

use core::ffi::c_void;
use core::ptr::null;

use fltport_nt::bindings::{
    HANDLE, IoGetCurrentProcess, NTSTATUS, OBJ_KERNEL_HANDLE, ObOpenObjectByPointer, PEPROCESS,
    PsGetCurrentProcessId, STATUS_PENDING, ZwClose,
};

use crate::identity;

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn ZwQueryInformationProcess(
        process: HANDLE,
        class: u32,
        information: *mut c_void,
        length: u32,
        returned: *mut u32,
    ) -> NTSTATUS;
}

/// PROCESS_QUERY_INFORMATION.
const QUERY: u32 = 0x0400;

/// PROCESS_BASIC_INFORMATION.
#[repr(C)]
#[derive(Default)]
struct Basic {
    exit_status: NTSTATUS,
    rest: [u64; 5],
}

pub(super) unsafe extern "system" fn current() -> PEPROCESS {
    // SAFETY: takes nothing. Wine's own function.
    identity::attached().unwrap_or_else(|| unsafe { IoGetCurrentProcess() })
}

pub(super) unsafe extern "system" fn current_id() -> usize {
    // SAFETY: takes nothing. Wine's own function.
    identity::attached_id().unwrap_or_else(|| unsafe { PsGetCurrentProcessId() } as usize)
}

/// KernelMode is 0, UserMode is 1.
pub(super) unsafe extern "system" fn previous_mode() -> u8 {
    u8::from(identity::attached().is_some())
}

pub(super) unsafe extern "system" fn exit_status(process: PEPROCESS) -> NTSTATUS {
    let mut handle = core::ptr::null_mut();
    // SAFETY: the caller passes a process; a kernel handle, no special access state or type.
    let opened = unsafe {
        ObOpenObjectByPointer(
            process as *const c_void,
            OBJ_KERNEL_HANDLE,
            null(),
            QUERY,
            0,
            0,
            &raw mut handle,
        )
    };
    let mut basic = Basic::default();
    let (place, size) = ((&raw mut basic).cast(), size_of::<Basic>() as u32);
    if opened >= 0 {
        let mut returned = 0;
        // SAFETY: an open handle, and a place of the size that is passed; 0 is
        // ProcessBasicInformation.
        let asked = unsafe { ZwQueryInformationProcess(handle, 0, place, size, &raw mut returned) };
        // SAFETY: opened above.
        unsafe { ZwClose(handle) };
        if asked >= 0 {
            return basic.exit_status;
        }
    }
    STATUS_PENDING
}
