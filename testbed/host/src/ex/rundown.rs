// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection: who holds it keeps an object from going away; who ends it waits for them.
//!
//! The word counts holders in steps of two; the lowest bit says that the rundown has begun, so
//! that nobody can acquire it any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::abi::EX_RUNDOWN_REF;
use crate::entry::nt;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL};
use crate::kernel;
use crate::sched::{self, Waiter};
use crate::verifier::{Report, Rule};

const ENDED: usize = 1;
const HOLDER: usize = 2;

/// Threads that wait for a rundown to complete, by the address of its word.
#[derive(Default)]
pub(crate) struct RundownWaits(Mutex<HashMap<usize, Vec<Arc<Waiter>>>>);

impl RundownWaits {
    fn wait(&self, address: usize, word: &AtomicUsize) {
        let waiter = Arc::new(Waiter::new());
        self.0
            .lock()
            .entry(address)
            .or_default()
            .push(waiter.clone());
        // The last holder looks for waiters after it has let go, and this thread looks for
        // holders after it has enlisted: one of the two sees the other.
        while word.load(Ordering::SeqCst) != ENDED {
            sched::block(&waiter, None);
        }
        let mut waits = self.0.lock();
        if let Some(waiters) = waits.get_mut(&address) {
            waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
            if waiters.is_empty() {
                waits.remove(&address);
            }
        }
    }

    fn complete(&self, address: usize) {
        if let Some(waiters) = self.0.lock().get(&address) {
            waiters.iter().for_each(|waiter| sched::wake(waiter));
        }
    }
}

/// # Safety
/// `rundown` points to live rundown protection.
unsafe fn word<'a>(rundown: *mut EX_RUNDOWN_REF) -> &'a AtomicUsize {
    // SAFETY: live and aligned by contract, and one word long; all access goes through here.
    unsafe { AtomicUsize::from_ptr(rundown.cast()) }
}

fn misuse(expected: &str, found: &str) {
    Report::new(Rule::RundownMisuse)
        .expected(expected)
        .found(found)
        .file();
}

nt! {
    /// Makes rundown protection that can be acquired.
    max_irql = HIGH_LEVEL;
    pub unsafe fn ExInitializeRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes memory for it.
        unsafe { word(rundown) }.store(0, Ordering::SeqCst);
    }

    /// Acquires it; false once the rundown has begun.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExAcquireRundownProtection(rundown: *mut EX_RUNDOWN_REF) -> bool {
        // SAFETY: the caller passes rundown protection.
        let word = unsafe { word(rundown) };
        word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| {
            (value & ENDED == 0).then_some(value + HOLDER)
        })
        .is_ok()
    }

    /// Gives it back.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExReleaseRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection that it holds.
        let word = unsafe { word(rundown) };
        let former = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| {
            value.checked_sub(HOLDER)
        });
        match former {
            // The memory may be gone from here on; only its address is used.
            Ok(former) if former == HOLDER | ENDED => {
                kernel::state().rundown_waits.complete(rundown as usize);
            }
            Ok(_) => {}
            Err(_) => misuse("an ExAcquireRundownProtection before", "nobody holds it"),
        }
    }

    /// Lets nobody acquire it any more and waits, without limit, until nobody holds it.
    max_irql = APC_LEVEL;
    pub unsafe fn ExWaitForRundownProtectionRelease(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection.
        let word = unsafe { word(rundown) };
        if word.fetch_or(ENDED, Ordering::SeqCst) != 0 {
            kernel::state().rundown_waits.wait(rundown as usize, word);
        }
    }

    /// Makes it acquirable again after a completed rundown.
    max_irql = APC_LEVEL;
    pub unsafe fn ExReInitializeRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection.
        let former = unsafe { word(rundown) }.swap(0, Ordering::SeqCst);
        if former != ENDED {
            misuse("a completed rundown", "a rundown that was not waited for");
        }
    }

    /// Says that the rundown is over, for good.
    max_irql = HIGH_LEVEL;
    pub unsafe fn ExRundownCompleted(rundown: *mut EX_RUNDOWN_REF) {
        // SAFETY: the caller passes rundown protection.
        let former = unsafe { word(rundown) }.swap(ENDED, Ordering::SeqCst);
        if former & !ENDED != 0 {
            misuse("nobody holds it", "somebody still holds it");
        }
    }
}
