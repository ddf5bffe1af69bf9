// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guaranteed lane: a provider books room for a notification that it will have to offer, so
//! that the second half of a pair is never the one that is lost.
//!
//! A booking keeps room in the queue of each connection that observes the type, or in a backlog that
//! keeps the oldest (one that keeps the newest has room for whatever comes). A connection that
//! comes later gets such room as well if it has it. Nothing else may use it: the record itself
//! does, once, and a gap record in front of it if something was lost before. Where no room could be
//! had, the notification is an ordinary one.

use crate::ledger::bit;
use crate::receiver::Receiver;
use crate::routes::{Routes, taken_mut};
use crate::tag;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{GapEntry, GapHeader, record_size};
use fltport_abi::limits::{MAX_BOOKINGS, MAX_CONNECTIONS};
use fltport_nt::bindings::{STATUS_INSUFFICIENT_RESOURCES, STATUS_QUOTA_EXCEEDED};
use fltport_nt::ex::PoolSlice;
use fltport_nt::{NtError, Result};

/// Entries of the gap record that a booked record has room for in front of it. What was lost of more
/// types or for more causes since the last gap record is told behind it.
const GAP_ENTRIES: usize = 8;

/// Bytes of the queue that a booking for a payload of this length keeps.
const fn room_for(payload: usize) -> usize {
    record_size(payload) + record_size(GapHeader::SIZE + GAP_ENTRIES * GapEntry::SIZE)
}

/// Bookings are allocated so many at a time.
const CHUNK: usize = 64;
const CHUNKS: usize = MAX_BOOKINGS / CHUNK;

/// A set of connections, by [`Receiver::lane`].
pub(crate) type Lanes = u64;
const _: () = assert!(MAX_CONNECTIONS <= 64, "each has a bit of its own");

/// Room that is booked.
#[derive(Clone, Copy, Default)]
pub(crate) struct Booking {
    /// 0 if the place is free.
    serial: u64,
    /// The connections in whose queues room is kept.
    pub(crate) lanes: Lanes,
    payload: u32,
    message: u16,
    /// The backlog keeps room as well.
    pub(crate) in_backlog: bool,
    /// If the place is free: the next free one; one more than its index, 0 if there is none.
    next: u16,
}

impl Booking {
    /// Bytes that it keeps in each queue.
    pub(crate) fn room(&self) -> usize {
        room_for(self.payload as usize)
    }

    /// Whether it is for a message of this kind and length.
    pub(crate) fn covers(&self, message: u16, payload: u32) -> bool {
        self.message == message && payload <= self.payload
    }
}

/// Places for bookings.
pub(crate) struct Chunk(PoolSlice<Booking>);

impl Chunk {
    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn new() -> Result<Self> {
        PoolSlice::filled(tag::PROVIDER, CHUNK, Booking::default()).map(Chunk)
    }
}

/// The bookings of one provider.
///
/// A booking's number holds the place and a serial number, which begins with the time at which the
/// provider registered, so that a number of a former registration is nobody's.
pub(crate) struct Bookings {
    chunks: PoolSlice<Option<Chunk>>,
    /// The first free place; one more than its index, 0 if there is none.
    free: u16,
    serial: u64,
    count: u32,
}

/// Bits of a booking's number that are the place.
const PLACE_BITS: u32 = 16;
/// Bits of it that are the serial number.
const SERIAL: u64 = u64::MAX >> PLACE_BITS;

impl Bookings {
    /// IRQL: <= DISPATCH_LEVEL. None, for a provider that registers at this interrupt time.
    pub(crate) fn new(now: u64) -> Result<Self> {
        Ok(Bookings {
            chunks: PoolSlice::filled_with(tag::PROVIDER, CHUNKS, || None)?,
            free: 0,
            serial: now & SERIAL,
            count: 0,
        })
    }

    fn place(&mut self, index: usize) -> Option<&mut Booking> {
        let chunk = self.chunks.get_mut(index / CHUNK)?.as_mut()?;
        chunk.0.get_mut(index % CHUNK)
    }

    /// All that exist.
    fn all(&mut self) -> impl Iterator<Item = &mut Booking> {
        let chunks = self.chunks.iter_mut().flatten();
        chunks
            .flat_map(|chunk| chunk.0.iter_mut())
            .filter(|booking| booking.serial != 0)
    }

    /// Makes room for more with a fresh chunk, if no place is free; false if there can be no more.
    fn has_place(&mut self, fresh: &mut Option<Chunk>) -> bool {
        if self.free != 0 {
            return true;
        }
        let Some(empty) = self.chunks.iter().position(Option::is_none) else {
            return false;
        };
        let (Some(chunk), Some(place)) = (fresh.take(), self.chunks.get_mut(empty)) else {
            return false;
        };
        *place = Some(chunk);
        for index in (empty * CHUNK..(empty + 1) * CHUNK).rev() {
            self.free_place(index);
        }
        true
    }

    /// Whether a fresh chunk is needed for the next booking, and there may be one.
    fn wants_chunk(&self) -> bool {
        self.free == 0 && self.chunks.iter().any(Option::is_none)
    }

    fn free_place(&mut self, index: usize) {
        let next = self.free;
        if let Some(place) = self.place(index) {
            *place = Booking {
                next,
                ..Booking::default()
            };
            self.free = index as u16 + 1;
        }
    }

    /// Puts a booking into a free place; its number.
    fn insert(&mut self, booking: Booking) -> Option<u64> {
        let index = usize::from(self.free.checked_sub(1)?);
        // 0 is a free place.
        let serial = (self.serial + 1) & SERIAL;
        self.serial = serial.max(1);
        let serial = self.serial;
        let place = self.place(index)?;
        let next = place.next;
        *place = Booking { serial, ..booking };
        self.free = next;
        self.count += 1;
        Some(serial << PLACE_BITS | (index as u64 + 1))
    }

    /// Takes a booking out; `None` if the number is not one's.
    pub(crate) fn take(&mut self, number: u64) -> Option<Booking> {
        let serial = number >> PLACE_BITS;
        let index = (number & ((1 << PLACE_BITS) - 1)).checked_sub(1)? as usize;
        let booking = *self.place(index).filter(|it| it.serial == serial)?;
        if serial == 0 {
            return None;
        }
        self.free_place(index);
        self.count -= 1;
        Some(booking)
    }
}

/// How a booking went.
pub(crate) enum Booked {
    /// Its number.
    Number(u64),
    /// A fresh chunk is needed: allocate one, and try again.
    NeedsChunk,
}

impl Routes {
    /// Books room for a notification of this length: with whoever observes the type, or in the
    /// backlog.
    ///
    /// Succeeds if room was found anywhere, or nobody is there to need any.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES` if there is no room, or the provider has all the
    /// bookings that it may have; `STATUS_QUOTA_EXCEEDED` if it is beyond its rate, which a booking
    /// is counted against, for the notification is not any more.
    pub(crate) fn book(
        &mut self,
        provider: u16,
        message: u16,
        payload: usize,
        fresh: &mut Option<Chunk>,
    ) -> Result<Booked> {
        let full = NtError(STATUS_INSUFFICIENT_RESOURCES);
        let mut slots = taken_mut(&mut self.providers);
        let slot = slots.find(|slot| slot.provider.number == provider);
        let slot = slot.ok_or(full)?;
        if fresh.is_none() && slot.bookings.wants_chunk() {
            return Ok(Booked::NeedsChunk);
        }
        if !slot.bookings.has_place(fresh) {
            return Err(full);
        }
        if !slot.rate.take() {
            return Err(NtError(STATUS_QUOTA_EXCEEDED));
        }
        let mut booking = Booking {
            payload: payload as u32,
            message,
            ..Booking::default()
        };
        let mut wanted = false;
        for receiver in taken_mut(&mut self.connections) {
            if receiver.observes(provider, message) {
                wanted = true;
                if receiver.book(provider, booking.room()) {
                    booking.lanes |= receiver.lane;
                }
            }
        }
        if !wanted && let Some(backlog) = &mut slot.backlog {
            booking.in_backlog = backlog.book(booking.room());
            wanted = !backlog.has_always_room();
        }
        if wanted && booking.lanes == 0 && !booking.in_backlog {
            slot.rate.give_back();
            return Err(full);
        }
        slot.bookings
            .insert(booking)
            .map(Booked::Number)
            .ok_or(full)
    }

    /// Gives a booking back; one that is unknown is ignored.
    pub(crate) fn unbook(&mut self, provider: u16, number: u64) {
        if let Some(booking) = self.take_booking(provider, number) {
            for receiver in taken_mut(&mut self.connections) {
                receiver.unbook(provider, &booking);
            }
        }
    }

    /// Takes a booking out, and gives back what the backlog kept for it; what connections keep is
    /// the caller's to give back.
    pub(crate) fn take_booking(&mut self, provider: u16, number: u64) -> Option<Booking> {
        let slot = self.provider(provider).filter(|_| number != 0)?;
        let booking = slot.bookings.take(number)?;
        if let Some(backlog) = slot.backlog.as_mut().filter(|_| booking.in_backlog) {
            backlog.unbook(booking.room());
        }
        Some(booking)
    }

    /// A connection has begun to observe these types: it keeps room for what has been booked of
    /// them, as far as it has it.
    pub(crate) fn adopt_bookings(&mut self, connection: u32, provider: u16, types: u64) {
        let mut slots = taken_mut(&mut self.providers);
        let mut receivers = taken_mut(&mut self.connections);
        if let (Some(slot), Some(receiver)) = (
            slots.find(|slot| slot.provider.number == provider && slot.bookings.count != 0),
            receivers.find(|it| it.connection.identity.number == connection),
        ) {
            let lane = receiver.lane;
            let unknown = |booking: &&mut Booking| {
                booking.lanes & lane == 0 && types & bit(booking.message) != 0
            };
            for booking in slot.bookings.all().filter(unknown) {
                if receiver.book(provider, booking.room()) {
                    booking.lanes |= lane;
                }
            }
        }
    }

    /// A receiver is gone: nothing is booked with it any more, and its lane is another's.
    pub(crate) fn forget_lane(&mut self, receiver: &Receiver) {
        for slot in taken_mut(&mut self.providers).filter(|slot| slot.bookings.count != 0) {
            let all = slot.bookings.all();
            all.for_each(|booking| booking.lanes &= !receiver.lane);
        }
    }

    /// A lane that no receiver has.
    pub(crate) fn free_lane(&self) -> Lanes {
        let used = self.connections().fold(0, |used, it| used | it.lane);
        !used & used.wrapping_add(1)
    }
}

const _: () = assert!(MAX_BOOKINGS < 1 << PLACE_BITS);
