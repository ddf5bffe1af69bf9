// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events, waits, spin locks, the IRQL, critical regions, timers.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::Rule;
use nt_host::irql::{self, APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL};
use nt_host::status::*;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::*;

#[test]
fn a_notification_event_stays_signalled_until_it_is_cleared() {
    let kernel = boot();
    let mut event = event(false, false);
    assert_eq!(wait(address(&*event), Some(0)), STATUS_TIMEOUT);
    // SAFETY: an initialised event.
    assert_eq!(unsafe { KeSetEvent(&raw mut *event, 0, false) }, 0);
    assert_eq!(wait(address(&*event), None), STATUS_SUCCESS);
    assert_eq!(wait(address(&*event), Some(0)), STATUS_SUCCESS);
    // SAFETY: as above.
    assert_eq!(unsafe { KeResetEvent(&raw mut *event) }, 1);
    // SAFETY: as above.
    assert_eq!(unsafe { KeReadStateEvent(&raw const *event) }, 0);
    assert_eq!(wait(address(&*event), Some(-MS)), STATUS_TIMEOUT);
    kernel.shutdown_clean();
}

#[test]
fn a_synchronization_event_lets_one_waiter_go_for_each_signal() {
    let kernel = boot();
    let event = event(true, false);
    let shared = Shared::of(&*event);
    let gone = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(wait(shared.pointer::<c_void>(), None), STATUS_SUCCESS);
                gone.fetch_add(1, Ordering::SeqCst);
            });
        }
        for _ in 0..8 {
            // SAFETY: an initialised event.
            unsafe { KeSetEvent(shared.pointer(), 0, false) };
            // The next signal must not be swallowed while this one was not consumed.
            // SAFETY: as above.
            while unsafe { KeReadStateEvent(shared.pointer()) } != 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(gone.load(Ordering::SeqCst), 8);
    assert_eq!(wait(address(&*event), Some(0)), STATUS_TIMEOUT);
    kernel.shutdown_clean();
}

#[test]
fn a_wait_for_any_names_the_object_and_a_wait_for_all_takes_all() {
    let kernel = boot();
    let (mut first, mut second) = (event(true, false), event(true, true));
    let objects = [address(&*first), address(&*second)];
    let wait_two = |kind| {
        let timeout = 0;
        // SAFETY: two initialised events, three fit without wait blocks.
        unsafe {
            KeWaitForMultipleObjects(
                2,
                objects.as_ptr(),
                kind,
                0,
                0,
                false,
                &raw const timeout,
                std::ptr::null_mut(),
            )
        }
    };
    assert_eq!(wait_two(WaitAll), STATUS_TIMEOUT);
    assert_eq!(wait_two(WaitAny), STATUS_WAIT_1);
    assert_eq!(wait_two(WaitAny), STATUS_TIMEOUT, "the second was consumed");
    for event in [&mut first, &mut second] {
        // SAFETY: initialised events.
        unsafe { KeSetEvent(&raw mut **event, 0, false) };
    }
    assert_eq!(wait_two(WaitAll), STATUS_SUCCESS);
    assert_eq!(wait_two(WaitAny), STATUS_TIMEOUT, "both were consumed");
    kernel.shutdown_clean();
}

#[test]
fn relative_and_absolute_timeouts_end_a_wait() {
    let kernel = boot();
    let event = event(false, false);
    let start = Instant::now();
    assert_eq!(wait(address(&*event), Some(-20 * MS)), STATUS_TIMEOUT);
    let mut now = 0;
    // SAFETY: memory for a time.
    unsafe { KeQuerySystemTimePrecise(&raw mut now) };
    assert_eq!(wait(address(&*event), Some(now + 20 * MS)), STATUS_TIMEOUT);
    assert_eq!(wait(address(&*event), Some(1)), STATUS_TIMEOUT, "long past");
    assert!(
        start.elapsed() >= Duration::from_millis(39),
        "{:?}",
        start.elapsed()
    );
    kernel.shutdown_clean();
}

#[test]
fn a_wait_that_may_block_at_dispatch_level_is_reported_and_not_done() {
    let kernel = boot();
    let event = event(false, false);
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    assert_eq!(wait(address(&*event), Some(0)), STATUS_TIMEOUT, "allowed");
    assert_eq!(wait(address(&*event), None), STATUS_TIMEOUT);
    // SAFETY: lowers to where it was.
    unsafe { KeLowerIrql(old) };
    expect(kernel, &[Rule::WaitAtDispatchLevel]);
}

#[test]
fn an_event_that_was_moved_or_never_initialised_is_reported() {
    let kernel = boot();
    let event = event(false, true);
    let moved = *event;
    assert_eq!(wait(address(&moved), Some(0)), STATUS_INVALID_PARAMETER);
    let mut empty = KEVENT::default();
    // SAFETY: memory of an event, though not initialised.
    unsafe { KeSetEvent(&raw mut empty, 0, false) };
    expect(
        kernel,
        &[Rule::ObjectNotInitialized, Rule::ObjectNotInitialized],
    );
}

#[test]
fn a_spin_lock_excludes_and_restores_the_irql() {
    let kernel = boot();
    let mut lock = 0_usize;
    // SAFETY: memory for a lock.
    unsafe { KeInitializeSpinLock(&raw mut lock) };
    let lock = Shared(&raw mut lock as usize);
    let mut counter = 0_u64;
    let counter_address = Shared(&raw mut counter as usize);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                for _ in 0..1000 {
                    // SAFETY: an initialised lock.
                    let old = unsafe { KeAcquireSpinLockRaiseToDpc(lock.pointer()) };
                    assert_eq!((old, irql::current()), (PASSIVE_LEVEL, DISPATCH_LEVEL));
                    let counter = counter_address.pointer::<u64>();
                    // SAFETY: the lock protects it.
                    let value = unsafe { counter.read() };
                    // SAFETY: as above.
                    unsafe { counter.write(value + 1) };
                    // SAFETY: held.
                    unsafe { KeReleaseSpinLock(lock.pointer(), old) };
                    assert_eq!(irql::current(), PASSIVE_LEVEL);
                }
            });
        }
    });
    assert_eq!(counter, 4000);
    kernel.shutdown_clean();
}

#[test]
fn misused_spin_locks_are_reported() {
    let kernel = boot();
    let mut lock = 0_usize;
    // SAFETY: raises from PASSIVE_LEVEL.
    unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: a free lock.
    unsafe { KeReleaseSpinLockFromDpcLevel(&raw mut lock) };
    // SAFETY: a free lock.
    unsafe { KeAcquireSpinLockAtDpcLevel(&raw mut lock) };
    // SAFETY: held, which is the mistake.
    unsafe { KeAcquireSpinLockAtDpcLevel(&raw mut lock) };
    // SAFETY: held twice as far as the test is concerned.
    unsafe { KeReleaseSpinLockFromDpcLevel(&raw mut lock) };
    assert_ne!(lock, 0, "the first acquisition still holds");
    // SAFETY: held.
    unsafe { KeReleaseSpinLockFromDpcLevel(&raw mut lock) };
    assert_eq!(lock, 0);
    // SAFETY: lowers.
    unsafe { KeLowerIrql(PASSIVE_LEVEL) };
    // SAFETY: a lock; the IRQL is the mistake.
    unsafe { KeAcquireSpinLockAtDpcLevel(&raw mut lock) };
    // SAFETY: held; the IRQL is the mistake.
    unsafe { KeReleaseSpinLockFromDpcLevel(&raw mut lock) };
    let low = Rule::IrqlTooLow;
    expect(kernel, &[Rule::LockNotHeld, Rule::LockRecursion, low, low]);
}

#[test]
fn a_call_above_its_irql_is_reported_with_both_levels() {
    let kernel = boot();
    // SAFETY: raises from PASSIVE_LEVEL.
    unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: takes nothing.
    unsafe { KeEnterCriticalRegion() };
    // SAFETY: lowers.
    unsafe { KeLowerIrql(PASSIVE_LEVEL) };
    // SAFETY: entered above.
    unsafe { KeLeaveCriticalRegion() };
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::IrqlTooHigh]);
    assert_eq!(reports[0].function, "KeEnterCriticalRegion");
    let text = reports[0].to_string();
    assert!(text.contains("expected: IRQL <= APC_LEVEL"), "{text}");
    assert!(text.contains("found: DISPATCH_LEVEL"), "{text}");
    assert!(
        text.contains("a_call_above_its_irql"),
        "the stack names the caller: {text}"
    );
}

#[test]
fn raising_down_and_lowering_up_are_reported() {
    let kernel = boot();
    // SAFETY: the direction is the mistake.
    unsafe { KeLowerIrql(DISPATCH_LEVEL) };
    // SAFETY: raises.
    unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    // SAFETY: the direction is the mistake.
    unsafe { KfRaiseIrql(APC_LEVEL) };
    // SAFETY: lowers.
    unsafe { KeLowerIrql(PASSIVE_LEVEL) };
    expect(
        kernel,
        &[Rule::IrqlWrongDirection, Rule::IrqlWrongDirection],
    );
}

#[test]
fn a_critical_region_left_without_being_entered_is_reported() {
    let kernel = boot();
    // SAFETY: takes nothing.
    unsafe { KeEnterCriticalRegion() };
    // SAFETY: takes nothing.
    unsafe { KeLeaveCriticalRegion() };
    // SAFETY: takes nothing; the balance is the mistake.
    unsafe { KeLeaveCriticalRegion() };
    expect(kernel, &[Rule::CriticalRegionUnbalanced]);
}

#[test]
fn a_mutant_belongs_to_the_thread_that_waited_for_it() {
    let kernel = boot();
    let mut mutant = Box::new(KMUTANT::default());
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeMutant(&raw mut *mutant, false) };
    assert_eq!(wait(address(&*mutant), Some(0)), STATUS_SUCCESS);
    assert_eq!(
        wait(address(&*mutant), Some(0)),
        STATUS_SUCCESS,
        "again by its owner"
    );
    let shared = Shared::of(&*mutant);
    let other = std::thread::spawn(move || wait(shared.pointer::<c_void>(), Some(0)));
    assert_eq!(other.join().unwrap(), STATUS_TIMEOUT);
    kernel.shutdown_clean();
}

static DPCS: AtomicU32 = AtomicU32::new(0);

unsafe extern "system" fn count_dpc(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: *mut c_void,
    _second: *mut c_void,
) {
    assert_eq!(irql::current(), DISPATCH_LEVEL);
    DPCS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the context is an event.
    unsafe { KeSetEvent(context.cast(), 0, false) };
}

#[test]
fn a_timer_signals_and_runs_its_dpc_at_dispatch_level() {
    let kernel = boot();
    let mut rang = event(true, false);
    let mut dpc = Box::new(KDPC::default());
    let routine = untyped(count_dpc as *const ());
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeDpc(&raw mut *dpc, routine, (&raw mut *rang).cast()) };
    let mut timer = Box::new(KTIMER::default());
    // SAFETY: as above.
    unsafe { KeInitializeTimerEx(&raw mut *timer, NotificationTimer) };
    // SAFETY: an initialised timer and DPC that outlive it.
    assert!(!unsafe { KeSetTimerEx(&raw mut *timer, -5 * MS, 5, &raw const *dpc) });
    assert_eq!(wait(address(&*timer), Some(-2000 * MS)), STATUS_SUCCESS);
    for _ in 0..3 {
        assert_eq!(
            wait(address(&*rang), Some(-2000 * MS)),
            STATUS_SUCCESS,
            "periodic"
        );
    }
    // SAFETY: an initialised timer.
    assert!(unsafe { KeCancelTimer(&raw mut *timer) });
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
    let ran = DPCS.load(Ordering::SeqCst);
    assert!(ran >= 3);
    // SAFETY: an initialised timer, not set any more.
    assert!(!unsafe { KeCancelTimer(&raw mut *timer) });
    kernel.shutdown_clean();
}

/// What the DPC below has been called with, and whether it may go on.
static ARGUMENTS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static CALLS: AtomicU32 = AtomicU32::new(0);
static MAY_GO_ON: AtomicU32 = AtomicU32::new(0);

unsafe extern "system" fn keep_arguments(
    _dpc: *mut KDPC,
    _context: *mut c_void,
    first: *mut c_void,
    second: *mut c_void,
) {
    assert_eq!(irql::current(), DISPATCH_LEVEL);
    ARGUMENTS[0].store(first as usize as u32, Ordering::SeqCst);
    ARGUMENTS[1].store(second as usize as u32, Ordering::SeqCst);
    CALLS.fetch_add(1, Ordering::SeqCst);
    while MAY_GO_ON.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_queued_dpc_runs_once_with_its_first_arguments_and_can_be_queued_again_while_it_runs() {
    let kernel = boot();
    let mut dpcs = [Box::new(KDPC::default()), Box::new(KDPC::default())];
    for dpc in &mut dpcs {
        let routine = untyped(keep_arguments as *const ());
        // SAFETY: boxed memory that stays where it is.
        unsafe { KeInitializeDpc(&raw mut **dpc, routine, std::ptr::null()) };
    }
    let [first, second] = dpcs.each_mut().map(|dpc| &raw mut **dpc);
    let argument = |number: usize| std::ptr::without_provenance::<c_void>(number);
    // SAFETY: initialised DPCs that outlive the flush below.
    let queue = |dpc, one, two| unsafe { KeInsertQueueDpc(dpc, argument(one), argument(two)) };
    assert!(queue(first, 1, 2));
    while CALLS.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert!(queue(second, 3, 4));
    assert!(!queue(second, 5, 6), "it is queued already");
    assert!(queue(first, 7, 8), "it runs, and so is not queued");
    MAY_GO_ON.store(1, Ordering::SeqCst);
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
    let last = ARGUMENTS.each_ref().map(|it| it.load(Ordering::SeqCst));
    assert_eq!((CALLS.load(Ordering::SeqCst), last), (3, [7, 8]));
    kernel.shutdown_clean();
}

#[test]
fn a_flush_does_not_wait_for_what_is_queued_meanwhile() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    static MAY_END: AtomicU32 = AtomicU32::new(0);
    unsafe extern "system" fn again(
        dpc: *mut KDPC,
        _context: *mut c_void,
        _first: *mut c_void,
        _second: *mut c_void,
    ) {
        RUNS.fetch_add(1, Ordering::SeqCst);
        if MAY_END.load(Ordering::SeqCst) == 0 {
            // SAFETY: initialised, and flushed once it queues itself no more.
            assert!(unsafe { KeInsertQueueDpc(dpc, std::ptr::null(), std::ptr::null()) });
        }
    }
    let kernel = boot();
    let mut dpc = Box::new(KDPC::default());
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeDpc(&raw mut *dpc, untyped(again as *const ()), std::ptr::null()) };
    // SAFETY: initialised, and flushed below.
    assert!(unsafe { KeInsertQueueDpc(&raw mut *dpc, std::ptr::null(), std::ptr::null()) });
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
    assert_ne!(RUNS.load(Ordering::SeqCst), 0);
    MAY_END.store(1, Ordering::SeqCst);
    // The one that runs may have looked before; the one that it queues is the last.
    for _ in 0..2 {
        // SAFETY: takes nothing.
        unsafe { KeFlushQueuedDpcs() };
    }
    let runs = RUNS.load(Ordering::SeqCst);
    // SAFETY: it is queued no more.
    assert!(unsafe { KeInsertQueueDpc(&raw mut *dpc, std::ptr::null(), std::ptr::null()) });
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
    assert_eq!(RUNS.load(Ordering::SeqCst), runs + 1);
    kernel.shutdown_clean();
}

#[test]
fn a_bug_check_is_a_report_and_its_thread_does_not_go_on() {
    unsafe extern "system" fn stops(_: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
        // SAFETY: takes numbers.
        unsafe { KeBugCheckEx(0xDEAD, 1, 2, 3, 4) };
        unreachable!("the system has stopped");
    }
    let kernel = boot();
    let image = nt_host::DriverImage {
        name: "stops",
        entry: stops,
        force_integrity: false,
    };
    assert_eq!(kernel.load(&image), Err(STATUS_UNSUCCESSFUL));
    let reports = kernel.shutdown();
    assert!(rules(&reports).contains(&Rule::BugCheck), "{reports:?}");
    assert!(
        reports[0].found.contains("0xdead (0x1, 0x2, 0x3, 0x4)"),
        "{}",
        reports[0]
    );
}
