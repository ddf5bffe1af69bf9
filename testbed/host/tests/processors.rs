// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processors: at DISPATCH_LEVEL and above a thread has one for itself.

use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use fltport_nt::bindings::{
    KeGetCurrentProcessorNumberEx, KeQueryActiveProcessorCountEx, KeQueryMaximumProcessorCountEx,
    KfRaiseIrql, PROCESSOR_NUMBER,
};
use fltport_nt::ke::SpinLock;
use fltport_nt::linked::{ALL_PROCESSOR_GROUPS, DISPATCH_LEVEL, KeLowerIrql};
use nt_host::clock::{Deadline, SECOND};
use nt_host::irql::HIGH_LEVEL;
use nt_host::sched::{self, Blocked, Waiter};
use nt_host::{Config, Kernel, sim};

fn boot(processors: u32) -> Kernel {
    Kernel::boot(Config {
        processors,
        ..Config::default()
    })
}

fn number() -> u32 {
    // SAFETY: no place for the group's number.
    unsafe { KeGetCurrentProcessorNumberEx(null_mut()) }
}

/// Runs a closure at an IRQL.
fn at<R>(irql: u8, f: impl FnOnce() -> R) -> R {
    // SAFETY: the callers are below.
    let former = unsafe { KfRaiseIrql(irql) };
    let result = f();
    // SAFETY: what it was.
    unsafe { KeLowerIrql(former) };
    result
}

/// Who is on which processor, as those who are there see it.
struct Seen {
    taken: Vec<AtomicBool>,
    now: AtomicU32,
    most: AtomicU32,
}

impl Seen {
    fn new(processors: u32) -> Arc<Seen> {
        Arc::new(Seen {
            taken: (0..processors).map(|_| AtomicBool::new(false)).collect(),
            now: AtomicU32::new(0),
            most: AtomicU32::new(0),
        })
    }

    /// To be called at DISPATCH_LEVEL or above.
    fn visit(&self, stay: impl FnOnce()) {
        let number = number();
        let taken = self
            .taken
            .get(number as usize)
            .expect("less than the count");
        assert!(!taken.swap(true, Ordering::SeqCst), "two on one processor");
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        stay();
        assert_eq!(self::number(), number, "moved to another processor");
        self.now.fetch_sub(1, Ordering::SeqCst);
        taken.store(false, Ordering::SeqCst);
    }
}

#[test]
fn there_are_as_many_as_the_configuration_says() {
    for (wanted, found) in [(0, 1), (1, 1), (3, 3), (64, 64), (1000, 64)] {
        let kernel = boot(wanted);
        // SAFETY: takes a number, returns a number.
        let count = |group| unsafe { KeQueryActiveProcessorCountEx(group) };
        assert_eq!(count(ALL_PROCESSOR_GROUPS), found);
        assert_eq!((count(0), count(1)), (found, 0));
        // SAFETY: as above.
        let most = unsafe { KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS) };
        assert_eq!(most, found);
        kernel.shutdown_clean();
    }
    assert!(Config::default().processors > 1);
}

#[test]
fn the_number_is_in_group_zero() {
    let kernel = boot(2);
    let mut place = PROCESSOR_NUMBER {
        Group: 7,
        Number: 7,
        Reserved: 7,
    };
    at(DISPATCH_LEVEL, || {
        // SAFETY: a valid place.
        let index = unsafe { KeGetCurrentProcessorNumberEx(&raw mut place) };
        assert_eq!((place.Group, u32::from(place.Number)), (0, index));
        assert_eq!(place.Reserved, 0);
    });
    assert!(number() < 2, "below DISPATCH_LEVEL as well");
    kernel.shutdown_clean();
}

#[test]
fn threads_at_dispatch_level_never_share_a_processor() {
    let kernel = boot(3);
    let (seen, lock) = (Seen::new(3), SpinLock::new(0_u32));
    thread::scope(|scope| {
        for thread in 0..6 {
            let (seen, lock) = (&seen, &lock);
            scope.spawn(move || {
                for round in 0..5_000 {
                    match (thread + round) % 3 {
                        0 => at(DISPATCH_LEVEL, || seen.visit(|| ())),
                        1 => at(HIGH_LEVEL, || seen.visit(|| ())),
                        _ => at(DISPATCH_LEVEL, || seen.visit(|| *lock.lock() += 1)),
                    }
                    let mut held = lock.lock();
                    seen.visit(|| *held += 1);
                }
            });
        }
    });
    assert!(seen.most.load(Ordering::SeqCst) <= 3);
    assert_eq!(*lock.lock(), 40_000);
    kernel.shutdown_clean();
}

#[test]
fn whoever_comes_when_all_are_taken_waits() {
    let most = Arc::new(AtomicU32::new(0));
    let all = most.clone();
    let run = move |_| {
        let kernel = boot(2);
        let seen = Seen::new(2);
        let threads: Vec<_> = (0..5)
            .map(|_| {
                let seen = seen.clone();
                let body = move || {
                    for _ in 0..3 {
                        at(DISPATCH_LEVEL, || seen.visit(|| sched::point("a stay")));
                        sched::point("between two stays");
                    }
                };
                sched::spawn("a visitor".to_owned(), body).unwrap()
            })
            .collect();
        threads.iter().for_each(sched::Thread::join);
        all.fetch_max(seen.most.load(Ordering::SeqCst), Ordering::SeqCst);
        kernel.shutdown_clean();
    };
    let first = sim::explore(0..300, run.clone()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(most.load(Ordering::SeqCst), 2, "both are used");
    assert_eq!(sim::explore(0..300, run).unwrap(), first, "the same seeds");
}

/// One waits at DISPATCH_LEVEL for another one that has to get there first.
fn wait_for_one_who_needs_the_processor() {
    let kernel = boot(1);
    let waiter = Arc::new(Waiter::new());
    let other = waiter.clone();
    let blocked = at(DISPATCH_LEVEL, || {
        let wake = move || at(DISPATCH_LEVEL, || sched::wake(&other));
        sched::spawn("the one that wakes".to_owned(), wake).unwrap();
        let blocked = sched::block(&waiter, Some(Deadline::after(20 * SECOND)));
        assert_eq!(number(), 0);
        blocked
    });
    assert_eq!(blocked, Blocked::Wakened);
    kernel.shutdown_clean();
}

#[test]
fn whoever_blocks_at_dispatch_level_lets_others_have_the_processor() {
    wait_for_one_who_needs_the_processor();
    sim::explore(0..50, |_| wait_for_one_who_needs_the_processor())
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_thread_that_ends_at_dispatch_level_leaves_its_processor() {
    let kernel = boot(1);
    // SAFETY: any level above the present one.
    let raise = || unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    thread::spawn(raise).join().unwrap();
    at(DISPATCH_LEVEL, || assert_eq!(number(), 0));
    kernel.shutdown_clean();
}

#[test]
fn a_thread_comes_back_to_its_processor() {
    let kernel = boot(4);
    let alone = at(DISPATCH_LEVEL, number);
    thread::scope(|scope| {
        let other = at(DISPATCH_LEVEL, || {
            scope
                .spawn(|| [(); 3].map(|()| at(DISPATCH_LEVEL, number)))
                .join()
        });
        let [first, second, third] = other.unwrap();
        assert_ne!(first, alone);
        assert_eq!((second, third), (first, first));
    });
    assert_eq!(at(DISPATCH_LEVEL, number), alone);
    kernel.shutdown_clean();
}
