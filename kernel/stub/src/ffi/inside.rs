// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where everybody is who calls the common driver, and the registration as they see it. Each message
//! passes here, so processors share nothing that is written: a count for each, and no lock.

use super::Bound;
use crate::publication::Publication;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use fltport_nt::ex::{CacheAwareRundown, CacheAwareRundownGuard};

pub(crate) struct Inside {
    /// Whoever is inside holds this; the revocation closes it, waits, and opens it again.
    users: CacheAwareRundown,
    publication: Publication,
    /// Written by who publishes, read by who is inside and has seen that it is there.
    bound: UnsafeCell<MaybeUninit<Bound>>,
}

// SAFETY: the place is written by one thread while the publication keeps all others away, and what
// is there is plain data that does not change while anybody is inside.
unsafe impl Send for Inside {}
// SAFETY: as above.
unsafe impl Sync for Inside {}

/// Somebody is inside: a registration that is seen does not end.
#[must_use = "who drops this is not inside any more"]
pub(crate) struct Guard<'a> {
    inside: &'a Inside,
    _user: CacheAwareRundownGuard<'a>,
}

/// Nobody is inside, and nobody can come in.
#[must_use = "it stays closed unless it is opened again"]
pub(crate) struct Closed<'a>(&'a Inside);

impl Inside {
    /// IRQL: any. Without a registration; `users` is open.
    // What can fail is made before, so that all of this is made where it stays.
    pub(crate) fn new(users: CacheAwareRundown) -> Self {
        Inside {
            users,
            publication: Publication::new(),
            bound: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// IRQL: <= DISPATCH_LEVEL. `None` while it is closed.
    pub(crate) fn enter(&self) -> Option<Guard<'_>> {
        let user = self.users.acquire()?;
        Some(Guard {
            inside: self,
            _user: user,
        })
    }

    /// IRQL: <= DISPATCH_LEVEL. From here on nobody sees the registration who has not seen it yet, and
    /// no other one until it was closed.
    pub(crate) fn withdraw(&self) {
        self.publication.withdraw();
    }

    /// IRQL: <= APC_LEVEL, from outside. Lets nobody in, and waits until nobody is inside.
    pub(crate) fn close(&self) -> Closed<'_> {
        self.users.wait();
        Closed(self)
    }
}

impl Guard<'_> {
    /// The registration, if there is one.
    pub(crate) fn bound(&self) -> Option<&Bound> {
        if !self.inside.publication.is_there() {
            return None;
        }
        let place = self.inside.bound.get();
        // SAFETY: it is there, so it was written before, and it is written again only after a reset,
        // for which nobody is inside: this guard is, as long as what is returned here lives.
        let bound = unsafe { &*place };
        // SAFETY: written, as above.
        Some(unsafe { bound.assume_init_ref() })
    }

    /// Lets everybody inside see the registration; the first one since it was closed.
    pub(crate) fn publish(&self, bound: Bound) {
        self.inside.publication.publish(|| {
            // SAFETY: nobody else writes, by the publication, and nobody reads: it is not there.
            unsafe { self.inside.bound.get().write(MaybeUninit::new(bound)) };
        });
    }
}

impl Closed<'_> {
    /// IRQL: <= APC_LEVEL. Opens it again, without a registration.
    pub(crate) fn reopen(self) {
        // Nobody is inside to read or to publish, and who was has left before the wait was over.
        self.0.publication.reset();
        self.0.users.reopen();
    }
}
