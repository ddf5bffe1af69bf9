// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spin locks. The word in the driver's memory holds the owner's thread id, so that a thread
//! that would wait for itself is found instead of hanging.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::entry::nt;
use crate::irql::{self, DISPATCH_LEVEL, HIGH_LEVEL};
use crate::sched;
use crate::thread::{self, Held, LockKind};
use crate::verifier::{Report, Rule};

/// The lock word.
///
/// # Safety
/// `lock` points to a live, aligned spin lock.
unsafe fn word<'a>(lock: *mut usize) -> &'a AtomicUsize {
    // SAFETY: live and aligned by contract; all access goes through this function.
    unsafe { AtomicUsize::from_ptr(lock) }
}

fn owner_id() -> usize {
    usize::try_from(thread::native_id()).unwrap_or(usize::MAX)
}

fn acquire(address: usize, word: &AtomicUsize) {
    let me = owner_id();
    let again = word.load(Ordering::Relaxed) == me;
    if again {
        Report::new(Rule::LockRecursion)
            .expected("a spin lock is taken once")
            .found(format!(
                "the thread already holds the spin lock at {address:#x}"
            ))
            .detail("on NT the processor would spin for ever")
            .file();
    } else {
        while word
            .compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            sched::pause();
        }
    }
    let held = Held {
        address,
        kind: LockKind::SpinLock,
        again,
    };
    thread::with_context(|context| context.held.borrow_mut().push(held));
}

/// Releases a spin lock; false, and a report, if the thread does not hold it.
fn release(address: usize, word: &AtomicUsize) -> bool {
    let released = take_from_held(address, LockKind::SpinLock);
    match released {
        Some(held) => {
            if !held.again {
                word.store(0, Ordering::Release);
            }
            true
        }
        None => {
            Report::new(Rule::LockNotHeld)
                .expected("the thread that took a spin lock releases it")
                .found(match word.load(Ordering::Relaxed) {
                    0 => format!("nobody holds the spin lock at {address:#x}"),
                    owner => format!("thread {owner} holds the spin lock at {address:#x}"),
                })
                .file();
            false
        }
    }
}

/// Takes the newest entry of this lock off the list of locks held.
pub(crate) fn take_from_held(address: usize, kind: LockKind) -> Option<Held> {
    thread::with_context(|context| {
        let mut held = context.held.borrow_mut();
        let index = held
            .iter()
            .rposition(|lock| lock.address == address && lock.kind == kind)?;
        Some(held.remove(index))
    })
}

/// Reports a new IRQL above the present one where the present one should be left.
fn lower_to(irql: u8) {
    let former = irql::set(irql);
    if irql > former {
        Report::new(Rule::IrqlWrongDirection)
            .expected(format!(
                "the IRQL from before the lock, <= {}",
                irql::name(former)
            ))
            .found(irql::name(irql))
            .file();
    }
}

nt! {
    /// Makes a free spin lock.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeInitializeSpinLock(lock: *mut usize) {
        // SAFETY: the caller passes memory for a spin lock.
        unsafe { word(lock) }.store(0, Ordering::Release);
    }

    /// Raises the IRQL to DISPATCH_LEVEL and takes the lock; returns the former IRQL.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8 {
        let former = irql::set(DISPATCH_LEVEL);
        // SAFETY: the caller passes a spin lock.
        acquire(lock as usize, unsafe { word(lock) });
        former
    }

    /// Releases the lock and lowers the IRQL to what it was.
    min_irql = DISPATCH_LEVEL;
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeReleaseSpinLock(lock: *mut usize, irql: u8) {
        // SAFETY: the caller passes a spin lock.
        if release(lock as usize, unsafe { word(lock) }) {
            lower_to(irql);
        }
    }

    /// Takes the lock at DISPATCH_LEVEL.
    min_irql = DISPATCH_LEVEL;
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize) {
        // SAFETY: the caller passes a spin lock.
        acquire(lock as usize, unsafe { word(lock) });
    }

    /// Releases a lock taken at DISPATCH_LEVEL.
    min_irql = DISPATCH_LEVEL;
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize) {
        // SAFETY: the caller passes a spin lock.
        release(lock as usize, unsafe { word(lock) });
    }
}
