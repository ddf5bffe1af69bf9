// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection without the verifier, as NT has it: everything is in the word but who waits
//! for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ENDED, HOLDER, Rundowns};
use crate::kernel;
use crate::sched::{self, Waiter};

#[inline]
pub(super) fn acquire(word: &AtomicUsize) -> bool {
    let mut now = word.load(Ordering::Relaxed);
    while now & ENDED == 0 {
        let more = now + HOLDER;
        match word.compare_exchange_weak(now, more, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(other) => now = other,
        }
    }
    false
}

/// The memory may be gone when the last holder has counted itself off: only the address is used
/// then, to find who waits. Acquire and release: who waits sees what all holders have done.
#[inline]
pub(super) fn release(address: usize, word: &AtomicUsize) {
    if word.fetch_sub(HOLDER, Ordering::AcqRel) == ENDED + HOLDER {
        last_is_gone(address);
    }
}

/// Wakes who waits for the rundown at an address, if anybody does still.
#[cold]
pub(super) fn last_is_gone(address: usize) {
    let state = kernel::state();
    let known = state.rundowns.0.lock();
    let waiters = known.get(&address).map(|tracked| &tracked.waiters);
    waiters.into_iter().flatten().for_each(|it| sched::wake(it));
}

/// Enlisted before the end is begun, so that whoever is the last to leave finds who waits.
pub(super) fn end(rundowns: &Rundowns, address: usize, word: &AtomicUsize) {
    let waiter = Arc::new(Waiter::new());
    enlist(rundowns, address, &waiter);
    word.fetch_or(ENDED, Ordering::AcqRel);
    while word.load(Ordering::Acquire) != ENDED {
        sched::block(&waiter, None);
    }
    withdraw(rundowns, address, &waiter);
}

pub(super) fn enlist(rundowns: &Rundowns, address: usize, waiter: &Arc<Waiter>) {
    let mut known = rundowns.0.lock();
    known
        .entry(address)
        .or_default()
        .waiters
        .push(waiter.clone());
}

pub(super) fn withdraw(rundowns: &Rundowns, address: usize, waiter: &Arc<Waiter>) {
    let mut known = rundowns.0.lock();
    if let Some(tracked) = known.get_mut(&address) {
        tracked.waiters.retain(|other| !Arc::ptr_eq(other, waiter));
        if tracked.waiters.is_empty() {
            known.remove(&address);
        }
    }
}
