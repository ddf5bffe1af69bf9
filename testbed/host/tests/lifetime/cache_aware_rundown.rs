// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache-aware rundown protection: the rules of the plain kind.

use fltport_nt::bindings::*;
use nt_host::{Report, Rule};

use crate::driver::*;
use crate::support::TAG;

type Rundown = PEX_RUNDOWN_REF_CACHE_AWARE;

fn allocate() -> Rundown {
    // SAFETY: takes numbers.
    unsafe { ExAllocateCacheAwareRundownProtection(NonPagedPoolNx, TAG) }
}

fn acquire(rundown: Rundown) -> bool {
    // SAFETY: allocated.
    unsafe { ExAcquireRundownProtectionCacheAware(rundown) }
}

fn release(rundown: Rundown) {
    // SAFETY: allocated; whether it is held is what the tests are about.
    unsafe { ExReleaseRundownProtectionCacheAware(rundown) };
}

fn wait(rundown: Rundown) {
    // SAFETY: allocated.
    unsafe { ExWaitForRundownProtectionReleaseCacheAware(rundown) };
}

fn reinitialize(rundown: Rundown) {
    // SAFETY: allocated; whether it has ended is what the tests are about.
    unsafe { ExReInitializeRundownProtectionCacheAware(rundown) };
}

fn complete(rundown: Rundown) {
    // SAFETY: as above.
    unsafe { ExRundownCompletedCacheAware(rundown) };
}

fn free(rundown: Rundown) {
    // SAFETY: allocated.
    unsafe { ExFreeCacheAwareRundownProtection(rundown) };
}

/// What is reported of a driver that does this with rundown protection of its own.
fn doing(body: impl Fn(Rundown) + Send + Sync + 'static) -> Vec<Report> {
    let run = move |_: *mut DRIVER_OBJECT| {
        let rundown = allocate();
        body(rundown);
        free(rundown);
    };
    life(run, |_| {})
}

#[test]
fn an_acquire_after_the_end_is_refused_and_no_mistake() {
    let reports = doing(|rundown| {
        assert!(acquire(rundown) && acquire(rundown));
        release(rundown);
        release(rundown);
        wait(rundown);
        complete(rundown);
        assert!(!acquire(rundown));
        wait(rundown);
        reinitialize(rundown);
        assert!(acquire(rundown));
        release(rundown);
        wait(rundown);
    });
    assert_broken(&reports, &[]);
}

#[test]
fn what_is_reported_of_the_plain_kind_is_reported_of_this_one() {
    let reports = doing(release);
    let function = "ExReleaseRundownProtectionCacheAware";
    assert_one(&reports, Rule::RundownNotHeld, function);
    let reports = doing(complete);
    let function = "ExRundownCompletedCacheAware";
    assert_one(&reports, Rule::RundownNotEnded, function);
    let reports = doing(reinitialize);
    let function = "ExReInitializeRundownProtectionCacheAware";
    assert_one(&reports, Rule::RundownNotEnded, function);
    let reports = doing(|rundown| assert!(acquire(rundown)));
    let function = "ExFreeCacheAwareRundownProtection";
    let report = assert_one(&reports, Rule::RundownHeld, function);
    assert_relates(&report, "allocate");
    let reports = doing(|rundown| {
        assert!(acquire(rundown));
        wait(rundown);
        release(rundown);
    });
    let function = "ExWaitForRundownProtectionReleaseCacheAware";
    assert_one(&reports, Rule::RundownHangs, function);
}

#[test]
fn what_is_not_freed_is_a_leak() {
    let reports = life(|_| assert!(acquire(allocate())), |_| {});
    // As every allocation is called that NT makes for a driver; the stack says how.
    let report = assert_one(&reports, Rule::PoolLeak, "ExAllocatePool2");
    let text = report.to_string();
    assert!(
        text.contains("ExAllocateCacheAwareRundownProtection"),
        "{text}"
    );
}

#[test]
fn it_can_lie_in_the_drivers_own_memory_wherever_that_begins() {
    let reports = life(
        |_| {
            // SAFETY: takes nothing.
            let size = unsafe { ExSizeOfRundownProtectionCacheAware() };
            for offset in [0, 8, 16, 40, 56, 63] {
                // SAFETY: asks for memory, with room in front.
                let memory = unsafe { ExAllocatePool2(0x40, size + offset, TAG) };
                let rundown = memory as Rundown + offset as isize;
                // SAFETY: so many bytes.
                unsafe { ExInitializeRundownProtectionCacheAware(rundown, size) };
                assert!(acquire(rundown));
                release(rundown);
                wait(rundown);
                assert!(!acquire(rundown));
                // The guards behind the memory are looked at.
                // SAFETY: allocated above.
                unsafe { ExFreePoolWithTag(memory, TAG) };
            }
        },
        |_| {},
    );
    assert_broken(&reports, &[]);
}
