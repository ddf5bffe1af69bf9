// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room that is kept for a notification.

use crate::gate::Gate;
use crate::staging::Staged;
use fltport_abi::account::Cause;
use fltport_nt::Result;
use fltport_nt::ex::PoolArc;

/// Where there is room.
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
/// an exit, booked at the start. Dropping it (IRQL: <= DISPATCH_LEVEL) gives the room back.
pub struct Booking {
    pub(crate) gate: PoolArc<Gate>,
    pub(crate) message: u16,
    pub(crate) room: Room,
}

impl Booking {
    /// The number of the message that it is for.
    pub fn message(&self) -> u16 {
        self.message
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers the notification in the room that was kept for it, as
    /// [`Stub::notify`](crate::Stub::notify) does.
    pub fn notify(mut self, fixed: u16, payload: &[u8]) -> Result<()> {
        let room = core::mem::replace(&mut self.room, Room::NONE);
        let staged = Staged::new(self.message, fixed, payload);
        self.gate.offer(&staged, payload, room)
    }

    /// IRQL: <= DISPATCH_LEVEL. The notification cannot be offered: accounts for it.
    pub fn lose(self, cause: Cause) {
        self.gate.lose(self.message, cause);
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.gate.unbook(&self.room);
    }
}
