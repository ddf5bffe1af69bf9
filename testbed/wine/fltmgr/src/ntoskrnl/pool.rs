// SPDX-License-Identifier: MIT OR Apache-2.0
//! The newer allocation functions, over the older one.

use core::ffi::c_void;
use core::ptr::null_mut;

use crate::nt::ExAllocatePoolWithTag;

const POOL_FLAG_UNINITIALIZED: u64 = 0x02;

/// Which pool makes no difference under Wine.
unsafe fn allocate(size: usize, tag: u32, zero: bool) -> *mut c_void {
    if size == 0 || tag == 0 {
        return null_mut();
    }
    // SAFETY: takes numbers; 0 is NonPagedPool.
    let memory = unsafe { ExAllocatePoolWithTag(0, size, tag) };
    if zero && !memory.is_null() {
        // SAFETY: fresh memory of that size.
        unsafe { memory.cast::<u8>().write_bytes(0, size) };
    }
    memory
}

pub(super) unsafe extern "system" fn allocate_pool2(
    flags: u64,
    size: usize,
    tag: u32,
) -> *mut c_void {
    // SAFETY: as NT's callers may.
    unsafe { allocate(size, tag, flags & POOL_FLAG_UNINITIALIZED == 0) }
}

pub(super) unsafe extern "system" fn allocate_pool_zero(
    _kind: u32,
    size: usize,
    tag: u32,
) -> *mut c_void {
    // SAFETY: as NT's callers may.
    unsafe { allocate(size, tag, true) }
}
