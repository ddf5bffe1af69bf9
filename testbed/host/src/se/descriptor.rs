// SPDX-License-Identifier: MIT OR Apache-2.0
//! Security descriptors, access lists, and the question whether somebody may.

use std::ffi::c_void;

use super::sid::{self, Sid};
use super::token::Token;
use crate::abi::{ACL, NTSTATUS, PSECURITY_DESCRIPTOR, PSID, SECURITY_DESCRIPTOR};
use crate::entry::nt;
use crate::irql::APC_LEVEL;
use crate::status::{
    STATUS_ACCESS_DENIED, STATUS_INVALID_PARAMETER, STATUS_INVALID_SECURITY_DESCR, STATUS_SUCCESS,
    STATUS_UNKNOWN_REVISION,
};

const REVISION: u8 = 1;
const SE_DACL_PRESENT: u16 = 0x0004;
const SE_DACL_DEFAULTED: u16 = 0x0008;
const SE_SELF_RELATIVE: u16 = 0x8000;
const ACCESS_ALLOWED: u8 = 0;
const ACCESS_DENIED: u8 = 1;
const INHERIT_ONLY: u8 = 8;
const ACL_HEAD: usize = size_of::<ACL>();
/// The bytes of an entry before its SID: type, flags, size, mask.
const ACE_HEAD: usize = 8;

/// Any access at all that is granted to whoever may.
pub const MAXIMUM_ALLOWED: u32 = 0x0200_0000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    allows: bool,
    mask: u32,
    sid: Sid,
}

/// A copy of the part of a security descriptor that decides about access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The entries; none means that everybody may do everything.
    dacl: Option<Vec<Entry>>,
}

impl Descriptor {
    /// Copies a descriptor. A null pointer, an absent and a null access list all let everybody.
    ///
    /// # Safety
    /// `descriptor` is null or points to an absolute security descriptor whose access list lies
    /// in readable memory.
    pub unsafe fn capture(descriptor: *const SECURITY_DESCRIPTOR) -> Result<Descriptor, NTSTATUS> {
        if descriptor.is_null() {
            return Ok(Descriptor { dacl: None });
        }
        // SAFETY: not null, and valid by contract.
        let descriptor = unsafe { descriptor.read() };
        if descriptor.Revision != REVISION {
            return Err(STATUS_UNKNOWN_REVISION);
        }
        if descriptor.Control & SE_SELF_RELATIVE != 0 {
            return Err(STATUS_INVALID_SECURITY_DESCR);
        }
        if descriptor.Control & SE_DACL_PRESENT == 0 || descriptor.Dacl.is_null() {
            return Ok(Descriptor { dacl: None });
        }
        // SAFETY: readable by contract.
        let size = usize::from(unsafe { (*descriptor.Dacl).AclSize });
        // SAFETY: an access list is as long as it says.
        let bytes = unsafe { std::slice::from_raw_parts(descriptor.Dacl.cast::<u8>(), size) };
        let dacl = parse(bytes).ok_or(STATUS_INVALID_SECURITY_DESCR)?;
        Ok(Descriptor { dacl: Some(dacl) })
    }

    /// Decides whether `token` gets the access it asks for; the granted access.
    pub fn check(&self, token: &Token, desired: u32) -> Result<u32, NTSTATUS> {
        let Some(entries) = &self.dacl else {
            return Ok(desired);
        };
        let (mut granted, mut denied) = (0, 0);
        for entry in entries.iter().filter(|entry| token.has(&entry.sid)) {
            if entry.allows {
                granted |= entry.mask & !denied;
            } else {
                denied |= entry.mask & !granted;
            }
        }
        if desired & MAXIMUM_ALLOWED != 0 {
            return if granted != 0 {
                Ok(granted)
            } else {
                Err(STATUS_ACCESS_DENIED)
            };
        }
        if granted & desired == desired {
            Ok(desired)
        } else {
            Err(STATUS_ACCESS_DENIED)
        }
    }
}

/// Reads the entries of an access list. Entries of other kinds decide nothing.
fn parse(acl: &[u8]) -> Option<Vec<Entry>> {
    let count = u16::from_le_bytes(*acl.get(4..6)?.as_array()?);
    let mut rest = acl.get(ACL_HEAD..)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (kind, flags) = (*rest.first()?, *rest.get(1)?);
        let size = usize::from(u16::from_le_bytes(*rest.get(2..4)?.as_array()?));
        let body = rest.get(..size)?;
        if matches!(kind, ACCESS_ALLOWED | ACCESS_DENIED) && flags & INHERIT_ONLY == 0 {
            let mask = u32::from_le_bytes(*body.get(4..8)?.as_array()?);
            let sid = Sid::parse(body.get(ACE_HEAD..)?)?;
            entries.push(Entry {
                allows: kind == ACCESS_ALLOWED,
                mask,
                sid,
            });
        }
        rest = rest.get(size.max(ACE_HEAD)..)?;
    }
    Some(entries)
}

/// The bytes of an entry that allows `mask` to `sid`.
#[must_use]
pub fn allowed_entry(mask: u32, sid: &Sid) -> Vec<u8> {
    let size = u16::try_from(ACE_HEAD + sid.as_bytes().len()).unwrap_or(u16::MAX);
    let mut bytes = vec![ACCESS_ALLOWED, 0];
    bytes.extend(size.to_le_bytes());
    bytes.extend(mask.to_le_bytes());
    bytes.extend(sid.as_bytes());
    bytes
}

/// Where the next entry of an access list goes, and how much room there is.
///
/// # Safety
/// `acl` points to an access list of `AclSize` bytes.
unsafe fn free_space(acl: *mut ACL) -> Option<(usize, usize)> {
    // SAFETY: an access list by contract.
    let head = unsafe { acl.read() };
    let size = usize::from(head.AclSize);
    // SAFETY: as long as it says.
    let bytes = unsafe { std::slice::from_raw_parts(acl.cast::<u8>(), size) };
    let mut offset = ACL_HEAD;
    for _ in 0..head.AceCount {
        let length = u16::from_le_bytes(*bytes.get(offset + 2..offset + 4)?.as_array()?);
        offset += usize::from(length);
    }
    Some((offset, size.checked_sub(offset)?))
}

/// Changes an absolute security descriptor.
///
/// # Safety
/// `descriptor` points to a security descriptor.
unsafe fn change(
    descriptor: PSECURITY_DESCRIPTOR,
    how: impl FnOnce(&mut SECURITY_DESCRIPTOR),
) -> NTSTATUS {
    let pointer = descriptor.cast::<SECURITY_DESCRIPTOR>();
    // SAFETY: a descriptor by contract.
    let mut content = unsafe { pointer.read() };
    if content.Revision != REVISION {
        return STATUS_UNKNOWN_REVISION;
    }
    if content.Control & SE_SELF_RELATIVE != 0 {
        return STATUS_INVALID_SECURITY_DESCR;
    }
    how(&mut content);
    // SAFETY: as above.
    unsafe { pointer.write(content) };
    STATUS_SUCCESS
}

nt! {
    /// Makes an empty absolute security descriptor.
    max_irql = APC_LEVEL;
    pub unsafe fn RtlCreateSecurityDescriptor(
        descriptor: PSECURITY_DESCRIPTOR,
        revision: u32,
    ) -> NTSTATUS {
        if revision != u32::from(REVISION) {
            return STATUS_UNKNOWN_REVISION;
        }
        let empty = SECURITY_DESCRIPTOR { Revision: REVISION, ..Default::default() };
        // SAFETY: the caller passes memory for a descriptor.
        unsafe { descriptor.cast::<SECURITY_DESCRIPTOR>().write(empty) };
        STATUS_SUCCESS
    }

    /// Gives an absolute security descriptor its access list, which is not copied.
    max_irql = APC_LEVEL;
    pub unsafe fn RtlSetDaclSecurityDescriptor(
        descriptor: PSECURITY_DESCRIPTOR,
        present: bool,
        dacl: *const ACL,
        defaulted: bool,
    ) -> NTSTATUS {
        let set = |content: &mut SECURITY_DESCRIPTOR| {
            content.Control &= !(SE_DACL_PRESENT | SE_DACL_DEFAULTED);
            content.Dacl = std::ptr::null_mut();
            if present {
                content.Control |= SE_DACL_PRESENT;
                content.Control |= if defaulted { SE_DACL_DEFAULTED } else { 0 };
                content.Dacl = dacl.cast_mut();
            }
        };
        // SAFETY: the caller passes a descriptor.
        unsafe { change(descriptor, set) }
    }

    /// Says who owns what an absolute security descriptor protects. The SID is not copied.
    max_irql = APC_LEVEL;
    pub unsafe fn RtlSetOwnerSecurityDescriptor(
        descriptor: PSECURITY_DESCRIPTOR,
        owner: PSID,
        _defaulted: bool,
    ) -> NTSTATUS {
        // SAFETY: the caller passes a descriptor.
        unsafe { change(descriptor, |content| content.Owner = owner) }
    }

    /// Says which group owns what an absolute security descriptor protects. The SID is not copied.
    max_irql = APC_LEVEL;
    pub unsafe fn RtlSetGroupSecurityDescriptor(
        descriptor: PSECURITY_DESCRIPTOR,
        group: PSID,
        _defaulted: bool,
    ) -> NTSTATUS {
        // SAFETY: the caller passes a descriptor.
        unsafe { change(descriptor, |content| content.Group = group) }
    }

    /// Makes an empty access list of `length` bytes in all.
    max_irql = APC_LEVEL;
    pub unsafe fn RtlCreateAcl(acl: *mut ACL, length: u32, revision: u32) -> NTSTATUS {
        const ACL_REVISIONS: std::ops::RangeInclusive<u32> = 2..=4;
        let (Ok(size), true) = (u16::try_from(length), ACL_REVISIONS.contains(&revision)) else {
            return STATUS_INVALID_PARAMETER;
        };
        if usize::from(size) < ACL_HEAD {
            return crate::status::STATUS_BUFFER_TOO_SMALL;
        }
        let empty = ACL {
            AclRevision: revision.to_le_bytes()[0],
            AclSize: size & !3,
            ..Default::default()
        };
        // SAFETY: the caller passes memory of this length.
        unsafe { acl.write(empty) };
        STATUS_SUCCESS
    }

    /// Adds an entry that allows `mask` to a SID.
    simplified = "the revision is not compared with that of the list";
    max_irql = APC_LEVEL;
    pub unsafe fn RtlAddAccessAllowedAce(
        acl: *mut ACL,
        _revision: u32,
        mask: u32,
        sid: PSID,
    ) -> NTSTATUS {
        // SAFETY: the caller passes a SID.
        let Some(sid) = (unsafe { sid::read(sid) }) else {
            return crate::status::STATUS_INVALID_SID;
        };
        let entry = allowed_entry(mask, &sid);
        // SAFETY: the caller passes an access list.
        let Some((offset, room)) = (unsafe { free_space(acl) }) else {
            return crate::status::STATUS_INVALID_ACL;
        };
        if room < entry.len() {
            return crate::status::STATUS_ALLOTTED_SPACE_EXCEEDED;
        }
        let place = acl.cast::<c_void>().wrapping_byte_add(offset).cast::<u8>();
        // SAFETY: there is room for the entry behind the last one.
        unsafe { std::ptr::copy_nonoverlapping(entry.as_ptr(), place, entry.len()) };
        // SAFETY: the caller passes an access list.
        unsafe { (*acl).AceCount += 1 };
        STATUS_SUCCESS
    }
}
