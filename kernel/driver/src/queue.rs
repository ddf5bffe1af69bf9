// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bounded queue of records in one piece of non-paged memory.
//!
//! Records lie one behind the other, each with its header and padding as in a frame, and wrap
//! around at the end of the memory. The sequence number is left 0: it is given when a record is
//! taken.

use crate::tag;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{RecordHeader, record_size};
use fltport_nt::Result;
use fltport_nt::ex::PoolBytes;

/// The queue. Positions count bytes since the beginning and never wrap in practice (2^64).
pub(crate) struct Queue {
    memory: PoolBytes,
    head: u64,
    tail: u64,
    peak: u64,
    /// Bytes of free room that are booked.
    booked: usize,
}

impl Queue {
    /// IRQL: <= DISPATCH_LEVEL. Room for `capacity` bytes, rounded up to a power of two.
    pub(crate) fn new(capacity: usize) -> Result<Self> {
        let capacity = capacity.next_power_of_two();
        Ok(Queue {
            memory: PoolBytes::zeroed(tag::QUEUE, capacity)?,
            head: 0,
            tail: 0,
            peak: 0,
            booked: 0,
        })
    }

    /// Moves everything into `larger`, which takes this one's place: positions stay what they are.
    /// False, and nothing has changed, if it has no room for it.
    pub(crate) fn move_to(&mut self, larger: &mut Queue) -> bool {
        if larger.capacity() < self.used() + self.booked {
            return false;
        }
        (larger.head, larger.tail) = (self.head, self.tail);
        (larger.peak, larger.booked) = (self.peak, self.booked);
        let mut piece = [0; 256];
        let mut at = self.head;
        while at < self.tail {
            let length = piece.len().min((self.tail - at) as usize);
            let piece = piece.get_mut(..length).unwrap_or(&mut []);
            self.copy_out(at, piece);
            larger.copy_in(at, piece);
            at += length as u64;
        }
        core::mem::swap(self, larger);
        true
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn used(&self) -> usize {
        (self.tail - self.head) as usize
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak as usize
    }

    /// The position of the oldest record.
    pub(crate) fn start(&self) -> u64 {
        self.head
    }

    /// The position of the next record to be pushed.
    pub(crate) fn end(&self) -> u64 {
        self.tail
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Bytes that are neither used nor booked.
    pub(crate) fn free(&self) -> usize {
        self.capacity().saturating_sub(self.used() + self.booked)
    }

    pub(crate) fn booked(&self) -> usize {
        self.booked
    }

    /// Keeps so many bytes of room, until [`Queue::unbook`]; false if there are not so many. At
    /// most the half of the queue can be booked.
    pub(crate) fn book(&mut self, bytes: usize) -> bool {
        let may = bytes <= self.free() && self.booked + bytes <= self.capacity() / 2;
        if may {
            self.booked += bytes;
        }
        may
    }

    /// Gives booked room back.
    pub(crate) fn unbook(&mut self, bytes: usize) {
        self.booked = self.booked.saturating_sub(bytes);
    }

    /// Whether a record with a payload of this length could be pushed now.
    pub(crate) fn has_room(&self, payload: usize) -> bool {
        record_size(payload) <= self.free()
    }

    /// Appends a record whose payload is `parts`, one behind the other, each padded to a multiple
    /// of 8 but the last. False if there is no room.
    pub(crate) fn push(&mut self, header: &RecordHeader, parts: &[&[u8]]) -> bool {
        let size = header.size as usize;
        if size > self.free() {
            return false;
        }
        let mut fixed = [0; RecordHeader::SIZE];
        if header.write(&mut fixed).is_none() {
            return false;
        }
        self.copy_in(self.tail, &fixed);
        let mut at = self.tail + RecordHeader::SIZE as u64;
        for part in parts {
            self.copy_in(at, part);
            let padded = part.len().next_multiple_of(8);
            self.copy_in(
                at + part.len() as u64,
                [0_u8; 8].get(..padded - part.len()).unwrap_or(&[]),
            );
            at += padded as u64;
        }
        self.tail += size as u64;
        self.peak = self.peak.max(self.tail - self.head);
        true
    }

    /// The header of the oldest record.
    pub(crate) fn front(&self) -> Option<RecordHeader> {
        if self.is_empty() {
            return None;
        }
        let mut bytes = [0; RecordHeader::SIZE];
        self.copy_out(self.head, &mut bytes);
        RecordHeader::read(&bytes)
    }

    /// Moves the oldest record to the start of `out`; false if there is none or it does not fit.
    pub(crate) fn pop(&mut self, out: &mut [u8]) -> bool {
        let Some(out) = self
            .front()
            .and_then(|header| out.get_mut(..header.size as usize))
        else {
            return false;
        };
        self.copy_out(self.head, out);
        self.head += out.len() as u64;
        true
    }

    /// Drops the oldest record; its header.
    pub(crate) fn drop_front(&mut self) -> Option<RecordHeader> {
        let header = self.front()?;
        self.head += u64::from(header.size);
        Some(header)
    }

    /// The header of the record at this position; `None` at the end.
    pub(crate) fn header_at(&self, position: u64) -> Option<RecordHeader> {
        if position < self.head || position >= self.tail {
            return None;
        }
        let mut bytes = [0; RecordHeader::SIZE];
        self.copy_out(position, &mut bytes);
        RecordHeader::read(&bytes)
    }

    /// Copies what lies at this position.
    pub(crate) fn copy_at(&self, position: u64, out: &mut [u8]) {
        self.copy_out(position, out);
    }

    /// Appends whole records as they are; false if there is no room.
    pub(crate) fn push_bytes(&mut self, records: &[u8]) -> bool {
        if records.len() > self.capacity() - self.used() {
            return false;
        }
        self.copy_in(self.tail, records);
        self.tail += records.len() as u64;
        self.peak = self.peak.max(self.tail - self.head);
        true
    }

    /// Where `position` lies, and how many bytes there are up to the end of the memory.
    fn place(&self, position: u64) -> (usize, usize) {
        let start = position as usize & (self.capacity() - 1);
        (start, self.capacity() - start)
    }

    fn copy_in(&mut self, position: u64, bytes: &[u8]) {
        let (start, before_end) = self.place(position);
        let (first, second) = bytes.split_at(bytes.len().min(before_end));
        for (start, part) in [(start, first), (0, second)] {
            if let Some(place) = self.memory.get_mut(start..start + part.len()) {
                place.copy_from_slice(part);
            }
        }
    }

    fn copy_out(&self, position: u64, bytes: &mut [u8]) {
        let (start, before_end) = self.place(position);
        let (first, second) = bytes.split_at_mut(bytes.len().min(before_end));
        for (start, part) in [(start, first), (0, second)] {
            if let Some(place) = self.memory.get(start..start + part.len()) {
                part.copy_from_slice(place);
            }
        }
    }
}
