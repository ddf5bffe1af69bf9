// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process, by reference: unlike its number, what it is never becomes another process's while
//! somebody holds on to it.

use crate::bindings::{
    ExFreePool, HANDLE, IoGetCurrentProcess, ObfDereferenceObject, ObfReferenceObject, PEPROCESS,
    PsLookupProcessByProcessId, SeLocateProcessImageName, UNICODE_STRING,
};
use crate::rtl::units_of;
use crate::status::{Result, check};
use core::ptr::null_mut;

/// A referenced process.
pub struct Process(PEPROCESS);

impl Process {
    /// IRQL: <= DISPATCH_LEVEL. The process whose thread runs.
    pub fn current() -> Self {
        // SAFETY: takes nothing.
        let process = unsafe { IoGetCurrentProcess() };
        // SAFETY: the current process lives while its thread runs, and longer by this reference.
        unsafe { ObfReferenceObject(process as *const _) };
        Process(process)
    }

    /// IRQL: <= APC_LEVEL. The process with this number. Fails with `STATUS_INVALID_CID` if there is none.
    pub fn find(pid: u32) -> Result<Self> {
        let mut process = 0;
        // SAFETY: a number, and memory for the pointer.
        check(unsafe { PsLookupProcessByProcessId(pid as usize as HANDLE, &raw mut process) })?;
        // Referenced by the call.
        Ok(Process(process))
    }

    /// IRQL: any. Whether the thread that runs is one of this process.
    pub fn is_current(&self) -> bool {
        // SAFETY: takes nothing.
        self.0 == unsafe { IoGetCurrentProcess() }
    }

    /// IRQL: any. Whether both are the same process.
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// IRQL: PASSIVE_LEVEL. The full path of the program that it runs, as NT names it:
    /// `\Device\HarddiskVolume3\Windows\System32\svchost.exe`.
    ///
    /// Errors: `STATUS_NOT_FOUND` for a process that has none, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn image(&self) -> Result<ImagePath> {
        let mut path = null_mut();
        // SAFETY: a referenced process and memory for the pointer.
        check(unsafe { SeLocateProcessImageName(self.0, &raw mut path) })?;
        Ok(ImagePath(path))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: referenced by this owner, given back once.
        unsafe { ObfDereferenceObject(self.0 as *const _) };
    }
}

/// The path of a program, in pool. Dropping it frees it: IRQL <= APC_LEVEL.
pub struct ImagePath(*mut UNICODE_STRING);

impl ImagePath {
    /// IRQL: <= APC_LEVEL. The path.
    pub fn units(&self) -> &[u16] {
        // SAFETY: a valid string that lives until this owner is dropped.
        unsafe { units_of(self.0) }.unwrap_or(&[])
    }
}

impl Drop for ImagePath {
    fn drop(&mut self) {
        // SAFETY: allocated for this owner by SeLocateProcessImageName, freed once.
        unsafe { ExFreePool(self.0.cast()) };
    }
}
