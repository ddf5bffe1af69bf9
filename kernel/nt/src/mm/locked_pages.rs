// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are locked in memory, and mapped where they can be touched at DISPATCH_LEVEL.
//!
//! MmProbeAndLockPages raises an exception when it fails. On Windows it is called from assembly
//! with an exception record of its own, as the copies of `user_memory` are made; the hosted kernel has
//! a function that returns a status.

use crate::bindings::{
    IoAllocateMdl, IoFreeMdl, IoModifyAccess, KernelMode, LOCK_OPERATION, MDL, MmCached,
    MmMapLockedPagesSpecifyCache, MmUnlockPages, MmUnmapLockedPages, NTSTATUS, NormalPagePriority,
    STATUS_INSUFFICIENT_RESOURCES,
};
use crate::linked::MDL_MAPPING_NO_EXECUTE;
use crate::status::{NtError, Result, check};
use core::ffi::c_void;
use core::ptr::{NonNull, null, null_mut};

#[cfg(not(windows))]
unsafe extern "system" {
    fn fltport_probe_and_lock_pages(
        list: *mut MDL,
        mode: i8,
        operation: LOCK_OPERATION,
    ) -> NTSTATUS;
}

#[cfg(windows)]
type Lock = unsafe extern "system" fn(*mut MDL, i8, LOCK_OPERATION);

#[cfg(windows)]
unsafe extern "system" {
    /// Defined below: calls `lock` with the other arguments.
    fn fltport_guarded_lock(
        list: *mut MDL,
        mode: i8,
        operation: LOCK_OPERATION,
        lock: Lock,
    ) -> NTSTATUS;
}

#[cfg(windows)]
unsafe fn fltport_probe_and_lock_pages(
    list: *mut MDL,
    mode: i8,
    operation: LOCK_OPERATION,
) -> NTSTATUS {
    let lock = crate::bindings::MmProbeAndLockPages;
    // SAFETY: the caller vouches for the list; what is raised is caught.
    unsafe { fltport_guarded_lock(list, mode, operation, lock) }
}

// Whatever is raised becomes STATUS_INSUFFICIENT_RESOURCES: the address is a view of the driver's
// own, so it can only be memory that was lacking.
#[cfg(windows)]
core::arch::global_asm!(
    ".globl fltport_guarded_lock",
    ".seh_proc fltport_guarded_lock",
    "fltport_guarded_lock:",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    ".Lfltport_lock_begin:",
    "call r9",
    // The address that the call returns to is within the scope.
    "nop",
    ".Lfltport_lock_end:",
    "xor eax, eax",
    "jmp .Lfltport_lock_return",
    ".Lfltport_lock_raised:",
    "mov eax, 0xC000009A",
    ".Lfltport_lock_return:",
    "add rsp, 40",
    "ret",
    ".seh_handler __C_specific_handler, @except",
    ".seh_handlerdata",
    // One scope: begin, end, filter (1: always handle), where to go on.
    ".long 1",
    ".long .Lfltport_lock_begin@IMGREL",
    ".long .Lfltport_lock_end@IMGREL",
    ".long 1",
    ".long .Lfltport_lock_raised@IMGREL",
    ".text",
    ".seh_endproc",
);

/// A memory descriptor list whose pages are not locked yet, or not any more.
struct List(NonNull<MDL>);

impl List {
    fn new(address: NonNull<c_void>, length: u32) -> Result<List> {
        let address = address.as_ptr().cast_const();
        // SAFETY: of memory of the caller's, for no request. Nothing is touched yet.
        let list = unsafe { IoAllocateMdl(address, length, false, false, null_mut()) };
        let list = NonNull::new(list).ok_or(NtError(STATUS_INSUFFICIENT_RESOURCES))?;
        Ok(List(list))
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; not locked.
        unsafe { IoFreeMdl(self.0.as_ptr()) };
    }
}

/// Locked pages.
struct Locked(List);

impl Locked {
    fn new(list: List) -> Result<Locked> {
        let pointer = list.0.as_ptr();
        // SAFETY: a list that is not locked; kernel memory, which the caller keeps.
        check(unsafe { fltport_probe_and_lock_pages(pointer, KernelMode as i8, IoModifyAccess) })?;
        Ok(Locked(list))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: locked by `new`, and unmapped by now.
        unsafe { MmUnlockPages(self.0.0.as_ptr()) };
    }
}

/// Locked and mapped pages of kernel memory. Dropped before that memory goes.
pub(super) struct LockedPages {
    /// Where they are mapped.
    base: NonNull<u8>,
    locked: Locked,
}

// SAFETY: an address that is valid in every process and thread; the list belongs to no thread.
unsafe impl Send for LockedPages {}
// SAFETY: as above; what lies there is not given out by reference.
unsafe impl Sync for LockedPages {}

impl LockedPages {
    /// IRQL: <= APC_LEVEL. Locks `length` bytes of kernel memory and maps them, not executable.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES`.
    ///
    /// # Safety
    /// The memory stays as long as this does.
    pub(super) unsafe fn new(address: NonNull<c_void>, length: u32) -> Result<LockedPages> {
        let locked = Locked::new(List::new(address, length)?)?;
        let priority = NormalPagePriority as u32 | MDL_MAPPING_NO_EXECUTE;
        // SAFETY: a list of locked pages that is not mapped; null on failure, for which a driver
        // asks with the fifth argument.
        let base = unsafe {
            MmMapLockedPagesSpecifyCache(
                locked.0.0.as_ptr(),
                KernelMode as i8,
                MmCached,
                null(),
                0,
                priority,
            )
        };
        let base = NonNull::new(base.cast()).ok_or(NtError(STATUS_INSUFFICIENT_RESOURCES))?;
        Ok(LockedPages { base, locked })
    }

    /// IRQL: any. Where they are mapped.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for LockedPages {
    fn drop(&mut self) {
        let (base, list) = (self.base.as_ptr().cast(), self.locked.0.0.as_ptr());
        // SAFETY: mapped there by `new`, with this list.
        unsafe { MmUnmapLockedPages(base, list) };
    }
}
