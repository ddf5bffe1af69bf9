// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel knows of one ring, in memory of its own: up to where it is filled and read, and which
//! records are on their way. So nothing that the consumer or anybody else can write decides what the kernel does, but for
//! how much room there is.

use crate::layout::{APART, stride};
use crate::memory::{AtomicU32, AtomicU64, Ordering};
use core::ops::Deref;

/// Of an entry of the log, the bits that are the record's tag; those above count the units that it takes.
const TAG_BITS: u32 = 16;
/// Bytes of a unit of the log.
const UNIT: usize = stride(1);
const _: () = assert!(
    // The largest record.
    fltport_abi::limits::MAX_FRAME / UNIT < 1 << (32 - TAG_BITS)
);

/// A place in the log of a ring.
#[derive(Debug)]
pub struct LogEntry(AtomicU32);

impl LogEntry {
    /// IRQL: any. One that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        LogEntry(AtomicU32::new(0))
    }
}

impl Default for LogEntry {
    fn default() -> Self {
        Self::new()
    }
}

/// See the module. `L` is a log with a place for each record that the ring can hold.
#[derive(Debug)]
pub struct Account<L> {
    _before: [u8; APART],
    /// Up to where the ring is filled. Positions count bytes since the beginning and never wrap in practice. The producer's.
    pub(crate) tail: AtomicU64,
    /// How many records there have been. Written behind `tail`. The producer's.
    pub(crate) records: AtomicU64,
    /// The most bytes that were ever used, as far as was known. The producer's.
    pub(crate) peak: AtomicU64,
    _between: [u8; APART],
    /// The start of the oldest record that is not known to be read. The settler's.
    pub(crate) head: AtomicU64,
    _behind: [u8; APART],
    log: L,
}

impl<L: Deref<Target = [LogEntry]>> Account<L> {
    /// IRQL: any. That of a ring that is empty.
    #[must_use]
    pub fn new(log: L) -> Self {
        Account {
            _before: [0; APART],
            tail: AtomicU64::new(0),
            records: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            _between: [0; APART],
            head: AtomicU64::new(0),
            _behind: [0; APART],
            log,
        }
    }

    /// How many places its log has.
    #[inline]
    pub(crate) fn places(&self) -> usize {
        self.log.len()
    }

    /// Bytes that hold records that are not known to be read.
    #[inline]
    pub(crate) fn used(&self) -> u64 {
        // Relaxed: whoever asks is either half, or only wants to show it.
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed).saturating_sub(head)
    }

    /// Notes the record with this number.
    #[inline]
    pub(crate) fn note(&self, number: u64, tag: u16, bytes: usize) {
        let entry = u32::from(tag) | ((bytes / UNIT) as u32) << TAG_BITS;
        if let Some(place) = self.log.get(place(number, self.log.len())) {
            // Relaxed: read after `records` says that it is there.
            place.0.store(entry, Ordering::Relaxed);
        }
    }

    /// The tag and the size in the ring of the record with this number, which is on its way.
    #[inline]
    pub(crate) fn noted(&self, number: u64) -> Option<(u16, usize)> {
        let place = self.log.get(place(number, self.log.len()))?;
        let entry = place.0.load(Ordering::Relaxed);
        Some((entry as u16, (entry >> TAG_BITS) as usize * UNIT))
    }
}

/// Where the entry of the record with this number lies in a log. There are never more records on their way than it has places.
#[inline]
fn place(number: u64, places: usize) -> usize {
    // Powers of two in all but models; then this is a mask.
    match places.is_power_of_two() {
        true => number as usize & (places - 1),
        false => (number % places.max(1) as u64) as usize,
    }
}
