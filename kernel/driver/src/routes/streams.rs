// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which place a service gets that connects, and what becomes of it when the connection ends:
//! streams that outlive their connections, and go on with another.

use super::{Routes, taken_mut};
use crate::receiver::{RECORDS_AT_ONCE, Receiver};
use crate::stream::{Claim, SETTLED_AT_ONCE, Stream};
use fltport_abi::hello::{self, StreamHello};
use fltport_abi::limits::{ADMINISTRATORS_PLACES, MAX_CONNECTIONS, MAX_WINDOWS};
use fltport_abi::status;
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_CONNECTION_COUNT_LIMIT, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_NOT_FOUND,
};
use fltport_nt::ex::PoolBox;
use fltport_nt::{NtError, Result};

/// What a service that connects gets.
enum Claimed {
    /// The stream that this connection has, or had.
    Stream(u32),
    /// A place of its own. The stream of this connection is over when it has it.
    Place { instead_of: Option<u32> },
}

impl Routes {
    /// Gives a service that connects its place: a new one, or that of the stream that it wants to go
    /// on with. Then what is returned has the connection that the stream had, to be ended.
    ///
    /// Errors: `STATUS_CONNECTION_COUNT_LIMIT` if all places are taken that it may have; for a stream
    /// those of [`Stream::claim`](crate::stream::Stream::claim).
    pub(crate) fn attach(
        &mut self,
        mut receiver: PoolBox<Receiver>,
        hello: Option<&StreamHello>,
    ) -> core::result::Result<Option<PoolBox<Receiver>>, (PoolBox<Receiver>, NtError)> {
        let claimed = match hello {
            Some(hello) => self.claim(&receiver, hello),
            None => Ok(Claimed::Place { instead_of: None }),
        };
        let instead_of = match (claimed, hello) {
            (Err(error), _) => return Err((receiver, error)),
            (Ok(Claimed::Stream(former)), Some(hello)) => {
                return Ok(Some(self.resume(former, receiver, hello)));
            }
            (Ok(Claimed::Place { instead_of }), _) => instead_of,
            (Ok(Claimed::Stream(_)), None) => None,
        };
        let number = receiver.connection.identity.number;
        receiver.lane = self.free_lane();
        let may = self.has_place_for(&receiver);
        let place = self.connections.iter_mut().find(|place| place.is_none());
        let Some(place) = place.filter(|_| may) else {
            return Err((receiver, NtError(STATUS_CONNECTION_COUNT_LIMIT)));
        };
        *place = Some(receiver);
        // Not before the new one certainly begins.
        let former = instead_of.and_then(|former| self.connection(former));
        if let Some(stream) = former.and_then(|former| former.stream.as_mut()) {
            stream.finish();
        }
        self.tell_unread(Some(number));
        Ok(None)
    }

    /// Whether others leave a place for it. Some are for administrators: else whoever may connect at all
    /// could keep them out, with connections or with streams that wait for nobody.
    fn has_place_for(&self, receiver: &Receiver) -> bool {
        let others = self
            .connections()
            .filter(|r| !r.connection.access.is_administrator());
        receiver.connection.access.is_administrator()
            || others.count() < MAX_CONNECTIONS - ADMINISTRATORS_PLACES
    }

    /// What the service gets.
    #[inline(never)]
    fn claim(&mut self, receiver: &Receiver, hello: &StreamHello) -> Result<Claimed> {
        let is_it = |r: &&mut Receiver| r.stream.as_ref().is_some_and(|s| s.is(&hello.key));
        let mut instead_of = None;
        if let Some(existing) = taken_mut(&mut self.connections).find(is_it) {
            let (owner, next) = (existing.connection.identity, existing.order.next());
            let (service, former) = (&receiver.connection, &existing.connection);
            if let Some(stream) = &existing.stream {
                let same_process = service.access.is_same_process(&former.access);
                let claim = stream.claim(&owner, &service.identity, same_process, hello, next)?;
                // What lies in it, and its subscriptions, were granted by the owner's rights; who has
                // not got them may not end it either.
                if !service.access.covers(&former.access, owner.rights) {
                    return Err(NtError(STATUS_ACCESS_DENIED));
                }
                if let Claim::Granted = claim {
                    return Ok(Claimed::Stream(owner.number));
                }
                instead_of = Some(owner.number);
            }
        } else if hello.flags & hello::stream::MUST_EXIST != 0 {
            return Err(NtError(status::CONNECTION_INVALID));
        }
        let windows = |r: &Receiver| r.stream.as_ref().map_or(0, Stream::capacity);
        let stay = |r: &&Receiver| Some(r.connection.identity.number) != instead_of;
        let taken: usize = self.connections().filter(stay).map(windows).sum();
        // As places, some of it is for administrators.
        let is_theirs = |r: &&Receiver| !r.connection.access.is_administrator();
        let others = self.connections().filter(stay).filter(is_theirs);
        let others: usize = others.map(windows).sum();
        let wanted = windows(receiver);
        let has_half = !is_theirs(&receiver) || others + wanted <= MAX_WINDOWS / 2;
        if taken + wanted > MAX_WINDOWS || !has_half {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        Ok(Claimed::Place { instead_of })
    }

    /// Moves a stream, with its subscriptions, its accounts and the roles that it decides in, to a
    /// new connection: at one moment, before which they are the former one's. Roles that somebody
    /// else has taken meanwhile are that one's. What the former one was asked asynchronously goes along.
    #[inline(never)]
    fn resume(
        &mut self,
        former: u32,
        mut receiver: PoolBox<Receiver>,
        hello: &StreamHello,
    ) -> PoolBox<Receiver> {
        let number = receiver.connection.identity.number;
        if let Some(existing) = self.connection(former) {
            let access = &receiver.connection.access;
            let same_process = access.is_same_process(&existing.connection.access);
            existing.change_connection(&mut receiver.connection);
            if let Some(stream) = &mut existing.stream {
                stream.resume(hello, number, former, same_process);
            }
        }
        let mut next = 0;
        while let Some(provider) = self.next_provider_number(next) {
            next = provider + 1;
            self.resume_roles(number, provider);
        }
        let stream = self.connection(number).and_then(|r| r.stream.as_ref());
        let read = stream.map_or(0, Stream::read_up_to);
        self.move_pending(former, number, read);
        self.tell_interest();
        receiver
    }

    /// What a stream's new connection decides of a provider: what nobody else does.
    fn resume_roles(&mut self, connection: u32, provider: u16) {
        let theirs = self.decided_by_others(connection, provider);
        let existing = self.connection(connection);
        let Some(subscription) = existing.and_then(|r| r.subscription(provider)) else {
            return;
        };
        subscription.decide &= !theirs;
        let decided = subscription.decide;
        if let Some(slot) = self.provider(provider) {
            slot.requests.close_circuits(decided);
        }
    }

    /// The service has dealt with the records of its stream up to this number;
    /// [`Routes::settle_stream`] does the rest.
    pub(crate) fn acknowledge(&mut self, connection: u32, number: u64) -> Result<()> {
        let receiver = self.connection(connection);
        let receiver = receiver.ok_or(NtError(STATUS_NOT_FOUND))?;
        let next = receiver.order.next();
        let stream = receiver.stream.as_mut();
        let stream = stream.ok_or(NtError(status::CONNECTION_INVALID))?;
        stream.acknowledge(number, next)
    }

    /// Accounts for what a service has acknowledged, some of it; whether more is left.
    pub(crate) fn settle_stream(&mut self, connection: u32) -> bool {
        self.connection(connection).is_some_and(Receiver::settle)
    }

    /// A connection has ended: whether its stream goes on without it.
    pub(crate) fn detach(&mut self, connection: u32) -> bool {
        let goes_on = self.connection(connection).is_some_and(Receiver::detach);
        // It decides nothing meanwhile.
        self.tell_interest();
        goes_on
    }

    /// The interrupt time at which the next stream is over, of those that wait for their services.
    pub(crate) fn next_stream_to_end(&self) -> Option<u64> {
        let streams = self.connections().filter_map(|r| r.stream.as_ref());
        streams.filter_map(Stream::until).min()
    }

    /// The connection that had a stream that is over now; nobody gets it any more.
    pub(crate) fn end_stream(&mut self, now: u64) -> Option<u32> {
        let is_over = |r: &&mut Receiver| {
            let until = r.stream.as_ref().and_then(Stream::until);
            until.is_some_and(|until| until <= now)
        };
        let receiver = taken_mut(&mut self.connections).find(is_over)?;
        if let Some(stream) = &mut receiver.stream {
            stream.finish();
        }
        Some(receiver.connection.identity.number)
    }

    /// Before [`Routes::remove_connection`]: takes a stream's window and the queue apart, some of it, so
    /// that not all of it is done while the lock is held; whether more is left. What is offered
    /// meanwhile is queued behind that, and in flight like all of it until the connection is removed.
    pub(crate) fn wind_up(&mut self, connection: u32) -> bool {
        let Some(receiver) = self.connection(connection) else {
            return false;
        };
        if let Some(stream) = &mut receiver.stream {
            stream.finish();
        }
        if receiver.leaves_rings() {
            self.refresh();
            return true;
        }
        receiver.settle_rings(&mut { RECORDS_AT_ONCE })
            || receiver.recall_rings()
            || receiver.recall_window()
            || receiver.recall_gaps(SETTLED_AT_ONCE)
    }
}
