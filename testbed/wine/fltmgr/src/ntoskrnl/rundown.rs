// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection. The word counts users in steps of two; its lowest bit says that the rundown
//! has begun. The cache-aware kind is the same word here, whatever processor it is used on.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use fltport_nt::bindings::{EX_RUNDOWN_REF, ExFreePool, POOL_TYPE};
use fltport_nt::ke::SpinLock;

use super::pool;
use crate::event::Event;

const RUN_DOWN: u64 = 1;
const USER: u64 = 2;

/// Who waits for the last user, by the address of the word.
static WAITERS: SpinLock<BTreeMap<usize, Arc<Event>>> = SpinLock::new(BTreeMap::new());

unsafe fn word<'a>(reference: *mut EX_RUNDOWN_REF) -> &'a AtomicU64 {
    // SAFETY: the caller passes initialised rundown protection, which is one aligned word.
    unsafe { AtomicU64::from_ptr(reference.cast()) }
}

pub(super) unsafe extern "system" fn initialize(reference: *mut EX_RUNDOWN_REF) {
    // SAFETY: by the function's contract.
    unsafe { word(reference) }.store(0, Ordering::Release);
}

pub(super) unsafe extern "system" fn acquire(reference: *mut EX_RUNDOWN_REF) -> u8 {
    // SAFETY: by the function's contract.
    let word = unsafe { word(reference) };
    let open = |now: u64| (now & RUN_DOWN == 0).then_some(now + USER);
    let taken = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, open);
    u8::from(taken.is_ok())
}

pub(super) unsafe extern "system" fn release(reference: *mut EX_RUNDOWN_REF) {
    let address = reference as usize;
    // SAFETY: by the function's contract.
    let left = unsafe { word(reference) }.fetch_sub(USER, Ordering::AcqRel) - USER;
    if left == RUN_DOWN {
        // The memory may be gone from here on; its address is only looked up.
        let waiter = WAITERS.lock().remove(&address);
        if let Some(waiter) = waiter {
            waiter.set();
        }
    }
}

pub(super) unsafe extern "system" fn wait(reference: *mut EX_RUNDOWN_REF) {
    let event = Arc::new(Event::new());
    WAITERS.lock().insert(reference as usize, event.clone());
    // SAFETY: by the function's contract.
    let before = unsafe { word(reference) }.fetch_or(RUN_DOWN, Ordering::AcqRel);
    if before < USER {
        let own = WAITERS.lock().remove(&(reference as usize));
        drop(own);
        return;
    }
    event.wait(None);
}

pub(super) unsafe extern "system" fn completed(reference: *mut EX_RUNDOWN_REF) {
    // SAFETY: by the function's contract.
    unsafe { word(reference) }.store(RUN_DOWN, Ordering::Release);
}

pub(super) unsafe extern "system" fn reinitialize(reference: *mut EX_RUNDOWN_REF) {
    // SAFETY: by the function's contract.
    unsafe { word(reference) }.store(0, Ordering::Release);
}

pub(super) unsafe extern "system" fn allocate_cache_aware(
    _pool: POOL_TYPE,
    tag: u32,
) -> *mut EX_RUNDOWN_REF {
    // Zeroed, it is not run down and without users. Which pool makes no difference under Wine.
    // SAFETY: takes numbers.
    unsafe { pool::allocate_pool2(0, size_cache_aware(), tag) }.cast()
}

pub(super) unsafe extern "system" fn free_cache_aware(reference: *mut EX_RUNDOWN_REF) {
    // SAFETY: the caller passes what `allocate_cache_aware` has allocated.
    unsafe { ExFreePool(reference.cast()) };
}

pub(super) extern "system" fn size_cache_aware() -> usize {
    size_of::<EX_RUNDOWN_REF>()
}

pub(super) unsafe extern "system" fn initialize_cache_aware(
    reference: *mut EX_RUNDOWN_REF,
    _size: usize,
) {
    // SAFETY: by the function's contract.
    unsafe { initialize(reference) };
}
