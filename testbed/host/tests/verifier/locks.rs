// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spin locks, fast mutexes and mutexes: their owners, their IRQL, their end.

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::Rule;
use nt_host::irql::{self, APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use std::ffi::c_void;
use std::ptr::null;
use std::sync::atomic::Ordering;

use crate::bad::{compare, run};
use crate::lock_order::{ARRIVED, first_then_second};
use crate::support::thread::{Routine, join, start_thread};
use crate::support::*;

/// The locks of the driver, initialised by each test. They lie where a driver keeps its globals.
pub(crate) static SPIN_LOCKS: [Place<usize>; 3] = [const { Place::new() }; 3];
pub(crate) static FAST_MUTEXES: [Place<FAST_MUTEX>; 2] = [const { Place::new() }; 2];
pub(crate) static MUTEX: Place<KMUTANT> = Place::new();

/// A global variable that only the kernel looks into.
#[repr(C, align(16))]
pub(crate) struct Place<T>(std::cell::UnsafeCell<std::mem::MaybeUninit<T>>);

// SAFETY: the content is touched by the hosted kernel only, which synchronises.
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    const fn new() -> Place<T> {
        Place(std::cell::UnsafeCell::new(std::mem::MaybeUninit::zeroed()))
    }

    pub(crate) fn get(&self) -> *mut T {
        self.0.get().cast()
    }
}

pub(crate) fn spin_lock(index: usize) -> *mut usize {
    SPIN_LOCKS[index].get()
}

pub(crate) fn fresh_spin_locks() {
    for index in 0..SPIN_LOCKS.len() {
        // SAFETY: memory for a lock.
        unsafe { KeInitializeSpinLock(spin_lock(index)) };
    }
}

pub(crate) fn fast_mutex(index: usize) -> *mut FAST_MUTEX {
    FAST_MUTEXES[index].get()
}

pub(crate) fn fresh_fast_mutexes() {
    for index in 0..FAST_MUTEXES.len() {
        let mutex = fast_mutex(index);
        let free = FAST_MUTEX {
            Count: 1,
            ..Default::default()
        };
        // SAFETY: memory for a mutex that nobody uses now.
        unsafe { mutex.write(free) };
        // SAFETY: as above.
        let event = unsafe { &raw mut (*mutex).Event };
        // SAFETY: as above.
        unsafe { KeInitializeEvent(event, SynchronizationEvent, false) };
    }
}

pub(crate) fn fresh_mutex() {
    // SAFETY: memory for a mutex.
    unsafe { KeInitializeMutex(MUTEX.get(), 0) };
}

pub(crate) fn take(lock: *mut usize) -> u8 {
    // SAFETY: an initialised spin lock.
    unsafe { KeAcquireSpinLockRaiseToDpc(lock) }
}

pub(crate) fn release(lock: *mut usize, irql: u8) {
    // SAFETY: an initialised spin lock; who holds it and the IRQL are the test's intent.
    unsafe { KeReleaseSpinLock(lock, irql) };
}

pub(crate) fn take_mutex(timeout: Option<i64>) -> NTSTATUS {
    wait(MUTEX.get().cast(), timeout)
}

pub(crate) fn release_mutex() -> i32 {
    // SAFETY: an initialised mutex.
    unsafe { KeReleaseMutex(MUTEX.get(), false) }
}

pub(crate) fn take_fast(index: usize) {
    // SAFETY: an initialised fast mutex.
    unsafe { ExAcquireFastMutex(fast_mutex(index)) };
}

pub(crate) fn release_fast(index: usize) {
    // SAFETY: an initialised fast mutex; who holds it is the test's intent.
    unsafe { ExReleaseFastMutex(fast_mutex(index)) };
}

/// Runs a routine in a system thread of the driver and waits for its end.
pub(crate) fn in_thread(routine: Routine) {
    join(start(routine));
}

/// Starts a routine in a system thread of the driver.
pub(crate) fn start(routine: Routine) -> HANDLE {
    start_thread(routine, null())
}

#[test]
fn taking_a_lock_twice_is_reported_and_does_not_hang() {
    let reports = compare(
        || {
            fresh_spin_locks();
            let outer = take(spin_lock(0));
            let inner = take(spin_lock(0));
            release(spin_lock(0), inner);
            release(spin_lock(0), outer);
            fresh_fast_mutexes();
            take_fast(0);
            take_fast(0);
            release_fast(0);
            release_fast(0);
        },
        &[Rule::LockRecursion, Rule::LockRecursion],
        || {
            fresh_spin_locks();
            first_then_second();
            fresh_mutex();
            // A mutex may be taken again by its owner.
            assert_eq!(take_mutex(None), STATUS_SUCCESS);
            assert_eq!(take_mutex(None), STATUS_SUCCESS);
            assert_eq!(release_mutex(), -1);
            assert_eq!(release_mutex(), 0);
            // SAFETY: an initialised mutex.
            assert_eq!(unsafe { KeReadStateMutex(MUTEX.get()) }, 1);
        },
    );
    for report in &reports {
        assert!(
            report.related[0].what.contains("took the lock here"),
            "{report}"
        );
    }
}

unsafe extern "system" fn releases_all(_: *mut c_void) {
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: the spin lock of another thread, which is the mistake.
    unsafe { KeReleaseSpinLockFromDpcLevel(spin_lock(0)) };
    // SAFETY: lowers.
    unsafe { KeLowerIrql(old) };
    release_mutex();
}

unsafe extern "system" fn releases_fast(_: *mut c_void) {
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(APC_LEVEL) };
    release_fast(0);
    // SAFETY: lowers.
    unsafe { KeLowerIrql(old) };
}

/// The lock is taken in one thread and released in another, by a thread that holds nothing, and
/// then by its holder, who does nothing wrong.
unsafe extern "system" fn takes_all(_: *mut c_void) {
    fresh_spin_locks();
    fresh_mutex();
    let old = take(spin_lock(0));
    assert_eq!(take_mutex(Some(0)), STATUS_SUCCESS);
    ARRIVED.store(1, Ordering::SeqCst);
    while ARRIVED.load(Ordering::SeqCst) != 2 {
        std::thread::yield_now();
    }
    release_mutex();
    release(spin_lock(0), old);
    assert_eq!(irql::current(), PASSIVE_LEVEL);
}

#[test]
fn a_release_by_another_thread_is_reported() {
    let wrong = Rule::LockWrongThread;
    let reports = compare(
        || {
            ARRIVED.store(0, Ordering::SeqCst);
            let holder = start(takes_all);
            while ARRIVED.load(Ordering::SeqCst) != 1 {
                std::thread::yield_now();
            }
            in_thread(releases_all);
            ARRIVED.store(2, Ordering::SeqCst);
            join(holder);
        },
        &[wrong, wrong],
        || {
            fresh_spin_locks();
            fresh_mutex();
            let old = take(spin_lock(0));
            assert_eq!(take_mutex(Some(0)), STATUS_SUCCESS);
            release_mutex();
            release(spin_lock(0), old);
        },
    );
    for report in &reports {
        let taken = report.related[0].stack.to_string();
        assert!(taken.contains("takes_all"), "{report}");
    }
    let reports = run(|| {
        fresh_fast_mutexes();
        ARRIVED.store(0, Ordering::SeqCst);
        let holder = start(takes_fast);
        while ARRIVED.load(Ordering::SeqCst) != 1 {
            std::thread::yield_now();
        }
        in_thread(releases_fast);
        ARRIVED.store(2, Ordering::SeqCst);
        join(holder);
        // It is free again.
        take_fast(0);
        release_fast(0);
    });
    assert_eq!(rules(&reports), [wrong], "{reports:?}");
}

/// Takes a mutex that another thread releases.
unsafe extern "system" fn takes_fast(_: *mut c_void) {
    take_fast(0);
    ARRIVED.store(1, Ordering::SeqCst);
    while ARRIVED.load(Ordering::SeqCst) != 2 {
        std::thread::yield_now();
    }
    release_fast(0);
    assert_eq!(irql::current(), PASSIVE_LEVEL);
}

/// Takes the spin lock after the wrong release, and looks whether it keeps it.
unsafe extern "system" fn takes_next(_: *mut c_void) {
    let old = take(spin_lock(0));
    ARRIVED.store(2, Ordering::SeqCst);
    while ARRIVED.load(Ordering::SeqCst) != 3 {
        std::thread::yield_now();
    }
    // SAFETY: the word of a lock.
    let word = unsafe { spin_lock(0).read_volatile() };
    assert_ne!(word, 0, "it is held");
    release(spin_lock(0), old);
}

#[test]
fn a_lock_that_was_taken_after_a_wrong_release_stays_its_holders() {
    let reports = run(|| {
        ARRIVED.store(0, Ordering::SeqCst);
        let first = start(takes_all);
        while ARRIVED.load(Ordering::SeqCst) != 1 {
            std::thread::yield_now();
        }
        in_thread(releases_all);
        let next = start(takes_next);
        join(first);
        ARRIVED.store(3, Ordering::SeqCst);
        join(next);
    });
    // The release of the spin lock and that of the mutex.
    assert_eq!(rules(&reports), [Rule::LockWrongThread; 2], "{reports:?}");
}

#[test]
fn a_release_of_a_free_lock_is_reported() {
    compare(
        || {
            fresh_spin_locks();
            fresh_fast_mutexes();
            fresh_mutex();
            // SAFETY: raises from PASSIVE_LEVEL.
            unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
            release(spin_lock(0), PASSIVE_LEVEL);
            // SAFETY: lowers.
            unsafe { KeLowerIrql(APC_LEVEL) };
            release_fast(0);
            // SAFETY: lowers.
            unsafe { KeLowerIrql(PASSIVE_LEVEL) };
            assert_eq!(release_mutex(), STATUS_MUTANT_NOT_OWNED);
        },
        &[Rule::LockNotHeld, Rule::LockNotHeld, Rule::LockNotHeld],
        || {
            fresh_spin_locks();
            first_then_second();
        },
    );
}

#[test]
fn a_release_to_another_irql_is_reported() {
    compare(
        || {
            fresh_spin_locks();
            take(spin_lock(0));
            release(spin_lock(0), APC_LEVEL);
            // SAFETY: lowers.
            unsafe { KeLowerIrql(PASSIVE_LEVEL) };
        },
        &[Rule::LockIrqlMismatch],
        || {
            fresh_spin_locks();
            // Hand over hand: released in the order in which they were taken.
            let first = take(spin_lock(0));
            let second = take(spin_lock(1));
            release(spin_lock(0), second);
            release(spin_lock(1), first);
            assert_eq!(irql::current(), PASSIVE_LEVEL);
            // Each half of the pair is of another kind.
            let old = take(spin_lock(0));
            // SAFETY: held.
            unsafe { KeReleaseSpinLockFromDpcLevel(spin_lock(0)) };
            // SAFETY: lowers to where it was.
            unsafe { KeLowerIrql(old) };
        },
    );
}

#[test]
fn a_mutex_carried_across_dispatch_level_is_reported() {
    compare(
        || {
            fresh_mutex();
            assert_eq!(take_mutex(Some(0)), STATUS_SUCCESS);
            // SAFETY: raises from PASSIVE_LEVEL.
            let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
            assert_eq!(release_mutex(), 0);
            assert_eq!(take_mutex(Some(0)), STATUS_SUCCESS);
            // SAFETY: lowers to where it was.
            unsafe { KeLowerIrql(old) };
            assert_eq!(release_mutex(), 0);
        },
        &[Rule::MutexIrqlMismatch, Rule::MutexIrqlMismatch],
        || {
            fresh_mutex();
            // SAFETY: raises from PASSIVE_LEVEL.
            let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
            assert_eq!(take_mutex(Some(0)), STATUS_SUCCESS);
            assert_eq!(release_mutex(), 0);
            // SAFETY: lowers to where it was.
            unsafe { KeLowerIrql(old) };
            assert_eq!(take_mutex(Some(0)), STATUS_SUCCESS);
            // SAFETY: raises, below DISPATCH_LEVEL.
            let old = unsafe { KfRaiseIrql(APC_LEVEL) };
            assert_eq!(release_mutex(), 0);
            // SAFETY: lowers to where it was.
            unsafe { KeLowerIrql(old) };
        },
    );
}

#[test]
fn lowering_the_irql_under_a_lock_is_reported() {
    compare(
        || {
            fresh_spin_locks();
            let old = take(spin_lock(0));
            // SAFETY: lowers, which is the mistake.
            unsafe { KeLowerIrql(old) };
            // SAFETY: raises.
            unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
            release(spin_lock(0), old);
            fresh_fast_mutexes();
            take_fast(0);
            // SAFETY: lowers, which is the mistake.
            unsafe { KeLowerIrql(PASSIVE_LEVEL) };
            release_fast(0);
        },
        &[
            Rule::IrqlLoweredWithLock,
            Rule::IrqlLoweredWithLock,
            Rule::IrqlTooLow,
        ],
        || {
            fresh_spin_locks();
            let old = take(spin_lock(0));
            release(spin_lock(0), old);
            fresh_fast_mutexes();
            take_fast(0);
            release_fast(0);
        },
    );
}

#[test]
fn waiting_with_a_spin_lock_held_is_reported() {
    let reports = compare(
        || {
            fresh_spin_locks();
            let never = event(false, false);
            let old = take(spin_lock(0));
            assert_eq!(wait(address(&*never), Some(-MS)), STATUS_TIMEOUT);
            release(spin_lock(0), old);
        },
        &[Rule::WaitWhileHoldingSpinLock],
        || {
            fresh_spin_locks();
            let never = event(false, false);
            let old = take(spin_lock(0));
            assert_eq!(wait(address(&*never), Some(0)), STATUS_TIMEOUT);
            release(spin_lock(0), old);
            assert_eq!(wait(address(&*never), Some(-MS)), STATUS_TIMEOUT);
        },
    );
    assert!(reports[0].related[0].what.contains("spin lock"));
}

#[test]
fn a_fast_mutex_under_a_spin_lock_is_reported_with_the_spin_lock() {
    let reports = compare(
        || {
            fresh_spin_locks();
            fresh_fast_mutexes();
            let old = take(spin_lock(0));
            // SAFETY: an initialised mutex; the IRQL is the mistake.
            if unsafe { ExTryToAcquireFastMutex(fast_mutex(0)) } {
                // SAFETY: lowers to the level of the mutex, which is a second mistake.
                unsafe { KeLowerIrql(APC_LEVEL) };
                release_fast(0);
                // SAFETY: raises.
                unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
            }
            release(spin_lock(0), old);
        },
        &[Rule::IrqlTooHigh, Rule::IrqlLoweredWithLock],
        || {
            fresh_spin_locks();
            fresh_fast_mutexes();
            take_fast(0);
            let old = take(spin_lock(0));
            release(spin_lock(0), old);
            release_fast(0);
        },
    );
    assert!(reports[0].detail.contains("spin lock"), "{}", reports[0]);
    assert_eq!(reports[0].related.len(), 1, "{}", reports[0]);
}

unsafe extern "system" fn leaves_spin_lock(_: *mut c_void) {
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: an initialised lock.
    unsafe { KeAcquireSpinLockAtDpcLevel(spin_lock(0)) };
    std::hint::black_box(old);
}

unsafe extern "system" fn leaves_mutex_and_ends(_: *mut c_void) {
    assert_eq!(take_mutex(None), STATUS_SUCCESS);
    // SAFETY: ends this thread.
    unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

#[test]
fn locks_that_a_thread_leaves_are_reported_and_released() {
    let reports = compare(
        || {
            fresh_spin_locks();
            fresh_mutex();
            in_thread(leaves_spin_lock);
            in_thread(leaves_mutex_and_ends);
            // Both would hang if they were still held.
            let old = take(spin_lock(0));
            release(spin_lock(0), old);
            assert_eq!(take_mutex(None), STATUS_SUCCESS);
            release_mutex();
        },
        &[Rule::IrqlNotRestored, Rule::LockLeft, Rule::LockLeft],
        || {
            fresh_spin_locks();
            let old = take(spin_lock(0));
            release(spin_lock(0), old);
        },
    );
    let made = reports[1].stack.to_string();
    assert!(made.contains("leaves_spin_lock"), "{made}");
}

/// Initialises, takes and releases locks in variables of its own.
#[inline(never)]
fn uses_locks_on_the_stack() {
    let mut lock = 0_usize;
    let lock = &raw mut lock;
    // SAFETY: memory for a lock.
    unsafe { KeInitializeSpinLock(lock) };
    let old = take(lock);
    release(lock, old);
    let mut mutex = std::mem::MaybeUninit::<KMUTANT>::zeroed();
    // SAFETY: memory for a mutex.
    unsafe { KeInitializeMutex(mutex.as_mut_ptr(), 0) };
    assert_eq!(wait(mutex.as_ptr().cast(), None), STATUS_SUCCESS);
    // SAFETY: taken above.
    unsafe { KeReleaseMutex(mutex.as_mut_ptr(), false) };
}

/// Uses locks in memory that it frees, and that comes back.
fn uses_locks_in_the_pool() {
    // SAFETY: asks for memory.
    let memory = unsafe { ExAllocatePool2(NON_PAGED, 64, TAG) };
    // SAFETY: memory for a lock.
    unsafe { KeInitializeSpinLock(memory.cast()) };
    let old = take(memory.cast());
    release(memory.cast(), old);
    // SAFETY: allocated above.
    unsafe { ExFreePoolWithTag(memory, TAG) };
}

#[test]
fn initialising_a_lock_that_is_held_is_reported_once() {
    let wrong = Rule::LockReinitialized;
    let reports = compare(
        || {
            fresh_spin_locks();
            let old = take(spin_lock(0));
            // SAFETY: memory for a lock; that it is held is the mistake.
            unsafe { KeInitializeSpinLock(spin_lock(0)) };
            // Its holder does nothing wrong.
            release(spin_lock(0), old);
            fresh_mutex();
            assert_eq!(take_mutex(None), STATUS_SUCCESS);
            assert_eq!(take_mutex(None), STATUS_SUCCESS);
            fresh_mutex();
            assert_eq!(release_mutex(), -1);
            assert_eq!(release_mutex(), 0);
            fresh_fast_mutexes();
            take_fast(0);
            fresh_fast_mutexes();
            release_fast(0);
            assert_eq!(irql::current(), PASSIVE_LEVEL);
        },
        &[wrong, wrong, wrong],
        || {
            for _ in 0..3 {
                fresh_spin_locks();
                first_then_second();
                fresh_mutex();
                assert_eq!(take_mutex(None), STATUS_SUCCESS);
                release_mutex();
                fresh_fast_mutexes();
                take_fast(0);
                release_fast(0);
                uses_locks_on_the_stack();
                uses_locks_in_the_pool();
            }
        },
    );
    for report in &reports {
        assert!(report.related[0].what.contains("taken here"), "{report}");
    }
}

/// Takes the mutex and goes on when the other thread has initialised it again and waits for it.
unsafe extern "system" fn holds_mutex(_: *mut c_void) {
    assert_eq!(take_mutex(None), STATUS_SUCCESS);
    ARRIVED.store(1, Ordering::SeqCst);
    while ARRIVED.load(Ordering::SeqCst) != 2 {
        std::thread::yield_now();
    }
    assert_eq!(release_mutex(), 0);
}

#[test]
fn a_mutex_that_is_initialised_while_another_thread_holds_it_is_still_that_ones() {
    let reports = run(|| {
        fresh_mutex();
        ARRIVED.store(0, Ordering::SeqCst);
        let holder = start(holds_mutex);
        while ARRIVED.load(Ordering::SeqCst) != 1 {
            std::thread::yield_now();
        }
        fresh_mutex();
        assert_eq!(take_mutex(Some(0)), STATUS_TIMEOUT);
        ARRIVED.store(2, Ordering::SeqCst);
        assert_eq!(take_mutex(None), STATUS_SUCCESS);
        assert_eq!(release_mutex(), 0);
        join(holder);
    });
    assert_eq!(rules(&reports), [Rule::LockReinitialized], "{reports:?}");
    let taken = reports[0].related[0].stack.to_string();
    assert!(taken.contains("holds_mutex"), "{taken}");
}

#[test]
fn memory_freed_with_a_held_lock_in_it_is_reported() {
    compare(
        || {
            // SAFETY: asks for memory.
            let memory = unsafe { ExAllocatePool2(NON_PAGED, 64, TAG) };
            let lock = memory.wrapping_byte_add(16).cast::<usize>();
            let old = take(lock);
            // SAFETY: allocated above; the lock in it is the mistake.
            unsafe { ExFreePoolWithTag(memory, TAG) };
            // SAFETY: lowers to where it was.
            unsafe { KeLowerIrql(old) };
        },
        &[Rule::PoolFreedInUse],
        || {
            // SAFETY: asks for memory.
            let memory = unsafe { ExAllocatePool2(NON_PAGED, 64, TAG) };
            let lock = memory.wrapping_byte_add(16).cast::<usize>();
            let old = take(lock);
            release(lock, old);
            // SAFETY: allocated above.
            unsafe { ExFreePoolWithTag(memory, TAG) };
        },
    );
}
