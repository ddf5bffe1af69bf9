// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults: which calls fail, and that a sweep finds every one of them.

mod support;

use fltport_nt::bindings::*;
use nt_host::faults::{FaultPlan, InjectedFault, Sweep, sweep};
use nt_host::{Config, DriverImage, Kernel, Rule, Unload};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::*;

fn allocate() -> *mut u8 {
    // SAFETY: asks for memory.
    unsafe { ExAllocatePool2(NON_PAGED, 8, TAG) }.cast()
}

fn free(memory: *mut u8) {
    if !memory.is_null() {
        // SAFETY: allocated with this tag, and freed once.
        unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
    }
}

fn lookup() -> NTSTATUS {
    let mut process = 0;
    // SAFETY: a place for the result; there is no such process.
    unsafe { PsLookupProcessByProcessId(77 as HANDLE, &raw mut process) }
}

/// Which of so many allocations fail.
fn failed(count: usize) -> Vec<usize> {
    let fails = |_: &usize| {
        let memory = allocate();
        free(memory);
        memory.is_null()
    };
    (0..count).filter(fails).collect()
}

fn with(faults: FaultPlan) -> Kernel {
    Kernel::boot(Config {
        faults,
        ..Config::default()
    })
}

#[test]
fn without_a_plan_nothing_fails() {
    let kernel = boot();
    assert_eq!(failed(100), []);
    assert!(kernel.injected_faults().is_empty());
    kernel.shutdown_clean();
}

#[test]
fn the_call_with_a_number_fails_and_no_other() {
    let kernel = with(FaultPlan::nth(3));
    assert_eq!(failed(10), [3]);
    let injected = kernel.injected_faults();
    assert_eq!(injected.len(), 1);
    assert_eq!(
        (injected[0].function, injected[0].failure.name),
        ("ExAllocatePool2", "null")
    );
    kernel.set_faults(FaultPlan::nth(0));
    assert_eq!(failed(10), [0], "counted from when the plan is set");
    kernel.set_faults(FaultPlan::none());
    assert_eq!(failed(10), []);
    kernel.shutdown_clean();
}

#[test]
fn a_plan_can_be_kept_to_some_functions() {
    let kernel = with(FaultPlan::nth(1).of("ExAllocatePool2"));
    assert_eq!(lookup(), STATUS_INVALID_CID);
    assert_eq!(failed(5), [1]);
    kernel.set_faults(FaultPlan::nth(0).of("ZwOpenKey").of("ZwCreateKey"));
    assert_eq!(failed(5), []);
    assert!(kernel.injected_faults().is_empty());
    kernel.shutdown_clean();
}

#[test]
#[should_panic(expected = "is no function of NT that the hosted kernel has")]
fn a_function_that_does_not_exist_is_refused() {
    let _plan = FaultPlan::nth(0).of("ExAlocatePool2");
}

#[test]
#[should_panic(expected = "cannot be made to fail")]
fn a_function_that_cannot_fail_is_refused() {
    let _plan = FaultPlan::none().of("KeSetEvent");
}

static DRAWN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static OTHERS_BETWEEN: AtomicBool = AtomicBool::new(false);

/// A driver that notes which of its allocations fail.
unsafe extern "system" fn draw(_: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    let mut drawn = DRAWN.lock().unwrap();
    for n in 0..3000 {
        if OTHERS_BETWEEN.load(Ordering::Relaxed) {
            lookup();
        }
        let memory = allocate();
        if memory.is_null() {
            drawn.push(n);
        }
        free(memory);
    }
    STATUS_UNSUCCESSFUL
}

/// Which allocations of the driver fail by this plan.
fn drawn(faults: FaultPlan, others_between: bool) -> Vec<usize> {
    let kernel = with(faults);
    OTHERS_BETWEEN.store(others_between, Ordering::Relaxed);
    let image = DriverImage {
        name: "draws",
        entry: draw,
        force_integrity: false,
    };
    assert_eq!(kernel.load(&image), Err(STATUS_UNSUCCESSFUL));
    let drawn = std::mem::take(&mut *DRAWN.lock().unwrap());
    if !others_between {
        assert_eq!(kernel.injected_faults().len(), drawn.len());
    }
    kernel.shutdown_clean();
    drawn
}

#[test]
fn a_seed_decides_and_decides_again() {
    let first = drawn(FaultPlan::random(1, 10), false);
    assert!((200..400).contains(&first.len()), "{}", first.len());
    assert_eq!(drawn(FaultPlan::random(1, 10), false), first);
    assert_ne!(drawn(FaultPlan::random(2, 10), false), first);
    assert_eq!(drawn(FaultPlan::random(1, 1), false).len(), 3000);
    assert_eq!(drawn(FaultPlan::random(1, 0), false), []);
}

#[test]
fn what_a_seed_decides_does_not_depend_on_other_calls() {
    let alone = drawn(FaultPlan::random(5, 3), false);
    assert_eq!(drawn(FaultPlan::random(5, 3), true), alone);
}

#[test]
fn removals_are_not_made_to_fail() {
    unsafe extern "system" fn routine(_: HANDLE, _: HANDLE, _: bool) {}
    let kernel = boot();
    // SAFETY: a routine that is removed below.
    let set = |remove| unsafe { PsSetCreateProcessNotifyRoutine(Some(routine), remove) };
    assert_eq!(set(false), 0);
    kernel.set_faults(FaultPlan::random(1, 1));
    assert_eq!(set(true), 0);
    assert_eq!(set(false), STATUS_INVALID_PARAMETER);
    assert_eq!(kernel.injected_faults().len(), 1);
    kernel.set_faults(FaultPlan::none());
    kernel.shutdown_clean();
}

static KEPT: AtomicUsize = AtomicUsize::new(0);

#[inline(never)]
fn two_allocations(leaks: bool) -> Option<(usize, usize)> {
    let first = allocate();
    if first.is_null() {
        return None;
    }
    let second = allocate();
    if second.is_null() {
        if !leaks {
            free(first);
        }
        return None;
    }
    Some((first as usize, second as usize))
}

/// With `LEAKS` it forgets the first allocation of a pair when the second fails.
unsafe extern "system" fn entry<const LEAKS: bool>(
    object: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    let Some((first, second)) = two_allocations(LEAKS) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    free(second as *mut u8);
    // The same two calls from another place.
    let Some((third, fourth)) = two_allocations(LEAKS) else {
        free(first as *mut u8);
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    free(third as *mut u8);
    free(fourth as *mut u8);
    KEPT.store(first, Ordering::Relaxed);
    0
}

unsafe extern "system" fn unload(_object: *const DRIVER_OBJECT) {
    free(KEPT.swap(0, Ordering::Relaxed) as *mut u8);
}

fn life<const LEAKS: bool>(config: Config) -> Vec<Rule> {
    let image = DriverImage {
        name: "swept",
        entry: entry::<LEAKS>,
        force_integrity: false,
    };
    let kernel = Kernel::boot(config);
    let loaded = kernel.load(&image);
    let injected = kernel.injected_faults();
    match injected.first() {
        Some(_) => assert_eq!(loaded, Err(STATUS_INSUFFICIENT_RESOURCES)),
        None => kernel.unload("swept", Unload::Stop).unwrap(),
    }
    let drivers: Vec<_> = injected.iter().map(|it| it.driver.as_deref()).collect();
    assert!(drivers.iter().all(|driver| *driver == Some("swept")));
    rules(&kernel.shutdown())
}

#[test]
fn a_sweep_fails_each_stack_once_and_ends() {
    let sweep = sweep(|config| assert_eq!(life::<false>(config), []));
    assert_eq!(sweep.injected().len(), 4, "{sweep}");
    assert_eq!(sweep.runs(), 5);
    let stacks = sweep.injected().iter().map(|it| it.stack.addresses());
    assert_eq!(stacks.collect::<BTreeSet<_>>().len(), 4);
    assert!(
        sweep.to_string().contains("     4  ExAllocatePool2: null"),
        "{sweep}"
    );
}

#[test]
fn a_sweep_finds_the_leak_behind_a_failure() {
    let mut leaks = 0;
    let sweep = sweep(|config| leaks += life::<true>(config).len());
    assert_eq!((sweep.injected().len(), leaks), (4, 2), "{sweep}");
}

/// Every way in which a function can fail is a fault of its own.
#[test]
fn a_sweep_tries_every_failure_of_a_function() {
    let mut swept = Sweep::default();
    for _ in 0..2 {
        swept.over(|config| {
            let kernel = Kernel::boot(config);
            // It has no filter: that is reported where it is not made to fail before.
            send();
            let _unknown_filter = kernel.shutdown();
        });
    }
    let names: Vec<_> = swept.injected().iter().map(|it| it.failure.name).collect();
    let all = [
        "STATUS_INSUFFICIENT_RESOURCES",
        "STATUS_TIMEOUT",
        "STATUS_PORT_DISCONNECTED",
    ];
    assert_eq!(names, all, "and none twice");
    assert_eq!(swept.runs(), 3 + 2);
}

/// Sends nothing to nobody: STATUS_PORT_DISCONNECTED where it is not made to fail otherwise.
fn send() -> NTSTATUS {
    let port = 0;
    let timeout = -MS;
    // SAFETY: a variable without a port, a message, a time.
    unsafe {
        FltSendMessage(
            0,
            &raw const port,
            [0_u8; 4].as_ptr().cast(),
            4,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw const timeout,
        )
    }
}

#[test]
fn a_fault_says_what_failed_and_where() {
    let kernel = with(FaultPlan::nth(0).of("FltSendMessage"));
    assert_eq!(send(), STATUS_INSUFFICIENT_RESOURCES);
    let fault: InjectedFault = kernel.injected_faults().remove(0);
    let text = fault.to_string();
    let first = text.lines().next();
    assert_eq!(
        first,
        Some("FltSendMessage of a driver failed: STATUS_INSUFFICIENT_RESOURCES (0xc000009a)")
    );
    assert!(text.contains("tests/faults.rs"), "{text}");
    kernel.shutdown_clean();
}

#[test]
fn what_is_named_a_failure_is_one() {
    let mut names = BTreeSet::new();
    for function in nt_host::entry::functions() {
        assert!(names.insert(function.name), "{} twice", function.name);
        for failure in function.fails {
            // Beside the statuses that say so: STATUS_TIMEOUT, and null and false.
            let fails = failure
                .status
                .is_none_or(|it| it < 0 || it == STATUS_TIMEOUT);
            assert!(fails, "{}: {failure}", function.name);
        }
    }
    assert!(names.contains("ExAllocatePool2") && names.contains("DbgPrintEx"));
}
