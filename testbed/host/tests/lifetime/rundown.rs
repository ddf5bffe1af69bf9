// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rundown protection.

use fltport_nt::bindings::*;
use nt_host::{Report, Rule};

use crate::driver::*;
use crate::support::{NON_PAGED, TAG};

type Word = *mut EX_RUNDOWN_REF;

fn make() -> Word {
    // SAFETY: asks for memory.
    let word: Word = unsafe { ExAllocatePool2(NON_PAGED, size_of::<EX_RUNDOWN_REF>(), TAG) }.cast();
    // SAFETY: memory for it.
    unsafe { ExInitializeRundownProtection(word) };
    word
}

fn initialize(word: Word) {
    // SAFETY: memory for it.
    unsafe { ExInitializeRundownProtection(word) };
}

fn acquire(word: Word) -> bool {
    // SAFETY: initialised.
    unsafe { ExAcquireRundownProtection(word) }
}

fn release(word: Word) {
    // SAFETY: initialised; whether it is held is what the tests are about.
    unsafe { ExReleaseRundownProtection(word) };
}

fn wait(word: Word) {
    // SAFETY: initialised.
    unsafe { ExWaitForRundownProtectionRelease(word) };
}

fn reinitialize(word: Word) {
    // SAFETY: initialised; whether it has ended is what the tests are about.
    unsafe { ExReInitializeRundownProtection(word) };
}

fn complete(word: Word) {
    // SAFETY: as above.
    unsafe { ExRundownCompleted(word) };
}

fn free(word: Word) {
    // SAFETY: allocated by `make`.
    unsafe { ExFreePoolWithTag(word.cast(), TAG) };
}

/// What is reported of a driver that does this with rundown protection of its own.
fn doing(body: impl Fn(Word) + Send + Sync + 'static) -> Vec<Report> {
    let run = move |_: *mut DRIVER_OBJECT| {
        let word = make();
        body(word);
        free(word);
    };
    life(run, |_| {})
}

#[test]
fn a_release_without_acquire_is_reported() {
    let reports = doing(release);
    assert_one(&reports, Rule::RundownNotHeld, "ExReleaseRundownProtection");
}

#[test]
fn a_release_after_a_refused_acquire_is_reported() {
    let reports = doing(|word| {
        wait(word);
        assert!(!acquire(word), "the rundown has begun");
        release(word);
    });
    assert_one(&reports, Rule::RundownNotHeld, "ExReleaseRundownProtection");
}

#[test]
fn an_acquire_after_the_end_is_refused_and_no_mistake() {
    let reports = doing(|word| {
        assert!(acquire(word));
        release(word);
        wait(word);
        complete(word);
        assert!(!acquire(word));
        wait(word);
        reinitialize(word);
        assert!(acquire(word));
        release(word);
        wait(word);
    });
    assert_broken(&reports, &[]);
}

#[test]
fn memory_freed_while_it_is_held_is_reported() {
    let reports = doing(|word| assert!(acquire(word)));
    let report = assert_one(&reports, Rule::RundownHeld, "ExFreePoolWithTag");
    assert!(report.found.contains("1 hold it"), "{report}");
    assert_relates(&report, "make");
}

#[test]
fn initialising_again_while_it_is_held_is_reported() {
    let reports = doing(|word| {
        assert!(acquire(word));
        initialize(word);
    });
    assert_one(&reports, Rule::RundownHeld, "ExInitializeRundownProtection");
}

#[test]
fn initialising_again_at_rest_is_no_mistake() {
    let reports = doing(|word| {
        assert!(acquire(word));
        release(word);
        initialize(word);
    });
    assert_broken(&reports, &[]);
}

#[test]
fn completing_while_it_is_held_is_reported() {
    let reports = doing(|word| {
        assert!(acquire(word));
        complete(word);
    });
    assert_one(&reports, Rule::RundownHeld, "ExRundownCompleted");
}

#[test]
fn completing_and_reusing_what_was_not_waited_for_is_reported() {
    let reports = doing(complete);
    assert_one(&reports, Rule::RundownNotEnded, "ExRundownCompleted");
    let reports = doing(reinitialize);
    assert_one(
        &reports,
        Rule::RundownNotEnded,
        "ExReInitializeRundownProtection",
    );
}

unsafe extern "system" fn waits(word: *mut std::ffi::c_void) {
    wait(word.cast());
}

#[test]
fn two_threads_that_wait_for_one_rundown_are_reported() {
    let kernel = boot();
    let both_wait = |word: Word| {
        assert!(acquire(word));
        let threads = [0, 1].map(|_| start_thread(waits, word.cast()));
        // Once the rundown has begun, one of them waits; the other one reports itself.
        while acquire(word) {
            release(word);
            std::thread::yield_now();
        }
        (word as usize, threads.map(|it| it as usize))
    };
    let waiting = std::sync::Arc::new(std::sync::Mutex::new((0, [0; 2])));
    let (inner, last) = (waiting.clone(), waiting);
    load(
        &kernel,
        move |_| *inner.lock().unwrap() = both_wait(make()),
        move |_| {
            let (word, threads) = *last.lock().unwrap();
            release(word as Word);
            threads.into_iter().for_each(|it| join(it as HANDLE));
            free(word as Word);
        },
    );
    while kernel.reports().is_empty() {
        std::thread::yield_now();
    }
    unload_it(&kernel);
    let reports = kernel.shutdown();
    assert_one(
        &reports,
        Rule::RundownWaitedTwice,
        "ExWaitForRundownProtectionRelease",
    );
}

#[test]
fn a_wait_of_the_holder_itself_is_a_report_and_not_a_hang() {
    let reports = doing(|word| {
        assert!(acquire(word));
        wait(word);
        release(word);
    });
    let function = "ExWaitForRundownProtectionRelease";
    let report = assert_one(&reports, Rule::RundownHangs, function);
    assert!(report.found.contains("1 hold it"), "{report}");
}
