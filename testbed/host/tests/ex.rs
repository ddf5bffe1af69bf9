// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool, fast mutexes, rundown protection.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::Rule;
use nt_host::irql::{self, APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use support::*;

fn allocate(size: usize) -> *mut u8 {
    // SAFETY: asks for memory.
    unsafe { ExAllocatePool2(NON_PAGED, size, TAG) }.cast()
}

fn free(memory: *mut u8, tag: u32) {
    // SAFETY: what is wrong with the address or the tag is the test's intent, and found.
    unsafe { ExFreePoolWithTag(memory.cast(), tag) };
}

#[test]
fn pool_memory_is_zeroed_aligned_and_accounted() {
    let kernel = boot();
    let small = allocate(100);
    assert!(
        // SAFETY: 100 bytes.
        unsafe { std::slice::from_raw_parts(small, 100) }
            .iter()
            .all(|byte| *byte == 0)
    );
    assert_eq!(small as usize % 16, 0);
    let large = allocate(5000);
    assert_eq!(large as usize % 4096, 0, "page-aligned from a page on");
    let usage = kernel.pool_usage();
    assert_eq!(
        (usage[0].tag.as_str(), usage[0].count, usage[0].bytes),
        ("Test", 2, 5100)
    );
    free(small, TAG);
    free(large, 0);
    assert!(kernel.pool_usage().is_empty());
    kernel.shutdown_clean();
}

#[test]
fn uninitialised_memory_is_not_zero() {
    let kernel = boot();
    // SAFETY: asks for memory.
    let memory = unsafe { ExAllocatePool2(NON_PAGED | 0x2, 16, TAG) }.cast::<u8>();
    // SAFETY: 16 bytes, filled by the hosted kernel.
    assert_ne!(unsafe { memory.read() }, 0);
    free(memory, TAG);
    kernel.shutdown_clean();
}

#[test]
fn bad_requests_fail_and_are_reported() {
    let kernel = boot();
    // SAFETY: asks for memory.
    assert!(unsafe { ExAllocatePool2(NON_PAGED, 8, 0) }.is_null());
    // SAFETY: as above.
    assert!(unsafe { ExAllocatePool2(NON_PAGED, 0, TAG) }.is_null());
    // SAFETY: as above.
    assert!(unsafe { ExAllocatePool2(NON_PAGED | PAGED, 8, TAG) }.is_null());
    expect(
        kernel,
        &[
            Rule::PoolTagMissing,
            Rule::PoolSizeZero,
            Rule::PoolFlagsInvalid,
        ],
    );
}

#[test]
fn a_wrong_tag_a_second_free_and_a_wild_address_are_reported_and_not_done() {
    let kernel = boot();
    let memory = allocate(32);
    free(memory, u32::from_le_bytes(*b"Mine"));
    free(memory, TAG);
    free(memory, TAG);
    free(0x1000 as *mut u8, TAG);
    let reports = kernel.reports();
    let expected = [
        Rule::PoolTagMismatch,
        Rule::PoolDoubleFree,
        Rule::PoolAddressUnknown,
    ];
    assert_eq!(rules(&reports), expected);
    assert!(reports[0].found.contains("Mine") && reports[0].expected.contains("Test"));
    assert_eq!(reports[1].related.len(), 1, "{}", reports[1]);
    assert!(
        reports[1].to_string().contains("it was freed first here"),
        "{}",
        reports[1]
    );
    expect(kernel, &expected);
}

#[test]
fn writes_beyond_the_end_and_after_the_free_are_reported() {
    let kernel = boot();
    let memory = allocate(24);
    // SAFETY: the guard behind the 24 bytes takes the mistake.
    unsafe { memory.wrapping_add(24).write(1) };
    free(memory, TAG);
    let memory = allocate(24);
    free(memory, TAG);
    // SAFETY: freed memory is kept for a while, which is what is tested.
    unsafe { memory.wrapping_add(3).write(1) };
    expect(kernel, &[Rule::PoolOverrun, Rule::PoolWriteAfterFree]);
}

#[test]
fn paged_pool_is_for_low_irqls_only() {
    let kernel = boot();
    // SAFETY: raises.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: asks for memory.
    let memory = unsafe { ExAllocatePool2(PAGED, 8, TAG) };
    // SAFETY: lowers.
    unsafe { KeLowerIrql(old) };
    free(memory.cast(), TAG);
    expect(kernel, &[Rule::IrqlTooHigh]);
}

#[test]
fn memory_with_a_set_timer_in_it_must_not_be_freed() {
    let kernel = boot();
    let timer = allocate(size_of::<KTIMER>()).cast::<KTIMER>();
    // SAFETY: memory for a timer.
    unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
    // SAFETY: an initialised timer.
    unsafe { KeSetTimerEx(timer, -60_000 * MS, 0, std::ptr::null()) };
    free(timer.cast(), TAG);
    // SAFETY: only the address counts; the kernel has taken the timer off itself.
    assert!(!unsafe { KeCancelTimer(timer) });
    expect(kernel, &[Rule::PoolFreedInUse]);
}

fn fast_mutex() -> Box<FAST_MUTEX> {
    let mut mutex = Box::new(FAST_MUTEX {
        Count: 1,
        ..Default::default()
    });
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeEvent(&raw mut mutex.Event, SynchronizationEvent, false) };
    mutex
}

#[test]
fn a_fast_mutex_excludes_at_apc_level() {
    let kernel = boot();
    let mut mutex = fast_mutex();
    let shared = Shared(&raw mut *mutex as usize);
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..300 {
                    // SAFETY: an initialised mutex.
                    unsafe { ExAcquireFastMutex(shared.pointer()) };
                    assert_eq!(irql::current(), APC_LEVEL);
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    // SAFETY: held.
                    unsafe { ExReleaseFastMutex(shared.pointer()) };
                    assert_eq!(irql::current(), PASSIVE_LEVEL);
                }
            });
        }
    });
    // SAFETY: an initialised mutex.
    assert!(unsafe { ExTryToAcquireFastMutex(shared.pointer()) });
    let other = std::thread::spawn(move || {
        // SAFETY: as above.
        unsafe { ExTryToAcquireFastMutex(shared.pointer()) }
    });
    assert!(!other.join().unwrap());
    // SAFETY: held.
    unsafe { ExReleaseFastMutex(shared.pointer()) };
    kernel.shutdown_clean();
}

#[test]
fn misused_fast_mutexes_are_reported() {
    let kernel = boot();
    let mut mutex = fast_mutex();
    // SAFETY: an initialised mutex.
    unsafe { ExAcquireFastMutex(&raw mut *mutex) };
    // SAFETY: held, which is the mistake.
    unsafe { ExAcquireFastMutex(&raw mut *mutex) };
    // SAFETY: taken twice as far as the test is concerned.
    unsafe { ExReleaseFastMutex(&raw mut *mutex) };
    // SAFETY: held.
    unsafe { ExReleaseFastMutex(&raw mut *mutex) };
    // SAFETY: raises.
    let old = unsafe { KfRaiseIrql(APC_LEVEL) };
    // SAFETY: not held, which is the mistake.
    unsafe { ExReleaseFastMutex(&raw mut *mutex) };
    // SAFETY: lowers.
    unsafe { KeLowerIrql(old) };
    expect(kernel, &[Rule::LockRecursion, Rule::LockNotHeld]);
}

#[test]
fn rundown_waits_for_holders_and_lets_nobody_in_afterwards() {
    let kernel = boot();
    let mut rundown = EX_RUNDOWN_REF::default();
    let shared = Shared(&raw mut rundown as usize);
    // SAFETY: memory for it.
    unsafe { ExInitializeRundownProtection(shared.pointer()) };
    // SAFETY: initialised.
    assert!(unsafe { ExAcquireRundownProtection(shared.pointer()) });
    let ended = Arc::new(AtomicU32::new(0));
    let seen = ended.clone();
    let waiter = std::thread::spawn(move || {
        // SAFETY: initialised.
        unsafe { ExWaitForRundownProtectionRelease(shared.pointer()) };
        seen.store(1, Ordering::SeqCst);
    });
    // SAFETY: initialised. Once the rundown has begun, nobody can acquire.
    while unsafe { ExAcquireRundownProtection(shared.pointer()) } {
        // SAFETY: acquired.
        unsafe { ExReleaseRundownProtection(shared.pointer()) };
        std::thread::yield_now();
    }
    assert_eq!(
        ended.load(Ordering::SeqCst),
        0,
        "this thread still holds it"
    );
    // SAFETY: acquired above.
    unsafe { ExReleaseRundownProtection(shared.pointer()) };
    waiter.join().unwrap();
    // SAFETY: initialised and run down.
    unsafe { ExReInitializeRundownProtection(shared.pointer()) };
    // SAFETY: initialised.
    assert!(unsafe { ExAcquireRundownProtection(shared.pointer()) });
    // SAFETY: acquired.
    unsafe { ExReleaseRundownProtection(shared.pointer()) };
    kernel.shutdown_clean();
}

#[test]
fn releasing_rundown_protection_that_nobody_holds_is_reported() {
    let kernel = boot();
    let mut rundown = EX_RUNDOWN_REF::default();
    // SAFETY: zero is initialised protection; the release is the mistake.
    unsafe { ExReleaseRundownProtection(&raw mut rundown) };
    expect(kernel, &[Rule::RundownNotHeld]);
}
