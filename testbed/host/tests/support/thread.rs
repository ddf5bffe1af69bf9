// SPDX-License-Identifier: MIT OR Apache-2.0
//! System threads of a driver: started in order, and waited for.

use std::ffi::c_void;
use std::ptr::null_mut;

use fltport_nt::bindings::*;

/// A start routine.
pub type Routine = unsafe extern "system" fn(*mut c_void);

/// Starts a system thread; its handle.
pub fn start_thread(routine: Routine, context: *const c_void) -> HANDLE {
    let mut handle = null_mut();
    let attributes = super::attributes("", null_mut(), OBJ_KERNEL_HANDLE);
    // SAFETY: memory for the handle, attributes, a routine and its context.
    let status = unsafe {
        PsCreateSystemThread(
            &raw mut handle,
            THREAD_ALL_ACCESS,
            &raw const attributes,
            null_mut(),
            null_mut(),
            super::untyped(routine as *const ()),
            context,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    handle
}

/// The object behind a handle, referenced.
pub fn by_handle(handle: HANDLE) -> *mut c_void {
    let mut object = null_mut();
    let (any, kernel_mode) = (0, 0);
    // SAFETY: an open handle, and memory for the pointer.
    let status = unsafe {
        ObReferenceObjectByHandle(
            handle,
            THREAD_ALL_ACCESS,
            any,
            kernel_mode,
            &raw mut object,
            null_mut(),
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    object
}

/// Waits for a thread to end, with a limit that no test reaches, and closes its handle.
pub fn join(handle: HANDLE) {
    let thread = by_handle(handle);
    assert_eq!(
        super::wait(thread, Some(-100_000 * super::MS)),
        STATUS_SUCCESS
    );
    // SAFETY: referenced above.
    unsafe { ObfDereferenceObject(thread) };
    // SAFETY: opened by the start.
    unsafe { ZwClose(handle) };
}
