// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments as fltlib.dll and the I/O manager want them. All of it is pure, so that it is tested
//! wherever the tests run, and not on Windows alone.

use std::ffi::c_void;
use std::ptr::null;
use std::time::Duration;

/// A length as fltlib.dll takes it.
pub(super) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A limit as GetQueuedCompletionStatus wants it: in milliseconds, rather too long than too short,
/// and never INFINITE by accident.
pub(super) fn milliseconds(limit: Option<Duration>) -> u32 {
    limit.map_or(u32::MAX, |limit| {
        let rounded = limit.as_nanos().div_ceil(1_000_000);
        u32::try_from(rounded).map_or(u32::MAX - 1, |exact| exact.min(u32::MAX - 1))
    })
}

/// How much a get needs that had `room`, when the completion reports `transferred` bytes. That this
/// is the size needed is observed, not documented; what cannot be one is doubled.
pub(super) fn needed(transferred: usize, room: usize) -> usize {
    if transferred > room {
        transferred
    } else {
        room.saturating_mul(2)
    }
}

/// Where the words are; NULL if there are none, as fltlib.dll wants it.
pub(super) fn address(words: &[u64]) -> *const c_void {
    if words.is_empty() {
        null()
    } else {
        words.as_ptr().cast()
    }
}

/// A copy with the alignment of the largest field in any header.
pub(super) fn aligned(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        u64::from_ne_bytes(word)
    };
    bytes.chunks(8).map(word).collect()
}

/// The first `length` bytes of words.
pub(super) fn bytes_of(words: &[u64], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words
        .iter()
        .take(length.div_ceil(8))
        .flat_map(|w| w.to_ne_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_rounded_up_and_finite() {
        assert_eq!(milliseconds(None), u32::MAX, "INFINITE");
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_micros(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_millis(7))), 7);
        let close = Duration::from_millis(u64::from(u32::MAX));
        assert_eq!(milliseconds(Some(close)), u32::MAX - 1);
        assert_eq!(milliseconds(Some(Duration::MAX)), u32::MAX - 1);
    }

    #[test]
    fn a_length_that_is_too_large_is_not_cut() {
        assert_eq!(length(4096), 4096);
        assert_eq!(length(usize::MAX), u32::MAX);
    }

    #[test]
    fn a_size_that_cannot_be_is_doubled() {
        assert_eq!(needed(4096, 1024), 4096);
        assert_eq!(needed(0, 1024), 2048);
        assert_eq!(needed(1024, 1024), 2048);
    }

    #[test]
    fn no_bytes_are_at_no_address() {
        assert!(address(&aligned(b"")).is_null());
        assert!(!address(&aligned(b"x")).is_null());
    }

    #[test]
    fn words_and_bytes_are_the_same() {
        for n in 0..40_u8 {
            let bytes: Vec<u8> = (0..n).collect();
            assert_eq!(bytes_of(&aligned(&bytes), bytes.len()), bytes);
        }
    }
}
