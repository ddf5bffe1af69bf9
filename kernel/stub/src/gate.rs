// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where every message passes: to the common driver, or into the staging buffer.

use crate::asynchronous::Owed;
use crate::booking::Room;
use crate::ffi::{Bound, Guard, Inside, Table};
use crate::staging::{Staged, Staging};
use crate::unheard::Unheard;
use core::sync::atomic::{AtomicU64, Ordering};
use fltport_abi::account::Cause;
use fltport_nt::bindings::STATUS_DELETE_PENDING;
use fltport_nt::ex::{CacheAwareRundown, PoolArc, PoolBox, Tag};
use fltport_nt::ke::SpinLock;
use fltport_nt::{NtError, Result};

/// What the provider, its bookings and its binding share.
pub(crate) struct Gate {
    pub(crate) tag: Tag,
    /// Whoever calls into the common driver is inside, and sees the registration there.
    pub(crate) inside: Inside,
    pub(crate) state: SpinLock<State>,
    /// Which messages would reach anybody: the common driver's to write while it is bound;
    /// [`EVERYTHING`] without one, [`UNKNOWN`] with one that does not write it.
    pub(crate) interest: AtomicU64,
    pub(crate) unheard: Unheard,
}

/// What the interest word says while everything is staged.
pub(crate) const EVERYTHING: u64 = u64::MAX;
/// The bit of a message number that there is not: the common driver must be asked.
pub(crate) const UNKNOWN: u64 = 1;

pub(crate) struct State {
    /// The registration with the common driver; without it notifications are staged. Whoever is
    /// inside sees the same, without the lock.
    pub(crate) bound: Option<Bound>,
    /// The table that was announced and is to be bound to.
    pub(crate) announced: Option<Table>,
    /// Somebody registers with it now: a second one would find the name taken, by ourselves.
    pub(crate) binding: bool,
    /// The table is being revoked: `bound` is about to end.
    pub(crate) leaving: bool,
    /// The provider is being dropped: nothing is bound any more.
    pub(crate) ending: bool,
    pub(crate) staging: Staging,
    /// Asynchronous requests that are to be answered by their defaults, the newest first.
    pub(crate) owed: Option<PoolBox<Owed>>,
}

impl Gate {
    /// IRQL: PASSIVE_LEVEL. Without a common driver, and with so many bytes to stage in.
    // By itself, and where it stays: it would be on the stack of who registers more than once.
    #[inline(never)]
    pub(crate) fn new(tag: Tag, staging: u32) -> Result<PoolArc<Self>> {
        let staging = Staging::new(tag, staging as usize)?;
        let users = CacheAwareRundown::new(tag)?;
        let unheard = Unheard::new(tag)?;
        PoolArc::new_with(tag, || Gate {
            tag,
            inside: Inside::new(users),
            state: SpinLock::new(State {
                bound: None,
                announced: None,
                binding: false,
                leaving: false,
                ending: false,
                staging,
                owed: None,
            }),
            interest: AtomicU64::new(EVERYTHING),
            unheard,
        })
    }

    /// The registration with the common driver, which ends at any moment unless the caller is inside,
    /// and whether somebody registers now.
    pub(crate) fn bound_or_binding(&self) -> (Option<Bound>, bool) {
        let state = self.state.lock();
        (state.bound, state.binding)
    }

    /// Calls the common driver; `None` without one.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&Bound) -> T) -> Option<T> {
        self.inside.enter()?.bound().map(call)
    }

    /// As [`Gate::call`]; a common driver that has begun to go is none.
    pub(crate) fn try_call<T>(&self, call: impl FnOnce(&Bound) -> Result<T>) -> Option<Result<T>> {
        let going = |done: &Result<T>| matches!(done, Err(NtError(STATUS_DELETE_PENDING)));
        self.call(call).filter(|done| !going(done))
    }

    /// Does something with the common driver, if there is one and it takes it, else with the
    /// staging buffer.
    pub(crate) fn bound_or_staged<T>(
        &self,
        mut offer: impl FnMut(&Bound) -> Option<T>,
        stage: impl FnOnce(&mut Staging) -> T,
    ) -> T {
        loop {
            // Held to the end: while somebody is inside, a binding that was seen does not end.
            let inside = self.inside.enter();
            let bound = inside.as_ref().and_then(Guard::bound);
            if let Some(done) = bound.and_then(&mut offer) {
                return done;
            }
            let mut state = self.state.lock();
            if bound.is_some() || state.leaving || state.bound.is_none() {
                return stage(&mut state.staging);
            }
            // Bound since we looked: the staging buffer has been emptied, and what is put there now
            // would lie there. At most once per binding.
        }
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers a notification, with the room that was booked for it.
    pub(crate) fn offer(&self, staged: &Staged, payload: &[u8], room: Room) -> Result<()> {
        let (done, taken) = self.bound_or_staged(
            |bound| match bound.notify(staged, room.number, payload) {
                // The common driver has begun to go: what it does not take is kept for the next.
                Err(NtError(STATUS_DELETE_PENDING)) => None,
                accounted => Some((accounted, true)),
            },
            |staging| {
                if let Some(length) = room.staged {
                    staging.unbook(length);
                }
                let booked = room.staged.is_some_and(|length| payload.len() <= length);
                staging.push(staged, booked, payload);
                (Ok(()), false)
            },
        );
        if taken {
            self.unstage(&room);
        }
        done
    }

    /// IRQL: <= DISPATCH_LEVEL. Accounts for a notification that could not be offered.
    pub(crate) fn lose(&self, message: u16, cause: Cause) {
        self.bound_or_staged(
            |bound| {
                bound.lost(message, cause, 1);
                Some(())
            },
            |staging| staging.lose(message, cause, 1),
        );
    }

    /// IRQL: <= DISPATCH_LEVEL. Gives booked room back.
    pub(crate) fn unbook(&self, room: &Room) {
        self.unstage(room);
        if room.number != 0 {
            self.call(|bound| bound.unbook(room.number));
        }
    }

    /// Gives room in the staging buffer back.
    fn unstage(&self, room: &Room) {
        if let Some(length) = room.staged {
            self.state.lock().staging.unbook(length);
        }
    }

    /// IRQL: any. Whether a message with this number would reach anybody.
    pub(crate) fn is_listening(&self, message: u16) -> bool {
        // Relaxed: a hint, and out of date as soon as it is read.
        match self.interest.load(Ordering::Relaxed) {
            UNKNOWN => self
                .call(|bound| bound.is_listening(message))
                .unwrap_or(true),
            types => types.checked_shr(message.into()).unwrap_or(0) & 1 != 0,
        }
    }
}
