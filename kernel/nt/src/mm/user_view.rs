// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared memory in the address space of a process.

use super::section::KernelHandle;
use crate::bindings::{
    IoGetCurrentProcess, KernelMode, OBJ_KERNEL_HANDLE, ObOpenObjectByPointer,
    PROCESS_VM_OPERATION, ViewUnmap, ZwMapViewOfSection, ZwUnmapViewOfSection,
};
use crate::linked::{PAGE_READONLY, PAGE_READWRITE};
use crate::status::{Result, check};
use core::ptr::{null, null_mut};

/// A view in a process. Dropping it unmaps it, in whatever thread; if the process has ended, it has
/// gone with it. A service that is told of it reads there at any time, so by then [`UserView::leave`]
/// it: what a driver unmaps under a service's hands is a service that crashes.
///
/// It is the process's memory: the process may unmap it itself, and map something else there, which
/// the drop then unmaps. That is its own affair.
#[must_use = "it is unmapped when it is dropped"]
pub struct UserView {
    process: KernelHandle,
    address: u64,
    length: usize,
    left: bool,
}

impl UserView {
    /// IRQL: PASSIVE_LEVEL. Maps the section's first `length` bytes into the current process.
    #[inline(never)]
    pub(super) fn new(section: &KernelHandle, length: usize, writable: bool) -> Result<Self> {
        let process = current_process()?;
        let protection = if writable {
            PAGE_READWRITE
        } else {
            PAGE_READONLY
        };
        let (mut base, mut size) = (null_mut(), length);
        // SAFETY: two open handles; both results are variables of ours. A null base lets NT
        // choose, and no offset is the section's beginning.
        check(unsafe {
            ZwMapViewOfSection(
                section.raw(),
                process.raw(),
                &raw mut base,
                0,
                0,
                null_mut(),
                &raw mut size,
                ViewUnmap,
                0,
                protection,
            )
        })?;
        Ok(UserView {
            process,
            address: base as u64,
            length,
            left: false,
        })
    }

    /// IRQL: any. Where the process has it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// IRQL: any. Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// IRQL: any. Never.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// IRQL: PASSIVE_LEVEL. Leaves it to the process, which unmaps it (`UnmapViewOfFile`) or ends. The
    /// memory lives as long as that takes, whatever becomes of the driver.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for UserView {
    /// IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let address = self.address as usize as *const _;
        // SAFETY: an open handle of the process that it was mapped with; the kernel uses nothing at
        // this address. It fails when the process has ended, and then there is no view any more.
        unsafe { ZwUnmapViewOfSection(self.process.raw(), address) };
    }
}

/// A handle of the process that the thread runs in. (The pseudo handle would mean another process
/// where the view is unmapped.)
fn current_process() -> Result<KernelHandle> {
    // SAFETY: takes nothing.
    let process = unsafe { IoGetCurrentProcess() };
    let mut handle = null_mut();
    // SAFETY: the current process lives while its thread runs; no special access state, and a
    // caller in kernel mode need not say the type.
    check(unsafe {
        ObOpenObjectByPointer(
            process as *const _,
            OBJ_KERNEL_HANDLE,
            null(),
            PROCESS_VM_OPERATION,
            0,
            KernelMode as i8,
            &raw mut handle,
        )
    })?;
    // SAFETY: opened above, for this alone.
    Ok(unsafe { KernelHandle::own(handle) })
}
