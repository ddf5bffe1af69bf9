// SPDX-License-Identifier: MIT OR Apache-2.0
//! Before a notification: room that is kept for it, and memory in which it is filled in.

use crate::message::{cause, encoded};
use crate::provider::{Handler, Provider};
use fltport_abi::message::Message;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::Tag;
use fltport_nt::{NtError, Result};
use fltport_stub::Reservation;

/// Room for one notification that will have to be offered, and is not to be the one that is lost:
/// an exit, booked at the start. Dropping it (IRQL: <= DISPATCH_LEVEL) gives the room back.
pub struct Booking {
    booking: fltport_stub::Booking,
    tag: Tag,
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
    pub fn book<'m, M: Message<'m>>(&self, length: usize) -> Result<Booking> {
        Ok(Booking {
            booking: self.stub.book(M::NUMBER, length)?,
            tag: self.options.terms.tag,
        })
    }

    /// IRQL: <= DISPATCH_LEVEL. Memory for a notification of at most `length` bytes, all zero, to be
    /// filled in where it lies. It must be committed or dropped soon and without waiting in between:
    /// the common driver cannot be unloaded meanwhile.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_BUFFER_OVERFLOW` (too large),
    /// `STATUS_INVALID_LEVEL`: the notification is accounted as lost, and there is nothing to be filled
    /// in. `STATUS_INVALID_PARAMETER` if it is not one of this provider's.
    pub fn reserve<'m, M: Message<'m>>(&self, length: usize) -> Result<Reservation<'_>> {
        self.stub.reserve(M::NUMBER, M::FIXED as u16, length)
    }
}

impl Booking {
    /// IRQL: <= DISPATCH_LEVEL. Offers the notification, in the room that was kept for it.
    ///
    /// Success is as for [`Provider::notify`]. Fails with `STATUS_INVALID_PARAMETER` if it is of
    /// another kind than was booked.
    pub fn notify<'m, M: Message<'m>>(self, message: &M) -> Result<()> {
        if M::NUMBER != self.booking.message() {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        match encoded(self.tag, message) {
            Ok(payload) => self.booking.notify(M::FIXED as u16, &payload),
            Err(error) => {
                self.booking.lose(cause(error));
                Ok(())
            }
        }
    }
}
