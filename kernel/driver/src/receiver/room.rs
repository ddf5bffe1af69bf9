// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who gets how much of a connection's queue: shares, bookings, and who is to blame for what finds no
//! room.

use super::Receiver;
use crate::fair::Usage;
use crate::lane::Booking;
use crate::ledger::{Gap, Loss};
use crate::routes::taken;
use fltport_abi::account::Cause;
use fltport_abi::common_driver;
use fltport_abi::frame::{BLAME_NONE, RecordHeader, record_size};

impl Receiver {
    /// Queues a record, behind a gap record if something was lost since the last one; or loses it.
    /// One whose room was `booked`, and has been given back just now, has that room.
    pub(crate) fn push(&mut self, header: &RecordHeader, parts: &[&[u8]], booked: bool) {
        match self.push_to_ring(header, parts) {
            Some(Ok(())) => return,
            // What was booked for it is in the queue.
            Some(Err(loss)) if !booked => {
                return self.lose(header.provider, header.message, loss);
            }
            _ => {}
        }
        let size = header.size as usize;
        let refused = if booked {
            None
        } else {
            self.refuses(header.provider, size)
        };
        // What there is no room to tell of in front of a booked one is told behind it.
        let leave = if booked { size } else { 0 };
        let told = refused.is_none() && (self.flush_gaps(leave) || booked);
        if told && self.queue.push(header, parts) {
            if let Some(subscription) = self.subscription(header.provider) {
                subscription.account.queued(header.message, 1);
                subscription.usage.queued(size);
            }
            self.wake();
        } else {
            let full = || Loss::by(Cause::RingFull, self.greediest());
            let loss = refused.unwrap_or_else(full);
            self.lose(header.provider, header.message, loss);
        }
    }

    /// Why a record of so many bytes of this provider cannot be queued now, if it cannot.
    fn refuses(&mut self, provider: u16, size: usize) -> Option<Loss> {
        if size + self.told_in() > self.queue.free() {
            return Some(Loss::by(Cause::RingFull, self.greediest()));
        }
        if !self.has_share(provider, size) {
            return Some(Loss::by(Cause::Quota, provider));
        }
        // Last, so that what is refused otherwise costs no token. The service wanted no more:
        // nobody is to blame.
        (!self.rate.take()).then(|| Loss::new(Cause::RateLimit, 1))
    }

    /// Bytes that a gap record takes in front of the next record.
    pub(super) fn told_in(&mut self) -> usize {
        match self.has_untold() {
            true => record_size(Gap::MAX_PAYLOAD),
            false => 0,
        }
    }

    /// Whether a provider may have so many bytes more of the queue.
    pub(super) fn has_share(&self, provider: u16, size: usize) -> bool {
        let (own, allowed) = self.share(provider);
        own.taken() + size <= allowed
    }

    /// The most bytes of the queue that a provider may have now.
    pub(crate) fn allowed(&self, provider: u16) -> usize {
        self.share(provider).1
    }

    /// What a provider has of the queue, and the most bytes that it may have now.
    fn share(&self, provider: u16) -> (Usage, usize) {
        let (mut own, mut sharing) = (Usage::default(), 0);
        for each in taken(&self.subscriptions) {
            if each.provider == provider {
                own = each.usage;
            }
            let is_others = each.provider != common_driver::NUMBER;
            sharing += usize::from(is_others && each.observe != 0 && !each.orphaned);
        }
        let capacity = self.queue.capacity();
        // The driver's own messages are few, and all others depend on them.
        let allowed = match provider {
            common_driver::NUMBER => capacity,
            _ => own.allowed(capacity, self.queue.free(), sharing > 1),
        };
        (own, allowed)
    }

    /// The provider that has most of the queue.
    fn greediest(&self) -> u16 {
        let having = taken(&self.subscriptions).filter(|s| s.usage.taken() != 0);
        let most = having.max_by_key(|s| s.usage.taken());
        most.map_or(BLAME_NONE, |s| s.provider)
    }

    /// Keeps so many bytes of room for a provider; false if there are not so many for it.
    pub(crate) fn book(&mut self, provider: u16, room: usize) -> bool {
        let may = self.lane != 0 && self.has_share(provider, room) && self.queue.book(room);
        if may && let Some(subscription) = self.subscription(provider) {
            subscription.usage.booked += room;
        }
        may
    }

    /// Gives back what a booking keeps here; whether it kept anything.
    pub(crate) fn unbook(&mut self, provider: u16, booking: &Booking) -> bool {
        if booking.lanes & self.lane == 0 {
            return false;
        }
        let room = booking.room();
        self.queue.unbook(room);
        if let Some(subscription) = self.subscription(provider) {
            subscription.usage.booked = subscription.usage.booked.saturating_sub(room);
        }
        true
    }

    /// Gives back all that a provider has booked here.
    pub(crate) fn unbook_all(&mut self, provider: u16) {
        if let Some(subscription) = self.subscription(provider) {
            let room = core::mem::take(&mut subscription.usage.booked);
            self.queue.unbook(room);
        }
    }
}
