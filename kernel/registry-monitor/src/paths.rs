// SPDX-License-Identifier: MIT OR Apache-2.0
//! The paths of keys that are about to be deleted or renamed: afterwards they cannot be had.
//!
//! What is kept here from before an operation to after it is named by a number and not by a pointer,
//! because an operation that somebody else refuses may never be told of again. Such a path stays
//! until its place is needed, or the driver goes.

use crate::monitor::TAG;
use fltport_nt::Result;
use fltport_nt::cm::KeyPath;
use fltport_nt::ex::PoolSlice;
use fltport_nt::ke::SpinLock;

/// So many operations of these kinds can be on their way; of more, the oldest loses its path.
const PLACES: usize = 32;

struct Place {
    number: usize,
    path: Option<KeyPath>,
}

struct Places {
    places: PoolSlice<Place>,
    last_number: usize,
}

/// The paths, by number.
pub(crate) struct Paths(SpinLock<Places>);

impl Paths {
    /// IRQL: <= DISPATCH_LEVEL. None yet.
    pub(crate) fn new() -> Result<Self> {
        let empty = || Place {
            number: 0,
            path: None,
        };
        Ok(Paths(SpinLock::new(Places {
            places: PoolSlice::filled_with(TAG, PLACES, empty)?,
            last_number: 0,
        })))
    }

    /// IRQL: PASSIVE_LEVEL. Keeps a path; its number, which is never 0.
    pub(crate) fn keep(&self, path: KeyPath) -> usize {
        let mut places = self.0.lock();
        let number = places.last_number.wrapping_add(1).max(1);
        places.last_number = number;
        let kept = Place {
            number,
            path: Some(path),
        };
        let place = places.places.get_mut(number % PLACES);
        let former = place.map(|place| core::mem::replace(place, kept));
        // Paths are given back at a lower IRQL than that of the lock.
        drop(places);
        drop(former);
        number
    }

    /// IRQL: PASSIVE_LEVEL. Takes a path out; `None` if it has lost its place.
    pub(crate) fn take(&self, number: usize) -> Option<KeyPath> {
        let mut places = self.0.lock();
        let place = places.places.get_mut(number % PLACES)?;
        if place.number == number {
            place.path.take()
        } else {
            None
        }
    }
}
