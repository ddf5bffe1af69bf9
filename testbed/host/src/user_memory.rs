// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of the process that a thread is attached to.
//!
//! A service's buffers stay in the service's process and are read and written across, so that a
//! bad address, a buffer that changes and a process that dies are as real as on NT.

use std::ffi::c_void;
use std::io;
use std::sync::Once;

use crate::abi::NTSTATUS;
use crate::entry::{Function, enter, failure};
use crate::faults::{self, FailsWith};
use crate::irql::APC_LEVEL;
use crate::process::SYSTEM_PROCESS_ID;
use crate::sim;
use crate::status::{STATUS_ACCESS_VIOLATION, STATUS_SUCCESS};
use crate::thread;

/// A buffer in user memory, as a service names it: an address that nobody has checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSlice {
    /// Where it begins, in the service's address space.
    pub address: u64,
    /// How many bytes the service says it has.
    pub length: u32,
}

/// The host system's process that holds the user memory now.
fn owner() -> libc::pid_t {
    match thread::current_process().pid() {
        // One process of the host system plays all of a simulation's.
        _ if sim::is_simulated() => std::process::id().cast_signed(),
        SYSTEM_PROCESS_ID => std::process::id().cast_signed(),
        pid => libc::pid_t::try_from(pid).unwrap_or(-1),
    }
}

/// Copies all bytes with `copy(done)`, which copies as many as it can from an offset on.
fn copy_all(length: usize, mut copy: impl FnMut(usize) -> isize) -> NTSTATUS {
    let mut done = 0;
    while done < length {
        match usize::try_from(copy(done)) {
            Ok(0) => return STATUS_ACCESS_VIOLATION,
            Ok(copied) => done += copied,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() == Some(libc::EPERM) {
                    explain_permission();
                }
                return STATUS_ACCESS_VIOLATION;
            }
        }
    }
    STATUS_SUCCESS
}

fn explain_permission() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        eprintln!(
            "nt-host: the host system refuses access to the memory of another process: run as \
             root or as the same user, and set the sysctl kernel.yama.ptrace_scope to 0"
        );
    });
}

/// Copies from user memory; STATUS_ACCESS_VIOLATION if any of it cannot be read. Not a function
/// of NT: on Windows, drivers do this with structured exception handling.
///
/// # Safety
/// `destination` holds `length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn fltport_copy_from_user(
    destination: *mut c_void,
    source: usize,
    length: usize,
) -> NTSTATUS {
    static FUNCTION: Function = Function {
        name: "fltport_copy_from_user",
        min_irql: 0,
        max_irql: APC_LEVEL,
        fails: &[failure!(STATUS_ACCESS_VIOLATION)],
        simplified: None,
    };
    enter(&FUNCTION);
    if let Some(failure) = faults::asked(&FUNCTION, true) {
        return FailsWith::failed(failure);
    }
    let pid = owner();
    copy_all(length, |done| {
        let local = libc::iovec {
            iov_base: destination.wrapping_byte_add(done),
            iov_len: length - done,
        };
        let remote = libc::iovec {
            iov_base: source.wrapping_add(done) as *mut _,
            iov_len: length - done,
        };
        // SAFETY: the local range is writable by contract; the remote one may be anything.
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) }
    })
}

/// Copies to user memory; STATUS_ACCESS_VIOLATION if any of it cannot be written.
///
/// # Safety
/// `source` holds `length` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn fltport_copy_to_user(
    destination: usize,
    source: *const c_void,
    length: usize,
) -> NTSTATUS {
    static FUNCTION: Function = Function {
        name: "fltport_copy_to_user",
        min_irql: 0,
        max_irql: APC_LEVEL,
        fails: &[failure!(STATUS_ACCESS_VIOLATION)],
        simplified: None,
    };
    enter(&FUNCTION);
    if let Some(failure) = faults::asked(&FUNCTION, true) {
        return FailsWith::failed(failure);
    }
    let pid = owner();
    copy_all(length, |done| {
        let local = libc::iovec {
            iov_base: source.cast_mut().wrapping_byte_add(done),
            iov_len: length - done,
        };
        let remote = libc::iovec {
            iov_base: destination.wrapping_add(done) as *mut _,
            iov_len: length - done,
        };
        // SAFETY: the local range is readable by contract; the remote one may be anything, and
        // the host system writes nothing outside the owner's mapped and writable pages.
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) }
    })
}
