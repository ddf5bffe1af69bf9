// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool as Rust's allocator.

use core::alloc::{GlobalAlloc, Layout};

use fltport_nt::bindings::ExFreePoolWithTag;

use crate::nt::ExAllocatePoolWithTag;

const TAG: u32 = u32::from_le_bytes(*b"WFlt");
/// What the pool aligns to.
const ALIGNMENT: usize = 16;

struct Pool;

// SAFETY: the pool gives aligned memory of its own to each caller, from any thread, and takes it
// back by its address; null is how both say that there is none.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT {
            return core::ptr::null_mut();
        }
        // SAFETY: takes numbers; 0 is NonPagedPool.
        unsafe { ExAllocatePoolWithTag(0, layout.size(), TAG) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: allocated above with this tag.
        unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
    }
}

#[global_allocator]
static POOL: Pool = Pool;
