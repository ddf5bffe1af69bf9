// SPDX-License-Identifier: MIT OR Apache-2.0
//! The question whether a subject may, and which program a process runs.

use std::path::Path;

use super::descriptor::Descriptor;
use super::token;
use crate::abi::{
    GENERIC_MAPPING, NTSTATUS, PEPROCESS, PRIVILEGE_SET, PSECURITY_DESCRIPTOR, SECURITY_DESCRIPTOR,
    SECURITY_SUBJECT_CONTEXT, UNICODE_STRING,
};
use crate::entry::nt;
use crate::ex::mode::KERNEL_MODE;
use crate::ex::pool;
use crate::irql::PASSIVE_LEVEL;
use crate::process::Process;
use crate::ps;
use crate::sim;
use crate::status::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_INVALID_SECURITY_DESCR, STATUS_NOT_FOUND, STATUS_SUCCESS,
};
use crate::unicode;

/// SecurityImpersonation: below it a token identifies somebody, and stands for nobody.
const IMPERSONATION: i32 = 2;

/// What a subject is granted of what it desires.
///
/// # Safety
/// `descriptor` points to a security descriptor, `subject` to a captured context.
unsafe fn check(
    descriptor: *const SECURITY_DESCRIPTOR,
    subject: &SECURITY_SUBJECT_CONTEXT,
    desired: u32,
) -> Result<u32, NTSTATUS> {
    if descriptor.is_null() {
        return Err(STATUS_ACCESS_DENIED);
    }
    // SAFETY: not null, and a descriptor by contract.
    let head = unsafe { descriptor.read() };
    if head.Owner.is_null() || head.Group.is_null() {
        return Err(STATUS_INVALID_SECURITY_DESCR);
    }
    // SAFETY: a descriptor by contract.
    let captured = unsafe { Descriptor::capture(descriptor) }?;
    let impersonates = !subject.ClientToken.is_null();
    if impersonates && subject.ImpersonationLevel < IMPERSONATION {
        return Err(STATUS_ACCESS_DENIED);
    }
    let effective = if impersonates {
        subject.ClientToken
    } else {
        subject.PrimaryToken
    };
    let token = token::at(effective).ok_or(STATUS_INVALID_PARAMETER)?;
    captured.check(&token, desired)
}

/// The path of the program, as the hosted kernel was told or as the host system says.
fn image_of(process: &Process) -> Option<Vec<u16>> {
    if !process.image().is_empty() {
        return Some(process.image().to_vec());
    }
    // A simulation's processes are numbers that may well be somebody else's on this machine.
    if sim::is_simulated() {
        return None;
    }
    let link = format!("/proc/{}/exe", process.pid());
    let path = std::fs::read_link(Path::new(&link)).ok()?;
    Some(unicode::encode(path.to_str()?))
}

nt! {
    /// Whether a captured subject may have the access that it desires, and which access that is.
    /// From kernel mode everything is granted.
    simplified = "integrity levels, restricted tokens and privileges are not known; owner and group \
        must be there, and the owner has no rights of its own";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeAccessCheck(
        descriptor: PSECURITY_DESCRIPTOR,
        subject: *const SECURITY_SUBJECT_CONTEXT,
        _locked: bool,
        desired: u32,
        previously: u32,
        privileges: *mut *mut PRIVILEGE_SET,
        _mapping: *const GENERIC_MAPPING,
        mode: i8,
        granted: *mut u32,
        status: *mut i32,
    ) -> bool {
        if !privileges.is_null() {
            // SAFETY: the caller passes null or memory for a pointer.
            unsafe { privileges.write(std::ptr::null_mut()) };
        }
        let answer = if mode == KERNEL_MODE {
            Ok(desired)
        } else {
            // SAFETY: the caller passes a captured context.
            let subject = unsafe { subject.read() };
            // SAFETY: the caller passes a security descriptor.
            unsafe { check(descriptor.cast::<SECURITY_DESCRIPTOR>(), &subject, desired) }
        };
        // SAFETY: the caller passes memory for the access.
        unsafe { granted.write(answer.map_or(0, |access| access | previously)) };
        // SAFETY: the caller passes memory for the status.
        unsafe { status.write(answer.err().unwrap_or(STATUS_SUCCESS)) };
        answer.is_ok()
    }

    /// The path of the program that a process runs, in paged pool that the caller frees with
    /// ExFreePool: a counted string, and behind it the text.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "a path of the host system";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeLocateProcessImageName(
        process: PEPROCESS,
        name: *mut *mut UNICODE_STRING,
    ) -> NTSTATUS {
        let Some(process) = ps::process::at(process) else {
            return STATUS_INVALID_PARAMETER;
        };
        let Some(text) = image_of(&process) else {
            return STATUS_NOT_FOUND;
        };
        let bytes = 2 * text.len();
        let size = size_of::<UNICODE_STRING>() + bytes;
        let (Ok(length), Some(memory)) = (u16::try_from(bytes), pool::allocate_paged(size, b"SePi"))
        else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        let head = memory.cast::<UNICODE_STRING>();
        // SAFETY: the room was allocated for the string and the text behind it.
        let place = unsafe { head.add(1) }.cast::<u16>();
        // SAFETY: as above; UNICODE_STRING keeps the alignment.
        unsafe { place.as_ptr().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        let string = UNICODE_STRING {
            Length: length,
            MaximumLength: length,
            Buffer: place.as_ptr(),
        };
        // SAFETY: pool memory is aligned for every structure.
        unsafe { head.write(string) };
        // SAFETY: the caller passes memory for the pointer.
        unsafe { name.write(head.as_ptr()) };
        STATUS_SUCCESS
    }
}
