// SPDX-License-Identifier: MIT OR Apache-2.0
//! The miss policy: what a provider declared its requests to be answered with when nobody answers
//! them.

use crate::ledger::bit;
use crate::tag;
use fltport_abi::limits::MAX_REPLY;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::{PoolBytes, PoolSlice};
use fltport_nt::{NtError, Result};

/// A default reply as the client driver declares it.
#[derive(Clone, Copy)]
pub(crate) struct Declared<'a> {
    pub(crate) message: u16,
    pub(crate) reply: &'a [u8],
}

/// Where a default reply lies.
#[derive(Clone, Copy, Default)]
struct Place {
    message: u16,
    start: usize,
    end: usize,
}

/// A provider's default replies, copied.
pub(crate) struct Defaults {
    places: PoolSlice<Place>,
    replies: PoolBytes,
}

impl Defaults {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INVALID_PARAMETER` if one is not for one of these
    /// `requests`, is the second for one, or is longer than a reply may be.
    #[inline(never)]
    pub(crate) fn new(declared: &[Declared<'_>], requests: u64) -> Result<Self> {
        let mut seen = 0;
        let mut length = 0;
        for Declared { message, reply } in declared {
            let bit = bit(*message);
            if requests & bit == 0 || seen & bit != 0 || reply.len() > MAX_REPLY {
                return Err(NtError(STATUS_INVALID_PARAMETER));
            }
            seen |= bit;
            length += reply.len();
        }
        let mut places = PoolSlice::filled(tag::PROVIDER, declared.len(), Place::default())?;
        let mut replies = PoolBytes::zeroed(tag::PROVIDER, length)?;
        let mut start = 0;
        for (place, Declared { message, reply }) in places.iter_mut().zip(declared) {
            let end = start + reply.len();
            let copy = replies.get_mut(start..end).unwrap_or_default();
            copy.iter_mut()
                .zip(*reply)
                .for_each(|(to, from)| *to = *from);
            *place = Place {
                message: *message,
                start,
                end,
            };
            start = end;
        }
        Ok(Defaults { places, replies })
    }

    /// What was declared for this request.
    pub(crate) fn of(&self, message: u16) -> Option<&[u8]> {
        let place = self.places.iter().find(|place| place.message == message)?;
        self.replies.get(place.start..place.end)
    }
}
