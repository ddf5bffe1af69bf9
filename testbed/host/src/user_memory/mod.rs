// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of the process that a thread is attached to.
//!
//! A service's buffers stay in the service's process and are read and written across, so that a
//! bad address, a buffer that changes and a process that dies are as real as on NT.
//!
//! The buffers that a callback is given are not even visible: the driver sees addresses of closed
//! pages that stand for them ([`shadow`]). The two fault-safe copies know what they stand for;
//! every other access faults, and the fault is a report.

mod opened;
mod remote;
pub(crate) mod shadow;
mod table;
mod wording;

use std::ffi::c_void;

use crate::abi::NTSTATUS;
use crate::entry::{Function, enter, failure};
use crate::faults::{self, FailsWith};
use crate::irql::APC_LEVEL;
use remote::Direction;

/// What both copies have in common.
const NOT_OF_NT: Option<&str> =
    Some("not a function of NT: drivers for Windows have structured exception handling");

/// What is known of [`fltport_copy_from_user`].
pub(crate) static COPY_FROM_USER: Function = Function {
    name: "fltport_copy_from_user",
    min_irql: 0,
    max_irql: APC_LEVEL,
    fails: &[failure!(STATUS_ACCESS_VIOLATION)],
    simplified: NOT_OF_NT,
};

/// What is known of [`fltport_copy_to_user`].
pub(crate) static COPY_TO_USER: Function = Function {
    name: "fltport_copy_to_user",
    min_irql: 0,
    max_irql: APC_LEVEL,
    fails: &[failure!(STATUS_ACCESS_VIOLATION)],
    simplified: NOT_OF_NT,
};

/// A buffer in user memory, as a service names it: an address that nobody has checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSlice {
    /// Where it begins, in the service's address space.
    pub address: u64,
    /// How many bytes the service says it has.
    pub length: u32,
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
    enter(&COPY_FROM_USER);
    if let Some(failure) = faults::asked(&COPY_FROM_USER, true) {
        return FailsWith::failed(failure);
    }
    // SAFETY: `destination` is writable by contract.
    unsafe { shadow::copy(Direction::FromUser, destination, source, length) }
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
    enter(&COPY_TO_USER);
    if let Some(failure) = faults::asked(&COPY_TO_USER, true) {
        return FailsWith::failed(failure);
    }
    // SAFETY: `source` is readable by contract, and is only read in this direction.
    unsafe { shadow::copy(Direction::ToUser, source.cast_mut(), destination, length) }
}
