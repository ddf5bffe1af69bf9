// SPDX-License-Identifier: MIT OR Apache-2.0
//! Security identifiers: a revision, a count, an authority of six bytes, and sub-authorities.

use std::ffi::c_void;

use crate::abi::PSID;
use crate::entry::nt;
use crate::irql::{APC_LEVEL, HIGH_LEVEL};

/// The bytes before the sub-authorities.
const HEAD: usize = 8;
/// As many sub-authorities as a SID may have.
const MOST_SUB_AUTHORITIES: u8 = 15;

/// A security identifier of the hosted kernel's own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sid(Vec<u8>);

impl Sid {
    /// Builds S-1-`authority`-`subs`….
    #[must_use]
    pub fn new(authority: u8, subs: &[u32]) -> Sid {
        let count = u8::try_from(subs.len()).unwrap_or(MOST_SUB_AUTHORITIES);
        let mut bytes = vec![1, count, 0, 0, 0, 0, 0, authority];
        bytes.extend(subs.iter().flat_map(|sub| sub.to_le_bytes()));
        Sid(bytes)
    }

    /// S-1-5-18, the account of services that are part of the system.
    #[must_use]
    pub fn local_system() -> Sid {
        Sid::new(5, &[18])
    }

    /// S-1-5-32-544, the administrators.
    #[must_use]
    pub fn administrators() -> Sid {
        Sid::new(5, &[32, 544])
    }

    /// S-1-1-0, everyone.
    #[must_use]
    pub fn everyone() -> Sid {
        Sid::new(1, &[0])
    }

    /// S-1-22-1-`uid`, which is how a Unix user is written as a SID elsewhere, too.
    #[must_use]
    pub fn unix_user(uid: u32) -> Sid {
        Sid::new(22, &[1, uid])
    }

    /// The bytes as Windows lays them out.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes a SID from the start of `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Sid> {
        let (&revision, &count) = (bytes.first()?, bytes.get(1)?);
        if revision != 1 || count > MOST_SUB_AUTHORITIES {
            return None;
        }
        bytes.get(..length(count)).map(|sid| Sid(sid.to_vec()))
    }
}

impl std::fmt::Display for Sid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (head, subs) = self.0.split_at(HEAD.min(self.0.len()));
        let authority = head
            .iter()
            .skip(2)
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        write!(f, "S-1-{authority}")?;
        subs.as_chunks()
            .0
            .iter()
            .try_for_each(|sub| write!(f, "-{}", u32::from_le_bytes(*sub)))
    }
}

impl std::fmt::Debug for Sid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

fn length(sub_authorities: u8) -> usize {
    HEAD + 4 * usize::from(sub_authorities)
}

/// Copies a SID from memory; none if it is null or malformed.
///
/// # Safety
/// `sid` is null or points to a SID.
pub(crate) unsafe fn read(sid: *const c_void) -> Option<Sid> {
    if sid.is_null() {
        return None;
    }
    let start = sid.cast::<u8>();
    // SAFETY: a SID begins with two bytes of which the second counts its sub-authorities.
    let [_, count] = unsafe { start.cast::<[u8; 2]>().read() };
    if count > MOST_SUB_AUTHORITIES {
        return None;
    }
    // SAFETY: a SID is as long as its count says.
    Sid::parse(unsafe { std::slice::from_raw_parts(start, length(count)) })
}

nt! {
    /// The bytes of a SID.
    simplified = "zero for a SID that is malformed";
    max_irql = APC_LEVEL;
    pub unsafe fn RtlLengthSid(sid: PSID) -> u32 {
        // SAFETY: the caller passes a SID.
        let sid = unsafe { read(sid) };
        sid.map_or(0, |sid| u32::try_from(sid.0.len()).unwrap_or(0))
    }

    /// Whether two SIDs are the same.
    max_irql = HIGH_LEVEL;
    pub unsafe fn RtlEqualSid(first: PSID, second: PSID) -> bool {
        // SAFETY: the caller passes SIDs.
        let first = unsafe { read(first) };
        // SAFETY: as above.
        let second = unsafe { read(second) };
        first.is_some() && first == second
    }
}
