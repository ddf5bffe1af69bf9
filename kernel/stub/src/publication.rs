// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the registration with the common driver is there to be read: who may write its place, and
//! who may read it without a lock.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU8, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};

/// Nothing yet: the place is nobody's.
const EMPTY: u8 = 0;
/// `publish` is writing the place.
const WRITING: u8 = 1;
/// There: the place is everybody's to read.
const THERE: u8 = 2;
/// Not any more; but somebody may still read it.
const WITHDRAWN: u8 = 3;

/// The state of a place that is written once, read by many, and used again when nobody is left.
pub(crate) struct Publication(AtomicU8);

impl Publication {
    /// Nothing is there.
    pub(crate) fn new() -> Self {
        Publication(AtomicU8::new(EMPTY))
    }

    /// Makes it there; `write` runs while nobody else touches the place. Nothing happens if it was
    /// there before and has not been reset since.
    pub(crate) fn publish(&self, write: impl FnOnce()) {
        if self
            .0
            .compare_exchange(EMPTY, WRITING, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            write();
            // Release: who sees it there sees what was written.
            self.0.store(THERE, Ordering::Release);
        }
    }

    /// Whether it is there. Then what `publish` wrote is seen, too, and stays as it is until nobody
    /// is left who may read.
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::Acquire) == THERE
    }

    /// From here on it is not there. Who has seen it may read on.
    pub(crate) fn withdraw(&self) {
        // Relaxed: nothing is handed over, and who comes too late finds no more than who came before.
        let _not_there =
            self.0
                .compare_exchange(THERE, WITHDRAWN, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The place may be written again. To be called when nobody may read, write or publish: that
    /// whoever did is done is ordered by what keeps them out.
    pub(crate) fn reset(&self) {
        self.0.store(EMPTY, Ordering::Relaxed);
    }
}

#[cfg(loom)]
#[cfg(test)]
#[allow(clippy::unwrap_used, unsafe_code, reason = "a model is a test")]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, RwLock};
    use loom::thread;

    struct Place {
        publication: Publication,
        value: UnsafeCell<u32>,
        /// The rundown protection: shared by who is inside, alone for who has closed it.
        gate: RwLock<()>,
    }

    impl Place {
        fn new() -> Arc<Place> {
            Arc::new(Place {
                publication: Publication::new(),
                value: UnsafeCell::new(0),
                gate: RwLock::new(()),
            })
        }

        /// Inside.
        fn publish(&self, value: u32) {
            let _inside = self.gate.read().unwrap();
            // SAFETY: nobody else touches it meanwhile. (loom says so if it is not true.)
            let write = |place: *mut u32| unsafe { *place = value };
            self.publication.publish(|| self.value.with_mut(write));
        }

        /// Inside; what is there.
        fn read(&self) -> Option<u32> {
            let _inside = self.gate.read().unwrap();
            self.publication.is_there().then(|| {
                // SAFETY: it is there. (loom says so if it is not true.)
                self.value.with(|value| unsafe { *value })
            })
        }

        fn close_and_reset(&self) {
            let _alone = self.gate.write().unwrap();
            self.publication.reset();
        }
    }

    #[test]
    fn who_sees_it_sees_what_was_published_also_again() {
        loom::model(|| {
            let place = Place::new();
            let reader = place.clone();
            let reading = thread::spawn(move || [reader.read(), reader.read()]);
            place.publish(7);
            place.close_and_reset();
            place.publish(8);
            let seen = reading.join().unwrap();
            assert!(matches!(
                seen,
                [None, _] | [Some(7), None | Some(7 | 8)] | [Some(8), Some(8)]
            ));
            assert_eq!(place.read(), Some(8));
        });
    }

    #[test]
    fn what_is_withdrawn_is_not_written_again_while_somebody_may_read() {
        loom::model(|| {
            let place = Place::new();
            place.publish(7);
            let reader = place.clone();
            let reading = thread::spawn(move || reader.read());
            place.publication.withdraw();
            // Refused: the reader may be at it.
            place.publish(9);
            assert!(matches!(reading.join().unwrap(), None | Some(7)));
            assert_eq!(place.read(), None);
        });
    }

    #[test]
    fn of_two_that_publish_one_does() {
        loom::model(|| {
            let place = Place::new();
            let other = place.clone();
            let publishing = thread::spawn(move || other.publish(8));
            place.publish(7);
            publishing.join().unwrap();
            assert!(matches!(place.read(), Some(7 | 8)));
        });
    }
}
