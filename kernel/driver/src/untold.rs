// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a connection lost something that has not been told.
//!
//! Processors count what they lose and then say so here, without a lock; who tells of it takes that back first and collects
//! the counts then. So a loss that was not collected has been said here since, and the one who said it first wakes
//! the sender.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};

/// See the module. Read for each record, written when something was lost.
pub(crate) struct Untold(AtomicBool);

impl Untold {
    /// IRQL: any. Nothing was.
    pub(crate) fn new() -> Self {
        Untold(AtomicBool::new(false))
    }

    /// IRQL: any. Whether something was.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// IRQL: any. Something was lost, and has been counted; whether nothing was there.
    pub(crate) fn note(&self) -> bool {
        // Always a swap: who only looked, and found it there, may not have been seen to count by who takes it next.
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// IRQL: any. What was counted is about to be collected; whether anything was there.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

#[cfg(all(test, loom))]
#[allow(clippy::unwrap_used, reason = "a model is a test")]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32;
    use loom::thread;

    struct Connection {
        untold: Untold,
        /// As [`Marks`](crate::marks::Marks) count.
        has_lost: AtomicBool,
        /// Written by who loses alone.
        lost: AtomicU32,
        /// Written by who collects alone.
        taken: AtomicU32,
    }

    impl Connection {
        fn lose(&self) {
            let lost = self.lost.load(Ordering::Relaxed) + 1;
            self.lost.store(lost, Ordering::Relaxed);
            // A swap where `Marks` store: loom would put such a store in front of a swap that has not read it.
            self.has_lost.swap(true, Ordering::Release);
            self.untold.note();
        }

        fn collect(&self) -> u32 {
            if self.untold.take() && self.has_lost.swap(false, Ordering::AcqRel) {
                let lost = self.lost.load(Ordering::Relaxed);
                let taken = self.taken.load(Ordering::Relaxed);
                self.taken.store(lost, Ordering::Relaxed);
                lost - taken
            } else {
                0
            }
        }
    }

    #[test]
    fn a_loss_is_collected_or_is_there_to_be_told() {
        loom::model(|| {
            let connection = Arc::new(Connection {
                untold: Untold::new(),
                has_lost: AtomicBool::new(false),
                lost: AtomicU32::new(0),
                taken: AtomicU32::new(0),
            });
            connection.lose();
            let losing = connection.clone();
            let losing = thread::spawn(move || losing.lose());
            let collected = connection.collect();
            losing.join().unwrap();
            assert!(collected == 2 || connection.untold.is_there());
            assert_eq!(collected + connection.collect(), 2);
        });
    }
}
