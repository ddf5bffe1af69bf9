// SPDX-License-Identifier: MIT OR Apache-2.0
//! Before a notification: room that is kept for it, and memory in which it is filled in.

use crate::ffi::Memory;
use crate::provider::{Client, Handler, Provider};
use core::ops::{Deref, DerefMut};
use fltport_abi::account::Cause;
use fltport_abi::message::Message;
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
};
use fltport_nt::ex::{PoolArc, PoolBytes, RundownGuard};
use fltport_nt::ke::system_time;
use fltport_nt::{NtError, Result};

/// Room that is kept for a notification.
pub(crate) struct Room {
    /// The common driver's booking; 0 for none.
    pub(crate) number: u64,
    /// There is room in the staging buffer, for a payload of this length.
    pub(crate) staged: Option<usize>,
}

impl Room {
    pub(crate) const NONE: Self = Room {
        number: 0,
        staged: None,
    };
}

/// Room for one notification that will have to be offered, and is not to be the one that is lost:
/// an exit, booked at the start. Dropping it gives the room back.
pub struct Booking<H: Handler> {
    client: PoolArc<Client<H>>,
    message: u16,
    room: Room,
}

impl<H: Handler> Provider<H> {
    /// IRQL: <= DISPATCH_LEVEL. Books room for a notification of this kind whose payload has at most
    /// `length` bytes: with every service that observes it, in the backlog if none does, and in the
    /// staging buffer for the time without a common driver.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES` if there is no room or there are too many bookings,
    /// `STATUS_QUOTA_EXCEEDED` beyond the provider's rate, `STATUS_NOT_SUPPORTED` with a common driver
    /// of the first revision, `STATUS_INVALID_PARAMETER`, `STATUS_INVALID_LEVEL`. Whoever goes on
    /// without offers an ordinary notification.
    pub fn book<'m, M: Message<'m>>(&self, length: usize) -> Result<Booking<H>> {
        let wrong = NtError(STATUS_INVALID_PARAMETER);
        let bytes = u32::try_from(length).map_err(|_| wrong)?;
        let staged = self.client.state.lock().staging.book(length);
        let mut booking = Booking {
            client: self.client.clone(),
            message: M::NUMBER,
            room: Room {
                number: 0,
                staged: staged.then_some(length),
            },
        };
        let number = self.client.bound_or_staged(
            |bound| match bound.book(M::NUMBER, bytes) {
                Err(NtError(STATUS_DELETE_PENDING)) => None,
                booked => Some(booked),
            },
            |_| match staged {
                true => Ok(0),
                false => Err(NtError(STATUS_INSUFFICIENT_RESOURCES)),
            },
        );
        booking.room.number = number?;
        Ok(booking)
    }

    /// IRQL: <= DISPATCH_LEVEL. Memory for a notification of at most `length` bytes, all zero, to be
    /// filled in where it lies. It must be committed or dropped soon and without waiting in between:
    /// the common driver cannot be unloaded meanwhile.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_BUFFER_OVERFLOW` (too large),
    /// `STATUS_INVALID_LEVEL`: the notification is accounted as lost, and there is nothing to be filled
    /// in. `STATUS_INVALID_PARAMETER` if it is not one of this provider's.
    pub fn reserve<'m, M: Message<'m>>(&self, length: usize) -> Result<Reservation<'_, H>> {
        let wrong = NtError(STATUS_INVALID_PARAMETER);
        let bytes = u32::try_from(length).map_err(|_| wrong)?;
        // Held until it is committed: the memory may be the common driver's.
        let inside = self.client.gate.acquire();
        let bound = inside.as_ref().and_then(|_| self.client.bound());
        let theirs = bound.map(|bound| bound.reserve(M::NUMBER, bytes));
        let memory = match theirs {
            Some(Ok(memory)) => Place::Theirs(memory),
            // It goes, or is of the first revision.
            None
            | Some(Err(NtError(STATUS_DELETE_PENDING)))
            | Some(Err(NtError(STATUS_NOT_SUPPORTED))) => {
                let own = PoolBytes::zeroed(self.client.options.tag, length);
                Place::Own(own.inspect_err(|_| self.client.lose(M::NUMBER, Cause::NoMemory))?)
            }
            Some(Err(error)) => return Err(error),
        };
        Ok(Reservation {
            client: &self.client,
            message: M::NUMBER,
            fixed: M::FIXED as u16,
            memory,
            _inside: inside,
        })
    }
}

impl<H: Handler> Booking<H> {
    /// IRQL: <= DISPATCH_LEVEL. Offers the notification, in the room that was kept for it.
    ///
    /// Success is as for [`Provider::notify`]. Fails with `STATUS_INVALID_PARAMETER` if it is of
    /// another kind than was booked.
    pub fn notify<'m, M: Message<'m>>(mut self, message: &M) -> Result<()> {
        if M::NUMBER != self.message {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        let room = core::mem::replace(&mut self.room, Room::NONE);
        self.client.notify(message, room)
    }
}

impl<H: Handler> Drop for Booking<H> {
    fn drop(&mut self) {
        self.client.unbook(&self.room);
    }
}

/// Where a notification is filled in.
enum Place {
    /// In the common driver's memory.
    Theirs(Memory),
    /// In our own, without a common driver.
    Own(PoolBytes),
}

/// A notification that is being filled in: its payload's bytes. Dropping it gives them back, and
/// nothing is offered.
pub struct Reservation<'p, H: Handler> {
    client: &'p Client<H>,
    message: u16,
    fixed: u16,
    // Given back before the common driver may go.
    memory: Place,
    _inside: Option<RundownGuard<'p>>,
}

impl<H: Handler> Reservation<'_, H> {
    /// IRQL: <= DISPATCH_LEVEL. Offers the first `length` bytes, as [`Provider::notify`] does. Fails
    /// with `STATUS_INVALID_PARAMETER` if there are not so many, or it is not one of this provider's
    /// notifications; then nothing is offered.
    pub fn commit(self, length: usize) -> Result<()> {
        let wrong = NtError(STATUS_INVALID_PARAMETER);
        let (message, fixed, time) = (self.message, self.fixed, system_time());
        match self.memory {
            Place::Own(memory) => {
                let payload = memory.get(..length).ok_or(wrong)?;
                self.client.offer(message, fixed, time, payload, Room::NONE)
            }
            Place::Theirs(memory) => {
                let bytes = u32::try_from(length).map_err(|_| wrong)?;
                match memory.commit(fixed, bytes, time) {
                    // It has begun to go since, and its memory with it.
                    Err(NtError(STATUS_DELETE_PENDING)) => {
                        let mut state = self.client.state.lock();
                        state.staging.lose(message, Cause::ShuttingDown, 1);
                        Ok(())
                    }
                    committed => committed,
                }
            }
        }
    }
}

impl<H: Handler> Deref for Reservation<'_, H> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            Place::Theirs(memory) => memory.bytes(),
            Place::Own(memory) => memory,
        }
    }
}

impl<H: Handler> DerefMut for Reservation<'_, H> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Place::Theirs(memory) => memory.bytes_mut(),
            Place::Own(memory) => memory,
        }
    }
}
