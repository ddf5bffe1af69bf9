// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that run, as a list that NT made at one moment.
//!
//! The layout is that of SYSTEM_PROCESS_INFORMATION on x64 (winternl.h; Microsoft documents it with
//! NtQuerySystemInformation and ZwQuerySystemInformation). What that header reserves is named, in the same
//! order, by TS_SYS_PROCESS_INFORMATION in Microsoft's [MS-TSTS] 2.2.2.15.1: the parent is of that. Between two
//! entries lie the threads of the first and names, so only `NextEntryOffset` leads on.

use crate::bindings::{STATUS_INFO_LENGTH_MISMATCH, STATUS_INSUFFICIENT_RESOURCES};
use crate::ex::{PoolSlice, Tag};
use crate::linked::{SYSTEM_PROCESS_INFORMATION, ZwQuerySystemInformation};
use crate::status::{NtError, Result, check};

/// Bytes that are tried first, and at most.
const FIRST: usize = 64 * 1024;
const LIMIT: usize = 16 * 1024 * 1024;
/// Room for what starts between two attempts.
const SPARE: usize = 16 * 1024;

/// Where the fields are, in bytes from the beginning of an entry.
const THREADS: usize = 4;
const NAME_LENGTH: usize = 56;
const NAME_BUFFER: usize = 64;
const PID: usize = 80;
const PARENT: usize = 88;

/// A list of processes. In units, because the pool aligns them and names consist of them.
pub struct ProcessList(PoolSlice<u16>);

/// A process of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running<'a> {
    /// Its number; 0 for what runs when nothing does.
    pub pid: u32,
    /// The number of its parent, which may have ended; somebody else may have the number now.
    pub parent: u32,
    /// How many threads it has. One with none has not begun, or has ended.
    pub threads: u32,
    /// The name of its program's file, without directories; empty if NT has none.
    pub name: &'a [u16],
}

impl ProcessList {
    /// IRQL: PASSIVE_LEVEL. The processes at this moment. Fails with `STATUS_INSUFFICIENT_RESOURCES`
    /// without memory, and if the list is longer than 16 MiB.
    pub fn take(tag: Tag) -> Result<Self> {
        let mut size = FIRST;
        while size <= LIMIT {
            let mut units = PoolSlice::filled(tag, size / 2, 0_u16)?;
            let mut needed = 0;
            // SAFETY: a buffer of the size that is passed, and a place for the length.
            let status = unsafe {
                ZwQuerySystemInformation(
                    SYSTEM_PROCESS_INFORMATION,
                    units.as_mut_ptr().cast(),
                    size as u32,
                    &raw mut needed,
                )
            };
            if status != STATUS_INFO_LENGTH_MISMATCH {
                return check(status).map(|()| ProcessList(units));
            }
            let wanted = (needed as usize).saturating_add(SPARE) & !7;
            size = wanted.max(size * 2);
        }
        Err(NtError(STATUS_INSUFFICIENT_RESOURCES))
    }

    /// IRQL: any. One after the other. It ends early where an entry would reach beyond the list.
    pub fn iter(&self) -> impl Iterator<Item = Running<'_>> {
        let mut next = Some(0);
        core::iter::from_fn(move || {
            let at = next.take()?;
            let found = self.entry(at)?;
            // Forward only, so it ends.
            let step = self.u32(at)? as usize;
            next = at.checked_add(step).filter(|_| step != 0);
            Some(found)
        })
    }

    fn entry(&self, at: usize) -> Option<Running<'_>> {
        Some(Running {
            pid: self.u32(at.checked_add(PID)?)?,
            parent: self.u32(at.checked_add(PARENT)?)?,
            threads: self.u32(at.checked_add(THREADS)?)?,
            name: self.name(at).unwrap_or(&[]),
        })
    }

    /// The name, if it lies in the list.
    fn name(&self, entry: usize) -> Option<&[u16]> {
        let length = self.u16(entry.checked_add(NAME_LENGTH)?)?;
        let buffer = self.u64(entry.checked_add(NAME_BUFFER)?)? as usize;
        let offset = buffer.checked_sub(self.0.as_ptr() as usize)?;
        let first = offset.is_multiple_of(2).then_some(offset / 2)?;
        self.0.get(first..)?.get(..usize::from(length) / 2)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let place = at.is_multiple_of(2).then_some(at / 2)?;
        self.0.get(place).copied()
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let (low, high) = (self.u16(at)?, self.u16(at.checked_add(2)?)?);
        Some(u32::from(low) | u32::from(high) << 16)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let (low, high) = (self.u32(at)?, self.u32(at.checked_add(4)?)?);
        Some(u64::from(low) | u64::from(high) << 32)
    }
}
