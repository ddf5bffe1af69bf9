// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the calling process: every access can fail at any moment, and may read differently the
//! next time.
//!
//! On Windows the copies are written in assembly with their own exception record, because Rust has
//! no `__try`: a fault ends the copy with `STATUS_ACCESS_VIOLATION`. On the hosted kernel the
//! memory belongs to another process and is read and written across.

use crate::bindings::{NTSTATUS, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER};
use crate::status::{NtError, Result, check};
use core::ffi::c_void;

#[cfg(not(windows))]
unsafe extern "system" {
    fn fltport_copy_from_user(destination: *mut c_void, source: usize, length: usize) -> NTSTATUS;
    fn fltport_copy_to_user(destination: usize, source: *const c_void, length: usize) -> NTSTATUS;
}

#[cfg(windows)]
unsafe extern "system" {
    /// Defined below; one copy serves both directions.
    fn fltport_guarded_copy(
        destination: *mut c_void,
        source: *const c_void,
        length: usize,
    ) -> NTSTATUS;
}

#[cfg(windows)]
unsafe fn fltport_copy_from_user(
    destination: *mut c_void,
    source: usize,
    length: usize,
) -> NTSTATUS {
    // SAFETY: the caller vouches for the destination; a source that faults is caught.
    unsafe { fltport_guarded_copy(destination, source as *const c_void, length) }
}

#[cfg(windows)]
unsafe fn fltport_copy_to_user(
    destination: usize,
    source: *const c_void,
    length: usize,
) -> NTSTATUS {
    // SAFETY: the caller vouches for the source; a destination that faults is caught.
    unsafe { fltport_guarded_copy(destination as *mut c_void, source, length) }
}

#[cfg(windows)]
core::arch::global_asm!(
    ".globl fltport_guarded_copy",
    ".seh_proc fltport_guarded_copy",
    "fltport_guarded_copy:",
    "push rdi",
    ".seh_pushreg rdi",
    "push rsi",
    ".seh_pushreg rsi",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    "mov rdi, rcx",
    "mov rsi, rdx",
    "mov rcx, r8",
    ".Lfltport_copy_begin:",
    "rep movsb",
    "nop",
    ".Lfltport_copy_end:",
    "xor eax, eax",
    "jmp .Lfltport_copy_return",
    ".Lfltport_copy_fault:",
    "mov eax, 0xC0000005",
    ".Lfltport_copy_return:",
    "add rsp, 40",
    "pop rsi",
    "pop rdi",
    "ret",
    ".seh_handler __C_specific_handler, @except",
    ".seh_handlerdata",
    // One scope: begin, end, filter (1: always handle), where to go on.
    ".long 1",
    ".long .Lfltport_copy_begin@IMGREL",
    ".long .Lfltport_copy_end@IMGREL",
    ".long 1",
    ".long .Lfltport_copy_fault@IMGREL",
    ".text",
    ".seh_endproc",
);

#[cfg(windows)]
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    #[allow(dead_code)]
    fn __C_specific_handler();
}

/// Names the handler that the assembly refers to, so that the linker imports it.
#[cfg(windows)]
#[used]
static EXCEPTION_HANDLER: unsafe extern "system" fn() = __C_specific_handler;

/// A buffer in the memory of the process that called: an address and a length that it claims.
/// Nothing is known of what lies there, not even that it stays: copy in once, then use the copy.
#[derive(Clone, Copy, Debug)]
pub struct UserBuffer {
    address: usize,
    length: u32,
}

impl UserBuffer {
    /// A buffer as a callback was given it. A null pointer is an empty buffer, whatever length
    /// comes with it.
    pub fn new(pointer: *const c_void, length: u32) -> Self {
        let address = pointer as usize;
        UserBuffer {
            address,
            length: if address == 0 { 0 } else { length },
        }
    }

    /// The length in bytes that the process claims.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// IRQL: PASSIVE_LEVEL, in the thread of the process. Copies the whole buffer to the start of
    /// `destination`.
    ///
    /// Errors: `STATUS_ACCESS_VIOLATION` if it cannot be read, `STATUS_INVALID_PARAMETER` if it is
    /// longer than `destination`.
    pub fn copy_in(&self, destination: &mut [u8]) -> Result<usize> {
        let destination = destination
            .get_mut(..self.len())
            .ok_or(NtError(STATUS_INVALID_PARAMETER))?;
        if destination.is_empty() {
            return Ok(0);
        }
        let (to, length) = (destination.as_mut_ptr().cast(), destination.len());
        // SAFETY: `to` is valid for `length` bytes; the source may be anything, a fault is caught
        // and becomes a status.
        check(unsafe { fltport_copy_from_user(to, self.address, length) }).map(|()| length)
    }

    /// IRQL: PASSIVE_LEVEL, in the thread of the process. Copies `source` to the start of the
    /// buffer.
    ///
    /// Errors: `STATUS_BUFFER_TOO_SMALL`, and `STATUS_ACCESS_VIOLATION` if it cannot be written.
    pub fn copy_out(&self, source: &[u8]) -> Result<()> {
        if source.len() > self.len() {
            return Err(NtError(STATUS_BUFFER_TOO_SMALL));
        }
        if source.is_empty() {
            return Ok(());
        }
        // SAFETY: the source is valid; the destination may be anything, a fault is caught and
        // becomes a status.
        check(unsafe { fltport_copy_to_user(self.address, source.as_ptr().cast(), source.len()) })
    }
}
