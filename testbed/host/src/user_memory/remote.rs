// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies between this process and the one that holds the user memory, carried out by the host
//! system: a bad address is an error, never a fault.

use std::ffi::c_void;
use std::io;
use std::sync::Once;

use crate::abi::NTSTATUS;
use crate::process::{Process, SYSTEM_PROCESS_ID};
use crate::sim;
use crate::status::{STATUS_ACCESS_VIOLATION, STATUS_SUCCESS};

/// The host system's process that holds the user memory of a process. System is this one.
pub(super) fn owner(process: &Process) -> libc::pid_t {
    match process.pid() {
        // One process of the host system plays all of a simulation's.
        _ if sim::is_simulated() => std::process::id().cast_signed(),
        SYSTEM_PROCESS_ID => std::process::id().cast_signed(),
        pid => libc::pid_t::try_from(pid).unwrap_or(-1),
    }
}

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Out of user memory.
    FromUser,
    /// Into user memory.
    ToUser,
}

/// Copies `length` bytes; STATUS_ACCESS_VIOLATION if any of them cannot be reached, after those in
/// front of it were copied.
///
/// # Safety
/// `local` holds `length` bytes, readable, and writable too if the copy comes from the user.
pub(super) unsafe fn copy(
    direction: Direction,
    pid: libc::pid_t,
    local: *mut c_void,
    user: u64,
    length: usize,
) -> NTSTATUS {
    // SAFETY: passed on.
    match unsafe { transfer(direction, pid, local, user, length) } {
        done if done == length => STATUS_SUCCESS,
        _ => STATUS_ACCESS_VIOLATION,
    }
}

/// As [`copy`], with a copy in between: only the processor touches `local`, so that a closed page
/// there is a fault, which is told to the page's owner. To the host system it would be a bad
/// address.
///
/// # Safety
/// As for [`copy`].
pub(super) unsafe fn copy_by_instructions(
    direction: Direction,
    pid: libc::pid_t,
    local: *mut c_void,
    user: u64,
    length: usize,
) -> NTSTATUS {
    /// Bytes in between at one time.
    const MOST: usize = 64 << 10;
    let mut between = vec![0_u8; length.min(MOST)];
    let bounce = between.as_mut_ptr();
    for offset in (0..length).step_by(MOST) {
        let size = MOST.min(length - offset);
        let local = local.cast::<u8>().wrapping_add(offset);
        let user = user.wrapping_add(offset as u64);
        if direction == Direction::ToUser {
            // SAFETY: a part of `local`, which is readable by contract, into memory for it.
            unsafe { std::ptr::copy_nonoverlapping(local, bounce, size) };
        }
        // SAFETY: `bounce` has room for that much.
        let done = unsafe { transfer(direction, pid, bounce.cast(), user, size) };
        if direction == Direction::FromUser {
            // SAFETY: a part of `local`, which is writable by contract, from what was read.
            unsafe { std::ptr::copy_nonoverlapping(bounce, local, done) };
        }
        if done < size {
            return STATUS_ACCESS_VIOLATION;
        }
    }
    STATUS_SUCCESS
}

/// Copies as much of `length` bytes as can be reached without a gap; how much it was.
///
/// # Safety
/// As for [`copy`].
unsafe fn transfer(
    direction: Direction,
    pid: libc::pid_t,
    local: *mut c_void,
    user: u64,
    length: usize,
) -> usize {
    let mut done = 0;
    while done < length {
        let rest = length - done;
        let local = libc::iovec {
            iov_base: local.wrapping_byte_add(done),
            iov_len: rest,
        };
        let remote = libc::iovec {
            iov_base: (user as usize).wrapping_add(done) as *mut _,
            iov_len: rest,
        };
        let copied = match direction {
            // SAFETY: the local range is writable by contract; the remote one may be anything.
            Direction::FromUser => unsafe {
                libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0)
            },
            // SAFETY: the local range is readable by contract; the remote one may be anything, and
            // the host system writes nothing outside the owner's mapped and writable pages.
            Direction::ToUser => unsafe {
                libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0)
            },
        };
        match usize::try_from(copied) {
            Ok(0) => break,
            Ok(copied) => done += copied,
            Err(_) => {
                if io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) {
                    explain_permission();
                }
                break;
            }
        }
    }
    done
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
