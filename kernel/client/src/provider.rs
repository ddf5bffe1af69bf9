// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider from its owner's point of view.
//!
//! It is in one of two states, staging or bound. Announcements and revocations come as callbacks,
//! at up to DISPATCH_LEVEL; the registration with the common driver needs PASSIVE_LEVEL, so a work
//! item does it.

use crate::asynchronous::Owed;
use crate::booking::Room;
use crate::default_reply;
use crate::ffi::{Bound, Table};
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::staging::{Staged, Staging};
use core::sync::atomic::{AtomicU64, Ordering};
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::interface::{ANNOUNCE, CALLBACK_NAME, CommandCaller, ProviderStatistics, REVOKE};
use fltport_abi::limits::{MAX_DEADLINE_MS, MAX_REPLY, MAX_SCHEMA};
use fltport_abi::message::{Message, Request};
use fltport_abi::schema;
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_DEVICE_NOT_READY, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INTERNAL_ERROR, STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED,
};
use fltport_nt::ex::{
    CallbackObject, CallbackRegistration, Listener, PoolArc, PoolBox, PoolBytes, Rundown, Tag,
};
use fltport_nt::io::{DriverObject, WorkItem};
use fltport_nt::ke::{SpinLock, current_irql, system_time};
use fltport_nt::linked::{APC_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::{NtError, Result, utf16};

/// Handles a provider's commands.
pub trait Handler: Send + Sync + 'static {
    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread of the service that sends. It
    /// should be brief: unregistering waits for it. `payload` is a kernel copy that fits the
    /// schema; writes the result to `out` and returns its length. The status of an error reaches
    /// the service.
    fn command(
        &self,
        caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize>;

    /// IRQL: PASSIVE_LEVEL, in a critical region, in the thread of the service that subscribes.
    /// Reports the present state: [`Snapshot::add`] for each object and last, holding whatever lock
    /// orders the notifications about them, [`Snapshot::live`]. Unregistering waits for it. The status
    /// of an error reaches the service, which is not subscribed then. By default there are no
    /// snapshots: `STATUS_NOT_SUPPORTED`.
    fn snapshot(&self, _snapshot: &Snapshot) -> Result<()> {
        Err(NtError(STATUS_NOT_SUPPORTED))
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<R> {
    /// The decider's reply, or the default.
    pub reply: R,
    /// Who answered, or why nobody did.
    pub outcome: Outcome,
}

/// A registered provider. Dropping it (IRQL: PASSIVE_LEVEL, not from its command handler)
/// unregisters it and waits until no handler runs.
pub struct Provider<H: Handler> {
    // Dropped in this order, after `drop` has unbound it: no more announcements, no more binding,
    // then what they used.
    _announcements: CallbackRegistration<Announcements<H>>,
    pub(crate) binder: PoolArc<Binder<H>>,
    _object: CallbackObject,
    pub(crate) client: PoolArc<Client<H>>,
}

/// Hears of the common driver's coming and going.
struct Announcements<H: Handler> {
    client: PoolArc<Client<H>>,
    binder: PoolArc<Binder<H>>,
}

/// Does at PASSIVE_LEVEL what cannot be done elsewhere: binds, and answers what is owed.
pub(crate) struct Binder<H: Handler>(pub(crate) WorkItem<Client<H>>);

/// What announcements, work item and provider share.
pub(crate) struct Client<H: Handler> {
    pub(crate) options: Options,
    schema: PoolBytes,
    pub(crate) handler: PoolArc<H>,
    /// Whoever calls into the common driver holds this; the revocation closes it, waits, and opens
    /// it again.
    pub(crate) gate: Rundown,
    pub(crate) state: SpinLock<State>,
    /// Which messages would reach anybody: the common driver's to write while it is bound;
    /// [`EVERYTHING`] without one, [`UNKNOWN`] with one that does not write it.
    interest: AtomicU64,
}

/// What the interest word says while everything is staged.
const EVERYTHING: u64 = u64::MAX;
/// The bit of a message number that there is not: the common driver must be asked.
const UNKNOWN: u64 = 1;

pub(crate) struct State {
    /// The registration with the common driver; without it notifications are staged.
    bound: Option<Bound>,
    /// The table that was announced and is to be bound to.
    announced: Option<Table>,
    /// Somebody registers with it now: a second one would find the name taken, by ourselves.
    binding: bool,
    /// The table is being revoked: `bound` is about to end.
    leaving: bool,
    /// The provider is being dropped: nothing is bound any more.
    ending: bool,
    pub(crate) staging: Staging,
    /// Asynchronous requests that are to be answered by their defaults, the newest first.
    pub(crate) owed: Option<PoolBox<Owed>>,
}

impl<H: Handler> Provider<H> {
    /// IRQL: PASSIVE_LEVEL. Registers with the common driver, now or whenever it comes up.
    ///
    /// Errors: `STATUS_OBJECT_NAME_COLLISION` if the common driver is there and has a provider of
    /// this name, `STATUS_INVALID_PARAMETER` if a default reply is not for one of its requests or the
    /// second for one, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn register(
        driver: DriverObject,
        provider: &schema::Provider,
        handler: H,
        options: Options,
    ) -> Result<Self> {
        default_reply::check(provider, options.default_replies)?;
        let client = Client::new(provider, handler, options)?;
        let work = WorkItem::new(driver, options.tag, client.clone(), Client::bind_later)?;
        let binder = PoolArc::new(options.tag, Binder(work))?;
        let object = CallbackObject::open_or_create(utf16!(CALLBACK_NAME))?;
        let listener = Announcements {
            client: client.clone(),
            binder: binder.clone(),
        };
        let listener = PoolArc::new(options.tag, listener)?;
        let announcements = CallbackRegistration::new(&object, options.tag, listener)?;
        let registered = Provider {
            _announcements: announcements,
            binder,
            _object: object,
            client,
        };
        // From here on an announcement is heard; one that came before is asked for.
        registered.client.ask_and_bind(&registered._object)?;
        Ok(registered)
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers a notification, or keeps it until there is a common driver.
    /// Never blocks.
    ///
    /// Success means that it is accounted for: delivered, queued, or lost with a cause that the
    /// ledger shows. Fails with `STATUS_INVALID_PARAMETER` if the message is not one of this
    /// provider's notifications.
    pub fn notify<'m, M: Message<'m>>(&self, message: &M) -> Result<()> {
        self.client.notify(message, Room::NONE)
    }

    /// IRQL: <= APC_LEVEL, with special kernel APCs enabled. Asks the decider and waits for its
    /// answer, at most `deadline_ms` milliseconds. `default` is the answer whenever the decider
    /// gives none, also when there is no common driver; `None` stands for the one that was declared
    /// with [`Options::default_replies`].
    ///
    /// Errors: `STATUS_INVALID_LEVEL`, `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_INVALID_PARAMETER`
    /// (also if no default was declared), `STATUS_BUFFER_OVERFLOW`; nobody was asked then, and the
    /// caller goes on with its default.
    pub fn ask<'m, M>(
        &self,
        message: &M,
        deadline_ms: u32,
        default: impl Into<Option<M::Reply>>,
    ) -> Result<Answer<M::Reply>>
    where
        M: Message<'m> + Request<Reply: for<'r> Message<'r> + Copy>,
    {
        let default = self.check_ask::<M>(APC_LEVEL, deadline_ms, default.into())?;
        let nobody = Ok(Answer {
            reply: default,
            outcome: Outcome::NoDecider,
        });
        // Held while waiting, so that the common driver cannot go; it ends all connections, and so
        // this wait, before it waits for us.
        let Some(_inside) = self.client.gate.acquire() else {
            return nobody;
        };
        let Some(bound) = self.client.bound() else {
            return nobody;
        };
        let payload = self.client.encode(message)?;
        let mut reply = self.client.encode(&default)?;
        let outcome = bound.request(
            M::NUMBER,
            M::FIXED as u16,
            &payload,
            deadline_ms,
            &mut reply,
        )?;
        Ok(Answer::decode(&reply, outcome, default))
    }

    /// Checks a question; the default that it is asked with.
    pub(crate) fn check_ask<'m, M>(
        &self,
        highest: u8,
        deadline_ms: u32,
        default: Option<M::Reply>,
    ) -> Result<M::Reply>
    where
        M: Message<'m> + Request<Reply: Copy>,
    {
        if current_irql() > highest {
            return Err(NtError(STATUS_INVALID_LEVEL));
        }
        let declared = || default_reply::of::<M>(self.client.options.default_replies);
        let default = default.map_or_else(declared, Ok)?;
        if deadline_ms == 0 || deadline_ms > MAX_DEADLINE_MS || default.encoded_len() > MAX_REPLY {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        Ok(default)
    }

    /// IRQL: any. Whether a message with this number would reach anybody: a load of one word, to be
    /// asked before a message is built. Without a common driver the staging buffer listens. (A
    /// common driver of the first revision has to be called for it, at IRQL <= DISPATCH_LEVEL.)
    pub fn is_listening(&self, message: u16) -> bool {
        // Relaxed: a hint, and out of date as soon as it is read.
        match self.client.interest.load(Ordering::Relaxed) {
            UNKNOWN => self.ask_is_listening(message),
            types => types.checked_shr(message.into()).unwrap_or(0) & 1 != 0,
        }
    }

    fn ask_is_listening(&self, message: u16) -> bool {
        let Some(_inside) = self.client.gate.acquire() else {
            return true;
        };
        self.client
            .bound()
            .is_none_or(|bound| bound.is_listening(message))
    }

    /// IRQL: <= DISPATCH_LEVEL. What became of this provider's messages with this number, of all for
    /// 0, since it registered with the present common driver.
    ///
    /// Errors: `STATUS_DEVICE_NOT_READY` without a common driver, `STATUS_NOT_SUPPORTED` with one of
    /// the first revision, `STATUS_INVALID_PARAMETER` for a number that is not of a message.
    pub fn statistics(&self, message: u16) -> Result<ProviderStatistics> {
        let inside = self.client.gate.acquire();
        let bound = inside.as_ref().and_then(|_| self.client.bound());
        let bound = bound.ok_or(NtError(STATUS_DEVICE_NOT_READY))?;
        bound.statistics(message)
    }

    /// IRQL: any. The handler.
    pub fn handler(&self) -> &H {
        &self.client.handler
    }
}

#[inline(never)]
fn encoded(tag: Tag, provider: &schema::Provider) -> Result<PoolBytes> {
    let mut encoded = PoolBytes::zeroed(tag, MAX_SCHEMA)?;
    let length = provider
        .encode(&mut encoded)
        .map_err(|_| NtError(STATUS_INTERNAL_ERROR))?;
    PoolBytes::copy_of(tag, encoded.get(..length).unwrap_or(&[]))
}

impl<R: for<'r> Message<'r>> Answer<R> {
    /// A decider can answer with bytes of the right length that are not a reply.
    pub(crate) fn decode(bytes: &[u8], outcome: Outcome, default: R) -> Self {
        match R::decode(bytes) {
            Ok(reply) => Answer { reply, outcome },
            Err(_) => Answer {
                reply: default,
                outcome: Outcome::BadReply,
            },
        }
    }
}

impl<H: Handler> Drop for Provider<H> {
    fn drop(&mut self) {
        self.client.state.lock().ending = true;
        self.client.unbind();
        // If the gate was closed just now, the common driver is being unloaded and unbinds; the end
        // of the announcements waits for that.
    }
}

impl<H: Handler> Client<H> {
    // Not in DriverEntry, whose stack is somebody else's further down.
    #[inline(never)]
    fn new(provider: &schema::Provider, handler: H, options: Options) -> Result<PoolArc<Self>> {
        let tag = options.tag;
        let schema = encoded(tag, provider)?;
        let staging = Staging::new(tag, options.staging as usize)?;
        let state = State {
            bound: None,
            announced: None,
            binding: false,
            leaving: false,
            ending: false,
            staging,
            owed: None,
        };
        let handler = PoolArc::new(tag, handler)?;
        let gate = Rundown::new(tag)?;
        PoolArc::new_with(tag, || Client {
            options,
            schema,
            handler,
            gate,
            state: SpinLock::new(state),
            interest: AtomicU64::new(EVERYTHING),
        })
    }

    pub(crate) fn bound(&self) -> Option<Bound> {
        self.state.lock().bound
    }

    pub(crate) fn encode<'m, M: Message<'m>>(&self, message: &M) -> Result<PoolBytes> {
        let mut payload = PoolBytes::zeroed(self.options.tag, message.encoded_len())?;
        // The length is the message's own, so it fits.
        message
            .encode(&mut payload)
            .map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        Ok(payload)
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers a notification, with the room that was booked for it.
    pub(crate) fn notify<'m, M: Message<'m>>(&self, message: &M, room: Room) -> Result<()> {
        let time = system_time();
        match self.encode(message) {
            Ok(payload) => self.offer(M::NUMBER, M::FIXED as u16, time, &payload, room),
            Err(error) => {
                self.unbook(&room);
                let no_memory = error.status() == STATUS_INSUFFICIENT_RESOURCES;
                let cause = if no_memory {
                    Cause::NoMemory
                } else {
                    Cause::TooLarge
                };
                self.lose(M::NUMBER, cause);
                Ok(())
            }
        }
    }

    /// As [`Client::notify`], encoded.
    pub(crate) fn offer(
        &self,
        message: u16,
        fixed: u16,
        time: i64,
        payload: &[u8],
        room: Room,
    ) -> Result<()> {
        let staged = Staged {
            time,
            message,
            fixed,
            length: payload.len() as u32,
        };
        let done = self.bound_or_staged(
            |bound| match bound.notify(&staged, room.number, payload) {
                // The common driver has begun to go: what it does not take is kept for the next.
                Err(NtError(STATUS_DELETE_PENDING)) => None,
                accounted => Some((accounted, true)),
            },
            |staging| {
                if let Some(length) = room.staged {
                    staging.unbook(length);
                }
                let booked = room.staged.is_some_and(|length| payload.len() <= length);
                staging.push(&staged, booked, payload);
                (Ok(()), false)
            },
        );
        if let (true, Some(length)) = (done.1, room.staged) {
            self.state.lock().staging.unbook(length);
        }
        done.0
    }

    /// IRQL: <= DISPATCH_LEVEL. Gives booked room back.
    pub(crate) fn unbook(&self, room: &Room) {
        if let Some(length) = room.staged {
            self.state.lock().staging.unbook(length);
        }
        if room.number != 0
            && let Some(_inside) = self.gate.acquire()
            && let Some(bound) = self.bound()
        {
            bound.unbook(room.number);
        }
    }

    pub(crate) fn lose(&self, message: u16, cause: Cause) {
        self.bound_or_staged(
            |bound| {
                bound.lost(message, cause, 1);
                Some(())
            },
            |staging| staging.lose(message, cause, 1),
        );
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
            let inside = self.gate.acquire();
            let bound = inside.as_ref().and_then(|_| self.bound());
            if let Some(done) = bound.as_ref().and_then(&mut offer) {
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

    /// IRQL: PASSIVE_LEVEL. Binds to the common driver that is there already, if any.
    fn ask_and_bind(&self, object: &CallbackObject) -> Result<()> {
        // From before the question: a revocation that begins behind the answer waits until it has
        // been used.
        let Some(_inside) = self.gate.acquire() else {
            return Ok(());
        };
        let Some(table) = Table::ask(object) else {
            return Ok(());
        };
        self.state.lock().announced = Some(table);
        self.bind()
    }

    /// The work item: errors have nobody to go to; notifications stay staged, and the next
    /// announcement tries again.
    fn bind_later(&self) {
        self.complete_owed();
        let _staged_still = self.bind();
    }

    /// IRQL: PASSIVE_LEVEL. Registers with the table that was announced, if any, and hands over
    /// what was staged.
    fn bind(&self) -> Result<()> {
        let Some(_inside) = self.gate.acquire() else {
            return Ok(());
        };
        let table = {
            let mut state = self.state.lock();
            let wanted = !state.binding && state.bound.is_none() && !state.ending;
            let announced = state.announced.take().filter(|_| wanted);
            state.binding |= announced.is_some();
            announced
        };
        let Some(table) = table else {
            return Ok(());
        };
        let bound = table.register(&self.schema, &self.options, &self.interest, self);
        match &bound {
            Ok(_) if table.is_first() => self.interest.store(UNKNOWN, Ordering::Relaxed),
            Ok(_) => {}
            // It may have been written before that failed.
            Err(_) => self.interest.store(EVERYTHING, Ordering::Relaxed),
        }
        let mut state = self.state.lock();
        state.binding = false;
        let bound = bound?;
        // Under the lock, so that what is offered from now on comes behind it: at most the staging
        // buffer's bytes, once.
        let hand_over = |staged: &Staged, payload: &[u8]| {
            // If the common driver has begun to go, the rest stays for the next one. What it
            // refuses otherwise was not a notification of this provider when it was staged either.
            bound.notify(staged, 0, payload) != Err(NtError(STATUS_DELETE_PENDING))
        };
        state.staging.drain(hand_over, |message, cause, count| {
            bound.lost(message, cause, count)
        });
        if state.ending {
            drop(state);
            self.unregister(bound);
        } else {
            state.bound = Some(bound);
        }
        Ok(())
    }

    /// IRQL: PASSIVE_LEVEL. Unregisters if it is bound, and no revocation is doing that.
    fn unbind(&self) {
        if let Some(_inside) = self.gate.acquire() {
            let bound = self.state.lock().bound.take();
            if let Some(bound) = bound {
                self.unregister(bound);
            }
        }
    }

    /// IRQL: PASSIVE_LEVEL. From here on everything is staged.
    fn unregister(&self, bound: Bound) {
        bound.unregister();
        self.interest.store(EVERYTHING, Ordering::Relaxed);
    }

    /// IRQL: PASSIVE_LEVEL. The common driver goes: lets go of its table before this returns.
    fn revoked(&self) {
        {
            let mut state = self.state.lock();
            state.announced = None;
            state.leaving = true;
        }
        // By now the common driver does not write it any more: it has unregistered everybody.
        self.interest.store(EVERYTHING, Ordering::Relaxed);
        self.gate.wait();
        // Nobody is inside, and nobody can come in: not a caller, not a binder.
        let bound = {
            let mut state = self.state.lock();
            state.announced = None;
            state.leaving = false;
            state.bound.take()
        };
        if let Some(bound) = bound {
            self.unregister(bound);
        }
        self.gate.reopen();
    }
}

impl<H: Handler> Listener for Announcements<H> {
    fn notified(&self, argument1: usize, argument2: usize) {
        match argument1 {
            ANNOUNCE => {
                if let Some(table) = Table::announced(argument2) {
                    self.client.state.lock().announced = Some(table);
                    self.binder.0.queue();
                }
            }
            REVOKE => self.client.revoked(),
            _ => {}
        }
    }
}
