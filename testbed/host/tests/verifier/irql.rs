// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IRQL: ceilings, floors, direction, waits, pageable code.

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::irql::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use nt_host::{Rule, entry, nt_host_paged_code};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::bad::compare;
use crate::support::*;

fn raise(irql: u8) -> u8 {
    // SAFETY: the direction is right, or the test's intent.
    unsafe { KfRaiseIrql(irql) }
}

fn lower(irql: u8) {
    // SAFETY: the direction is right, or the test's intent.
    unsafe { KeLowerIrql(irql) };
}

#[test]
fn no_function_has_a_floor_above_its_ceiling() {
    let mut count = 0;
    for export in entry::exports() {
        let function = export.function;
        assert!(function.min_irql <= function.max_irql, "{function:?}");
        count += 1;
    }
    assert!(count > 100, "only {count} functions");
}

#[test]
fn a_call_above_its_ceiling_is_reported() {
    let reports = compare(
        || {
            let old = raise(DISPATCH_LEVEL);
            // SAFETY: takes nothing.
            unsafe { KeEnterCriticalRegion() };
            lower(old);
            // SAFETY: entered above.
            unsafe { KeLeaveCriticalRegion() };
        },
        &[Rule::IrqlTooHigh],
        || {
            let old = raise(APC_LEVEL);
            // SAFETY: takes nothing.
            unsafe { KeEnterCriticalRegion() };
            // SAFETY: entered above.
            unsafe { KeLeaveCriticalRegion() };
            lower(old);
        },
    );
    assert_eq!(reports[0].function, "KeEnterCriticalRegion");
    assert_eq!(reports[0].expected, "IRQL <= APC_LEVEL");
    assert_eq!(reports[0].found, "DISPATCH_LEVEL");
}

#[test]
fn a_call_below_its_floor_is_reported() {
    fn locked(level: u8) {
        let mut lock = 0;
        // SAFETY: memory for a lock.
        unsafe { KeInitializeSpinLock(&raw mut lock) };
        let old = raise(level);
        // SAFETY: an initialised lock.
        unsafe { KeAcquireSpinLockAtDpcLevel(&raw mut lock) };
        // SAFETY: held.
        unsafe { KeReleaseSpinLockFromDpcLevel(&raw mut lock) };
        lower(old);
    }
    compare(
        || locked(APC_LEVEL),
        &[Rule::IrqlTooLow, Rule::IrqlTooLow],
        || locked(DISPATCH_LEVEL),
    );
}

#[test]
fn the_wrong_direction_is_reported() {
    compare(
        || {
            lower(APC_LEVEL);
            raise(DISPATCH_LEVEL);
            raise(PASSIVE_LEVEL);
            lower(PASSIVE_LEVEL);
        },
        &[Rule::IrqlWrongDirection, Rule::IrqlWrongDirection],
        || {
            let old = raise(APC_LEVEL);
            let higher = raise(DISPATCH_LEVEL);
            lower(higher);
            lower(old);
        },
    );
}

#[test]
fn a_wait_at_dispatch_level_is_reported() {
    fn waits(timeout: Option<i64>) {
        let never = event(false, false);
        let old = raise(DISPATCH_LEVEL);
        assert_eq!(wait(address(&*never), timeout), STATUS_TIMEOUT);
        lower(old);
    }
    compare(
        || {
            waits(None);
            waits(Some(-MS));
        },
        &[Rule::WaitAtDispatchLevel, Rule::WaitAtDispatchLevel],
        || waits(Some(0)),
    );
    compare(
        || {
            let old = raise(DISPATCH_LEVEL);
            let time = -MS;
            // SAFETY: a time; the IRQL is the mistake.
            unsafe { KeDelayExecutionThread(0, false, &raw const time) };
            lower(old);
        },
        &[Rule::IrqlTooHigh],
        || {
            let time = -MS;
            // SAFETY: a time.
            unsafe { KeDelayExecutionThread(0, false, &raw const time) };
        },
    );
}

/// Stands for code that stays in memory.
#[inline(never)]
fn resident_at_dispatch_level() {
    let old = raise(DISPATCH_LEVEL);
    // SAFETY: takes nothing.
    assert_eq!(unsafe { KeGetCurrentIrql() }, DISPATCH_LEVEL);
    lower(old);
}

#[inline(never)]
fn resident(then: fn()) {
    then();
    // SAFETY: takes nothing.
    unsafe { KeGetCurrentIrql() };
}

#[inline(never)]
#[unsafe(link_section = "PAGE")]
fn pageable() {
    // SAFETY: takes nothing.
    let irql = unsafe { KeGetCurrentIrql() };
    // What comes after the call keeps it from being a jump.
    std::hint::black_box(irql);
}

#[inline(never)]
#[unsafe(link_section = "PAGE")]
fn pageable_raises() {
    let old = raise(DISPATCH_LEVEL);
    resident(|| {});
    lower(old);
    std::hint::black_box(old);
}

#[inline(never)]
#[unsafe(link_section = "PAGE")]
fn pageable_calls_resident() {
    for _ in 0..2 {
        resident_at_dispatch_level();
        pageable();
    }
}

#[test]
fn pageable_code_at_dispatch_level_is_reported_once_for_each_function() {
    let reports = compare(
        || {
            let old = raise(DISPATCH_LEVEL);
            pageable();
            pageable();
            resident(pageable);
            lower(old);
            pageable_raises();
        },
        &[Rule::PagedCodeAtDispatch, Rule::PagedCodeAtDispatch],
        || {
            pageable();
            pageable_calls_resident();
        },
    );
    assert!(reports[0].found.contains("pageable,"), "{}", reports[0]);
    assert!(
        reports[1].found.contains("pageable_raises,"),
        "{}",
        reports[1]
    );
}

/// Calls `then` below so many frames.
#[inline(never)]
fn far_below(depth: u32, then: fn()) {
    match depth {
        0 => then(),
        _ => far_below(std::hint::black_box(depth - 1), then),
    }
    std::hint::black_box(depth);
}

#[inline(never)]
#[unsafe(link_section = "PAGE")]
fn pageable_calls(depth: u32, then: fn()) {
    far_below(depth, then);
    std::hint::black_box(depth);
}

fn asks_for_the_level() {
    // SAFETY: takes nothing.
    std::hint::black_box(unsafe { KeGetCurrentIrql() });
}

#[test]
fn pageable_code_is_found_far_up_the_stack() {
    compare(
        || {
            let old = raise(DISPATCH_LEVEL);
            pageable_calls(100, asks_for_the_level);
            lower(old);
        },
        &[Rule::PagedCodeAtDispatch],
        || {
            pageable_calls(100, resident_at_dispatch_level);
            // At the raise nearer than at the call, and at the call nearer than at the raise.
            pageable_calls(40, || {
                let old = raise(DISPATCH_LEVEL);
                far_below(20, asks_for_the_level);
                lower(old);
            });
            pageable_calls(10, || {
                let old = far_raise();
                asks_for_the_level();
                lower(old);
            });
        },
    );
}

/// Raises the IRQL far below its caller.
fn far_raise() -> u8 {
    far_below(60, || {
        OLD.store(raise(DISPATCH_LEVEL), Ordering::SeqCst);
    });
    OLD.load(Ordering::SeqCst)
}

/// The level before [`far_raise`].
static OLD: AtomicU8 = AtomicU8::new(0);

#[test]
fn paged_code_says_where_it_must_not_be() {
    #[inline(never)]
    fn checked() {
        nt_host_paged_code();
        std::hint::black_box(());
    }
    let reports = compare(
        || {
            let old = raise(DISPATCH_LEVEL);
            checked();
            lower(old);
        },
        &[Rule::PagedCodeAtDispatch],
        || {
            let old = raise(APC_LEVEL);
            checked();
            lower(old);
        },
    );
    assert!(reports[0].stack.to_string().contains("checked"));
}
