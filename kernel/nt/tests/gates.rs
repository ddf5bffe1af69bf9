// SPDX-License-Identifier: MIT OR Apache-2.0
//! A gate for each processor, on the hosted kernel.

use fltport_nt::ex::Tag;
use fltport_nt::ke::{AtDispatch, Gated, Gates, PerProcessor};
use nt_host::{Config, Kernel};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const TAG: Tag = Tag::new(b"Gate");

#[test]
fn what_is_a_processors_is_used_by_one_thread_at_a_time() {
    const EACH: u64 = 200;
    static GATES: Gates = Gates::new();
    let kernel = Kernel::boot(Config::default());
    let processors = fltport_nt::ke::processor_count();
    let mut counts = PerProcessor::new(TAG, &GATES, processors, || 0_u64).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 * processors {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let at = AtDispatch::raise();
                    let mut inside = GATES.enter(&at).unwrap();
                    let (_, mut here) = inside.split();
                    // A plain addition: two at a time would lose some.
                    *counts.get(&mut here).unwrap() += 1;
                }
            });
        }
    });
    let sum: u64 = counts.iter_mut().map(|count| *count).sum();
    assert_eq!(sum, u64::from(3 * processors) * EACH);
    drop(counts);
    kernel.shutdown_clean();
}

#[test]
fn inside_other_gates_nothing_is_given_out() {
    static GATES: Gates = Gates::new();
    static OTHERS: Gates = Gates::new();
    static VALUE: Gated<u32> = Gated::new(&GATES, 7);
    let kernel = Kernel::boot(Config::default());
    let own = PerProcessor::new(TAG, &GATES, 4, || 1).unwrap();
    let mut owner = VALUE.owner().unwrap();
    assert!(VALUE.owner().is_none(), "one at a time");
    owner.open();
    let at = AtDispatch::raise();
    let mut inside = OTHERS.enter(&at).unwrap();
    let (reading, mut here) = inside.split();
    assert_eq!((VALUE.read(reading), own.get(&mut here)), (None, None));
    drop(inside);
    let mut inside = GATES.enter(&at).unwrap();
    let (reading, mut here) = inside.split();
    assert_eq!(
        (VALUE.read(reading), own.get(&mut here)),
        (Some(&7), Some(&mut 1))
    );
    drop(inside);
    drop(at);
    drop(owner);
    let at = AtDispatch::raise();
    let mut inside = GATES.enter(&at).unwrap();
    assert_eq!(VALUE.read(inside.split().0), None, "its owner is gone");
    drop(inside);
    drop(at);
    assert!(VALUE.owner().is_some());
    drop(own);
    kernel.shutdown_clean();
}

/// Whoever reads sees a value that is whole, however often it is changed.
#[test]
fn nobody_reads_what_is_being_changed() {
    static GATES: Gates = Gates::new();
    static PAIR: Gated<(u64, u64)> = Gated::new(&GATES, (0, 0));
    let kernel = Kernel::boot(Config::default());
    let mut owner = PAIR.owner().unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !ended.load(Ordering::Relaxed) {
                    let at = AtDispatch::raise();
                    let mut inside = GATES.enter(&at).unwrap();
                    if let Some((one, other)) = PAIR.read(inside.split().0) {
                        assert!(one == other && *one >= last);
                        last = *one;
                    }
                }
            });
        }
        for number in 1..300 {
            owner.change(|pair| {
                pair.0 = number;
                thread::yield_now();
                pair.1 = number;
            });
            owner.open();
        }
        ended.store(true, Ordering::Relaxed);
    });
    drop(owner);
    kernel.shutdown_clean();
}
