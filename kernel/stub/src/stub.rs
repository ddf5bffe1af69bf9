// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider from its owner's point of view, whose messages are bytes.

use crate::binding::{Announcements, Binder, Registration};
use crate::booking::{Booking, Room};
use crate::ffi::{Completer, Guard, Snapshot};
use crate::gate::Gate;
use crate::reservation::{Place, Reservation};
use crate::staging::Staged;
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::interface::{BacklogPolicy, CALLBACK_NAME, CommandCaller, ProviderStatistics};
use fltport_abi::limits::{MAX_DEADLINE_MS, MAX_REPLY};
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_DEVICE_NOT_READY, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED,
};
use fltport_nt::ex::{CallbackObject, CallbackRegistration, PoolArc, PoolBytes, PoolSlice, Tag};
use fltport_nt::io::{DriverObject, WorkItem};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{APC_LEVEL, DISPATCH_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::{NtError, Result, utf16};

/// What the common driver calls.
pub trait Routines: Send + Sync + 'static {
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread of the service that sends. Handles a
    /// command, a kernel copy that fits the schema; writes the result to `out` and returns its
    /// length. Unregistering waits for it.
    fn command(
        &self,
        caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize>;

    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread of the service that subscribes.
    /// Reports the present state. Unregistering waits for it.
    fn snapshot(&self, snapshot: &Snapshot) -> Result<()>;
}

/// On what terms a provider registers. `fltport-client`'s `Options` say what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The pool tag of what is allocated here.
    pub tag: Tag,
    /// Bytes that are kept while there is no common driver.
    pub staging: u32,
    /// Bytes that are kept while no service is connected.
    pub backlog: u32,
    /// Which, when these do not suffice.
    pub policy: BacklogPolicy,
    /// Bytes that may be queued for one service; 0 for no limit of the provider's own.
    pub quota: u32,
    /// Notifications a second; 0 for no limit.
    pub rate: u32,
    /// How many may come at once; 0 for as many as in a second.
    pub burst: u32,
}

/// What requests of one kind are answered with when nobody answers them.
pub struct DefaultReply {
    /// The request's number.
    pub message: u16,
    /// The reply, encoded.
    pub reply: PoolBytes,
}

/// A registered provider. Dropping it (IRQL: PASSIVE_LEVEL, not from its own routines) unregisters
/// it and waits until none of them runs.
pub struct Stub<R: Routines> {
    // Dropped in this order, after `drop` has unbound it: no more announcements, no more binding,
    // then what they used.
    _announcements: CallbackRegistration<Announcements<R>>,
    binder: PoolArc<Binder<R>>,
    _object: CallbackObject,
    registration: PoolArc<Registration<R>>,
    gate: PoolArc<Gate>,
}

impl<R: Routines> Stub<R> {
    /// IRQL: PASSIVE_LEVEL. Registers with the common driver, now or whenever it comes up.
    ///
    /// Errors: `STATUS_OBJECT_NAME_COLLISION` if the common driver is there and has a provider of
    /// the name that the schema gives, `STATUS_INVALID_PARAMETER` if it finds anything wrong,
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    // Not in DriverEntry, whose stack is somebody else's further down.
    #[inline(never)]
    pub fn register(
        driver: DriverObject,
        schema: PoolBytes,
        terms: Terms,
        defaults: PoolSlice<DefaultReply>,
        routines: R,
    ) -> Result<Self> {
        let tag = terms.tag;
        let gate = Gate::new(tag, terms.staging)?;
        let registration = PoolArc::new_with(tag, || Registration {
            gate: gate.clone(),
            schema,
            terms,
            defaults,
            routines,
        })?;
        let work = WorkItem::new(driver, tag, registration.clone(), Registration::bind_later)?;
        let binder = PoolArc::new(tag, Binder(work))?;
        let object = CallbackObject::open_or_create(utf16!(CALLBACK_NAME))?;
        let listener = Announcements {
            registration: registration.clone(),
            binder: binder.clone(),
        };
        let listener = PoolArc::new(tag, listener)?;
        let registered = Stub {
            _announcements: CallbackRegistration::new(&object, tag, listener)?,
            binder,
            _object: object,
            registration,
            gate,
        };
        // From here on an announcement is heard; one that came before is asked for.
        registered.registration.ask_and_bind(&registered._object)?;
        Ok(registered)
    }

    /// IRQL: any. The routines.
    pub fn routines(&self) -> &R {
        &self.registration.routines
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers a notification, or keeps it until there is a common driver.
    /// Never blocks.
    ///
    /// Success means that it is accounted for: delivered, queued, or lost with a cause that the
    /// ledger shows. Fails with `STATUS_INVALID_PARAMETER` if the message is not one of this
    /// provider's notifications.
    pub fn notify(&self, message: u16, fixed: u16, payload: &[u8]) -> Result<()> {
        if usize::from(fixed) <= payload.len() && self.passes_over(message, payload.len()) {
            return Ok(());
        }
        let staged = Staged::new(message, fixed, payload);
        self.gate.offer(&staged, payload, Room::NONE)
    }

    /// IRQL: <= DISPATCH_LEVEL. Accounts for a notification of so many bytes, if nobody would hear it and it is accounted for with
    /// that; false, and nothing has happened, if it has to be offered. To be asked before a message is encoded.
    #[inline]
    pub fn passes_over(&self, message: u16, length: usize) -> bool {
        self.gate.unheard.count(message, length)
    }

    /// IRQL: <= DISPATCH_LEVEL. Accounts for a notification that could not be offered.
    pub fn lose(&self, message: u16, cause: Cause) {
        self.gate.lose(message, cause);
    }

    /// IRQL: <= DISPATCH_LEVEL. Books room for a notification of this kind whose payload has at most
    /// `length` bytes: with every service that observes it, in the backlog if none does, and in the
    /// staging buffer for the time without a common driver.
    ///
    /// Errors: `STATUS_INSUFFICIENT_RESOURCES` if there is no room or there are too many bookings,
    /// `STATUS_QUOTA_EXCEEDED` beyond the provider's rate, `STATUS_NOT_SUPPORTED` with a common driver
    /// of the first revision, `STATUS_INVALID_PARAMETER`, `STATUS_INVALID_LEVEL`.
    pub fn book(&self, message: u16, length: usize) -> Result<Booking> {
        let bytes = u32::try_from(length).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        let staged = self.gate.state.lock().staging.book(length);
        let mut booking = Booking {
            gate: self.gate.clone(),
            message,
            room: Room {
                number: 0,
                staged: staged.then_some(length),
            },
        };
        let number = self.gate.bound_or_staged(
            |bound| match bound.book(message, bytes) {
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
    pub fn reserve(&self, message: u16, fixed: u16, length: usize) -> Result<Reservation<'_>> {
        let bytes = u32::try_from(length).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        // Held until it is committed: the memory may be the common driver's.
        let inside = self.gate.inside.enter();
        let bound = inside.as_ref().and_then(Guard::bound);
        let place = match bound.map(|bound| bound.reserve(message, bytes)) {
            Some(Ok(memory)) => Place::Theirs(memory),
            // It goes, or is of the first revision.
            None | Some(Err(NtError(STATUS_DELETE_PENDING | STATUS_NOT_SUPPORTED))) => {
                let own = PoolBytes::zeroed(self.gate.tag, length);
                Place::Own(own.inspect_err(|_| self.lose(message, Cause::NoMemory))?)
            }
            Some(Err(error)) => return Err(error),
        };
        Ok(Reservation {
            gate: &self.gate,
            message,
            fixed,
            place,
            _inside: inside,
        })
    }

    /// IRQL: <= APC_LEVEL, with special kernel APCs enabled. Asks the decider and waits for its
    /// answer, at most `deadline_ms` milliseconds. `reply` holds the default, which is overwritten by
    /// a proper answer only.
    ///
    /// Errors: `STATUS_INVALID_LEVEL`, `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_INVALID_PARAMETER`,
    /// `STATUS_BUFFER_OVERFLOW`; nobody was asked then.
    pub fn request(
        &self,
        message: u16,
        fixed: u16,
        payload: &[u8],
        deadline_ms: u32,
        reply: &mut [u8],
    ) -> Result<Outcome> {
        check_request(APC_LEVEL, deadline_ms, reply)?;
        // The gate is held while waiting, so that the common driver cannot go; it ends all
        // connections, and so this wait, before it waits for us.
        let asked = (message, fixed, payload, deadline_ms);
        let outcome = self.gate.try_call(|bound| bound.request(asked, reply));
        outcome.unwrap_or(Ok(Outcome::NoDecider))
    }

    /// IRQL: <= DISPATCH_LEVEL. Asks the decider without waiting. `then` is called once, at
    /// PASSIVE_LEVEL, at the latest after `deadline_ms` milliseconds, with the answer or with
    /// `default`.
    ///
    /// Errors, with which `then` is dropped and not called: those of [`Stub::request`], and
    /// `STATUS_NOT_SUPPORTED` with a common driver of the first revision.
    pub fn request_async(
        &self,
        message: u16,
        fixed: u16,
        payload: &[u8],
        deadline_ms: u32,
        default: &[u8],
        then: impl FnOnce(&[u8], Outcome) + Send + 'static,
    ) -> Result<()> {
        check_request(DISPATCH_LEVEL, deadline_ms, default)?;
        let asked = (message, fixed, payload, deadline_ms);
        let completer = Completer::new(self.gate.tag, then)?;
        let inside = self.gate.inside.enter();
        let bound = inside.as_ref().and_then(Guard::bound);
        let completer = match bound {
            Some(bound) => match bound.request_async(asked, default, completer) {
                // The common driver has begun to go.
                Err((NtError(STATUS_DELETE_PENDING), completer)) => completer,
                Err((error, _)) => return Err(error),
                Ok(()) => return Ok(()),
            },
            None => completer,
        };
        self.gate.owe(completer, default)?;
        // If it is queued already it has not begun to run, and finds this, too.
        self.binder.0.queue();
        Ok(())
    }

    /// IRQL: any. Whether a message with this number would reach anybody: a load of one word, to be
    /// asked before a message is built. Without a common driver the staging buffer listens. (A
    /// common driver of the first revision has to be called for it, at IRQL <= DISPATCH_LEVEL.)
    pub fn is_listening(&self, message: u16) -> bool {
        self.gate.is_listening(message)
    }

    /// IRQL: <= DISPATCH_LEVEL. What became of this provider's messages with this number, of all for
    /// 0, since it registered with the present common driver.
    ///
    /// Errors: `STATUS_DEVICE_NOT_READY` without a common driver, `STATUS_NOT_SUPPORTED` with one of
    /// the first revision, `STATUS_INVALID_PARAMETER` for a number that is not of a message.
    pub fn statistics(&self, message: u16) -> Result<ProviderStatistics> {
        let found = self.gate.try_call(|bound| bound.statistics(message));
        found.unwrap_or(Err(NtError(STATUS_DEVICE_NOT_READY)))
    }
}

fn check_request(highest: u8, deadline_ms: u32, default: &[u8]) -> Result<()> {
    if current_irql() > highest {
        return Err(NtError(STATUS_INVALID_LEVEL));
    }
    if deadline_ms == 0 || deadline_ms > MAX_DEADLINE_MS || default.len() > MAX_REPLY {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    Ok(())
}

impl<R: Routines> Drop for Stub<R> {
    fn drop(&mut self) {
        self.gate.end();
    }
}
