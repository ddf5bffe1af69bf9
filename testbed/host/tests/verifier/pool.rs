// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pool: tags, sizes, flags, guards, freed memory, leaks.

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::irql::DISPATCH_LEVEL;
use nt_host::{Rule, sim};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bad::{compare, run};
use crate::locks::start;
use crate::support::thread::join;
use crate::support::*;

const OTHER: u32 = u32::from_le_bytes(*b"Othr");

fn allocate(size: usize) -> *mut u8 {
    allocate_with(NON_PAGED, size, TAG)
}

fn allocate_with(flags: u64, size: usize, tag: u32) -> *mut u8 {
    // SAFETY: asks for memory; what is wrong with the request is the test's intent, and found.
    unsafe { ExAllocatePool2(flags, size, tag) }.cast()
}

fn free(memory: *mut u8) {
    free_with(memory, TAG);
}

fn free_with(memory: *mut u8, tag: u32) {
    // SAFETY: what is wrong with the address or the tag is the test's intent, and found.
    unsafe { ExFreePoolWithTag(memory.cast(), tag) };
}

/// Keeps the call before it from being a jump, which would take the caller off the stack.
fn stay() {
    std::hint::black_box(());
}

fn write(memory: *mut u8, offset: isize) {
    // SAFETY: within the memory or its guards, as the test intends; the hosted kernel looks at it
    // later only.
    unsafe { memory.wrapping_offset(offset).write_volatile(7) };
}

#[test]
fn requests_without_a_tag_a_size_or_a_pool_are_reported() {
    compare(
        || {
            assert!(allocate_with(NON_PAGED, 8, 0).is_null());
            assert!(allocate_with(NON_PAGED, 0, TAG).is_null());
            assert!(allocate_with(NON_PAGED | PAGED, 8, TAG).is_null());
        },
        &[
            Rule::PoolTagMissing,
            Rule::PoolSizeZero,
            Rule::PoolFlagsInvalid,
        ],
        || free(allocate_with(PAGED, 1, TAG)),
    );
}

#[test]
fn another_tag_is_reported_and_no_tag_fits_all() {
    let reports = compare(
        || {
            let memory = allocate(8);
            free_with(memory, OTHER);
            free(memory);
        },
        &[Rule::PoolTagMismatch],
        || {
            free_with(allocate(8), 0);
            // SAFETY: allocated here.
            unsafe { ExFreePool(allocate(8).cast()) };
        },
    );
    assert!(reports[0].found.contains("Othr"), "{}", reports[0]);
}

#[test]
fn a_second_free_is_reported_with_the_first_one() {
    #[inline(never)]
    fn frees_first(memory: *mut u8) {
        free(memory);
        stay();
    }
    let reports = compare(
        || {
            let memory = allocate(8);
            frees_first(memory);
            free(memory);
        },
        &[Rule::PoolDoubleFree],
        || free(allocate(8)),
    );
    let first = reports[0].related[0].stack.to_string();
    assert!(first.contains("frees_first"), "{first}");
}

#[test]
fn a_pointer_into_an_allocation_is_not_one() {
    compare(
        || {
            let memory = allocate(32);
            free(memory.wrapping_add(16));
            free(memory);
        },
        &[Rule::PoolAddressUnknown],
        || free(allocate(32)),
    );
}

#[test]
fn writes_beyond_both_ends_are_reported() {
    #[inline(never)]
    fn allocates(size: usize) -> *mut u8 {
        std::hint::black_box(allocate(size))
    }
    let reports = compare(
        || {
            // Sizes that are aligned in different ways.
            for size in [1, 24, 5000] {
                let memory = allocates(size);
                write(memory, size.cast_signed());
                free(memory);
                let memory = allocates(size);
                write(memory, -1);
                free(memory);
            }
            let memory = allocates(8);
            write(memory, -16);
            free(memory);
        },
        &[
            Rule::PoolOverrun,
            Rule::PoolUnderrun,
            Rule::PoolOverrun,
            Rule::PoolUnderrun,
            Rule::PoolOverrun,
            Rule::PoolUnderrun,
            Rule::PoolUnderrun,
        ],
        || {
            for size in [1, 24, 5000] {
                let memory = allocate(size);
                write(memory, 0);
                write(memory, size.cast_signed() - 1);
                free(memory);
            }
        },
    );
    assert!(reports[2].found.contains("offset 24"), "{}", reports[2]);
    assert!(
        reports[6].found.contains("16 bytes in front"),
        "{}",
        reports[6]
    );
    for report in &reports {
        let made = report.related[0].stack.to_string();
        assert!(made.contains("allocates"), "{report}");
    }
}

#[test]
fn a_write_after_the_free_is_found_at_the_latest_at_shutdown() {
    #[inline(never)]
    fn frees(memory: *mut u8) {
        free(memory);
        stay();
    }
    let reports = compare(
        || {
            let memory = allocate(100);
            frees(memory);
            write(memory, 42);
        },
        &[Rule::PoolWriteAfterFree],
        || {
            let memory = allocate(100);
            write(memory, 42);
            frees(memory);
        },
    );
    assert!(reports[0].found.contains("offset 42"), "{}", reports[0]);
    assert!(reports[0].stack.to_string().contains("frees"));
}

#[test]
fn paged_pool_at_dispatch_level_is_reported() {
    fn at_dispatch_level(action: impl FnOnce()) {
        // SAFETY: raises from PASSIVE_LEVEL.
        let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
        action();
        // SAFETY: lowers to where it was.
        unsafe { KeLowerIrql(old) };
    }
    compare(
        || {
            at_dispatch_level(|| {
                let memory = allocate_with(PAGED, 8, TAG);
                free(memory);
            });
        },
        &[Rule::IrqlTooHigh, Rule::IrqlTooHigh],
        || at_dispatch_level(|| free(allocate(8))),
    );
}

#[inline(never)]
fn leaks_little() {
    allocate(10);
    stay();
}

#[inline(never)]
fn leaks_much() {
    for _ in 0..std::hint::black_box(3) {
        allocate(100);
        stay();
    }
}

#[test]
fn leaks_are_reported_by_tag_with_the_place_of_the_most() {
    let reports = compare(
        || {
            leaks_little();
            leaks_much();
            allocate_with(NON_PAGED, 1, OTHER);
        },
        &[Rule::PoolLeak, Rule::PoolLeak],
        || free(allocate(10)),
    );
    let other = reports.iter().find(|it| it.found.contains("'Othr'"));
    assert!(other.is_some_and(|it| it.found.starts_with("1 allocation, 1 byte,")));
    let test = reports
        .iter()
        .find(|it| it.found.contains("'Test'"))
        .unwrap();
    assert!(test.found.starts_with("4 allocations, 310 bytes"), "{test}");
    assert!(test.stack.to_string().contains("leaks_much"), "{test}");
    assert!(test.detail.contains("3 allocations, 300 bytes"), "{test}");
    let rest = &test.related[0];
    assert!(rest.stack.to_string().contains("leaks_little"), "{test}");
}

#[test]
fn leaked_memory_is_looked_at_for_overruns() {
    let reports = run(|| {
        let memory = allocate(10);
        write(memory, 10);
        write(memory, -3);
    });
    let expected = [Rule::PoolOverrun, Rule::PoolUnderrun, Rule::PoolLeak];
    assert_eq!(rules(&reports), expected);
}

#[test]
fn memory_with_a_set_timer_in_it_must_not_be_freed() {
    fn with_timer(cancel: bool) {
        let memory = allocate(size_of::<KTIMER>());
        let timer = memory.cast::<KTIMER>();
        // SAFETY: memory for a timer.
        unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
        // SAFETY: an initialised timer.
        unsafe { KeSetTimerEx(timer, -60_000 * MS, 0, std::ptr::null()) };
        if cancel {
            // SAFETY: as above.
            unsafe { KeCancelTimer(timer) };
        }
        free(memory);
        if !cancel {
            // SAFETY: only its address is used.
            unsafe { KeCancelTimer(timer) };
        }
    }
    compare(
        || with_timer(false),
        &[Rule::PoolFreedInUse],
        || with_timer(true),
    );
}

#[test]
fn an_event_in_freed_memory_is_not_initialised_any_more() {
    let reports = run(|| {
        let memory = allocate(size_of::<KEVENT>());
        let event = memory.cast::<KEVENT>();
        // SAFETY: memory for an event.
        unsafe { KeInitializeEvent(event, NotificationEvent, false) };
        free(memory);
        let gone: *const c_void = event.cast_const().cast();
        assert_eq!(wait(gone, Some(0)), STATUS_INVALID_PARAMETER);
    });
    assert_eq!(rules(&reports), [Rule::ObjectNotInitialized]);
}

/// An event, a timer and its DPC in one allocation.
#[repr(C)]
struct Waited {
    event: KEVENT,
    timer: KTIMER,
    dpc: KDPC,
}

unsafe extern "system" fn deferred(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    unreachable!("its memory is freed");
}

unsafe extern "system" fn waits_for_it(_: *mut c_void) {
    let memory = WAITED.load(Ordering::SeqCst) as *const c_void;
    // Nobody signals what is gone: the wait ends by its limit.
    assert_eq!(wait(memory, Some(-15_000 * MS)), STATUS_TIMEOUT);
}

/// Where the memory lies that a thread waits in.
static WAITED: AtomicUsize = AtomicUsize::new(0);

fn frees_what_is_waited_for() {
    let memory = allocate(size_of::<Waited>()).cast::<Waited>();
    // SAFETY: allocated, and large enough.
    let event = unsafe { &raw mut (*memory).event };
    // SAFETY: as above.
    let timer = unsafe { &raw mut (*memory).timer };
    // SAFETY: as above.
    let dpc = unsafe { &raw mut (*memory).dpc };
    // SAFETY: memory for an event.
    unsafe { KeInitializeEvent(event, NotificationEvent, false) };
    // SAFETY: memory for a timer.
    unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
    // SAFETY: the metadata leaves the arguments out of the routine's type.
    let routine =
        unsafe { std::mem::transmute::<*const (), PKDEFERRED_ROUTINE>(deferred as *const ()) };
    // SAFETY: memory for a DPC, and a routine of the right kind.
    unsafe { KeInitializeDpc(dpc, routine, std::ptr::null()) };
    // SAFETY: initialised above.
    unsafe { KeSetTimerEx(timer, -10_000 * MS, 0, dpc) };
    WAITED.store(event as usize, Ordering::SeqCst);
    let waiter = start(waits_for_it);
    let soon = -1000 * MS;
    // Time is virtual: it passes when the other thread waits.
    // SAFETY: a time.
    unsafe { KeDelayExecutionThread(0, false, &raw const soon) };
    free(memory.cast());
    join(waiter);
}

#[test]
fn memory_freed_while_a_thread_waits_in_it_loses_its_timers() {
    let scenario = |_| {
        let reports = run(frees_what_is_waited_for);
        let text: String = reports.iter().map(|report| format!("{report}\n")).collect();
        assert_eq!(rules(&reports), [Rule::PoolFreedInUse], "{text}");
        let found = &reports[0].found;
        assert!(found.contains("waits") && found.contains("timer"), "{text}");
    };
    sim::explore(0..10, scenario).unwrap_or_else(|failure| panic!("{failure}"));
}
