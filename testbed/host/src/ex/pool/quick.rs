// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool without the verifier: the memory of the C library, and no account of it.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::{AllocationRequest, GRANULE, POOL_FLAG_UNINITIALIZED};

/// As NT aligns it: to a page if it is as long, to a line of the cache where that is asked for.
pub(super) fn allocate(request: &AllocationRequest) -> Option<NonNull<u8>> {
    let size = request.size.max(1);
    let memory = match request.alignment() {
        // What the C library aligns everything to on x64.
        // SAFETY: a size above zero.
        GRANULE => unsafe { libc::malloc(size) },
        alignment => aligned(alignment, size),
    };
    let memory = NonNull::new(memory.cast::<u8>())?;
    if request.flags & POOL_FLAG_UNINITIALIZED == 0 {
        // SAFETY: so many bytes were just allocated.
        unsafe { memory.write_bytes(0, size) };
    }
    Some(memory)
}

fn aligned(alignment: usize, size: usize) -> *mut c_void {
    let mut memory = std::ptr::null_mut();
    // SAFETY: a valid place, and an alignment that is a power of two and a multiple of a pointer's.
    let error = unsafe { libc::posix_memalign(&raw mut memory, alignment, size) };
    if error == 0 {
        memory
    } else {
        std::ptr::null_mut()
    }
}

/// Frees what [`allocate`] has allocated.
///
/// # Safety
/// It has, and nobody uses it any more.
pub(super) unsafe fn free(memory: *mut c_void) {
    // SAFETY: from one of the functions above, by contract.
    unsafe { libc::free(memory) };
}
