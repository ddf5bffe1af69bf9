// SPDX-License-Identifier: MIT OR Apache-2.0
//! NT's counted UTF-16 strings.

use crate::abi::UNICODE_STRING;

/// A UTF-16 buffer together with the UNICODE_STRING that describes it.
pub(crate) struct OwnedUnicodeString {
    buffer: Vec<u16>,
}

impl OwnedUnicodeString {
    /// Copies `units`; a zero follows them in memory, which the length does not count.
    pub(crate) fn new(units: &[u16]) -> OwnedUnicodeString {
        let longest = (usize::from(u16::MAX) - 3) / 2;
        let mut buffer: Vec<u16> = units.iter().copied().take(longest).collect();
        buffer.push(0);
        OwnedUnicodeString { buffer }
    }

    /// Encodes `text`.
    pub(crate) fn from_text(text: &str) -> OwnedUnicodeString {
        OwnedUnicodeString::new(&encode(text))
    }

    /// The descriptor; valid as long as `self` lives.
    pub(crate) fn descriptor(&self) -> UNICODE_STRING {
        let bytes = u16::try_from(self.buffer.len() * 2).unwrap_or(u16::MAX);
        UNICODE_STRING {
            Length: bytes - 2,
            MaximumLength: bytes,
            Buffer: self.buffer.as_ptr().cast_mut(),
        }
    }
}

/// UTF-8 to UTF-16.
pub(crate) fn encode(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// UTF-16 to UTF-8, with U+FFFD for what is not valid.
pub(crate) fn decode(units: &[u16]) -> String {
    String::from_utf16_lossy(units)
}

/// Copies the characters of a UNICODE_STRING; a null pointer or buffer is the empty string.
///
/// # Safety
/// `string` is null or points to a valid UNICODE_STRING.
pub(crate) unsafe fn read(string: *const UNICODE_STRING) -> Vec<u16> {
    if string.is_null() {
        return Vec::new();
    }
    // SAFETY: not null, and valid by this function's contract.
    let string = unsafe { string.read_unaligned() };
    if string.Buffer.is_null() {
        return Vec::new();
    }
    let unit = |index| {
        let unit = string.Buffer.wrapping_add(index);
        // SAFETY: a valid UNICODE_STRING's buffer holds `Length` bytes. A packed struct may hold
        // the buffer, so it can lie at an odd address.
        unsafe { unit.read_unaligned() }
    };
    (0..usize::from(string.Length / 2)).map(unit).collect()
}

/// The upper-case form of one UTF-16 unit; units without a single-unit form stay as they are.
pub(crate) fn upcase(unit: u16) -> u16 {
    let Some(character) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => u16::try_from(u32::from(single)).unwrap_or(unit),
        _ => unit,
    }
}

/// Upper-cases a string for comparisons that ignore case.
pub(crate) fn upcased(units: &[u16]) -> Vec<u16> {
    units.iter().copied().map(upcase).collect()
}
