// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants, which drivers call mutex objects: mutexes that threads wait for as for events.
//!
//! Simplified: on NT the owner of a mutex gets no normal kernel APCs; here it does.

use super::header::{Header, kind};
use crate::abi::KMUTANT;
use crate::entry::nt;
use crate::irql::{self, DISPATCH_LEVEL, HIGH_LEVEL};
use crate::kernel;
use crate::status::STATUS_MUTANT_NOT_OWNED;
use crate::thread::{self, LockKind};
use crate::verifier::lock_order::Lock;
use crate::verifier::locks::{self, Released};

/// The mutant behind a header, as a lock.
pub(crate) fn as_lock(header: Header) -> Option<Lock> {
    (header.kind() == kind::MUTANT).then_some(Lock {
        address: header.address(),
        kind: LockKind::Mutex,
    })
}

/// Initialises a mutant in place.
///
/// # Safety
/// `mutant` points to writable memory for a mutant.
unsafe fn initialize(mutant: *mut KMUTANT, owned: bool) {
    let lock = Lock {
        address: mutant as usize,
        kind: LockKind::Mutex,
    };
    let is_held = locks::initialized(lock);
    let signal = match kernel::running() {
        // Its owner will release it, and then who waits for it gets it.
        Some(state) if is_held && !owned => state.dispatcher.state_of_mutant(lock.address),
        Some(state) => {
            let range = lock.address..lock.address + 1;
            state.dispatcher.disown_mutants(range);
            i32::from(!owned)
        }
        None => i32::from(!owned),
    };
    // SAFETY: memory for a mutant by contract, of which the header is the first part.
    unsafe { Header::initialize(mutant.cast(), kind::MUTANT, size_of::<KMUTANT>(), signal) };
    // SAFETY: initialised above.
    let header = unsafe { Header::at(mutant.cast_const().cast()) };
    if let Some(header) = header.filter(|_| owned) {
        let thread = thread::current_thread().address();
        kernel::state().dispatcher.own_mutant(header, thread);
        locks::taken(lock, irql::current());
    }
}

/// Releases a mutant that its thread left.
///
/// # Safety
/// `address` is that of a mutant that was not freed since it was taken.
pub(crate) unsafe fn force_release(address: usize) {
    // SAFETY: a mutant by contract.
    if let Some(header) = unsafe { Header::at(address as *const std::ffi::c_void) } {
        kernel::state().dispatcher.abandon_mutant(header);
    }
}

/// Gives a mutant back as often as its thread took it and left it, of more times.
///
/// # Safety
/// As for [`force_release`].
pub(crate) unsafe fn release_again(address: usize, times: u32) {
    // SAFETY: a mutant by contract.
    if let Some(header) = unsafe { Header::at(address as *const std::ffi::c_void) } {
        for _ in 0..times {
            kernel::state().dispatcher.release_mutant(header);
        }
    }
}

nt! {
    /// Initialises a mutant in place, owned by the calling thread or by nobody.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeInitializeMutant(mutant: *mut KMUTANT, owned: bool) {
        // SAFETY: the caller passes memory for a mutant.
        unsafe { initialize(mutant, owned) };
    }

    /// Initialises a mutex in place, owned by nobody.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeInitializeMutex(mutex: *mut KMUTANT, _level: u32) {
        // SAFETY: the caller passes memory for a mutex.
        unsafe { initialize(mutex, false) };
    }

    /// Gives a mutex back, once for each time it was taken; zero when it is free now. NT raises
    /// STATUS_MUTANT_NOT_OWNED in a thread that does not own it; here that is a report, and this
    /// status. A mutex that was taken at DISPATCH_LEVEL is released there, and only such a one.
    simplified = "reports where NT raises an exception: STATUS_MUTANT_NOT_OWNED, which is the \
        result then, and a mutex taken on the other side of DISPATCH_LEVEL; no priority boost";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeReleaseMutex(mutex: *mut KMUTANT, wait: bool) -> i32 {
        // SAFETY: the caller passes a mutex.
        let Some(header) = (unsafe { Header::at(mutex.cast_const().cast()) }) else {
            return 0;
        };
        let Some(lock) = as_lock(header) else {
            return 0;
        };
        if wait {
            // The caller promises to wait at once.
            super::wait::must_not_block(true);
        }
        match locks::release(lock) {
            Released::Held(held) if held.again => 0,
            Released::Held(held) => {
                locks::check_side_of_dispatch_level(held);
                kernel::state().dispatcher.release_mutant(header)
            }
            Released::OfAnother | Released::Free => STATUS_MUTANT_NOT_OWNED,
        }
    }

    /// Reads the state: 1 means free.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeReadStateMutex(mutex: *const KMUTANT) -> i32 {
        // SAFETY: the caller passes a mutex.
        unsafe { Header::at(mutex.cast()) }.map_or(0, Header::signal_state)
    }
}
