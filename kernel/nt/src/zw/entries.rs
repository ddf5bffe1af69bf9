// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies below a registry key, one after the other. Names and data come as the registry has
//! them, which is whatever somebody has written.

use super::Key;
use crate::bindings::{
    KEY_BASIC_INFORMATION, KEY_VALUE_FULL_INFORMATION, KeyBasicInformation,
    KeyValueFullInformation, REG_DWORD, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL,
    STATUS_NO_MORE_ENTRIES, ZwEnumerateKey, ZwEnumerateValueKey,
};
use crate::ex::{PoolBox, Tag};
use crate::status::{NtError, Result, check};
use core::mem::offset_of;

/// The longest name that is read, in UTF-16 units. Names of keys have at most 255; a value whose
/// name is longer is [too long](Entry::TooLong) here.
const MAX_NAME: usize = 256;
/// Units behind the head: a name, padding, and a number.
const TAIL: usize = MAX_NAME + 8;

/// One after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A name, and of a value the number that it has, if it is one.
    Named(&'a [u16], Option<u32>),
    /// One that is longer than names are here.
    TooLong,
    /// There are no more.
    End,
}

/// KEY_BASIC_INFORMATION with room for a name.
#[repr(C)]
struct Basic {
    last_write: i64,
    title: u32,
    length: u32,
    name: [u16; MAX_NAME],
}

/// KEY_VALUE_FULL_INFORMATION with room for a name and a number.
#[repr(C)]
struct Full {
    title: u32,
    kind: u32,
    data_offset: u32,
    data_length: u32,
    name_length: u32,
    tail: [u16; TAIL],
}

const _: () = assert!(offset_of!(Basic, name) == offset_of!(KEY_BASIC_INFORMATION, Name));
const _: () = assert!(offset_of!(Full, tail) == offset_of!(KEY_VALUE_FULL_INFORMATION, Name));

/// Reads what lies below keys. It is a buffer, for many keys one after the other.
pub struct Entries {
    basic: PoolBox<Basic>,
    full: PoolBox<Full>,
}

impl Entries {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn new(tag: Tag) -> Result<Self> {
        let basic = Basic {
            last_write: 0,
            title: 0,
            length: 0,
            name: [0; MAX_NAME],
        };
        let full = Full {
            title: 0,
            kind: 0,
            data_offset: 0,
            data_length: 0,
            name_length: 0,
            tail: [0; TAIL],
        };
        Ok(Entries {
            basic: PoolBox::new(tag, basic)?,
            full: PoolBox::new(tag, full)?,
        })
    }

    /// IRQL: PASSIVE_LEVEL. The subkey with this index. While somebody else changes the key, one may
    /// be missed or come twice.
    pub fn subkey(&mut self, key: &Key, index: u32) -> Result<Entry<'_>> {
        let basic = &mut *self.basic;
        let mut needed = 0;
        // SAFETY: an open key, and a buffer of the size that is passed, laid out as
        // KEY_BASIC_INFORMATION.
        let status = unsafe {
            ZwEnumerateKey(
                key.raw(),
                index,
                KeyBasicInformation,
                (&raw mut *basic).cast(),
                size_of::<Basic>() as u32,
                &raw mut needed,
            )
        };
        match judge(status)? {
            Some(other) => Ok(other),
            None => Ok(named(&basic.name, basic.length, None)),
        }
    }

    /// IRQL: PASSIVE_LEVEL. The value with this index.
    pub fn value(&mut self, key: &Key, index: u32) -> Result<Entry<'_>> {
        let full = &mut *self.full;
        let mut needed = 0;
        // SAFETY: an open key, and a buffer of the size that is passed, laid out as
        // KEY_VALUE_FULL_INFORMATION.
        let status = unsafe {
            ZwEnumerateValueKey(
                key.raw(),
                index,
                KeyValueFullInformation,
                (&raw mut *full).cast(),
                size_of::<Full>() as u32,
                &raw mut needed,
            )
        };
        match judge(status)? {
            Some(other) => Ok(other),
            None => Ok(named(&full.tail, full.name_length, full.number())),
        }
    }
}

impl Full {
    fn number(&self) -> Option<u32> {
        if self.kind != REG_DWORD || self.data_length != 4 {
            return None;
        }
        let behind = (self.data_offset as usize).checked_sub(offset_of!(Full, tail))?;
        let low = *self.tail.get(behind / 2)?;
        let high = *self.tail.get(behind / 2 + 1)?;
        (behind % 2 == 0).then(|| u32::from(low) | u32::from(high) << 16)
    }
}

/// What a status other than success means.
fn judge(status: i32) -> Result<Option<Entry<'static>>> {
    match check(status) {
        Ok(()) => Ok(None),
        Err(NtError(STATUS_NO_MORE_ENTRIES)) => Ok(Some(Entry::End)),
        Err(NtError(STATUS_BUFFER_OVERFLOW | STATUS_BUFFER_TOO_SMALL)) => Ok(Some(Entry::TooLong)),
        Err(error) => Err(error),
    }
}

fn named(units: &[u16], bytes: u32, number: Option<u32>) -> Entry<'_> {
    match units.get(..bytes as usize / 2) {
        Some(name) if name.len() <= MAX_NAME => Entry::Named(name, number),
        _ => Entry::TooLong,
    }
}
