// SPDX-License-Identifier: MIT OR Apache-2.0
//! UNICODE_STRING: a counted string of at most 65,534 bytes.

use crate::bindings::{RtlUpcaseUnicodeChar, STATUS_INVALID_PARAMETER, UNICODE_STRING};
use crate::status::{NtError, Result};
use core::marker::PhantomData;

/// A UNICODE_STRING that borrows its text.
#[derive(Clone, Copy)]
pub struct UnicodeString<'a> {
    raw: UNICODE_STRING,
    text: PhantomData<&'a [u16]>,
}

impl<'a> UnicodeString<'a> {
    /// IRQL: any. Fails with `STATUS_INVALID_PARAMETER` if the text is longer than a counted string
    /// can be.
    pub fn new(text: &'a [u16]) -> Result<Self> {
        let bytes = u16::try_from(text.len() * 2).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        let raw = UNICODE_STRING {
            Length: bytes,
            MaximumLength: bytes,
            Buffer: text.as_ptr().cast_mut(),
        };
        Ok(UnicodeString {
            raw,
            text: PhantomData,
        })
    }

    /// The structure to hand to NT, which only reads it.
    pub fn raw(&self) -> &UNICODE_STRING {
        &self.raw
    }
}

/// IRQL: any (<= APC_LEVEL if the text is pageable). The text of a string that NT gave; `None` for
/// a null pointer or a null buffer.
///
/// # Safety
/// `string` is null or points to a valid UNICODE_STRING whose buffer stays unchanged and mapped for
/// `'a`.
pub unsafe fn units_of<'a>(string: *const UNICODE_STRING) -> Option<&'a [u16]> {
    // SAFETY: null or valid, as the caller vouches.
    let string = unsafe { string.as_ref() }?;
    if string.Buffer.is_null() {
        return None;
    }
    // SAFETY: a valid UNICODE_STRING's buffer holds Length bytes.
    Some(unsafe { core::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) })
}

/// IRQL: PASSIVE_LEVEL. One UTF-16 unit in upper case, by NT's table.
pub fn upcase(unit: u16) -> u16 {
    // SAFETY: takes and returns a number; callable at PASSIVE_LEVEL, as our docs demand.
    unsafe { RtlUpcaseUnicodeChar(unit) }
}

/// UTF-16 of an ASCII literal, at compile time.
#[macro_export]
macro_rules! utf16 {
    ($text:expr) => {{
        const TEXT: &str = $text;
        const UNITS: [u16; TEXT.len()] = {
            let bytes = TEXT.as_bytes();
            let mut units = [0; TEXT.len()];
            let mut i = 0;
            while i < bytes.len() {
                assert!(bytes[i] < 0x80, "only ASCII");
                units[i] = bytes[i] as u16;
                i += 1;
            }
            units
        };
        &UNITS
    }};
}
