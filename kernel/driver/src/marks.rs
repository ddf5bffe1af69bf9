// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each processor notes of one subscription where it does not take the lock of the routes; who holds that collects
//! it.

use crate::provider::TYPES;
use crate::tag;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fltport_nt::Result;
use fltport_nt::ex::PoolSlice;
use fltport_nt::ke::Apart;

/// One processor's. Numbers only: all of it is read and written relaxed.
struct Mark {
    /// Bytes that were put into its ring for this subscription.
    added: AtomicU64,
    /// Whether anything is in `lost`.
    has_lost: AtomicBool,
    /// Notifications that found the ring full, by message: all that ever did. (In 32 bits what a service that hangs loses in a day
    /// would go round.)
    lost: [AtomicU64; TYPES],
    filtered: AtomicU64,
    unjudged: AtomicU64,
    /// What of these is in the books.
    settled: Apart<Settled>,
}

/// Written by who holds the lock of the routes.
struct Settled {
    /// Bytes that are gone.
    removed: AtomicU64,
    /// Losses that have been taken out.
    lost: [AtomicU64; TYPES],
}

/// Adds to a number that nobody else writes: without a locked instruction.
fn add(number: &AtomicU64, count: u64) {
    let sum = number.load(Ordering::Relaxed).wrapping_add(count);
    number.store(sum, Ordering::Relaxed);
}

impl Mark {
    fn new() -> Self {
        Mark {
            added: AtomicU64::new(0),
            has_lost: AtomicBool::new(false),
            lost: [const { AtomicU64::new(0) }; TYPES],
            filtered: AtomicU64::new(0),
            unjudged: AtomicU64::new(0),
            settled: Apart::new(Settled {
                removed: AtomicU64::new(0),
                lost: [const { AtomicU64::new(0) }; TYPES],
            }),
        }
    }

    fn bytes(&self) -> usize {
        let removed = self.settled.value.removed.load(Ordering::Relaxed);
        self.added.load(Ordering::Relaxed).saturating_sub(removed) as usize
    }
}

/// See the module.
pub(crate) struct Marks(PoolSlice<Apart<Mark>>);

impl Marks {
    /// IRQL: <= DISPATCH_LEVEL. For so many processors.
    pub(crate) fn new(processors: u32) -> Result<Self> {
        let make = || Apart::new(Mark::new());
        PoolSlice::filled_with(tag::LEDGER, processors as usize, make).map(Marks)
    }

    /// Whether each of so many processors has one. Without them nothing goes the short way.
    pub(crate) fn are_for(&self, processors: u32) -> bool {
        self.0.len() >= processors as usize
    }

    fn of(&self, processor: u32) -> Option<&Mark> {
        self.0.get(processor as usize).map(|it| &it.value)
    }

    fn all(&self) -> impl Iterator<Item = &Mark> {
        self.0.iter().map(|it| &it.value)
    }

    /// So many bytes were put into a processor's ring. On that processor.
    pub(crate) fn added(&self, processor: u32, bytes: usize) {
        if let Some(mark) = self.of(processor) {
            add(&mark.added, bytes as u64);
        }
    }

    /// So many bytes are gone from a processor's ring. Under the lock of the routes.
    pub(crate) fn removed(&self, processor: u32, bytes: usize) {
        if let Some(mark) = self.of(processor) {
            add(&mark.settled.value.removed, bytes as u64);
        }
    }

    /// Bytes in a processor's ring.
    pub(crate) fn bytes(&self, processor: u32) -> usize {
        self.of(processor).map_or(0, Mark::bytes)
    }

    /// Bytes in all rings.
    pub(crate) fn bytes_anywhere(&self) -> usize {
        self.all().map(Mark::bytes).sum()
    }

    /// A notification has found a processor's ring full. On that processor.
    pub(crate) fn lost(&self, processor: u32, message: u16) {
        if let Some(mark) = self.of(processor)
            && let Some(lost) = mark.lost.get(usize::from(message))
        {
            add(lost, 1);
            // Release: whoever finds this finds the number.
            mark.has_lost.store(true, Ordering::Release);
        }
    }

    /// Takes out what was lost: calls `sink` with the processor, the message and how many. Under the lock of the routes.
    pub(crate) fn take_lost(&self, mut sink: impl FnMut(u32, u16, u64)) {
        for (processor, mark) in (0_u32..).zip(self.all()) {
            if !mark.has_lost.load(Ordering::Relaxed)
                || !mark.has_lost.swap(false, Ordering::AcqRel)
            {
                continue;
            }
            for (message, (lost, taken)) in
                (0_u16..).zip(mark.lost.iter().zip(&mark.settled.value.lost))
            {
                let lost = lost.load(Ordering::Relaxed);
                let count = lost.wrapping_sub(taken.load(Ordering::Relaxed));
                if count != 0 {
                    taken.store(lost, Ordering::Relaxed);
                    sink(processor, message, count);
                }
            }
        }
    }

    /// A filter has left something out. On that processor.
    pub(crate) fn filtered(&self, processor: u32) {
        if let Some(mark) = self.of(processor) {
            add(&mark.filtered, 1);
        }
    }

    /// A filter could not judge something. On that processor.
    pub(crate) fn unjudged(&self, processor: u32) {
        if let Some(mark) = self.of(processor) {
            add(&mark.unjudged, 1);
        }
    }

    /// What filters left out and what they could not judge, on all processors.
    pub(crate) fn screened(&self) -> (u64, u64) {
        let of = |mark: &Mark| {
            let filtered = mark.filtered.load(Ordering::Relaxed);
            (filtered, mark.unjudged.load(Ordering::Relaxed))
        };
        let all = self.all().map(of);
        all.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use nt_host::{Config, Kernel};

    /// A service may hang for days before anybody collects what was lost meanwhile.
    #[test]
    fn no_loss_is_forgotten_however_many_there_are() {
        // For its pool.
        let kernel = Kernel::boot(Config::default());
        let marks = Marks::new(1).unwrap();
        let lost = marks.of(0).and_then(|mark| mark.lost.get(1)).unwrap();
        lost.store(u64::from(u32::MAX), Ordering::Relaxed);
        marks.lost(0, 1);
        let mut taken = None;
        marks.take_lost(|processor, message, count| taken = Some((processor, message, count)));
        assert_eq!(taken, Some((0, 1, 1 << 32)));
        drop(marks);
        drop(kernel);
    }
}
