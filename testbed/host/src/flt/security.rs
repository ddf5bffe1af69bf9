// SPDX-License-Identifier: MIT OR Apache-2.0
//! The default descriptor of ports: SYSTEM and administrators, nobody else.

use std::ffi::c_void;
use std::ptr::NonNull;

use fltmgr::Status;

use crate::abi::{ACL, SECURITY_DESCRIPTOR};
use crate::ex::pool;
use crate::se::descriptor::allowed_entry;
use crate::se::sid::Sid;
use crate::se::token::Token;

const REVISION: u8 = 1;
const ACL_REVISION: u8 = 2;
const SE_DACL_PRESENT: u16 = 4;
const TAG: &[u8; 4] = b"FMsd";

/// Whether the default descriptor lets a token in.
pub(super) fn default_admits(token: &Token) -> bool {
    admitted().iter().any(|sid| token.has(sid))
}

fn admitted() -> [Sid; 2] {
    [Sid::local_system(), Sid::administrators()]
}

/// Builds the default descriptor in paged pool: an absolute one, with its access list behind it.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES without memory.
pub(super) fn build_default(access: u32) -> Result<*mut c_void, Status> {
    let entries: Vec<u8> = admitted()
        .iter()
        .flat_map(|sid| allowed_entry(access, sid))
        .collect();
    let size = size_of::<ACL>() + entries.len();
    let head = ACL {
        AclRevision: ACL_REVISION,
        AclSize: u16::try_from(size).unwrap_or(u16::MAX),
        AceCount: u16::try_from(admitted().len()).unwrap_or(u16::MAX),
        ..Default::default()
    };
    let memory = pool::allocate_paged(size_of::<SECURITY_DESCRIPTOR>() + size, TAG)
        .ok_or(Status::INSUFFICIENT_RESOURCES)?;
    let acl = place(memory, size_of::<SECURITY_DESCRIPTOR>()).cast::<ACL>();
    let descriptor = SECURITY_DESCRIPTOR {
        Revision: REVISION,
        Control: SE_DACL_PRESENT,
        Dacl: acl,
        ..Default::default()
    };
    // SAFETY: pool memory is aligned for every structure, and there is room for this one.
    unsafe { memory.cast::<SECURITY_DESCRIPTOR>().write(descriptor) };
    // SAFETY: the descriptor's size keeps the alignment, and the room was added for it.
    unsafe { acl.write(head) };
    let first = place(memory, size_of::<SECURITY_DESCRIPTOR>() + size_of::<ACL>());
    // SAFETY: the room behind the head was added for exactly these bytes.
    unsafe { first.copy_from_nonoverlapping(entries.as_ptr(), entries.len()) };
    Ok(memory.as_ptr().cast())
}

fn place(memory: NonNull<u8>, offset: usize) -> *mut u8 {
    memory.as_ptr().wrapping_add(offset)
}

/// Frees a descriptor that [`build_default`] built; the pool reports one that it did not.
pub(super) fn free(descriptor: *mut c_void) {
    // SAFETY: the pool looks the address up and frees nothing that it did not allocate.
    unsafe { pool::ExFreePoolWithTag(descriptor, u32::from_le_bytes(*TAG)) };
}
