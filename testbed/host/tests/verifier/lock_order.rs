// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which locks are taken, and threads that wait for each other.

use fltport_nt::bindings::*;
use nt_host::Rule;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bad::{compare, run};
use crate::locks::*;
use crate::support::thread::join;
use crate::support::*;

pub(crate) fn first_then_second() {
    let outer = take(spin_lock(0));
    let inner = take(spin_lock(1));
    release(spin_lock(1), inner);
    release(spin_lock(0), outer);
}

fn second_then_first() {
    let outer = take(spin_lock(1));
    let inner = take(spin_lock(0));
    release(spin_lock(0), inner);
    release(spin_lock(1), outer);
}

#[test]
fn two_orders_of_two_locks_are_reported_with_both_stacks() {
    let reports = compare(
        || {
            fresh_spin_locks();
            first_then_second();
            second_then_first();
            second_then_first();
        },
        &[Rule::LockOrder],
        || {
            fresh_spin_locks();
            first_then_second();
            first_then_second();
        },
    );
    let [report] = &reports[..] else {
        unreachable!("compared above")
    };
    let now = report.stack.to_string();
    assert!(now.contains("second_then_first"), "{now}");
    let before = &report.related[0];
    assert!(
        before.stack.to_string().contains("first_then_second"),
        "{report}"
    );
    for index in [0, 1] {
        let address = format!("{:#x}", spin_lock(index) as usize);
        assert!(before.what.contains(&address), "{report}");
        assert!(report.expected.contains(&address), "{report}");
    }
}

#[test]
fn a_circle_of_three_locks_is_reported() {
    fn pair(outer: usize, inner: usize) {
        let first = take(spin_lock(outer));
        let second = take(spin_lock(inner));
        release(spin_lock(inner), second);
        release(spin_lock(outer), first);
    }
    let reports = compare(
        || {
            fresh_spin_locks();
            pair(0, 1);
            pair(1, 2);
            pair(2, 0);
        },
        &[Rule::LockOrder],
        || {
            fresh_spin_locks();
            pair(0, 1);
            pair(1, 2);
            pair(0, 2);
        },
    );
    // Two steps of the way back, and where the lock now held was taken.
    assert_eq!(reports[0].related.len(), 3, "{}", reports[0]);
}

#[test]
fn the_order_of_unlike_locks_counts_too() {
    fn fast_then_mutex(timeout: Option<i64>) {
        take_fast(0);
        assert_eq!(take_mutex(timeout), STATUS_SUCCESS);
        release_mutex();
        release_fast(0);
    }
    fn mutex_then_fast() {
        assert_eq!(take_mutex(None), STATUS_SUCCESS);
        take_fast(0);
        release_fast(0);
        release_mutex();
    }
    compare(
        || {
            fresh_fast_mutexes();
            fresh_mutex();
            mutex_then_fast();
            fast_then_mutex(None);
        },
        &[Rule::LockOrder],
        || {
            fresh_fast_mutexes();
            fresh_mutex();
            mutex_then_fast();
            // Who only looks cannot hang.
            fast_then_mutex(Some(0));
        },
    );
}

#[test]
fn a_lock_made_anew_has_no_past() {
    let reports = run(|| {
        fresh_spin_locks();
        first_then_second();
        fresh_spin_locks();
        second_then_first();
        fresh_fast_mutexes();
        for (outer, inner) in [(0, 1), (1, 0)] {
            take_fast(outer);
            take_fast(inner);
            release_fast(inner);
            release_fast(outer);
            fresh_fast_mutexes();
        }
        for reversed in [false, true] {
            // SAFETY: asks for memory.
            let memory = unsafe { ExAllocatePool2(NON_PAGED, 16, TAG) }.cast::<usize>();
            let (outer, inner) = match reversed {
                false => (memory, spin_lock(2)),
                true => (spin_lock(2), memory),
            };
            let first = take(outer);
            let second = take(inner);
            release(inner, second);
            release(outer, first);
            // SAFETY: allocated above.
            unsafe { ExFreePoolWithTag(memory.cast(), TAG) };
        }
    });
    assert_eq!(rules(&reports), [], "{reports:?}");
}

pub(crate) static ARRIVED: AtomicU32 = AtomicU32::new(0);

/// Waits until both threads hold their first lock.
fn meet() {
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while ARRIVED.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
}

unsafe extern "system" fn spins_in_order(_: *mut c_void) {
    let outer = take(spin_lock(0));
    meet();
    let inner = take(spin_lock(1));
    release(spin_lock(1), inner);
    release(spin_lock(0), outer);
}

unsafe extern "system" fn spins_in_reverse(_: *mut c_void) {
    let outer = take(spin_lock(1));
    meet();
    let inner = take(spin_lock(0));
    release(spin_lock(0), inner);
    release(spin_lock(1), outer);
}

unsafe extern "system" fn waits_in_order(_: *mut c_void) {
    take_fast(0);
    meet();
    take_fast(1);
    release_fast(1);
    release_fast(0);
}

unsafe extern "system" fn waits_in_reverse(_: *mut c_void) {
    take_fast(1);
    meet();
    take_fast(0);
    release_fast(0);
    release_fast(1);
}

#[test]
fn threads_that_wait_for_each_other_are_reported_and_go_on() {
    let spinning = || {
        fresh_spin_locks();
        ARRIVED.store(0, Ordering::SeqCst);
        let threads = [start(spins_in_order), start(spins_in_reverse)];
        threads.into_iter().for_each(join);
    };
    let waiting = || {
        fresh_fast_mutexes();
        ARRIVED.store(0, Ordering::SeqCst);
        let threads = [start(waits_in_order), start(waits_in_reverse)];
        threads.into_iter().for_each(join);
    };
    for action in [spinning as fn(), waiting as fn()] {
        let reports = run(action);
        let found = rules(&reports);
        assert!(found.contains(&Rule::LockOrder), "{found:?}");
        assert_eq!(
            found.iter().filter(|it| **it == Rule::LockDeadlock).count(),
            1,
            "{found:?}"
        );
        assert_eq!(found.len(), 2, "{reports:?}");
    }
    let silent = run(|| {
        fresh_spin_locks();
        fresh_fast_mutexes();
        ARRIVED.store(1, Ordering::SeqCst);
        in_thread(spins_in_order);
        in_thread(waits_in_order);
    });
    assert_eq!(rules(&silent), []);
}
