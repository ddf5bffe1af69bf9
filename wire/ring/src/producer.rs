// SPDX-License-Identifier: MIT OR Apache-2.0
//! The half that fills a ring: one for each ring, used by one thread at a time.

use crate::account::{Account, LogEntry};
use crate::layout::{Shape, stride};
use crate::memory::{Ordering, Shared};
use crate::settler::Settler;
use core::ops::Deref;
use fltport_abi::fixed::Fixed as _;
use fltport_abi::frame::RecordHeader;

/// The producer of one ring.
#[derive(Debug)]
pub struct Producer<A> {
    data: Shared,
    consumer: Shared,
    /// Where in the data the ring and its word lie, and where its word in the consumer's memory.
    ring: usize,
    published: usize,
    consumed: usize,
    capacity: usize,
    account: A,
    tail: u64,
    records: u64,
    peak: u64,
    /// Up to where it is known to be read, as far as has been looked.
    head: u64,
}

impl<A, L> Producer<A>
where
    A: Deref<Target = Account<L>> + Clone,
    L: Deref<Target = [LogEntry]>,
{
    /// IRQL: any. That of the ring with this number, which is empty, and its settler. The log of the account, which is this ring's alone, has a
    /// place for each of [`Shape::records`] records.
    ///
    /// `None` if there is no such ring, or the memory or the log is too small for it.
    #[must_use]
    pub fn new(
        shape: Shape,
        ring: usize,
        data: &Shared,
        consumer: &Shared,
        account: A,
    ) -> Option<(Self, Settler<A>)> {
        let possible = ring < shape.rings()
            && data.length() >= shape.data_size()
            && consumer.length() >= shape.consumer_size()
            && account.places() >= shape.records();
        if !possible {
            return None;
        }
        let producer = Producer {
            data: data.clone(),
            consumer: consumer.clone(),
            ring: shape.ring(ring),
            published: shape.published(ring),
            consumed: shape.consumed(ring),
            capacity: shape.capacity(),
            account: account.clone(),
            tail: 0,
            records: 0,
            peak: 0,
            head: 0,
        };
        let settler = Settler {
            data: data.clone(),
            consumer: consumer.clone(),
            ring: shape.ring(ring),
            consumed: shape.consumed(ring),
            capacity: shape.capacity(),
            account,
            gone: 0,
            noted: 0,
            nonsense: 0,
        };
        Some((producer, settler))
    }

    /// IRQL: any. Bytes of the ring.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// IRQL: any. Whether so many bytes can be filled now, as far as has been settled.
    #[inline]
    pub fn has_room(&mut self, bytes: usize) -> bool {
        if bytes <= self.free() {
            return true;
        }
        self.look();
        bytes <= self.free()
    }

    /// IRQL: any. Looks what has been settled.
    #[inline]
    pub fn look(&mut self) {
        // Acquire: the settler has found that the consumer has read what lay there.
        self.head = self.account.head.load(Ordering::Acquire);
    }

    /// IRQL: any. Bytes that can be filled, as far as is known; [`Producer::has_room`] looks anew.
    #[inline]
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity - (self.tail - self.head) as usize
    }

    /// IRQL: any. Whether the consumer claims to have read nothing that is not settled: then settling gives no room.
    #[must_use]
    #[inline]
    pub fn is_stuck(&self) -> bool {
        // Relaxed: only compared.
        self.consumer.word(self.consumed).load(Ordering::Relaxed) == self.head
    }

    /// IRQL: any. Room for a record of this size, as the header says it; `None` if there is none, as far as has been settled.
    /// Dropping it gives it back.
    #[inline]
    pub fn room(&mut self, size: usize) -> Option<Room<'_, A>> {
        let fits = size >= RecordHeader::SIZE && self.has_room(stride(size));
        fits.then_some(Room { size, owner: self })
    }

    /// Copies into the ring what comes `ahead` bytes behind what is filled.
    #[inline]
    fn copy_in(&self, ahead: usize, bytes: &[u8]) {
        let start = (self.tail as usize).wrapping_add(ahead) & (self.capacity - 1);
        let before_end = self.capacity - start;
        if bytes.len() <= before_end {
            self.data.copy_in(self.ring + start, bytes);
        } else if let Some((first, second)) = bytes.split_at_checked(before_end) {
            self.data.copy_in(self.ring + start, first);
            self.data.copy_in(self.ring, second);
        }
    }

    /// What has been filled can be read from now on.
    #[inline]
    fn publish(&mut self, bytes: usize, tag: u16) {
        self.account.note(self.records, tag, bytes);
        self.records += 1;
        self.tail += bytes as u64;
        let used = self.tail - self.head;
        if used > self.peak {
            self.peak = used;
            self.account.peak.store(used, Ordering::Relaxed);
        }
        // Before the consumer can claim to have read it. Release: so is the log; and whoever reads `records` reads this tail or a later one.
        self.account.tail.store(self.tail, Ordering::Relaxed);
        self.account.records.store(self.records, Ordering::Release);
        // Release: the record is there before the word says so.
        let published = self.data.word(self.published);
        published.store(self.tail, Ordering::Release);
    }
}

/// Room for one record, not published yet.
#[derive(Debug)]
pub struct Room<'p, A> {
    size: usize,
    owner: &'p mut Producer<A>,
}

impl<A, L> Room<'_, A>
where
    A: Deref<Target = Account<L>> + Clone,
    L: Deref<Target = [LogEntry]>,
{
    /// IRQL: any. Copies bytes to where they belong in the payload; false, and nothing is copied, if that is not within the
    /// record.
    #[inline]
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let room = self.size - RecordHeader::SIZE;
        let within = at <= room && bytes.len() <= room - at;
        if within {
            self.owner.copy_in(RecordHeader::SIZE + at, bytes);
        }
        within
    }

    /// IRQL: any. Publishes the record under this header, whose number was taken just now. What says later that the record is gone
    /// says `tag`.
    #[inline]
    pub fn commit(self, header: &RecordHeader, tag: u16) {
        // Word by word, and from registers: a copy of a header that was just put together in memory, by narrower stores than the
        // copy has loads, waits until all stores before it have left the processor, and those into the ring take long.
        let words = words(self.size as u32, header).map(u64::to_le);
        let start = self.owner.tail as usize & (self.owner.capacity - 1);
        // Never cut in two by the end of the ring.
        self.owner.data.put(self.owner.ring + start, words);
        self.owner.publish(stride(self.size), tag);
    }
}

/// A header as [`Fixed::write`] writes it, with this size.
#[inline]
fn words(size: u32, header: &RecordHeader) -> [u64; RecordHeader::SIZE / 8] {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let short = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    [
        pair(size, header.payload),
        header.sequence,
        header.time as u64,
        pair(
            short(header.provider, header.message),
            short(header.kind, header.fixed),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_the_header_writes() {
        let header = RecordHeader {
            size: 0x0102_0304,
            payload: 0x0506_0708,
            sequence: 0x1112_1314_1516_1718,
            time: -2,
            provider: 0x2122,
            message: 0x2324,
            kind: 0x2526,
            fixed: 0x2728,
        };
        let mut bytes = [0; RecordHeader::SIZE];
        header.write(&mut bytes).unwrap();
        let words = words(header.size, &header).map(u64::to_le_bytes);
        assert_eq!(words.as_flattened(), bytes);
    }
}
