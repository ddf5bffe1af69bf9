// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a connection lost something that has not been told.
//!
//! Processors count what they lose and then say so here, without a lock. Who tells of it looks how much was said, collects the
//! counts, tells, and only then says here up to where. So whoever has lost something and finds all told has the gap before
//! whatever it publishes next. The one who says it first wakes the sender.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

/// See the module. Read for each record, written when something was lost. In one word, so that who notes and who tells know which of
/// them came last: how often something was lost, above; up to which of these it has been told, below.
pub(crate) struct Untold(AtomicU64);

/// How much had been lost at a moment: what was counted until then can be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted(u32);

fn noted(word: u64) -> u32 {
    (word >> 32) as u32
}

fn told(word: u64) -> u32 {
    word as u32
}

impl Untold {
    /// IRQL: any. Nothing was.
    pub(crate) fn new() -> Self {
        Untold(AtomicU64::new(0))
    }

    /// IRQL: any. Whether something was.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        // Acquire: what was told has its numbers.
        let word = self.0.load(Ordering::Acquire);
        noted(word) != told(word)
    }

    /// IRQL: any. Something was lost, and has been counted; whether all had been told, and the caller is to see to it that
    /// this is.
    pub(crate) fn note(&self) -> bool {
        // Release: who looks how much was noted finds it counted. What overflows is gone.
        let before = self.0.fetch_add(1 << 32, Ordering::AcqRel);
        noted(before) == told(before)
    }

    /// IRQL: any. Under the lock of the routes, before anything is collected: how much was lost; none if all has been told.
    pub(crate) fn begin(&self) -> Option<Noted> {
        let word = self.0.load(Ordering::Acquire);
        (noted(word) != told(word)).then_some(Noted(noted(word)))
    }

    /// IRQL: any. Under the same hold of the lock: all that had been lost then has been told, or nothing more is to be told of it. Whether
    /// nothing was lost since: else the caller is to see to it that it is told.
    #[must_use = "what was lost since is to be told as well"]
    pub(crate) fn told_up_to(&self, Noted(number): Noted) -> bool {
        // Nobody else writes this half.
        let change = told(self.0.load(Ordering::Relaxed)) ^ number;
        let before = self.0.fetch_xor(change.into(), Ordering::AcqRel);
        noted(before) == number
    }
}

#[cfg(all(test, loom))]
#[allow(clippy::unwrap_used, reason = "a model is a test")]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU32};
    use loom::thread;

    struct Connection {
        untold: Untold,
        /// As [`Marks`](crate::marks::Marks) count.
        has_lost: AtomicBool,
        /// Written by who loses alone.
        lost: AtomicU32,
        /// Written by who collects alone.
        taken: AtomicU32,
        /// Where records take their numbers from.
        order: AtomicU32,
        /// How often the sender was woken.
        woken: AtomicU32,
    }

    impl Connection {
        fn new() -> Arc<Self> {
            Arc::new(Connection {
                untold: Untold::new(),
                has_lost: AtomicBool::new(false),
                lost: AtomicU32::new(0),
                taken: AtomicU32::new(0),
                order: AtomicU32::new(0),
                woken: AtomicU32::new(0),
            })
        }

        fn wake(&self) {
            self.woken.fetch_add(1, Ordering::AcqRel);
        }

        fn lose(&self) {
            let lost = self.lost.load(Ordering::Relaxed) + 1;
            self.lost.store(lost, Ordering::Relaxed);
            // A swap where `Marks` store: loom would put such a store in front of a swap that has not read it.
            self.has_lost.swap(true, Ordering::Release);
            if self.untold.note() {
                self.wake();
            }
        }

        /// What is told, and the number that the gap has: with some, nothing, if it is told later.
        fn tell(&self, later: bool) -> (u32, u32) {
            let Some(noted) = self.untold.begin() else {
                return (0, 0);
            };
            let lost = match self.has_lost.swap(false, Ordering::AcqRel) {
                true => {
                    let lost = self.lost.load(Ordering::Relaxed);
                    lost - self.taken.swap(lost, Ordering::Relaxed)
                }
                false => 0,
            };
            if later {
                return (lost, 0);
            }
            let number = self.order.fetch_add(1, Ordering::AcqRel) + 1;
            if !self.untold.told_up_to(noted) {
                self.wake();
            }
            (lost, number)
        }
    }

    #[test]
    fn a_loss_is_collected_or_is_there_to_be_told() {
        loom::model(|| {
            let connection = Connection::new();
            connection.lose();
            let losing = connection.clone();
            let losing = thread::spawn(move || losing.lose());
            let (collected, _) = connection.tell(false);
            losing.join().unwrap();
            assert!(collected == 2 || connection.untold.is_there());
            // Woken for the first, and again for what was not told with it.
            let woken = connection.woken.load(Ordering::Acquire);
            assert!(collected == 2 || woken >= 2, "{collected} {woken}");
            assert_eq!(collected + connection.tell(false).0, 2);
            assert!(!connection.untold.is_there());
        });
    }

    /// Who has lost something publishes nothing on the short way before that has its number, also while somebody
    /// has collected it and tells later.
    #[test]
    fn whoever_finds_all_told_comes_behind_the_gap() {
        for later in [false, true] {
            loom::model(move || {
                let connection = Connection::new();
                let telling = connection.clone();
                let telling = thread::spawn(move || telling.tell(later).1);
                connection.lose();
                let published = (!connection.untold.is_there())
                    .then(|| connection.order.fetch_add(1, Ordering::AcqRel) + 1);
                let gap = telling.join().unwrap();
                if let Some(number) = published {
                    assert!(gap != 0 && gap < number, "gap {gap}, record {number}");
                }
            });
        }
    }
}
