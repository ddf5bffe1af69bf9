// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spin locks. The word in the driver's memory holds the owner's identity, so that a thread that
//! would wait for itself is found instead of hanging.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock;
use crate::entry::nt;
use crate::irql::{self, DISPATCH_LEVEL, HIGH_LEVEL};
use crate::kernel;
use crate::sched;
use crate::sim;
use crate::thread::{self, Held, LockKind};
use crate::verifier::lock_order::Lock;
use crate::verifier::locks::{self, Released};
use crate::verifier::{self, Report, Rule};

/// The lock word.
///
/// # Safety
/// `lock` points to a live, aligned spin lock.
unsafe fn word<'a>(lock: *mut usize) -> &'a AtomicUsize {
    // SAFETY: live and aligned by contract; all access goes through this function.
    unsafe { AtomicUsize::from_ptr(lock) }
}

fn lock_at(address: usize) -> Lock {
    Lock {
        address,
        kind: LockKind::SpinLock,
    }
}

fn acquire(address: usize, word: &AtomicUsize, former_irql: u8) {
    if verifier::is_off() {
        return quick::acquire(word);
    }
    let lock = lock_at(address);
    let me = thread::identity();
    if word.load(Ordering::Relaxed) == me {
        locks::report_recursion(lock);
        locks::taken_in_name_only(lock);
        return;
    }
    locks::before_taking(lock);
    let take = || {
        word.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    };
    let mut waits_for_nobody = false;
    let spin = || {
        let mut patience = Patience::new(address);
        while !take() {
            waits_for_nobody = !patience.is_left();
            if waits_for_nobody {
                break;
            }
            sched::pause();
        }
    };
    if !take() && !locks::waiting_for(lock, spin) {
        return locks::taken_in_name_only(lock);
    }
    if waits_for_nobody {
        report_not_initialized(lock, word.swap(me, Ordering::Acquire));
    }
    locks::taken(lock, former_irql);
}

/// The same without an account, as NT has it.
mod quick {
    use super::{AtomicUsize, Ordering, sched};

    /// Turns of a spin before other threads are let go first: the holder may have lost its real
    /// processor, which does not happen on NT.
    const SPINS: u32 = 128;

    #[inline]
    pub(super) fn acquire(word: &AtomicUsize) {
        if !take(word) {
            spin(word);
        }
    }

    #[inline]
    fn take(word: &AtomicUsize) -> bool {
        word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn spin(word: &AtomicUsize) {
        let mut turns = 0;
        while word.load(Ordering::Relaxed) != 0 || !take(word) {
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop();
            } else {
                sched::pause();
            }
        }
    }
}

/// How long a thread spins for a lock that no thread holds: one that was never initialised, or
/// was overwritten.
struct Patience {
    address: usize,
    turns: u32,
    /// Since when nobody is seen to hold the lock, in 100 ns.
    since: u64,
}

impl Patience {
    /// A holder is not on the account yet for a moment after it took the lock. So many turns of
    /// others, and as much time as a hang takes unless time is virtual, are longer than that.
    const TURNS: u32 = 20_000;

    fn new(address: usize) -> Patience {
        Patience {
            address,
            turns: 0,
            since: clock::unbiased_interrupt_time(),
        }
    }

    fn is_left(&mut self) -> bool {
        self.turns += 1;
        if !self.turns.is_multiple_of(Patience::TURNS) {
            return true;
        }
        let Some(state) = kernel::running() else {
            return true;
        };
        let now = clock::unbiased_interrupt_time();
        if state.locks.holder(self.address).is_some() {
            self.since = now;
            return true;
        }
        let limit = state.hang_limit.load(Ordering::Relaxed);
        !sim::is_simulated() && now.saturating_sub(self.since) < limit
    }
}

fn report_not_initialized(lock: Lock, value: usize) {
    Report::new(Rule::ObjectNotInitialized)
        .expected(format!("{} was initialised", locks::named(lock)))
        .found(format!("{value:#x} in it, and no thread that holds it"))
        .detail(
            "call KeInitializeSpinLock before the first use, and write nothing else there; on NT \
             the processor would spin for ever; here the thread takes the lock",
        )
        .file();
}

/// Releases a spin lock; what was known of it, if the thread held it, otherwise a report.
fn release(address: usize, word: &AtomicUsize) -> Option<Held> {
    match locks::release(lock_at(address)) {
        Released::Held(held) => {
            if !held.again {
                word.store(0, Ordering::Release);
            }
            Some(held)
        }
        // As on NT, where the lock does not know who took it.
        Released::OfAnother => {
            word.store(0, Ordering::Release);
            None
        }
        Released::Free => None,
    }
}

/// Releases a lock that its thread left.
///
/// # Safety
/// `address` is that of a spin lock that is held, and that was not freed since it was taken.
pub(crate) unsafe fn force_release(address: usize) {
    // SAFETY: a spin lock by contract.
    unsafe { word(address as *mut usize) }.store(0, Ordering::Release);
}

/// Goes back to the IRQL from before a lock.
fn lower_to(irql: u8, released: Held) {
    let former = irql::current();
    if irql > former {
        Report::new(Rule::IrqlWrongDirection)
            .expected(format!(
                "the IRQL from before the lock, <= {}",
                irql::name(former)
            ))
            .found(irql::name(irql))
            .file();
    } else if !released.again {
        locks::check_restored_irql(released, irql);
        locks::check_lowering(irql);
    }
    irql::set(irql);
}

nt! {
    /// Makes a free spin lock.
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeInitializeSpinLock(lock: *mut usize) {
        // Of a lock that is held there is a report, and it is free now, as on NT.
        locks::initialized(lock_at(lock as usize));
        // SAFETY: the caller passes memory for a spin lock.
        unsafe { word(lock) }.store(0, Ordering::Release);
    }

    /// Raises the IRQL to DISPATCH_LEVEL and takes the lock; returns the former IRQL.
    simplified = "who spins lets other threads run; the host may preempt the holder";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeAcquireSpinLockRaiseToDpc(lock: *mut usize) -> u8 {
        let former = irql::set(DISPATCH_LEVEL);
        // SAFETY: the caller passes a spin lock.
        acquire(lock as usize, unsafe { word(lock) }, former);
        former
    }

    /// Releases the lock and lowers the IRQL to what it was.
    min_irql = DISPATCH_LEVEL;
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeReleaseSpinLock(lock: *mut usize, irql: u8) {
        if verifier::is_off() {
            // SAFETY: the caller passes a spin lock that it holds.
            unsafe { word(lock) }.store(0, Ordering::Release);
            irql::set(irql);
            return;
        }
        // SAFETY: the caller passes a spin lock.
        if let Some(released) = release(lock as usize, unsafe { word(lock) }) {
            lower_to(irql, released);
        }
    }

    /// Takes the lock at DISPATCH_LEVEL.
    simplified = "who spins lets other threads run; the host may preempt the holder";
    min_irql = DISPATCH_LEVEL;
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeAcquireSpinLockAtDpcLevel(lock: *mut usize) {
        // SAFETY: the caller passes a spin lock.
        acquire(lock as usize, unsafe { word(lock) }, irql::current());
    }

    /// Releases a lock taken at DISPATCH_LEVEL.
    min_irql = DISPATCH_LEVEL;
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeReleaseSpinLockFromDpcLevel(lock: *mut usize) {
        if verifier::is_off() {
            // SAFETY: the caller passes a spin lock that it holds.
            unsafe { word(lock) }.store(0, Ordering::Release);
            return;
        }
        // SAFETY: the caller passes a spin lock.
        if let Some(released) = release(lock as usize, unsafe { word(lock) }) {
            locks::pass_irql_on(released);
        }
    }
}
