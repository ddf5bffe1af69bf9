// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two ways in which wake-ups were lost in rings that have been shipped, to show that these models
//! find them. Each is as short as the mistake allows.

use super::Signal;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::atomic::AtomicBool as Found;
use std::sync::atomic::Ordering::SeqCst as InTurn;

/// Which fences, and where the consumer looks again.
#[derive(Clone, Copy)]
struct Variant {
    producer_fence: bool,
    consumer_fence: bool,
    looks_at_what_is_last: bool,
}

const SOUND: Variant = Variant {
    producer_fence: true,
    consumer_fence: true,
    looks_at_what_is_last: true,
};

fn fence_if(wanted: bool) {
    if wanted {
        fence(Ordering::SeqCst);
    }
}

/// One record, and the words around it: of a ring that says how far records are reserved, and in each record's header
/// whether it is complete.
#[derive(Default)]
struct Words {
    reserved: AtomicU64,
    complete: AtomicBool,
    armed: AtomicU32,
    signal: Signal,
}

impl Words {
    fn produce(&self, variant: Variant) {
        self.reserved.store(1, Ordering::Release);
        self.complete.store(true, Ordering::Release);
        fence_if(variant.producer_fence);
        if self.armed.load(Ordering::Relaxed) == 1 && self.armed.swap(0, Ordering::Relaxed) == 1 {
            self.signal.set();
        }
    }

    /// Whether it sleeps; else it has found the record complete.
    fn consume(&self, variant: Variant) -> bool {
        loop {
            let seen = self.reserved.load(Ordering::Acquire);
            if self.complete.load(Ordering::Acquire) {
                return false;
            }
            self.armed.store(1, Ordering::Relaxed);
            fence_if(variant.consumer_fence);
            let is_new = match variant.looks_at_what_is_last {
                true => self.complete.load(Ordering::Acquire),
                false => self.reserved.load(Ordering::Acquire) != seen,
            };
            if !is_new {
                return true;
            }
            self.armed.store(0, Ordering::Relaxed);
            thread::yield_now();
        }
    }
}

/// Whether some interleaving leaves the consumer asleep with a record before it and no signal on its way.
fn loses_a_wake_up(variant: Variant) -> bool {
    let found = std::sync::Arc::new(Found::new(false));
    let finds = found.clone();
    loom::model(move || {
        let words = Arc::new(Words::default());
        let theirs = words.clone();
        let producing = thread::spawn(move || theirs.produce(variant));
        let sleeps = words.consume(variant);
        producing.join().unwrap();
        if sleeps && !words.signal.is_set() {
            finds.store(true, InTurn);
        }
    });
    found.load(InTurn)
}

#[test]
fn one_that_looks_again_at_what_moved_before_the_record_was_complete_misses_its_completion() {
    assert!(loses_a_wake_up(Variant {
        looks_at_what_is_last: false,
        ..SOUND
    }));
    assert!(!loses_a_wake_up(SOUND));
}

#[test]
fn without_a_fence_on_either_side_a_processor_may_look_before_it_is_seen_to_write() {
    assert!(loses_a_wake_up(Variant {
        producer_fence: false,
        ..SOUND
    }));
    assert!(loses_a_wake_up(Variant {
        consumer_fence: false,
        ..SOUND
    }));
}
