// SPDX-License-Identifier: MIT OR Apache-2.0
//! Without the verifier everything does what it is for, and nobody looks.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::ex::{CacheAwareRundown, CacheAwareRundownGuard, FastMutex, Rundown, Tag};
use fltport_nt::ke::{AtDispatch, SpinLock, current_irql, system_time};
use fltport_nt::linked::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL, POOL_FLAG_UNINITIALIZED};
use nt_host::{Config, Kernel, Rule, Verifier, clock, sim};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use support::*;

const OWNER: Tag = Tag::new(b"Test");

fn boot_unverified() -> Kernel {
    Kernel::boot(Config {
        verifier: Verifier::Off,
        ..Config::default()
    })
}

/// Breaks a rule: KeDelayExecutionThread may be called at APC_LEVEL at the highest.
fn break_a_rule() {
    let at_dispatch = AtDispatch::raise();
    let at_once = 0_i64;
    // SAFETY: a valid time.
    unsafe { KeDelayExecutionThread(0, false, &raw const at_once) };
    drop(at_dispatch);
}

#[test]
fn nobody_looks_and_the_next_kernel_has_its_verifier_again() {
    let kernel = boot_unverified();
    break_a_rule();
    kernel.shutdown_clean();
    let kernel = boot();
    break_a_rule();
    expect(kernel, &[Rule::IrqlTooHigh]);
}

#[test]
fn a_simulation_verifies_in_any_case() {
    sim::explore(0..2, |_| {
        let kernel = boot_unverified();
        break_a_rule();
        expect(kernel, &[Rule::IrqlTooHigh]);
    })
    .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn locks_exclude() {
    let kernel = boot_unverified();
    let spin = SpinLock::new(0_u32);
    let fast = FastMutex::new(OWNER, 0_u32).unwrap();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let mut held = spin.lock();
                    assert_eq!(current_irql(), DISPATCH_LEVEL);
                    *held += 1;
                    drop(held);
                    let mut held = fast.lock();
                    assert_eq!(current_irql(), APC_LEVEL);
                    *held += 1;
                }
                assert_eq!(current_irql(), PASSIVE_LEVEL);
            });
        }
    });
    assert_eq!((*spin.lock(), *fast.lock()), (12_000, 12_000));
    drop(fast);
    kernel.shutdown_clean();
}

#[test]
fn a_mutex_is_its_owners_until_it_is_released_as_often_as_taken() {
    let kernel = boot_unverified();
    let mut mutex = KMUTANT::default();
    // SAFETY: memory for a mutex.
    unsafe { KeInitializeMutex(&raw mut mutex, 0) };
    let shared = Shared::of(&mutex);
    let take = || wait(shared.pointer(), Some(0));
    assert_eq!((take(), take()), (STATUS_SUCCESS, STATUS_SUCCESS));
    let of_another = || thread::scope(|scope| scope.spawn(take).join().unwrap());
    assert_eq!(of_another(), STATUS_TIMEOUT);
    for _ in 0..2 {
        // SAFETY: initialised, and owned by this thread.
        unsafe { KeReleaseMutex(shared.pointer(), false) };
    }
    assert_eq!(of_another(), STATUS_SUCCESS);
    kernel.shutdown_clean();
}

#[test]
fn a_rundown_waits_for_all_who_hold_it_and_can_be_used_again() {
    let kernel = boot_unverified();
    let rundown = Rundown::new(OWNER).unwrap();
    let (inside, ended) = (AtomicU32::new(0), AtomicBool::new(false));
    for _ in 0..50 {
        let begun = AtomicU32::new(0);
        ended.store(false, Ordering::SeqCst);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    while let Some(guard) = rundown.acquire() {
                        inside.fetch_add(1, Ordering::SeqCst);
                        assert!(!ended.load(Ordering::SeqCst), "inside after the end");
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
            while begun.load(Ordering::SeqCst) < 3 {
                thread::yield_now();
            }
            rundown.wait();
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            ended.store(true, Ordering::SeqCst);
        });
        assert!(rundown.acquire().is_none());
        rundown.reopen();
        assert!(rundown.acquire().is_some());
    }
    drop(rundown);
    kernel.shutdown_clean();
}

/// Acquired on one processor and released on another, by the number of the thread.
#[test]
fn a_cache_aware_rundown_counts_who_leaves_on_another_processor() {
    let kernel = boot_unverified();
    let rundown = CacheAwareRundown::new(OWNER).unwrap();
    let (here, ended) = (AtDispatch::raise(), AtomicBool::new(false));
    let held = [(); 3].map(|()| rundown.acquire().expect("open"));
    // This thread keeps its processor, so whoever is at DISPATCH_LEVEL is on another one.
    let [first, second, third] = held.map(Moved);
    thread::scope(|scope| {
        let leave = |guard: Moved| {
            let there = AtDispatch::raise();
            assert_ne!(there.processor(), 0);
            drop(guard);
        };
        scope.spawn(move || leave(first)).join().unwrap();
        drop(here);
        let waits = scope.spawn(|| {
            rundown.wait();
            ended.store(true, Ordering::SeqCst);
        });
        while rundown.acquire().is_some() {
            thread::yield_now();
        }
        assert!(!ended.load(Ordering::SeqCst), "two hold it");
        let here = AtDispatch::raise();
        scope.spawn(move || leave(second)).join().unwrap();
        assert!(!ended.load(Ordering::SeqCst), "one holds it");
        scope.spawn(move || leave(third)).join().unwrap();
        drop(here);
        waits.join().unwrap();
    });
    assert!(ended.load(Ordering::SeqCst) && rundown.acquire().is_none());
    rundown.reopen();
    drop(rundown.acquire().expect("open again"));
    rundown.wait();
    drop(rundown);
    kernel.shutdown_clean();
}

/// A guard that another thread drops. It was taken at DISPATCH_LEVEL, so it is in no critical region
/// of the thread that took it.
struct Moved<'a>(#[expect(dead_code, reason = "dropped")] CacheAwareRundownGuard<'a>);

// SAFETY: as above; releasing it in another thread is what the test is about.
unsafe impl Send for Moved<'_> {}

#[test]
fn a_cache_aware_rundown_waits_for_all_who_hold_it() {
    let kernel = boot_unverified();
    let rundown = CacheAwareRundown::new(OWNER).unwrap();
    for _ in 0..50 {
        let (begun, ended) = (AtomicU32::new(0), AtomicBool::new(false));
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    loop {
                        // Goes to a processor between, so that it may leave on another one.
                        let Some(guard) = rundown.acquire() else {
                            return;
                        };
                        inside.fetch_add(1, Ordering::SeqCst);
                        drop(AtDispatch::raise());
                        assert!(!ended.load(Ordering::SeqCst), "inside after the end");
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
            while begun.load(Ordering::SeqCst) < 4 {
                thread::yield_now();
            }
            rundown.wait();
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            ended.store(true, Ordering::SeqCst);
        });
        assert!(rundown.acquire().is_none());
        rundown.reopen();
    }
    drop(rundown);
    kernel.shutdown_clean();
}

#[test]
fn pool_memory_is_zeroed_and_aligned() {
    let kernel = boot_unverified();
    let cache_aligned = 0x08;
    let cases = [
        (1, 0, 16),
        (100, 0, 16),
        (100, cache_aligned, 64),
        (4095, 0, 16),
        (4096, 0, 4096),
        (100_000, cache_aligned, 4096),
    ];
    for (size, flags, alignment) in cases {
        for uninitialised in [0, POOL_FLAG_UNINITIALIZED] {
            let flags = NON_PAGED | flags | uninitialised;
            // SAFETY: takes numbers.
            let memory = unsafe { ExAllocatePool2(flags, size, TAG) }.cast::<u8>();
            assert!(!memory.is_null() && memory.addr().is_multiple_of(alignment));
            if uninitialised == 0 {
                // SAFETY: so many bytes were just allocated, and are initialised.
                let bytes = unsafe { std::slice::from_raw_parts(memory, size) };
                assert!(bytes.iter().all(|byte| *byte == 0));
            }
            // SAFETY: allocated above; dirt for the next one.
            unsafe { memory.write_bytes(0xEE, size) };
            // SAFETY: allocated above.
            unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
        }
    }
    kernel.shutdown_clean();
}

#[test]
fn the_time_is_that_of_the_host_system() {
    let kernel = boot_unverified();
    // More than once, as the clock counts by itself after a millisecond.
    let begin = clock::unbiased_interrupt_time();
    while clock::unbiased_interrupt_time() - begin < 50_000 {
        let (before, now, after) = (clock::system_time(), system_time(), clock::system_time());
        // A millisecond: where a stopped virtual machine comes between the calls, they differ.
        assert!(before - 10_000 <= now && now <= after + 10_000);
        let before = clock::interrupt_time();
        // SAFETY: no place for the counter.
        let now = unsafe { KeQueryInterruptTimePrecise(std::ptr::null_mut()) };
        let after = clock::interrupt_time();
        assert!(before <= now + 10_000 && now <= after + 10_000);
    }
    kernel.shutdown_clean();
}
