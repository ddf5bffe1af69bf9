// SPDX-License-Identifier: MIT OR Apache-2.0
//! The half that reads all rings of a connection, and merges them into one order.

use crate::bell::Bell;
use crate::layout::{Shape, stride};
use crate::memory::{Ordering, Shared};
use core::fmt;
use core::ops::DerefMut;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{GapHeader, RecordHeader, RecordKind};

/// What the consumer keeps of one ring. Made of nothing; [`Consumer::new`] fills it in.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Up to where the consumer has read.
    at: u64,
    /// Up to where the ring was filled when the consumer last looked.
    end: u64,
    /// Up to where it has said that it has read.
    told: u64,
    /// The first number that the record at the front stands for.
    first: u64,
    /// The header of that record.
    header: RecordHeader,
    /// Whether there is one.
    has_front: bool,
    /// Not this ring's: the ring that has this place among those with a record at the front, in the order of a heap.
    heap: u32,
}

impl Default for Cursor {
    fn default() -> Self {
        Cursor {
            at: 0,
            end: 0,
            told: 0,
            first: 0,
            header: RecordHeader {
                size: 0,
                payload: 0,
                sequence: 0,
                time: 0,
                provider: 0,
                message: 0,
                kind: 0,
                fixed: 0,
            },
            has_front: false,
            heap: 0,
        }
    }
}

/// What is in a ring cannot be: whoever fills it is broken, and what comes behind it cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The ring.
    pub ring: usize,
    /// Up to where it was read.
    pub position: u64,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corrupt { ring, position } = self;
        write!(
            f,
            "ring {ring} holds at position {position} what is no record"
        )
    }
}

impl core::error::Error for Corrupt {}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The record with the number that was asked for.
    Record,
    /// Not that one, but there are records with later numbers, this the first of them: somebody has taken the number and has not published
    /// the record yet, or it does not come by the rings.
    Missing(u64),
    /// No record at all.
    Empty,
}

/// Records that were copied one behind the other.
struct Run {
    records: u32,
    bytes: usize,
    /// The number that follows.
    next: u64,
}

/// The consumer of a connection's rings.
#[derive(Debug)]
pub struct Consumer<C> {
    shape: Shape,
    data: Shared,
    consumer: Shared,
    bell: Bell,
    cursors: C,
    /// How many rings have a record at the front.
    ready: usize,
}

impl<C: DerefMut<Target = [Cursor]>> Consumer<C> {
    /// Begins where the consumer's words say, as producers have left them. `cursors` has a place for each ring. `None` if one of the
    /// three is too small.
    #[must_use]
    pub fn new(shape: Shape, data: &Shared, consumer: &Shared, mut cursors: C) -> Option<Self> {
        let possible = data.length() >= shape.data_size()
            && consumer.length() >= shape.consumer_size()
            && cursors.len() >= shape.rings();
        if !possible {
            return None;
        }
        for (ring, cursor) in cursors.iter_mut().enumerate().take(shape.rings()) {
            let at = consumer.word(shape.consumed(ring)).load(Ordering::Acquire);
            *cursor = Cursor {
                at,
                end: at,
                told: at,
                ..Cursor::default()
            };
        }
        Some(Consumer {
            shape,
            data: data.clone(),
            bell: Bell::new(consumer),
            consumer: consumer.clone(),
            cursors,
            ready: 0,
        })
    }

    /// Whether the record with this number can be read now.
    ///
    /// # Errors
    /// If what is in a ring cannot be.
    pub fn front(&mut self, number: u64) -> Result<Front, Corrupt> {
        loop {
            if let Some((ring, cursor)) = self.first() {
                if cursor.first == number {
                    return Ok(Front::Record);
                }
                if cursor.first < number {
                    return Err(self.corrupt(ring));
                }
            }
            if !self.look()? {
                return Ok(match self.first() {
                    Some((_, cursor)) => Front::Missing(cursor.first),
                    None => Front::Empty,
                });
            }
        }
    }

    /// Copies the record that [`Consumer::front`] has found to the start of `out`, and goes on behind it; its size, and the number that follows. `None`, and
    /// nothing has changed, if there is none or `out` is too short.
    ///
    /// # Errors
    /// If what comes behind it cannot be.
    pub fn take(&mut self, out: &mut [u8]) -> Result<Option<(usize, u64)>, Corrupt> {
        let Some((ring, cursor)) = self.first() else {
            return Ok(None);
        };
        let header = cursor.header;
        let Some(out) = out.get_mut(..header.size as usize) else {
            return Ok(None);
        };
        let Some((start, payload)) = out.split_at_mut_checked(RecordHeader::SIZE) else {
            return Ok(None);
        };
        // As it was when it was checked, whoever may write there.
        let _fits = header.write(start);
        self.copy_out(ring, cursor.at + RecordHeader::SIZE as u64, payload);
        self.go_on(ring)?;
        Ok(Some((
            header.size as usize,
            header.sequence.saturating_add(1),
        )))
    }

    /// Copies the records from the number `next` on, one behind the other, until `out` is full or the next one had not been published
    /// when this looked, at the beginning; how many, how many bytes, and the number that follows.
    ///
    /// # Errors
    /// If what is in a ring cannot be. What was copied before that is told first, and the error when asked again.
    pub fn fill(&mut self, mut next: u64, out: &mut [u8]) -> Result<(u32, usize, u64), Corrupt> {
        let (mut records, mut at) = (0, 0);
        let mut is_there = self.front(next)? == Front::Record;
        while is_there {
            let rest = out.get_mut(at..).unwrap_or(&mut []);
            let run = self.take_run(next, rest);
            if run.records == 0 {
                break;
            }
            records += run.records;
            at += run.bytes;
            next = run.next;
            // What has been published meanwhile is not looked for: its producer would wait for the line that says so, each time
            // that it is looked at, and who reads as fast as he fills would look after each record.
            is_there = self.first().is_some_and(|(_, cursor)| cursor.first == next);
        }
        Ok((records, at, next))
    }

    /// Copies the record at the front, which has the number `next`, and those of the same ring behind it, as far as their numbers
    /// follow it and they fit.
    #[inline]
    fn take_run(&mut self, mut next: u64, out: &mut [u8]) -> Run {
        let (mut records, mut bytes) = (0, 0);
        let run = |records, bytes, next| Run {
            records,
            bytes,
            next,
        };
        let Some((
            ring,
            &Cursor {
                mut at,
                end,
                mut header,
                ..
            },
        )) = self.first()
        else {
            return run(0, 0, next);
        };
        // Until it is known what comes next, or that nothing does.
        let mut front = None;
        while front.is_none() {
            let place = out.get_mut(bytes..bytes + header.size as usize);
            let Some((start, payload)) =
                place.and_then(|it| it.split_at_mut_checked(RecordHeader::SIZE))
            else {
                front = Some((next, header));
                break;
            };
            // As it was when it was checked, whoever may write there.
            let _fits = header.write(start);
            self.copy_out(ring, at + RecordHeader::SIZE as u64, payload);
            let before = header.sequence;
            records += 1;
            bytes += header.size as usize;
            at += stride(header.size as usize) as u64;
            next = before.saturating_add(1);
            if at == end {
                break;
            }
            match self.header_at(ring, at, end) {
                Some((first, behind)) if first == next => header = behind,
                // Within a ring numbers only grow.
                Some((first, behind)) if first > before => front = Some((first, behind)),
                // Found again, and told, when the ring is looked at next.
                _ => break,
            }
        }
        self.set_front(ring, at, front);
        run(records, bytes, next)
    }

    /// The ring with the first front has been read up to here, where this comes next.
    #[inline]
    fn set_front(&mut self, ring: usize, at: u64, front: Option<(u64, RecordHeader)>) {
        let Some(cursor) = self.cursors.get_mut(ring) else {
            return;
        };
        cursor.at = at;
        cursor.has_front = front.is_some();
        if let Some((first, header)) = front {
            (cursor.first, cursor.header) = (first, header);
            self.sift_down(0);
        } else {
            self.remove_first();
        }
    }

    /// Goes on behind records whose numbers come before this one, which has been given up waiting for; how
    /// many.
    ///
    /// # Errors
    /// If what comes behind them cannot be.
    pub fn pass_over(&mut self, number: u64) -> Result<u32, Corrupt> {
        let mut records = 0;
        while let Some((ring, cursor)) = self.first()
            && cursor.first < number
        {
            self.go_on(ring)?;
            records += 1;
        }
        Ok(records)
    }

    /// Tells the producers what has been read: they may write over it.
    pub fn release(&mut self) {
        let rings = self.shape.rings();
        for (ring, cursor) in self.cursors.iter_mut().enumerate().take(rings) {
            if cursor.told != cursor.at {
                cursor.told = cursor.at;
                // Release: what was read of the records has been read.
                self.consumer
                    .word(self.shape.consumed(ring))
                    .store(cursor.at, Ordering::Release);
            }
        }
    }

    /// About to sleep: whether nothing has come since [`Consumer::front`] was asked last. Then whoever publishes next will signal. Otherwise
    /// the bell is disarmed again.
    pub fn arm(&mut self) -> bool {
        self.bell.arm();
        let mut quiet = true;
        for ring in 0..self.shape.rings() {
            let published = self.published(ring);
            let Some(cursor) = self.cursors.get_mut(ring) else {
                break;
            };
            // What was looked at and could not be read is there no more if the driver has taken it back.
            let seen = if cursor.has_front {
                cursor.end
            } else {
                cursor.at
            };
            if seen != published {
                quiet = false;
                // One that waits for its turn is not looked at before. What is new there must not keep this from sleeping again.
                if cursor.has_front {
                    cursor.end = published;
                }
            }
        }
        if !quiet {
            self.bell.disarm();
        }
        quiet
    }

    /// Awake, perhaps by other means than the signal.
    pub fn disarm(&self) {
        self.bell.disarm();
    }

    fn published(&self, ring: usize) -> u64 {
        // Acquire: the records up to there can be read.
        self.data
            .word(self.shape.published(ring))
            .load(Ordering::Acquire)
    }

    fn corrupt(&self, ring: usize) -> Corrupt {
        let position = self.cursors.get(ring).map_or(0, |cursor| cursor.at);
        Corrupt { ring, position }
    }

    /// The ring whose front comes first.
    fn first(&self) -> Option<(usize, &Cursor)> {
        if self.ready == 0 {
            return None;
        }
        let ring = self.cursors.first()?.heap as usize;
        Some((ring, self.cursors.get(ring)?))
    }

    /// Looks into the rings that had nothing; whether there is something in any now.
    fn look(&mut self) -> Result<bool, Corrupt> {
        let mut found = false;
        for ring in 0..self.shape.rings() {
            let Some(cursor) = self.cursors.get(ring) else {
                break;
            };
            if cursor.has_front {
                continue;
            }
            let end = self.published(ring);
            if end == cursor.at {
                continue;
            }
            if let Some(cursor) = self.cursors.get_mut(ring) {
                cursor.end = end;
            }
            self.read_front(ring)?;
            self.add(ring);
            found = true;
        }
        Ok(found)
    }

    /// Reads and checks the header of the next record of a ring that has one.
    fn read_front(&mut self, ring: usize) -> Result<(), Corrupt> {
        let corrupt = self.corrupt(ring);
        let Some(&Cursor { at, end, .. }) = self.cursors.get(ring) else {
            return Err(corrupt);
        };
        let (first, header) = self.header_at(ring, at, end).ok_or(corrupt)?;
        if let Some(cursor) = self.cursors.get_mut(ring) {
            cursor.header = header;
            cursor.first = first;
            cursor.has_front = true;
        }
        Ok(())
    }

    /// The header of the record at a position of a ring that is filled up to `end`, and the first number that it stands for; none if that
    /// cannot be.
    #[inline]
    fn header_at(&self, ring: usize, at: u64, end: u64) -> Option<(u64, RecordHeader)> {
        let capacity = self.shape.capacity() as u64;
        let filled = end.checked_sub(at).filter(|filled| *filled <= capacity)?;
        if !at.is_multiple_of(stride(1) as u64) {
            return None;
        }
        let mut bytes = [0; RecordHeader::SIZE];
        // Never cut in two by the end of the ring.
        let start = at as usize & (self.shape.capacity() - 1);
        self.data
            .copy_out(self.shape.ring(ring) + start, &mut bytes);
        let header = RecordHeader::read(&bytes)?;
        let (size, payload) = (header.size as usize, header.payload as usize);
        let sound = size.is_multiple_of(8)
            && size >= RecordHeader::SIZE
            && payload <= size - RecordHeader::SIZE
            && stride(size) as u64 <= filled;
        if !sound {
            return None;
        }
        let first = match header.kind == RecordKind::Gap as u16 {
            true => self.first_of_gap(ring, at, payload)?,
            false => header.sequence,
        };
        (first != 0 && first <= header.sequence).then_some((first, header))
    }

    /// The first number that a gap record stands for.
    #[cold]
    fn first_of_gap(&self, ring: usize, at: u64, payload: usize) -> Option<u64> {
        if payload < GapHeader::SIZE {
            return None;
        }
        let mut first = [0; u64::SIZE];
        self.copy_out(ring, at + RecordHeader::SIZE as u64, &mut first);
        u64::read(&first)
    }

    /// The first ring's front has been read.
    fn go_on(&mut self, ring: usize) -> Result<(), Corrupt> {
        let Some(cursor) = self.cursors.get_mut(ring) else {
            return Ok(());
        };
        let before = cursor.header.sequence;
        cursor.at += stride(cursor.header.size as usize) as u64;
        cursor.has_front = false;
        if cursor.at == cursor.end {
            self.remove_first();
            return Ok(());
        }
        if let Err(corrupt) = self.read_front(ring) {
            // It has no front, so it has no place among those that have.
            self.remove_first();
            return Err(corrupt);
        }
        // Within a ring numbers only grow.
        if self.cursors.get(ring).is_some_and(|c| c.first <= before) {
            return Err(self.corrupt(ring));
        }
        self.sift_down(0);
        Ok(())
    }

    /// Copies what lies at a position of a ring.
    #[inline]
    fn copy_out(&self, ring: usize, position: u64, out: &mut [u8]) {
        let (base, capacity) = (self.shape.ring(ring), self.shape.capacity());
        let start = position as usize & (capacity - 1);
        let before_end = capacity - start;
        if out.len() <= before_end {
            self.data.copy_out(base + start, out);
        } else if let Some((first, second)) = out.split_at_mut_checked(before_end) {
            self.data.copy_out(base + start, first);
            self.data.copy_out(base, second);
        }
    }
}

/// The heap of the rings with a record at the front, the lowest number first. Its places are a field of the cursors, of which there
/// are as many as there can be places.
impl<C: DerefMut<Target = [Cursor]>> Consumer<C> {
    fn ring_at(&self, place: usize) -> usize {
        self.cursors.get(place).map_or(0, |c| c.heap as usize)
    }

    fn key_at(&self, place: usize) -> u64 {
        let cursor = self.cursors.get(self.ring_at(place));
        cursor.map_or(u64::MAX, |cursor| cursor.first)
    }

    fn set(&mut self, place: usize, ring: usize) {
        if let Some(cursor) = self.cursors.get_mut(place) {
            cursor.heap = ring as u32;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (a, b) = (self.ring_at(one), self.ring_at(other));
        self.set(one, b);
        self.set(other, a);
    }

    fn add(&mut self, ring: usize) {
        let mut place = self.ready;
        self.ready += 1;
        self.set(place, ring);
        while place > 0 {
            let above = (place - 1) / 2;
            if self.key_at(above) <= self.key_at(place) {
                break;
            }
            self.swap(place, above);
            place = above;
        }
    }

    fn remove_first(&mut self) {
        let Some(last) = self.ready.checked_sub(1) else {
            return;
        };
        self.swap(0, last);
        self.ready = last;
        self.sift_down(0);
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let mut least = place;
            if left < self.ready && self.key_at(left) < self.key_at(least) {
                least = left;
            }
            if right < self.ready && self.key_at(right) < self.key_at(least) {
                least = right;
            }
            if least == place {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }
}
