// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fast mutexes. The driver makes one with the inline function ExInitializeFastMutex: count 1, no
//! owner, a synchronization event that is not signalled.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use crate::abi::FAST_MUTEX;
use crate::entry::nt;
use crate::irql::{self, APC_LEVEL};
use crate::ke::dispatcher::Limit;
use crate::ke::header::Header;
use crate::ke::spin_lock::take_from_held;
use crate::kernel;
use crate::thread::{self, Held, LockKind};
use crate::verifier::{Report, Rule};

/// The parts of a fast mutex.
struct Parts<'a> {
    count: &'a AtomicI32,
    owner: &'a AtomicPtr<c_void>,
    event: *const c_void,
    old_irql: *mut u32,
}

impl Parts<'_> {
    /// # Safety
    /// `mutex` points to a live fast mutex.
    unsafe fn of<'a>(mutex: *mut FAST_MUTEX) -> Parts<'a> {
        // SAFETY: only the address of a field of a live struct is taken.
        let count = unsafe { &raw mut (*mutex).Count };
        // SAFETY: as above.
        let owner = unsafe { &raw mut (*mutex).Owner };
        // SAFETY: as above.
        let event = unsafe { &raw const (*mutex).Event };
        // SAFETY: as above.
        let old_irql = unsafe { &raw mut (*mutex).OldIrql };
        Parts {
            // SAFETY: aligned and live; all access goes through Parts.
            count: unsafe { AtomicI32::from_ptr(count) },
            // SAFETY: as above.
            owner: unsafe { AtomicPtr::from_ptr(owner) },
            event: event.cast(),
            old_irql,
        }
    }

    fn own(&self, address: usize, former_irql: u8) {
        self.owner.store(me(), Ordering::Relaxed);
        // SAFETY: the field is written by the owner of the mutex only, which the caller now is.
        unsafe { self.old_irql.write(u32::from(former_irql)) };
        hold(address, false);
    }
}

fn me() -> *mut c_void {
    thread::current_thread().address() as *mut c_void
}

fn hold(address: usize, again: bool) {
    let held = Held {
        address,
        kind: LockKind::FastMutex,
        again,
    };
    thread::with_context(|context| context.held.borrow_mut().push(held));
}

nt! {
    /// Raises the IRQL to APC_LEVEL and takes the mutex; waits for it without limit.
    max_irql = APC_LEVEL;
    pub unsafe fn ExAcquireFastMutex(mutex: *mut FAST_MUTEX) {
        let address = mutex as usize;
        // SAFETY: the caller passes a fast mutex.
        let parts = unsafe { Parts::of(mutex) };
        // SAFETY: as above; the event is a part of it.
        let Some(event) = (unsafe { Header::at(parts.event) }) else {
            return;
        };
        if parts.owner.load(Ordering::Relaxed) == me() {
            Report::new(Rule::LockRecursion)
                .expected("a fast mutex is taken once")
                .found(format!("the thread already holds the fast mutex at {address:#x}"))
                .detail("on NT the thread would wait for itself for ever")
                .file();
            hold(address, true);
            return;
        }
        let former = irql::set(APC_LEVEL);
        // The count is 1 when the mutex is free; each thread that comes takes one off, and waits
        // if it was not the first. The release hands over by signalling the event.
        if parts.count.fetch_sub(1, Ordering::Acquire) != 1 {
            let thread = me() as usize;
            kernel::state().dispatcher.wait(&[event], false, Limit::Never, thread);
        }
        parts.own(address, former);
    }

    /// Takes the mutex if it is free; the IRQL is then APC_LEVEL.
    max_irql = APC_LEVEL;
    pub unsafe fn ExTryToAcquireFastMutex(mutex: *mut FAST_MUTEX) -> bool {
        // SAFETY: the caller passes a fast mutex.
        let parts = unsafe { Parts::of(mutex) };
        let free = parts.count.compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            return false;
        }
        let former = irql::set(APC_LEVEL);
        parts.own(mutex as usize, former);
        true
    }

    /// Gives the mutex back and lowers the IRQL to what it was.
    min_irql = APC_LEVEL;
    max_irql = APC_LEVEL;
    pub unsafe fn ExReleaseFastMutex(mutex: *mut FAST_MUTEX) {
        let address = mutex as usize;
        // SAFETY: the caller passes a fast mutex.
        let parts = unsafe { Parts::of(mutex) };
        let Some(held) = take_from_held(address, LockKind::FastMutex) else {
            Report::new(Rule::LockNotHeld)
                .expected("the thread that took a fast mutex releases it")
                .found(format!("the thread does not hold the fast mutex at {address:#x}"))
                .file();
            return;
        };
        if held.again {
            return;
        }
        // SAFETY: read by the owner, before it gives the mutex away.
        let former = unsafe { parts.old_irql.read() };
        parts.owner.store(std::ptr::null_mut(), Ordering::Relaxed);
        if parts.count.fetch_add(1, Ordering::Release) < 0 {
            // SAFETY: somebody waits, so the mutex is alive until the event was signalled.
            if let Some(event) = unsafe { Header::at(parts.event) } {
                kernel::state().dispatcher.signal(event);
            }
        }
        irql::set(u8::try_from(former).unwrap_or(APC_LEVEL));
    }
}
