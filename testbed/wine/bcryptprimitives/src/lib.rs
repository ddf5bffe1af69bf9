// SPDX-License-Identifier: MIT OR Apache-2.0
//! bcryptprimitives.dll for a Wine that has none.
//!
//! Rust's standard library takes its random numbers from this DLL's `ProcessPrng`; newer Wine has
//! it, and without it no Rust program starts. Here advapi32.dll gives the numbers. Nothing here may
//! need random numbers of the standard library, or the DLL would import itself.
//!
//! Elsewhere than on Windows the library is empty.
#![cfg(windows)]

use windows_sys::Win32::Security::Authentication::Identity::RtlGenRandom;
use windows_sys::core::BOOL;

/// Fills `length` bytes at `data` with random numbers; 1 if that was possible.
///
/// # Safety
/// `data` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn ProcessPrng(data: *mut u8, length: usize) -> BOOL {
    let (mut at, mut rest) = (data, length);
    while rest > 0 {
        let now = u32::try_from(rest).unwrap_or(u32::MAX);
        // SAFETY: `now` is at most what is left of the caller's bytes.
        if !unsafe { RtlGenRandom(at.cast(), now) } {
            return 0;
        }
        // SAFETY: `now` is at most what is left of the caller's bytes.
        at = unsafe { at.add(now as usize) };
        rest -= now as usize;
    }
    1
}
