// SPDX-License-Identifier: MIT OR Apache-2.0
//! A security descriptor in non-paged pool, made of SIDs and what each may.

use crate::bindings::{
    ACL, PSID, RtlAddAccessAllowedAce, RtlCreateAcl, RtlCreateSecurityDescriptor,
    RtlSetDaclSecurityDescriptor, RtlSetGroupSecurityDescriptor, RtlSetOwnerSecurityDescriptor,
    SECURITY_DESCRIPTOR, SECURITY_DESCRIPTOR_REVISION, STATUS_INVALID_PARAMETER,
};
use crate::ex::{PoolBox, PoolSlice, Tag};
use crate::status::{NtError, Result, check};
use core::ffi::c_void;

/// The revision of an access list without object entries.
const ACL_REVISION: u32 = 2;
/// The bytes of an entry before its SID: type, flags, size, mask.
const ENTRY_HEAD: usize = 8;
/// The longest SID: a head of 8 bytes and 15 sub-authorities.
const MAX_SID: usize = 68;

/// An absolute security descriptor with an access list that allows and denies nobody. It does not
/// move, and dropping it frees all of it.
pub struct SecurityDescriptor {
    head: PoolBox<SECURITY_DESCRIPTOR>,
    // What the head points to.
    list: PoolSlice<u64>,
    _owner: PoolSlice<u32>,
}

// SAFETY: the pointers in the head lead to memory that it owns itself, and nothing changes it
// through a shared reference.
unsafe impl Send for SecurityDescriptor {}
// SAFETY: as above.
unsafe impl Sync for SecurityDescriptor {}

impl SecurityDescriptor {
    /// IRQL: <= APC_LEVEL. For an object that belongs to `owner`, with room for `entries` entries;
    /// without any it lets nobody in.
    ///
    /// Errors: `STATUS_INVALID_PARAMETER` if `owner` is no SID or there are too many entries for an
    /// access list, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn new(tag: Tag, owner: &[u8], entries: usize) -> Result<Self> {
        let owner = sid(tag, owner)?;
        let bytes = size_of::<ACL>() + entries * (ENTRY_HEAD + MAX_SID);
        let length = u16::try_from(bytes).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        let list = PoolSlice::filled(tag, bytes.div_ceil(8), 0_u64)?;
        let head = PoolBox::new(tag, SECURITY_DESCRIPTOR::default())?;
        let mut made = SecurityDescriptor {
            head,
            list,
            _owner: owner,
        };
        let owner: PSID = made._owner.as_mut_ptr().cast();
        let acl = made.list();
        // SAFETY: memory of at least this length, aligned to 8.
        check(unsafe { RtlCreateAcl(acl, length.into(), ACL_REVISION) })?;
        let head = made.head();
        // SAFETY: memory for a descriptor.
        check(unsafe { RtlCreateSecurityDescriptor(head, SECURITY_DESCRIPTOR_REVISION) })?;
        // SAFETY: a descriptor, and a SID that lives as long as it.
        check(unsafe { RtlSetOwnerSecurityDescriptor(head, owner, false) })?;
        // SAFETY: as above.
        check(unsafe { RtlSetGroupSecurityDescriptor(head, owner, false) })?;
        // SAFETY: a descriptor, and a list that lives as long as it.
        check(unsafe { RtlSetDaclSecurityDescriptor(head, true, acl, false) })?;
        Ok(made)
    }

    /// IRQL: <= APC_LEVEL. Lets whoever has this SID have this access, besides what else he has.
    ///
    /// Errors: `STATUS_INVALID_PARAMETER` if it is no SID, `STATUS_ALLOTTED_SPACE_EXCEEDED` if there
    /// was room for fewer entries, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn allow(&mut self, tag: Tag, who: &[u8], access: u32) -> Result<()> {
        let mut who = sid(tag, who)?;
        let who: PSID = who.as_mut_ptr().cast();
        // SAFETY: a list, and a SID, which is copied into it.
        check(unsafe { RtlAddAccessAllowedAce(self.list(), ACL_REVISION, access, who) })
    }

    fn head(&mut self) -> *mut c_void {
        (&raw mut *self.head).cast()
    }

    fn list(&mut self) -> *mut ACL {
        self.list.as_mut_ptr().cast()
    }

    /// The descriptor to hand to NT, which only reads it.
    pub(crate) fn raw(&self) -> *mut c_void {
        (&raw const *self.head).cast_mut().cast()
    }
}

/// A copy of a SID that is aligned as NT wants it; fails for bytes that are none.
fn sid(tag: Tag, bytes: &[u8]) -> Result<PoolSlice<u32>> {
    let malformed = NtError(STATUS_INVALID_PARAMETER);
    let count = bytes.get(1).copied().map(usize::from).ok_or(malformed)?;
    if bytes.first() != Some(&1) || bytes.len() != 8 + 4 * count || bytes.len() > MAX_SID {
        return Err(malformed);
    }
    let mut copy = PoolSlice::filled(tag, bytes.len() / 4, 0)?;
    for (to, from) in copy.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *to = u32::from_le_bytes(*from);
    }
    Ok(copy)
}
