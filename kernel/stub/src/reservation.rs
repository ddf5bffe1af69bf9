// SPDX-License-Identifier: MIT OR Apache-2.0
//! A notification that is filled in where it lies.

use crate::booking::Room;
use crate::ffi::{Guard, Memory};
use crate::gate::Gate;
use crate::staging::Staged;
use core::ops::{Deref, DerefMut};
use fltport_abi::account::Cause;
use fltport_nt::bindings::{STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER};
use fltport_nt::ex::PoolBytes;
use fltport_nt::{NtError, Result};

/// Where it lies.
pub(crate) enum Place {
    /// In the common driver's memory.
    Theirs(Memory),
    /// In our own, without a common driver.
    Own(PoolBytes),
}

/// A notification that is being filled in: its payload's bytes. Dropping it (IRQL: <=
/// DISPATCH_LEVEL) gives them back, and nothing is offered.
pub struct Reservation<'p> {
    pub(crate) gate: &'p Gate,
    pub(crate) message: u16,
    pub(crate) fixed: u16,
    // Given back before the common driver may go.
    pub(crate) place: Place,
    pub(crate) _inside: Option<Guard<'p>>,
}

impl Reservation<'_> {
    /// IRQL: <= DISPATCH_LEVEL. Offers the first `length` bytes: success means that the notification
    /// is accounted for. Fails with `STATUS_INVALID_PARAMETER` if there are not so many, or it is not
    /// one of this provider's notifications; then nothing is offered.
    pub fn commit(self, length: usize) -> Result<()> {
        let payload = self.get(..length);
        let payload = payload.ok_or(NtError(STATUS_INVALID_PARAMETER))?;
        let staged = Staged::new(self.message, self.fixed, payload);
        match self.place {
            Place::Own(memory) => {
                let payload = memory.get(..length).unwrap_or_default();
                self.gate.offer(&staged, payload, Room::NONE)
            }
            Place::Theirs(memory) => match memory.commit(&staged) {
                // It has begun to go since, and its memory with it.
                Err(NtError(STATUS_DELETE_PENDING)) => {
                    let mut state = self.gate.state.lock();
                    state.staging.lose(self.message, Cause::ShuttingDown, 1);
                    Ok(())
                }
                committed => committed,
            },
        }
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Theirs(memory) => memory.bytes(),
            Place::Own(memory) => memory,
        }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.place {
            Place::Theirs(memory) => memory.bytes_mut(),
            Place::Own(memory) => memory,
        }
    }
}
