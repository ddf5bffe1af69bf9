// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asynchronous requests: asked in the decider's stream, answered by a command, and completed in a
//! callback: by the answer, or by the thread that keeps the deadlines.
//!
//! Their records are numbered as all others are, but they are not notifications: the ledger does not
//! count them, the account of requests does. One that finds no room in the decider's queue has failed
//! at once.

use crate::connection::Identity;
use crate::driver::Driver;
use crate::ffi::{Completer, Owed};
use crate::pending::{self, Chunk, NoPlace, Question, Waiting, Walk};
use crate::provider::Provider;
use crate::receiver::Offer;
use crate::reply;
use crate::request::{self, Asked};
use crate::request_account::Accounts;
use crate::routes::Routes;
use crate::screen::{Subject, offering_process};
use crate::tag;
use fltport_abi::account::Outcome;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{
    AsyncRequestHeader, OutcomeHeader, REPLY_MAGIC, RecordHeader, RecordKind, ReplyHeader,
};
use fltport_abi::hello::rights;
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_DELETE_PENDING, STATUS_FLT_NO_WAITER_FOR_REPLY,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
};
use fltport_nt::ex::{PoolArc, PoolBox, PoolBytes};
use fltport_nt::ke::{interrupt_time, system_time};
use fltport_nt::{NtError, Result};

/// The protocol version that brought them: a service that speaks an older one does not know their
/// records.
const ASYNCHRONOUS_SINCE: u16 = 2;

/// A request that has ended and is accounted for, taken out of its table.
pub(crate) struct Ended {
    question: PoolBox<Question>,
    outcome: Outcome,
    waited_us: u32,
}

impl Ended {
    /// IRQL: PASSIVE_LEVEL, without locks. Tells the client driver.
    pub(crate) fn complete(self) {
        let Question {
            message,
            completer,
            reply,
            ..
        } = &*self.question;
        completer.call(*message, self.outcome, self.waited_us, reply);
    }
}

/// Why a request cannot be taken on.
enum Refused {
    Gone,
    NoPlace(NoPlace),
}

/// IRQL: <= DISPATCH_LEVEL. Asks the decider. On success `completer` is called once, at
/// PASSIVE_LEVEL, at the latest at the deadline.
///
/// Errors: as [`request::ask`]; `STATUS_INSUFFICIENT_RESOURCES`, also if too many are pending;
/// `STATUS_DELETE_PENDING` if the provider or the driver goes.
pub(crate) fn ask(
    driver: &Driver,
    provider: &PoolArc<Provider>,
    asked: &Asked<'_>,
    default: &[u8],
    completer: Completer,
) -> Result<()> {
    request::check(provider, asked, default.len())?;
    let going = NtError(STATUS_DELETE_PENDING);
    let owed = Owed::new(provider)
        .filter(|_| !driver.is_closing())
        .ok_or(going)?;
    let now = interrupt_time();
    let question = Question {
        message: asked.message,
        fixed: asked.fixed,
        process: offering_process(),
        asked: now,
        deadline: now.saturating_add(u64::from(asked.deadline_ms) * 10_000),
        payload: PoolBytes::copy_of(tag::PENDING, asked.payload)?,
        reply: PoolBytes::copy_of(tag::PENDING, default)?,
        completer,
        _owed: owed,
    };
    let mut question = Some(PoolBox::new(tag::PENDING, question)?);
    let number = driver.next_request();
    let mut fresh = None;
    loop {
        let taken_on =
            driver
                .routes()
                .lock()
                .take_on(provider.number, number, &mut question, &mut fresh);
        match taken_on {
            Ok(()) => return Ok(()),
            Err(Refused::Gone) => return Err(going),
            Err(Refused::NoPlace(NoPlace::Full)) => {
                return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
            }
            Err(Refused::NoPlace(NoPlace::NeedsChunk)) => fresh = Some(Chunk::new()?),
        }
    }
}

/// IRQL: PASSIVE_LEVEL. A service answers: a [`ReplyHeader`] and the reply.
///
/// Errors: `STATUS_FLT_NO_WAITER_FOR_REPLY` if nobody waits for it: it comes too late, or a second
/// time, or this connection was not asked. `STATUS_INVALID_PARAMETER` if it is no answer to what was
/// asked; the request has ended with that.
pub(crate) fn answer(driver: &Driver, caller: &Identity, payload: &[u8]) -> Result<()> {
    let malformed = NtError(STATUS_INVALID_PARAMETER);
    if caller.rights & rights::DECIDE == 0 {
        return Err(NtError(STATUS_ACCESS_DENIED));
    }
    let header = ReplyHeader::read(payload)
        .filter(|header| header.magic == REPLY_MAGIC)
        .ok_or(malformed)?;
    let reply = payload.get(ReplyHeader::SIZE..).unwrap_or(&[]);
    let answered = driver
        .routes()
        .lock()
        .take_answer(caller.number, &header, reply);
    let ended = answered.ok_or(NtError(STATUS_FLT_NO_WAITER_FOR_REPLY))?;
    let proper = ended.outcome == Outcome::Answered;
    ended.complete();
    if proper { Ok(()) } else { Err(malformed) }
}

/// How far a walk over all tables has come.
#[derive(Default)]
pub(crate) struct Cursor {
    provider: u16,
    chunk: usize,
}

/// What a step of it found.
pub(crate) enum Step {
    Ended(Ended),
    More,
    End,
}

impl Routes {
    /// Takes a request on: asks the decider, or notes with what it ends. What it takes out of
    /// `question` is pending; it takes it only if it succeeds.
    #[inline(never)]
    fn take_on(
        &mut self,
        provider: u16,
        number: u64,
        question: &mut Option<PoolBox<Question>>,
        fresh: &mut Option<Chunk>,
    ) -> core::result::Result<(), Refused> {
        let slot = self.provider(provider).ok_or(Refused::Gone)?;
        let place = slot.pending.free_place(fresh).map_err(Refused::NoPlace)?;
        let question = question.take().ok_or(Refused::Gone)?;
        slot.requests.begin(question.message);
        let id = pending::id(number, place);
        let (connection, outcome) = self.put_question(provider, id, &question);
        self.account_request(connection, provider, |accounts| {
            accounts.begin(question.message)
        });
        let waiting = Waiting {
            id,
            due: if outcome.is_none() {
                question.deadline
            } else {
                0
            },
            connection,
            since: question.asked,
            sequence: 0,
            outcome,
            question,
        };
        self.alarm.set_before(waiting.due);
        if let Some(slot) = self.provider(provider) {
            slot.pending.put(place, waiting);
        }
        Ok(())
    }

    /// Puts a question into the decider's stream: who was asked, and the outcome if that is certain
    /// already.
    fn put_question(&mut self, provider: u16, id: u64, asked: &Question) -> (u32, Option<Outcome>) {
        let Some(receiver) = self.deciding(provider, asked.message) else {
            return (0, Some(Outcome::NoDecider));
        };
        let identity = receiver.connection.identity;
        // This is the thread that asks; at DISPATCH_LEVEL that says nothing, and there is no process.
        let is_own = asked.process.is_some() && receiver.connection.access.is_own_process();
        let at_once = if is_own {
            Some(Outcome::FromDecider)
        } else if identity.version < ASYNCHRONOUS_SINCE {
            Some(Outcome::Failed)
        } else if !self
            .provider(provider)
            .is_some_and(|slot| slot.requests.may_ask(asked.message, asked.asked))
        {
            Some(Outcome::CircuitOpen)
        } else if !self.queue_question(identity.number, provider, id, asked, asked.asked) {
            Some(Outcome::Failed)
        } else {
            None
        };
        (identity.number, at_once)
    }

    /// Queues the record; false if there is no room.
    fn queue_question(
        &mut self,
        connection: u32,
        provider: u16,
        id: u64,
        asked: &Question,
        now: u64,
    ) -> bool {
        let left = asked.deadline.saturating_sub(now).div_ceil(10_000);
        let header = AsyncRequestHeader {
            request: id,
            deadline_ms: u32::try_from(left).unwrap_or(u32::MAX),
            fixed: asked.fixed.into(),
        };
        let mut start = [0; AsyncRequestHeader::SIZE];
        // Always fits: the array has the header's size.
        let _fits = header.write(&mut start);
        let offer = Offer {
            message: asked.message,
            kind: RecordKind::AsyncRequest,
            fixed: AsyncRequestHeader::SIZE as u16,
            time: system_time(),
            subject: asked.subject(),
            booking: 0,
            parts: &[&start, &asked.payload],
        };
        let header = offer.header(provider);
        let asked = self
            .connection(connection)
            .is_some_and(|receiver| receiver.push_request(&header, offer.parts));
        self.leave_short_way();
        asked
    }

    /// Takes out the request that this connection answers, unless it is over.
    fn take_answer(
        &mut self,
        connection: u32,
        header: &ReplyHeader,
        reply: &[u8],
    ) -> Option<Ended> {
        let now = interrupt_time();
        let slot = self.provider(header.provider)?;
        let (provider, pending) = (&slot.provider, &mut slot.pending);
        let waiting = pending
            .find(header.request)
            .filter(|w| w.connection == connection && w.outcome.is_none() && now < w.due)?;
        let question = &mut waiting.question;
        let proper = question.message == header.message
            && reply::take(provider, question.message, reply, &mut question.reply);
        let outcome = if proper {
            Outcome::Answered
        } else {
            Outcome::BadReply
        };
        let waiting = pending.take(header.request)?;
        Some(self.conclude_pending(header.provider, waiting, outcome, now))
    }

    /// Accounts for the outcome and offers it to the observers.
    pub(crate) fn conclude_pending(
        &mut self,
        provider: u16,
        waiting: Waiting,
        outcome: Outcome,
        now: u64,
    ) -> Ended {
        let Waiting {
            id,
            connection,
            since,
            question,
            ..
        } = waiting;
        let waited_us = now.saturating_sub(question.asked) / 10;
        let waited_us = u32::try_from(waited_us).unwrap_or(u32::MAX);
        self.account_request(connection, provider, |accounts| {
            accounts.end(question.message, outcome, now.saturating_sub(since) / 10)
        });
        let header = OutcomeHeader {
            request: id,
            waited_us,
            decider: connection,
            payload: question.payload.len() as u32,
            reply: question.reply.len() as u16,
            outcome: outcome as u16,
        };
        self.conclude(
            provider,
            question.message,
            &header,
            (outcome, now),
            &question.subject(),
            &question.reply,
        );
        Ended {
            question,
            outcome,
            waited_us,
        }
    }

    /// A connection is gone: what it was asked and has not answered is over.
    pub(crate) fn disconnect_pending(&mut self, connection: u32) {
        let mut any = false;
        for slot in self.providers_mut() {
            let theirs = slot.pending.iter_mut();
            for waiting in theirs.filter(|w| w.connection == connection && w.outcome.is_none()) {
                waiting.outcome = Some(Outcome::Disconnected);
                waiting.due = 0;
                any = true;
            }
        }
        if any {
            self.alarm.set_before(0);
        }
    }

    /// Another connection has the stream of this one from now on, with its subscriptions and what is
    /// in its queue: it is asked what the former one had not answered. What that had acknowledged in
    /// its stream comes once more; the rest is still to come in any case.
    ///
    /// To be called when the subscriptions have been moved. The thread that asked the former
    /// connection synchronously asks the new one by itself.
    pub(crate) fn move_pending(&mut self, former: u32, new: u32, acknowledged: u64) {
        let now = interrupt_time();
        let mut number = 0;
        while let Some(provider) = self.next_provider_number(number) {
            number = provider + 1;
            self.move_pending_of(provider, former, new, acknowledged, now);
        }
    }

    #[inline(never)]
    fn move_pending_of(
        &mut self,
        provider: u16,
        former: u32,
        new: u32,
        acknowledged: u64,
        now: u64,
    ) {
        // Out of its place while the routes are asked to queue it.
        let Some(slot) = self.provider(provider) else {
            return;
        };
        let types = slot.provider.requests;
        let mut table = slot.pending.take_out();
        // No more than may be pending.
        let mut moved = [0_u16; crate::provider::TYPES];
        let theirs = table.iter_mut();
        for waiting in theirs.filter(|w| w.connection == former && w.outcome.is_none()) {
            waiting.connection = new;
            if let Some(count) = moved.get_mut(usize::from(waiting.question.message)) {
                *count += 1;
            }
            let is_read = waiting.sequence != 0 && waiting.sequence <= acknowledged;
            if is_read {
                waiting.sequence = 0;
                if !self.queue_question(new, provider, waiting.id, &waiting.question, now) {
                    waiting.outcome = Some(Outcome::Failed);
                    waiting.due = 0;
                    self.alarm.set_before(0);
                }
            }
        }
        if let Some(slot) = self.provider(provider) {
            slot.pending = table;
        }
        self.leave_behind(provider, new, types, &moved);
    }

    /// What a connection that another one has followed was asked synchronously is in the account of
    /// those that have ended.
    fn leave_behind(&mut self, provider: u16, new: u32, types: u64, moved: &[u16]) {
        for (message, moved) in (0_u16..).zip(moved) {
            if types & crate::ledger::bit(message) == 0 {
                continue;
            }
            let mut left = 0;
            self.account_request(new, provider, |accounts: &mut Accounts| {
                left = accounts.leave(message, (*moved).into());
            });
            if let Some(slot) = self.provider(provider) {
                slot.ended_requests.take_over(message, left);
            }
        }
    }

    /// A batch of a stream has its numbers: notes those of the requests in it.
    pub(crate) fn note_numbers(&mut self, records: &[u8]) {
        let mut rest = records;
        while let Some(header) = RecordHeader::read(rest) {
            let Some((record, behind)) = rest.split_at_checked(header.size as usize) else {
                return;
            };
            rest = behind;
            if header.kind != RecordKind::AsyncRequest as u16 {
                continue;
            }
            let request = record
                .get(RecordHeader::SIZE..)
                .and_then(AsyncRequestHeader::read);
            if let (Some(request), Some(slot)) = (request, self.provider(header.provider))
                && let Some(waiting) = slot.pending.find(request.request)
            {
                waiting.sequence = header.sequence;
            }
        }
    }

    /// Takes out a request that is over, looking at a bounded number of them; and puts into `next`
    /// when the first of those that it has seen will be over.
    pub(crate) fn step(&mut self, cursor: &mut Cursor, next: &mut u64) -> Step {
        let Some(number) = self.next_provider_number(cursor.provider) else {
            return Step::End;
        };
        if number != cursor.provider {
            *cursor = Cursor {
                provider: number,
                chunk: 0,
            };
        }
        let now = interrupt_time();
        let walk = self.provider(number).map_or(Walk::End, |slot| {
            slot.pending.walk(&mut cursor.chunk, now, next)
        });
        match walk {
            Walk::Over(waiting) => {
                let outcome = waiting.outcome.unwrap_or(Outcome::Missed);
                Step::Ended(self.conclude_pending(number, waiting, outcome, now))
            }
            Walk::More => Step::More,
            Walk::End => {
                *cursor = Cursor {
                    provider: number + 1,
                    chunk: 0,
                };
                Step::More
            }
        }
    }
}

impl Question {
    fn subject(&self) -> Subject<'_> {
        Subject {
            payload: &self.payload,
            fixed: self.fixed,
            process: self.process,
        }
    }
}
