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
use crate::kernel;
use crate::thread::{self, LockKind};
use crate::verifier;
use crate::verifier::lock_order::Lock;
use crate::verifier::locks::{self, Released};

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
        locks::taken(lock_at(address), former_irql);
    }

    /// Lets the next one have the mutex.
    ///
    /// # Safety
    /// The mutex is held, and alive.
    unsafe fn give_back(&self) {
        self.owner.store(std::ptr::null_mut(), Ordering::Relaxed);
        if self.count.fetch_add(1, Ordering::Release) < 0 {
            // SAFETY: somebody waits, so the mutex is alive until the event was signalled.
            if let Some(event) = unsafe { Header::at(self.event) } {
                kernel::state().dispatcher.signal(event);
            }
        }
    }
}

fn me() -> *mut c_void {
    thread::current_thread().address() as *mut c_void
}

fn lock_at(address: usize) -> Lock {
    Lock {
        address,
        kind: LockKind::FastMutex,
    }
}

/// Releases a mutex that its thread left.
///
/// # Safety
/// `address` is that of a fast mutex that is held, and that was not freed since it was taken.
pub(crate) unsafe fn force_release(address: usize) {
    // SAFETY: a fast mutex by contract.
    let parts = unsafe { Parts::of(address as *mut FAST_MUTEX) };
    // SAFETY: held by contract.
    unsafe { parts.give_back() };
}

/// Forgets what is known of a mutex whose event is initialised: ExInitializeFastMutex, an inline
/// function of the WDK's headers, does it with the event that lies in the mutex.
pub(crate) fn event_initialized(event: usize) {
    let mutex = event.wrapping_sub(std::mem::offset_of!(FAST_MUTEX, Event));
    if !verifier::is_off()
        && let Some(state) = kernel::running()
    {
        state.locks.forget_fast_mutex(mutex);
    }
}

nt! {
    /// Raises the IRQL to APC_LEVEL and takes the mutex; waits for it without limit.
    simplified = "holds APCs off by the IRQL only; there are none";
    max_irql = APC_LEVEL;
    pub unsafe fn ExAcquireFastMutex(mutex: *mut FAST_MUTEX) {
        let address = mutex as usize;
        // SAFETY: the caller passes a fast mutex.
        let parts = unsafe { Parts::of(mutex) };
        // SAFETY: as above; the event is a part of it.
        let Some(event) = (unsafe { Header::at(parts.event) }) else {
            return;
        };
        let lock = lock_at(address);
        if parts.owner.load(Ordering::Relaxed) == me() {
            locks::report_recursion(lock);
            locks::taken_in_name_only(lock);
            return;
        }
        locks::before_taking(lock);
        let former = irql::set(APC_LEVEL.max(irql::current()));
        // The count is 1 when the mutex is free; each thread that comes takes one off, and waits
        // if it was not the first. The release hands over by signalling the event.
        let is_free = parts.count.fetch_sub(1, Ordering::Acquire) == 1;
        let wait = || {
            let thread = me() as usize;
            kernel::state().dispatcher.wait(&[event], false, Limit::Never, thread);
        };
        if is_free || locks::waiting_for(lock, wait) {
            parts.own(address, former);
        } else {
            parts.count.fetch_add(1, Ordering::Relaxed);
            irql::set(former);
            locks::taken_in_name_only(lock);
        }
    }

    /// Takes the mutex if it is free; the IRQL is then APC_LEVEL.
    fails = false;
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
        match locks::release(lock_at(address)) {
            Released::Held(held) if held.again => {
                irql::set(held.former_irql.min(irql::current()));
                return;
            }
            Released::Held(_) => {}
            Released::OfAnother => {
                // SAFETY: the mutex is held, by another thread.
                return unsafe { parts.give_back() };
            }
            Released::Free => return,
        }
        // SAFETY: read by the owner, before it gives the mutex away.
        let former = unsafe { parts.old_irql.read() };
        // SAFETY: held until here.
        unsafe { parts.give_back() };
        let former = u8::try_from(former).unwrap_or(APC_LEVEL);
        locks::check_lowering(former);
        irql::set(former);
    }
}
