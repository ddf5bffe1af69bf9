// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access checks by the tokens that Wine's processes have, and the program that a process runs.
//!
//! A captured subject context holds the process, referenced, where NT has its token; nobody but these
//! functions looks into it. Wine does not carry impersonation into a driver, so the thread's context is
//! the process's.

use alloc::vec;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{null, null_mut};

use fltport_nt::bindings::{
    ACL, ExFreePool, GENERIC_MAPPING, HANDLE, MAXIMUM_ALLOWED, NTSTATUS, OBJ_KERNEL_HANDLE,
    ObOpenObjectByPointer, ObfDereferenceObject, ObfReferenceObject, PEPROCESS, PETHREAD,
    PSECURITY_DESCRIPTOR, PSID, RtlEqualSid, SECURITY_DESCRIPTOR, SECURITY_SUBJECT_CONTEXT,
    SID_AND_ATTRIBUTES, STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_SECURITY_DESCR, STATUS_NOT_FOUND, STATUS_SUCCESS, UNICODE_STRING, ZwClose,
};

use super::process;
use crate::nt::ExAllocatePoolWithTag;

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    fn ZwOpenProcessTokenEx(
        process: HANDLE,
        access: u32,
        attributes: u32,
        token: *mut HANDLE,
    ) -> NTSTATUS;
    fn ZwQueryInformationToken(
        token: HANDLE,
        class: u32,
        information: *mut c_void,
        length: u32,
        returned: *mut u32,
    ) -> NTSTATUS;
    fn ZwQueryInformationProcess(
        process: HANDLE,
        class: u32,
        information: *mut c_void,
        length: u32,
        returned: *mut u32,
    ) -> NTSTATUS;
}

const PROCESS_QUERY_INFORMATION: u32 = 0x0400;
const TOKEN_QUERY: u32 = 0x0008;
const TOKEN_USER: u32 = 1;
const TOKEN_GROUPS: u32 = 2;
const PROCESS_IMAGE_FILE_NAME: u32 = 27;
const SE_GROUP_ENABLED: u32 = 0x4;
const ACCESS_ALLOWED: u8 = 0;
const ACCESS_DENIED: u8 = 1;
const INHERIT_ONLY: u8 = 8;
const TAG: u32 = u32::from_le_bytes(*b"WnSe");

/// An entry of an access list, before its SID.
#[repr(C)]
struct Entry {
    kind: u8,
    flags: u8,
    size: u16,
    mask: u32,
}

/// A handle that is closed when it is dropped.
struct Handle(HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by whoever made this, closed once.
        unsafe { ZwClose(self.0) };
    }
}

/// A kernel handle to a process.
fn open(process: PEPROCESS) -> Option<Handle> {
    let mut handle = null_mut();
    // SAFETY: the caller passes a process; a kernel handle, no special access state or type.
    let opened = unsafe {
        ObOpenObjectByPointer(
            process as *const c_void,
            OBJ_KERNEL_HANDLE,
            null(),
            PROCESS_QUERY_INFORMATION,
            0,
            0,
            &raw mut handle,
        )
    };
    (opened >= 0).then(|| Handle(handle))
}

/// What a process's token says, in memory that pointers within it point to.
struct Token {
    user: Vec<u64>,
    groups: Vec<u64>,
}

fn query(token: &Handle, class: u32) -> Option<Vec<u64>> {
    let mut needed = 0;
    // SAFETY: an open token, and no place at all.
    unsafe { ZwQueryInformationToken(token.0, class, null_mut(), 0, &raw mut needed) };
    let mut memory = vec![0_u64; (needed as usize).div_ceil(8)];
    let (place, length) = (memory.as_mut_ptr().cast(), needed);
    // SAFETY: an open token, and a place of the length that is passed.
    let asked = unsafe { ZwQueryInformationToken(token.0, class, place, length, &raw mut needed) };
    (asked >= 0 && needed >= 16).then_some(memory)
}

impl Token {
    fn of(process: PEPROCESS) -> Option<Token> {
        let process = open(process)?;
        let mut token = null_mut();
        // SAFETY: an open process and a place for the handle.
        let opened = unsafe {
            ZwOpenProcessTokenEx(process.0, TOKEN_QUERY, OBJ_KERNEL_HANDLE, &raw mut token)
        };
        let token = (opened >= 0).then(|| Handle(token))?;
        Some(Token {
            user: query(&token, TOKEN_USER)?,
            groups: query(&token, TOKEN_GROUPS)?,
        })
    }

    /// The SIDs that something is allowed to.
    fn sids(&self) -> Vec<PSID> {
        // SAFETY: TOKEN_USER is one of these, and `query` has seen to the length.
        let user = unsafe { self.user.as_ptr().cast::<SID_AND_ATTRIBUTES>().read() };
        let mut sids = vec![user.Sid];
        let count = self.groups.first().map_or(0, |count| *count as u32);
        // TOKEN_GROUPS: the count, padded, and then so many.
        let first = self
            .groups
            .as_ptr()
            .wrapping_add(1)
            .cast::<SID_AND_ATTRIBUTES>();
        for n in 0..count as usize {
            // SAFETY: as many as the count says lie behind it.
            let group = unsafe { first.wrapping_add(n).read() };
            if group.Attributes & SE_GROUP_ENABLED != 0 {
                sids.push(group.Sid);
            }
        }
        sids
    }
}

/// What the access list grants to whoever has these SIDs.
///
/// # Safety
/// `list` points to an access list.
unsafe fn granted(list: *const ACL, sids: &[PSID]) -> u32 {
    let (mut granted, mut denied) = (0, 0);
    // SAFETY: a list by contract.
    let head = unsafe { list.read() };
    let mut place = list.cast::<u8>().wrapping_add(size_of::<ACL>());
    for _ in 0..head.AceCount {
        // SAFETY: the list has so many entries.
        let entry = unsafe { place.cast::<Entry>().read_unaligned() };
        let sid: PSID = place.wrapping_add(size_of::<Entry>()).cast_mut().cast();
        let kind = entry.kind;
        if matches!(kind, ACCESS_ALLOWED | ACCESS_DENIED) && entry.flags & INHERIT_ONLY == 0 {
            // SAFETY: the SIDs of an entry and of a token are valid.
            let has = sids.iter().any(|own| unsafe { RtlEqualSid(*own, sid) });
            match kind {
                _ if !has => {}
                ACCESS_ALLOWED => granted |= entry.mask & !denied,
                _ => denied |= entry.mask & !granted,
            }
        }
        place = place.wrapping_add(entry.size.into());
    }
    granted
}

/// # Safety
/// `descriptor` points to an absolute security descriptor, `subject` to a captured context.
unsafe fn check(
    descriptor: *const SECURITY_DESCRIPTOR,
    subject: *const SECURITY_SUBJECT_CONTEXT,
    desired: u32,
) -> Result<u32, NTSTATUS> {
    // SAFETY: a descriptor by contract.
    let descriptor = unsafe { descriptor.read() };
    if descriptor.Dacl.is_null() || descriptor.Owner.is_null() || descriptor.Group.is_null() {
        return Err(STATUS_INVALID_SECURITY_DESCR);
    }
    // SAFETY: a captured context by contract.
    let process = unsafe { (*subject).PrimaryToken } as PEPROCESS;
    let token = Token::of(process).ok_or(STATUS_ACCESS_DENIED)?;
    // SAFETY: the list of a valid descriptor.
    let granted = unsafe { granted(descriptor.Dacl, &token.sids()) };
    let enough = match desired & MAXIMUM_ALLOWED {
        0 => granted & desired == desired,
        _ => granted != 0,
    };
    match enough {
        true if desired & MAXIMUM_ALLOWED == 0 => Ok(desired),
        true => Ok(granted),
        false => Err(STATUS_ACCESS_DENIED),
    }
}

#[allow(clippy::too_many_arguments, reason = "NT's own")]
pub(super) unsafe extern "system" fn access_check(
    descriptor: PSECURITY_DESCRIPTOR,
    subject: *const SECURITY_SUBJECT_CONTEXT,
    _locked: u8,
    desired: u32,
    previously: u32,
    privileges: *mut *mut c_void,
    _mapping: *const GENERIC_MAPPING,
    mode: i8,
    granted: *mut u32,
    status: *mut NTSTATUS,
) -> u8 {
    if !privileges.is_null() {
        // SAFETY: the caller passes null or a place for a pointer.
        unsafe { privileges.write(null_mut()) };
    }
    let answer = match mode {
        0 => Ok(desired),
        // SAFETY: the caller passes a descriptor and a captured context.
        _ => unsafe { check(descriptor.cast(), subject, desired) },
    };
    // SAFETY: the caller passes a place for the access.
    unsafe { granted.write(answer.map_or(0, |access| access | previously)) };
    // SAFETY: the caller passes a place for the status.
    unsafe { status.write(answer.err().unwrap_or(STATUS_SUCCESS)) };
    answer.is_ok().into()
}

pub(super) unsafe extern "system" fn capture(context: *mut SECURITY_SUBJECT_CONTEXT) {
    // SAFETY: takes nothing.
    let process = unsafe { process::current() };
    // SAFETY: the caller passes a place for a context.
    unsafe { capture_of(0, process, context) };
}

pub(super) unsafe extern "system" fn capture_of(
    _thread: PETHREAD,
    process: PEPROCESS,
    context: *mut SECURITY_SUBJECT_CONTEXT,
) {
    // SAFETY: the caller passes a process.
    unsafe { ObfReferenceObject(process as *const c_void) };
    let captured = SECURITY_SUBJECT_CONTEXT {
        PrimaryToken: process as *mut c_void,
        ..Default::default()
    };
    // SAFETY: the caller passes a place for a context.
    unsafe { context.write(captured) };
}

pub(super) unsafe extern "system" fn release(context: *mut SECURITY_SUBJECT_CONTEXT) {
    // SAFETY: the caller passes a captured context.
    let captured = unsafe { context.replace(SECURITY_SUBJECT_CONTEXT::default()) };
    // SAFETY: referenced when it was captured.
    unsafe { ObfDereferenceObject(captured.PrimaryToken) };
}

pub(super) unsafe extern "system" fn locate_image(
    process: PEPROCESS,
    name: *mut *mut UNICODE_STRING,
) -> NTSTATUS {
    let Some(handle) = open(process) else {
        return STATUS_NOT_FOUND;
    };
    let (class, mut needed) = (PROCESS_IMAGE_FILE_NAME, 0);
    // SAFETY: an open process, and no place at all.
    unsafe { ZwQueryInformationProcess(handle.0, class, null_mut(), 0, &raw mut needed) };
    if (needed as usize) < size_of::<UNICODE_STRING>() {
        return STATUS_NOT_FOUND;
    }
    // SAFETY: takes numbers; 0 is NonPagedPool.
    let memory = unsafe { ExAllocatePoolWithTag(0, needed as usize, TAG) };
    if memory.is_null() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let length = needed;
    // SAFETY: an open process, and a place of the length that is passed: a UNICODE_STRING, and its
    // text behind it.
    let asked =
        unsafe { ZwQueryInformationProcess(handle.0, class, memory, length, &raw mut needed) };
    if asked < 0 {
        // SAFETY: allocated above.
        unsafe { ExFreePool(memory) };
        return STATUS_NOT_FOUND;
    }
    // SAFETY: the caller passes a place for the pointer, and frees what it points to.
    unsafe { name.write(memory.cast()) };
    STATUS_SUCCESS
}
