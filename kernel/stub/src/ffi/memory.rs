// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the common driver's, in which a notification is filled in.

use super::{Bound, NOT_SUPPORTED, bytes, bytes_mut};
use crate::staging::Staged;
use fltport_abi::interface::Reservation;
use fltport_nt::Result;
use fltport_nt::status::check;

/// Memory of the common driver's for one notification. Dropping it gives it back; who has it has
/// protection from the table's revocation.
pub(crate) struct Memory {
    pub(super) bound: Bound,
    pub(super) reservation: Reservation,
}

impl Memory {
    /// The payload.
    pub(crate) fn bytes(&self) -> &[u8] {
        let Reservation {
            payload, length, ..
        } = self.reservation;
        // SAFETY: the common driver gave so many initialised bytes, ours until the reservation ends.
        unsafe { bytes(payload, length) }
    }

    /// The payload, to be filled in.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let Reservation {
            payload, length, ..
        } = self.reservation;
        // SAFETY: as in `bytes`, and borrowed mutably.
        unsafe { bytes_mut(payload, length) }
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers as many bytes as are said there, with that time.
    pub(crate) fn commit(self, staged: &Staged) -> Result<()> {
        let this = core::mem::ManuallyDrop::new(self);
        let Bound { table, handle } = &this.bound;
        let commit = table.0.commit.ok_or(NOT_SUPPORTED)?;
        let Staged {
            fixed,
            length,
            time,
            ..
        } = *staged;
        // SAFETY: a registered handle and a reservation of its own, which ends here.
        check(unsafe { commit(*handle, this.reservation.handle, fixed, length, time) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(discard) = self.bound.table.0.discard {
            // SAFETY: a registered handle and a reservation of its own, which ends here.
            unsafe { discard(self.bound.handle, self.reservation.handle) };
        }
    }
}
