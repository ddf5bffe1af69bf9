// SPDX-License-Identifier: MIT OR Apache-2.0
//! The run-time library: counted strings.

use crate::abi::{PCWSTR, UNICODE_STRING};
use crate::entry::nt;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use crate::unicode;

/// The longest string that a UNICODE_STRING can describe with its zero, in units.
const MOST_UNITS: usize = (u16::MAX as usize - 3) / 2;

/// The units before the zero.
///
/// # Safety
/// `string` points to UTF-16 that ends with a zero.
unsafe fn length(string: PCWSTR) -> usize {
    let mut length = 0;
    loop {
        // SAFETY: the zero was not found yet, so this unit is within the string.
        let place = unsafe { string.add(length) };
        // SAFETY: as above.
        if unsafe { place.read() } == 0 || length == MOST_UNITS {
            return length;
        }
        length += 1;
    }
}

nt! {
    /// Describes a string that ends with a zero; null gives the empty string.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn RtlInitUnicodeString(destination: *mut UNICODE_STRING, source: PCWSTR) {
        let mut string = UNICODE_STRING::default();
        if !source.is_null() {
            // SAFETY: the caller passes a string that ends with a zero.
            let units = unsafe { length(source) };
            let bytes = u16::try_from(units * 2).unwrap_or(u16::MAX - 3);
            string = UNICODE_STRING {
                Length: bytes,
                MaximumLength: bytes + 2,
                Buffer: source.cast_mut(),
            };
        }
        // SAFETY: the caller passes memory for a descriptor.
        unsafe { destination.write(string) };
    }

    /// Compares two strings: negative, zero or positive.
    simplified = "upper case by Unicode's rules, not by the table of a Windows version";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn RtlCompareUnicodeString(
        first: *const UNICODE_STRING,
        second: *const UNICODE_STRING,
        ignore_case: bool,
    ) -> i32 {
        // SAFETY: the caller passes strings.
        let first = unsafe { unicode::read(first) };
        // SAFETY: as above.
        let second = unsafe { unicode::read(second) };
        let order = if ignore_case {
            unicode::upcased(&first).cmp(&unicode::upcased(&second))
        } else {
            first.cmp(&second)
        };
        order as i32
    }

    /// The upper-case form of a character.
    simplified = "upper case by Unicode's rules, not by the table of a Windows version";
    max_irql = APC_LEVEL;
    pub unsafe fn RtlUpcaseUnicodeChar(character: u16) -> u16 {
        unicode::upcase(character)
    }
}
