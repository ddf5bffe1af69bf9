// SPDX-License-Identifier: MIT OR Apache-2.0
//! The deterministic mode where it hurts: panics, threads that never end, deep stacks, many seeds.

use std::ffi::c_void;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::ptr::null;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::clock::{Deadline, SECOND};
use nt_host::sched::{self, Blocked, Waiter};
use nt_host::{Config, DriverImage, Kernel, Unload, sim};

#[path = "support/mod.rs"]
mod support;

/// Calls a function of NT.
macro_rules! nt {
    ($function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: initialised objects that stay where they are, each used as its kind asks.
        unsafe { $function($($argument),*) }
    };
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {}

unsafe extern "system" fn terminates(_: *mut c_void) {
    // SAFETY: a system thread that holds nothing.
    unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

unsafe extern "system" fn waits_for_ever(_: *mut c_void) {
    let event = Box::leak(support::event(false, false));
    support::wait(support::address(event), None);
}

fn start(routine: support::thread::Routine, join: bool) {
    let handle = support::thread::start_thread(routine, null());
    if join {
        // SAFETY: an open handle.
        let status = unsafe { ZwWaitForSingleObject(handle, false, null()) };
        assert_eq!(status, STATUS_SUCCESS);
    }
    // SAFETY: an open handle.
    unsafe { ZwClose(handle) };
}

unsafe extern "system" fn entry(object: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    start(terminates, true);
    STATUS_SUCCESS
}

unsafe extern "system" fn entry_leaves(
    object: *mut DRIVER_OBJECT,
    _: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    start(waits_for_ever, false);
    STATUS_SUCCESS
}

const IMAGE: DriverImage = DriverImage {
    name: "edges",
    entry,
    force_integrity: false,
};

unsafe extern "system" fn unload_slowly(_: *const DRIVER_OBJECT) {
    let event = Box::leak(support::event(false, false));
    support::wait(support::address(event), Some(-10 * support::MS));
}

unsafe extern "system" fn entry_lingers(
    object: *mut DRIVER_OBJECT,
    _: *const UNICODE_STRING,
) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload_slowly) };
    STATUS_SUCCESS
}

const LINGERS: DriverImage = DriverImage {
    name: "lingers",
    entry: entry_lingers,
    force_integrity: false,
};

const LEAVES: DriverImage = DriverImage {
    name: "leaves",
    entry: entry_leaves,
    force_integrity: false,
};

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn threads_that_terminate_themselves_do_not_hinder_the_next_seed() {
    let summary = sim::explore(0..300, |_| {
        let kernel = Kernel::boot(Config::default());
        kernel.load(&IMAGE).unwrap();
        kernel.shutdown_clean();
    })
    .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(summary.seeds, 300);
}

#[test]
fn a_shutdown_waits_for_an_unload_that_is_under_way() {
    let summary = sim::explore(0..300, |seed| {
        let kernel = Kernel::boot(Config::default());
        kernel.load(&LINGERS).unwrap();
        let inner = kernel.clone();
        let unloading = sched::spawn("unloads".to_owned(), move || {
            // The shutdown may have been first.
            let _first = inner.unload(LINGERS.name, Unload::Stop);
        });
        sched::block(
            &Waiter::new(),
            Some(Deadline::after(seed % 3 * SECOND / 200)),
        );
        kernel.shutdown_clean();
        unloading.unwrap().join();
    });
    summary.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn threads_that_never_end_do_not_hinder_the_next_seed() {
    let run = |seeds| {
        sim::explore(seeds, |_| {
            let kernel = Kernel::boot(Config::default());
            kernel.load(&LEAVES).unwrap();
            assert_eq!(kernel.shutdown().len(), 1);
        })
        .unwrap_or_else(|failure| panic!("{failure}"))
    };
    // What such threads have on their stacks is lost; the stacks themselves must not be.
    run(0..200);
    let before = resident();
    run(0..400);
    let grown = resident().saturating_sub(before);
    assert!(grown < 400 * 64 * 1024, "{grown}");
}

#[test]
fn a_failed_seed_leaves_room_for_another_series() {
    for _ in 0..30 {
        let failure = sim::explore(3..4, |_| {
            let kernel = Kernel::boot(Config::default());
            kernel.load(&LEAVES).unwrap();
            panic!("on purpose");
        })
        .unwrap_err();
        assert!(failure.message.contains("on purpose"), "{failure}");
        let failure = sim::explore(3..4, |_| {
            let kernel = Kernel::boot(Config::default());
            kernel.load(&LEAVES).unwrap();
            sched::spawn("another".to_owned(), || panic!("elsewhere"))
                .unwrap()
                .join();
            kernel.shutdown_clean();
        })
        .unwrap_err();
        assert!(failure.message.contains("elsewhere"), "{failure}");
        let kernel = Kernel::boot(Config::default());
        kernel.load(&IMAGE).unwrap();
        kernel.shutdown_clean();
        sim::explore(0..3, |_| {
            let kernel = Kernel::boot(Config::default());
            kernel.load(&IMAGE).unwrap();
            kernel.shutdown_clean();
        })
        .unwrap();
    }
}

/// Takes stacks at some depth, so that the walker learns where the stack lies.
fn deep(depth: u32) -> usize {
    let lock = AtomicUsize::new(0);
    if depth == 0 {
        nt!(KeInitializeSpinLock(lock.as_ptr()));
        let old = nt!(KeAcquireSpinLockRaiseToDpc(lock.as_ptr()));
        nt!(KeReleaseSpinLock(lock.as_ptr(), old));

        return 1;
    }
    std::hint::black_box(deep(depth - 1)) + 1
}

#[test]
fn stacks_that_come_and_go_are_walked_right() {
    // Live threads with stacks of many sizes, and simulated ones, whose addresses are used again.
    for round in 0..40_usize {
        let kernel = Kernel::boot(Config::default());
        let threads: Vec<_> = (0..24_usize)
            .map(|number| {
                std::thread::Builder::new()
                    .stack_size(64 * 1024 + ((number * 7 + round * 13) % 29) * 36 * 1024)
                    .spawn(|| {
                        (0..20).for_each(|depth| {
                            deep(depth);
                        });
                    })
                    .unwrap()
            })
            .collect();
        threads.into_iter().for_each(|it| it.join().unwrap());
        kernel.shutdown_clean();
        sim::explore(0..3, |_| {
            let kernel = Kernel::boot(Config::default());
            let threads: Vec<_> = (0..40_u32)
                .map(|number| {
                    sched::spawn("t".to_owned(), move || {
                        sched::point("p");
                        deep(number);
                    })
                    .unwrap()
                })
                .collect();
            threads.iter().for_each(sched::Thread::join);
            kernel.shutdown_clean();
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// A scenario with kernel, driver, threads and time.
fn scenario(trace: &Arc<Mutex<Vec<String>>>) {
    let kernel = Kernel::boot(Config::default());
    kernel.load(&IMAGE).unwrap();
    let order = Arc::new(Mutex::new(String::new()));
    let threads = ["a", "b", "c"].map(|name| {
        let order = order.clone();
        sched::spawn(name.to_owned(), move || {
            for step in 0..4 {
                deep(step);
                let nobody = Waiter::new();
                sched::block(&nobody, Some(Deadline::after(SECOND / 10)));
                order.lock().unwrap().push_str(name);
            }
        })
        .unwrap()
    });
    threads.iter().for_each(sched::Thread::join);
    kernel.shutdown_clean();
    let order = order.lock().unwrap().clone();
    trace.lock().unwrap().push(order);
}

#[test]
fn a_seed_is_the_same_run_after_a_thousand_others() {
    let run = |seeds| {
        let trace = Arc::new(Mutex::new(Vec::new()));
        let inner = trace.clone();
        let last = Arc::new(AtomicU64::new(0));
        let inner_last = last.clone();
        let summary = sim::explore(seeds, move |seed| {
            inner_last.store(seed, Ordering::SeqCst);
            scenario(&inner);
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
        let trace = trace.lock().unwrap().clone();
        (summary, trace)
    };
    let (all, orders) = run(0..1000);
    for seed in [0, 1, 17, 500, 999] {
        let (one, order) = run(seed..seed + 1);
        let (again, _) = run(seed..seed + 1);
        assert_eq!(order[0], orders[usize::try_from(seed).unwrap()]);
        assert_eq!(one, again);
    }
    let (prefix, _) = run(0..999);
    let (last, _) = run(999..1000);
    assert_eq!(prefix.turns + last.turns, all.turns);
    assert_eq!(prefix.calls + last.calls, all.calls);
    assert_eq!(prefix.time + last.time, all.time);
}

/// Says to a copy of this program that it is to do what its test is about.
const COPY: &str = "NT_HOST_TEST_SIM_COPY";

/// A test in a copy of this program.
fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(COPY, "1");
    command
}

#[inline(never)]
fn recurses(depth: u64) -> u64 {
    let local = std::hint::black_box([depth; 64]);
    match depth {
        u64::MAX => 0,
        _ => recurses(depth + 1) + local[7],
    }
}

#[test]
fn a_stack_that_overflows_says_so() {
    if std::env::var_os(COPY).is_some() {
        let failure = sim::explore(0..1, |_| {
            recurses(0);
        });
        unreachable!("{failure:?}");
    }
    let output = command("a_stack_that_overflows_says_so").output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("overflowed its stack of 512 KiB"), "{text}");
}

#[test]
fn who_waits_for_its_own_kernel_is_told_so() {
    if std::env::var_os(COPY).is_some() {
        let kernel = Kernel::boot(Config::default());
        let end = std::thread::spawn(|| {
            // Comes when the wait has been told of.
            std::io::stdin().read_line(&mut String::new()).unwrap();
            kernel.shutdown_clean();
        });
        sim::explore(0..1, |_| {}).unwrap();
        return end.join().unwrap();
    }
    let mut copy = command("who_waits_for_its_own_kernel_is_told_so")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(copy.stderr.take().unwrap());
    let told = |line: String| line.contains("waits until it is shut down");
    assert!(said.lines().any(|line| told(line.unwrap())));
    copy.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(copy.wait().unwrap().success());
}

/// A hang is time in which nobody could run. A late thread once made a callback look like one that
/// hangs.
#[test]
fn what_is_only_late_does_not_hang() {
    const LIMIT: u64 = 1000;
    let waits_while_another_runs = |steps: u64| {
        let waiter = Arc::new(Waiter::new());
        let inner = waiter.clone();
        let busy = sched::spawn("is busy".to_owned(), move || {
            // Each takes a unit of time.
            (0..steps).for_each(|_| sched::point("busy"));
            sched::wake(&inner);
        });
        let blocked = sched::expect(&waiter, LIMIT);
        busy.unwrap().join();
        blocked
    };
    let summary = sim::explore(0..50, move |_| {
        assert_eq!(waits_while_another_runs(5 * LIMIT), Blocked::Wakened);
        assert_eq!(sched::expect(&Waiter::new(), LIMIT), Blocked::TimedOut);
    });
    assert_eq!(summary.unwrap().seeds, 50);
}

#[test]
fn a_second_kernel_in_one_simulation_is_refused_with_a_cure() {
    let failure = sim::explore(0..1, |_| {
        let _first = Kernel::boot(Config::default());
        let _second = Kernel::boot(Config::default());
    })
    .unwrap_err();
    assert!(failure.message.contains("Kernel::shutdown"), "{failure}");
    // One after the other is right.
    let summary = sim::explore(0..1, |_| {
        Kernel::boot(Config::default()).shutdown_clean();
        Kernel::boot(Config::default()).shutdown_clean();
    });
    assert_eq!(
        summary.map(|it| it.seeds).map_err(|it| it.to_string()),
        Ok(1)
    );
}

/// What one seed survived says nothing about why it failed.
#[test]
fn a_panic_that_was_caught_is_not_what_a_failure_says() {
    let failure = sim::explore(0..1, |_| {
        let caught = std::panic::catch_unwind(|| panic!("caught by its author"));
        assert!(caught.is_err());
        sched::point("the author goes on");
        panic!("the real one");
    })
    .unwrap_err();
    assert!(failure.message.contains("the real one"), "{failure}");
}

#[test]
fn a_panic_outside_of_a_simulation_is_printed_as_always() {
    if std::env::var_os(COPY).is_some() {
        sim::explore(0..1, |_| {}).unwrap();
        panic!("an ordinary one");
    }
    let test = "a_panic_outside_of_a_simulation_is_printed_as_always";
    let output = command(test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("an ordinary one"), "{text}");
    assert!(!text.contains("schedul"), "{text}");
}
