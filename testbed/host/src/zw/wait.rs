// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for the object behind a handle.

use std::ffi::c_void;

use crate::abi::{HANDLE, NTSTATUS};
use crate::entry::nt;
use crate::irql::DISPATCH_LEVEL;
use crate::ke::header::Header;
use crate::ke::wait;
use crate::kernel;
use crate::ob;
use crate::object::Object;
use crate::status::{STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH};

nt! {
    /// Waits until a process or a thread has ended; at DISPATCH_LEVEL only with a timeout of zero.
    simplified = "waits for processes and threads only; a wait is never alerted";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ZwWaitForSingleObject(
        handle: HANDLE,
        _alertable: bool,
        timeout: *const i64,
    ) -> NTSTATUS {
        let object = match ob::by_handle(&kernel::state(), handle) {
            Some(object @ (Object::Process(_) | Object::Thread(_))) => object,
            Some(_) => return STATUS_OBJECT_TYPE_MISMATCH,
            None => {
                ob::report_bad_handle(handle);
                return STATUS_INVALID_HANDLE;
            }
        };
        // SAFETY: processes and threads begin with a header, and `object` keeps it alive.
        let Some(header) = (unsafe { Header::at(object.address() as *const c_void) }) else {
            return STATUS_OBJECT_TYPE_MISMATCH;
        };
        // SAFETY: the caller passes null or a time.
        let limit = unsafe { wait::limit(timeout) };
        wait::wait(&[header], false, limit)
    }
}
