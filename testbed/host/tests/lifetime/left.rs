// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a driver has to give back before it is unloaded: threads, timers, references, handles.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use fltport_nt::bindings::*;
use nt_host::{Kernel, Report, Rule};

use crate::driver::*;
use crate::support::{self, MS, Shared};

/// A life of a driver that takes something at its entry and gives it back at its unload, or not.
/// `take` returns what `give_back` needs.
fn taking(
    take: impl Fn(*mut DRIVER_OBJECT) -> usize + Send + Sync + 'static,
    give_back: Option<fn(usize)>,
) -> Vec<Report> {
    taking_in(boot(), take, give_back)
}

fn taking_in(
    kernel: Kernel,
    take: impl Fn(*mut DRIVER_OBJECT) -> usize + Send + Sync + 'static,
    give_back: Option<fn(usize)>,
) -> Vec<Report> {
    let taken = std::sync::Arc::new(AtomicUsize::new(0));
    let inner = taken.clone();
    life_in(
        kernel,
        move |object| inner.store(take(object), Ordering::SeqCst),
        move |_| {
            if let Some(give_back) = give_back {
                give_back(taken.load(Ordering::SeqCst));
            }
        },
    )
}

/// Set by the thread when it runs.
static RUNS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn waits(gate: *mut c_void) {
    set(Shared(RUNS.load(Ordering::SeqCst)));
    wait_for(Shared(gate as usize));
}

fn start_waiting_thread(gate: Shared) -> usize {
    start_thread(waits, gate.pointer::<c_void>()) as usize
}

#[test]
fn a_thread_that_still_runs_is_reported_with_its_origin() {
    let kernel = boot();
    let (gate, runs) = (lasting_event(), lasting_event());
    RUNS.store(runs.0, Ordering::SeqCst);
    load(
        &kernel,
        move |_| {
            close(start_waiting_thread(gate) as HANDLE);
            wait_for(runs);
        },
        |_| {},
    );
    unload_it(&kernel);
    let reports = kernel.reports();
    let report = assert_one(&reports, Rule::ThreadLeft, "PsCreateSystemThread");
    assert_made_in(&report, "start_thread");
    // The thread may go before its kernel goes, or after it.
    set(gate);
    assert_eq!(kernel.shutdown()[0].rule, Rule::ThreadLeft);
}

#[test]
fn a_thread_that_was_waited_for_is_right() {
    let kernel = boot();
    let gate = lasting_event();
    RUNS.store(gate.0, Ordering::SeqCst);
    let thread = move |_: *mut DRIVER_OBJECT| {
        set(gate);
        start_waiting_thread(gate)
    };
    let reports = taking_in(kernel, thread, Some(|handle| join(handle as HANDLE)));
    assert_broken(&reports, &[]);
}

static DPC_GATE: AtomicUsize = AtomicUsize::new(0);
static DPC_ENTERED: AtomicUsize = AtomicUsize::new(0);

/// Holds up the processor until the test opens the gate as far as this.
fn spin(stage: usize) {
    DPC_ENTERED.store(stage, Ordering::SeqCst);
    while DPC_GATE.load(Ordering::SeqCst) < stage {
        std::thread::yield_now();
    }
}

fn wait_until_entered(stage: usize) {
    while DPC_ENTERED.load(Ordering::SeqCst) < stage {
        std::thread::yield_now();
    }
}

unsafe extern "system" fn first(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    spin(1);
}

unsafe extern "system" fn second(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    spin(2);
}

unsafe extern "system" fn never(_: *mut KDPC, _: *mut c_void, _: *mut c_void, _: *mut c_void) {
    unreachable!("its driver is gone");
}

type Deferred = unsafe extern "system" fn(*mut KDPC, *mut c_void, *mut c_void, *mut c_void);

/// Sets a timer that queues a DPC. The memory stays, as a driver's static memory would not.
pub(crate) fn set_timer(routine: Deferred, due: i64) -> usize {
    let (timer, dpc) = (
        Box::leak(Box::new(KTIMER::default())),
        Box::leak(Box::new(KDPC::default())),
    );
    let routine = untyped(routine as *const ());
    // SAFETY: memory for a DPC that stays where it is, and its routine.
    unsafe { KeInitializeDpc(dpc, routine, null()) };
    // SAFETY: memory for a timer that stays where it is.
    unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
    // SAFETY: both are initialised.
    unsafe { KeSetTimerEx(timer, due, 0, dpc) };
    std::ptr::from_mut(timer) as usize
}

fn cancel_and_flush(timer: usize) {
    // SAFETY: initialised by `set_timer`.
    unsafe { KeCancelTimer(timer as *mut KTIMER) };
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
}

#[test]
fn a_timer_left_set_is_reported_and_does_not_ring() {
    let reports = taking(|_| set_timer(never, -60_000 * MS), None);
    let report = assert_one(&reports, Rule::TimerLeft, "KeSetTimerEx");
    assert_made_in(&report, "set_timer");
    let reports = taking(|_| set_timer(never, -60_000 * MS), Some(cancel_and_flush));
    assert_broken(&reports, &[]);
}

#[test]
fn a_dpc_that_runs_or_is_queued_is_reported_and_the_queued_one_is_not_called() {
    let kernel = boot();
    DPC_ENTERED.store(0, Ordering::SeqCst);
    DPC_GATE.store(0, Ordering::SeqCst);
    load(
        &kernel,
        |_| {
            set_timer(first, -1);
            wait_until_entered(1);
            // While that one holds up the processor both of these become due.
            set_timer(second, -1);
            set_timer(never, -1);
            DPC_GATE.store(1, Ordering::SeqCst);
            wait_until_entered(2);
        },
        |_| {},
    );
    unload_it(&kernel);
    let left = [Rule::DpcLeft, Rule::DpcLeft];
    assert_broken(&kernel.reports(), &left);
    DPC_GATE.store(2, Ordering::SeqCst);
    while kernel.reports().len() == left.len() {
        std::thread::yield_now();
    }
    let reports = kernel.shutdown();
    let gone = Rule::CallIntoUnloadedDriver;
    assert_broken(&reports, &[left[0], left[1], gone]);
    assert_eq!(reports[2].function, "KeSetTimerEx");
    assert_made_in(&reports[2], "set_timer");
}

#[test]
fn a_dpc_that_is_waited_for_is_right() {
    let kernel = boot();
    DPC_ENTERED.store(0, Ordering::SeqCst);
    DPC_GATE.store(0, Ordering::SeqCst);
    let running = |_: *mut DRIVER_OBJECT| {
        let timer = set_timer(first, -1);
        wait_until_entered(1);
        timer
    };
    let flushed = |timer: usize| {
        DPC_GATE.store(1, Ordering::SeqCst);
        cancel_and_flush(timer);
    };
    assert_broken(&taking_in(kernel, running, Some(flushed)), &[]);
}

/// Queues a DPC by hand while the gate holds up the one before it.
fn queue_behind(gate: usize) {
    let timer = set_timer(first, -1);
    wait_until_entered(1);
    let dpc = Box::leak(Box::new(KDPC::default()));
    let routine = untyped(if gate == 0 { never } else { first } as *const ());
    // SAFETY: memory for a DPC that stays where it is, and its routine.
    unsafe { KeInitializeDpc(dpc, routine, null()) };
    // SAFETY: initialised.
    assert!(unsafe { KeInsertQueueDpc(dpc, null(), null()) });
    // SAFETY: initialised by `set_timer`.
    unsafe { KeCancelTimer(timer as *mut KTIMER) };
    DPC_GATE.store(gate, Ordering::SeqCst);
}

#[test]
fn a_dpc_that_the_driver_queued_is_reported_by_its_own_name_unless_it_is_flushed() {
    let kernel = boot();
    let start = |gate| {
        move |_: *mut DRIVER_OBJECT| {
            DPC_ENTERED.store(0, Ordering::SeqCst);
            DPC_GATE.store(0, Ordering::SeqCst);
            queue_behind(gate);
        }
    };
    load(&kernel, start(0), |_| {});
    unload_it(&kernel);
    let reports = kernel.reports();
    assert_broken(&reports, &[Rule::DpcLeft, Rule::DpcLeft]);
    assert_eq!(reports[1].function, "KeInsertQueueDpc");
    assert_made_in(&reports[1], "queue_behind");
    DPC_GATE.store(1, Ordering::SeqCst);
    while kernel.reports().len() == 2 {
        std::thread::yield_now();
    }
    let gone = &kernel.shutdown()[2];
    assert_eq!(gone.rule, Rule::CallIntoUnloadedDriver, "nor is it called");
    assert_eq!(gone.function, "KeInsertQueueDpc");
    // SAFETY: takes nothing.
    let flush = |_: *mut DRIVER_OBJECT| unsafe { KeFlushQueuedDpcs() };
    assert_broken(&life_in(boot(), start(1), flush), &[]);
}

#[test]
fn a_flush_from_a_dpc_is_a_report_and_not_a_deadlock() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "system" fn flushes(
        _: *mut KDPC,
        _: *mut c_void,
        _: *mut c_void,
        _: *mut c_void,
    ) {
        // SAFETY: takes nothing; that it waits for its caller is the mistake.
        unsafe { KeFlushQueuedDpcs() };
        DONE.store(1, Ordering::SeqCst);
    }
    let reports = taking(
        |_| {
            let timer = set_timer(flushes, -1);
            while DONE.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            timer
        },
        Some(cancel_and_flush),
    );
    assert_one(&reports, Rule::IrqlTooHigh, "KeFlushQueuedDpcs");
}

#[test]
fn memory_freed_with_the_dpc_of_a_set_timer_in_it_is_reported() {
    let reports = life(
        |_| {
            // SAFETY: asks for memory.
            let memory =
                unsafe { ExAllocatePool2(support::NON_PAGED, size_of::<KDPC>(), support::TAG) };
            let dpc = memory.cast::<KDPC>();
            // SAFETY: memory for a DPC.
            unsafe { KeInitializeDpc(dpc, untyped(never as *const ()), null()) };
            let timer = Box::leak(Box::new(KTIMER::default()));
            // SAFETY: memory for a timer that stays where it is.
            unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
            // SAFETY: both are initialised.
            unsafe { KeSetTimerEx(timer, -60_000 * MS, 0, dpc) };
            // SAFETY: allocated above; that the timer refers to it is the mistake.
            unsafe { ExFreePoolWithTag(memory, support::TAG) };
            cancel_and_flush(std::ptr::from_mut(timer) as usize);
        },
        |_| {},
    );
    assert_one(&reports, Rule::PoolFreedInUse, "ExFreePoolWithTag");
}

fn look_up_system(_: *mut DRIVER_OBJECT) -> usize {
    let mut process = 0;
    // SAFETY: the id of System, and memory for the pointer.
    let status = unsafe { PsLookupProcessByProcessId(4 as HANDLE, &raw mut process) };
    assert_eq!(status, STATUS_SUCCESS);
    process as usize
}

fn reference_thread(_: *mut DRIVER_OBJECT) -> usize {
    by_handle(-2_isize as HANDLE) as usize
}

fn reference_again(_: *mut DRIVER_OBJECT) -> usize {
    // SAFETY: takes nothing.
    let process = unsafe { IoGetCurrentProcess() };
    // SAFETY: the current process exists.
    unsafe { ObfReferenceObject(process as *const c_void) };
    process as usize
}

fn reference_token(_: *mut DRIVER_OBJECT) -> usize {
    // SAFETY: takes nothing.
    let process = unsafe { IoGetCurrentProcess() };
    // SAFETY: the current process exists.
    let token = unsafe { PsReferencePrimaryToken(process) };
    // Not a tail call, which would not show on the stack.
    std::hint::black_box(token as usize)
}

fn create_callback(_: *mut DRIVER_OBJECT) -> usize {
    let attributes = support::attributes("\\Callback\\Reference", null_mut(), 0);
    let mut object = 0;
    // SAFETY: valid attributes and memory for the pointer.
    let status = unsafe { ExCreateCallback(&raw mut object, &raw const attributes, true, true) };
    assert_eq!(status, STATUS_SUCCESS);
    object as usize
}

fn give_back(object: usize) {
    dereference(object as *const c_void);
}

#[test]
fn a_reference_that_is_not_given_back_is_reported_with_its_origin() {
    type Take = fn(*mut DRIVER_OBJECT) -> usize;
    let cases: [(Take, &str, &str); 5] = [
        (look_up_system, "Process", "look_up_system"),
        (reference_thread, "Thread", "by_handle"),
        (reference_again, "Process", "reference_again"),
        (reference_token, "Token", "reference_token"),
        (create_callback, "Callback", "create_callback"),
    ];
    for (take, object, origin) in cases {
        let reports = taking(take, None);
        assert_broken(&reports, &[Rule::ReferenceLeft]);
        assert!(reports[0].found.contains(object), "{}", reports[0]);
        assert_made_in(&reports[0], origin);
        assert_broken(&taking(take, Some(give_back)), &[]);
    }
}

#[test]
fn a_subject_context_that_is_not_released_is_a_reference_left() {
    let capture = |release: bool| {
        life(
            move |_| {
                let mut context = SECURITY_SUBJECT_CONTEXT::default();
                // SAFETY: memory for a context.
                unsafe { SeCaptureSubjectContext(&raw mut context) };
                if release {
                    // SAFETY: captured above.
                    unsafe { SeReleaseSubjectContext(&raw mut context) };
                }
            },
            |_| {},
        )
    };
    assert_broken(&capture(false), &[Rule::ReferenceLeft]);
    assert_broken(&capture(true), &[]);
}

#[test]
fn a_reference_given_back_twice_is_reported() {
    let reports = taking(
        create_callback,
        Some(|object| {
            give_back(object);
            give_back(object);
        }),
    );
    assert_one(&reports, Rule::ReferenceUnderflow, "ObfDereferenceObject");
}

fn open_key(_: *mut DRIVER_OBJECT) -> usize {
    let path = format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{NAME}");
    let attributes = support::attributes(&path, null_mut(), OBJ_KERNEL_HANDLE);
    let mut handle = null_mut();
    // SAFETY: valid attributes and memory for the handle.
    let status = unsafe { ZwOpenKey(&raw mut handle, KEY_READ, &raw const attributes) };
    assert_eq!(status, STATUS_SUCCESS);
    handle as usize
}

fn open_process(_: *mut DRIVER_OBJECT) -> usize {
    // SAFETY: takes nothing.
    let process = unsafe { IoGetCurrentProcess() };
    let mut handle = null_mut();
    let (any, kernel_mode) = (0, 0);
    // SAFETY: the current process exists; memory for the handle.
    let status = unsafe {
        ObOpenObjectByPointer(
            process as *const c_void,
            OBJ_KERNEL_HANDLE,
            null(),
            0,
            any,
            kernel_mode,
            &raw mut handle,
        )
    };
    assert_eq!(status, STATUS_SUCCESS);
    handle as usize
}

#[test]
fn a_handle_left_open_is_reported_with_its_origin() {
    type Take = fn(*mut DRIVER_OBJECT) -> usize;
    let cases: [(Take, &str, &str); 2] = [
        (open_key, "Key", "open_key"),
        (open_process, "Process", "open_process"),
    ];
    for (take, object, origin) in cases {
        let reports = taking(take, None);
        assert_broken(&reports, &[Rule::HandleLeft]);
        assert!(reports[0].found.contains(object), "{}", reports[0]);
        assert_made_in(&reports[0], origin);
        assert_broken(&taking(take, Some(|handle| close(handle as HANDLE))), &[]);
    }
}

#[test]
fn a_handle_closed_twice_is_reported() {
    let reports = taking(
        open_key,
        Some(|handle| {
            close(handle as HANDLE);
            close(handle as HANDLE);
        }),
    );
    assert_one(&reports, Rule::HandleInvalid, "ZwClose");
}
