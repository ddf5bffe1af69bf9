// SPDX-License-Identifier: MIT OR Apache-2.0
//! The half of the kernel's that looks what has been read of a ring: one for each ring, used by one thread at a time, while
//! another one may fill the ring.

use crate::account::{Account, LogEntry};
use crate::memory::{Ordering, Shared};
use core::ops::Deref;

/// A record that is in a ring no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// What it was published with.
    pub tag: u16,
    /// Bytes that it took.
    pub bytes: usize,
    /// [`Settler::note`] has told of it.
    pub noted: bool,
}

/// The settler of one ring.
#[derive(Debug)]
pub struct Settler<A> {
    pub(crate) data: Shared,
    pub(crate) consumer: Shared,
    /// Where in the data the ring lies, and its word in the consumer's memory.
    pub(crate) ring: usize,
    pub(crate) consumed: usize,
    pub(crate) capacity: usize,
    pub(crate) account: A,
    /// How many records are gone.
    pub(crate) gone: u64,
    /// How many records have been told of, when they were on their way or when they were gone.
    pub(crate) noted: u64,
    /// How often the consumer claimed what cannot be.
    pub(crate) nonsense: u64,
}

impl<A, L> Settler<A>
where
    A: Deref<Target = Account<L>>,
    L: Deref<Target = [LogEntry]>,
{
    /// IRQL: any. Bytes of the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// IRQL: any. Bytes that hold records that are not known to be read; after [`Settler::settle`], that are not read.
    #[must_use]
    pub fn used(&self) -> usize {
        self.account.used() as usize
    }

    /// IRQL: any. The most bytes that were ever used, as far as was known.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.account.peak.load(Ordering::Relaxed) as usize
    }

    /// IRQL: any. How many records have been published.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.account.records.load(Ordering::Relaxed)
    }

    /// IRQL: any. How often the consumer's word was one that cannot be.
    #[must_use]
    pub fn nonsense(&self) -> u64 {
        self.nonsense
    }

    fn head(&self) -> u64 {
        // Relaxed: nobody else writes it.
        self.account.head.load(Ordering::Relaxed)
    }

    /// IRQL: any. Looks what has been read, `most` records at most, and hands them to `gone`. Whether there may be more.
    pub fn settle(&mut self, most: usize, gone: impl FnMut(Gone)) -> bool {
        // Acquire: what the consumer has read of the records is behind it, so they can be written over.
        let claimed = self.consumer.word(self.consumed).load(Ordering::Acquire);
        let head = self.head();
        // Acquire: the records, and what the log says of them, are there.
        let records = self.account.records.load(Ordering::Acquire);
        let tail = self.account.tail.load(Ordering::Relaxed);
        if !(head..=tail).contains(&claimed) {
            self.nonsense += 1;
            return false;
        }
        self.forget(most, claimed, records, gone)
    }

    /// IRQL: any. Nobody will read any more: hands on what has not been read, `most` records at most, as [`Settler::settle`] does. Whether there is
    /// more.
    pub fn abandon(&mut self, most: usize, gone: impl FnMut(Gone)) -> bool {
        let records = self.account.records.load(Ordering::Acquire);
        self.forget(most, u64::MAX, records, gone)
    }

    /// Hands on the oldest records, up to this position and number; whether there are more.
    fn forget(&mut self, most: usize, end: u64, records: u64, mut gone: impl FnMut(Gone)) -> bool {
        let mut head = self.head();
        let mut left = most;
        let mut more = false;
        while self.gone != records {
            let Some((tag, bytes)) = self.account.noted(self.gone) else {
                break;
            };
            if head + bytes as u64 > end {
                break;
            }
            more = left == 0;
            if more {
                break;
            }
            left -= 1;
            head += bytes as u64;
            let noted = self.gone < self.noted;
            self.gone += 1;
            gone(Gone { tag, bytes, noted });
        }
        self.noted = self.noted.max(self.gone);
        // Release: what was read of their log has been read. (That the consumer has read the records is known from it.)
        self.account.head.store(head, Ordering::Release);
        more
    }

    /// IRQL: any. Tells of records that are on their way and were not told of before, `most` at most, by their tags. Whether there may be
    /// more.
    pub fn note(&mut self, most: usize, mut each: impl FnMut(u16)) -> bool {
        let records = self.account.records.load(Ordering::Acquire);
        for _ in 0..most {
            if self.noted == records {
                return false;
            }
            if let Some((tag, _)) = self.account.noted(self.noted) {
                each(tag);
            }
            self.noted += 1;
        }
        self.noted != records
    }

    /// IRQL: any. Tells another consumer, which comes in place of one that is gone, where to begin: behind what that one is
    /// known to have read, whatever it left in the word. Nobody else uses the consumer's memory now.
    ///
    /// The common driver gives each connection rings of its own, and a stream, which outlives one, none: it has no use for
    /// this yet. It is here because the rings' rules are: that a second consumer misses nothing is explored in the models.
    pub fn hand_over(&mut self) {
        let word = self.consumer.word(self.consumed);
        word.store(self.head(), Ordering::Release);
    }

    /// IRQL: any. Copies the start of the oldest record that is not known to be read; false if there is none. What [`Settler::abandon`] hands on
    /// next.
    pub fn look_at_oldest(&self, out: &mut [u8]) -> bool {
        if self.gone == self.account.records.load(Ordering::Acquire) {
            return false;
        }
        let Some((_, bytes)) = self.account.noted(self.gone) else {
            return false;
        };
        let length = out.len().min(bytes);
        let start = self.head() as usize & (self.capacity - 1);
        let (first, second) = out.split_at_mut(length.min(self.capacity - start));
        self.data.copy_out(self.ring + start, first);
        let rest = length - first.len();
        if let Some(second) = second.get_mut(..rest) {
            self.data.copy_out(self.ring, second);
        }
        true
    }
}
