// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests: asking the decider, with a deadline, and what happens without an answer.

use crate::connection::{Connection, Identity};
use crate::driver::Driver;
use crate::ledger::bit;
use crate::provider::{Provider, TYPES};
use crate::receiver::Offer;
use crate::reply::{self, GROWTH};
use crate::routes::Routes;
use crate::screen::Subject;
use crate::tag;
use fltport_abi::account::{OUTCOMES, Outcome};
use fltport_abi::command::RequestRow;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{
    FRAME_REQUEST, FrameHeader, MAGIC, OutcomeHeader, REPLY_MAGIC, RecordHeader, RecordKind,
    ReplyHeader, record_size,
};
use fltport_abi::interface::ProviderStatistics;
use fltport_abi::limits::{MAX_REPLY, MAX_REQUEST};
use fltport_nt::bindings::{STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER};
use fltport_nt::ex::{PoolArc, PoolBytes, PoolSlice};
use fltport_nt::flt::SendOutcome;
use fltport_nt::ke::{Timeout, interrupt_time, system_time};
use fltport_nt::{NtError, Result, ps};

/// So many requests missed in a row open the circuit: the decider is left alone for a while.
const MISSES_TO_OPEN: u8 = 3;
/// How long it is left alone, in 100-nanosecond intervals; then one request tries again.
const OPEN_FOR: u64 = 5 * 10_000_000;

/// The account of one request type.
#[derive(Clone, Copy, Default)]
struct Counters {
    asked: u64,
    outcomes: [u64; OUTCOMES],
    misses_in_a_row: u8,
    open_until: u64,
}

/// The accounts of a provider's request types, and their circuits.
pub(crate) struct Ledger(PoolSlice<Counters>);

impl Ledger {
    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn new() -> Result<Self> {
        Ok(Ledger(PoolSlice::filled(
            tag::LEDGER,
            TYPES,
            Counters::default(),
        )?))
    }

    /// Counts a request.
    pub(crate) fn begin(&mut self, message: u16) {
        if let Some(counters) = self.0.get_mut(usize::from(message)) {
            counters.asked += 1;
        }
    }

    /// Whether the decider may be asked. An open circuit whose time is over lets this one through
    /// and waits again meanwhile.
    pub(crate) fn may_ask(&mut self, message: u16, now: u64) -> bool {
        let Some(counters) = self.0.get_mut(usize::from(message)) else {
            return false;
        };
        if counters.misses_in_a_row < MISSES_TO_OPEN {
            return true;
        }
        let over = now >= counters.open_until;
        if over {
            counters.open_until = now + OPEN_FOR;
        }
        over
    }

    /// Counts an outcome. `present`: who was asked is still the decider; the misses of a former one
    /// say nothing about its successor.
    fn end(&mut self, message: u16, outcome: Outcome, present: bool, now: u64) {
        let Some(counters) = self.0.get_mut(usize::from(message)) else {
            return;
        };
        if let Some(count) = counters.outcomes.get_mut(outcome.index()) {
            *count += 1;
        }
        match outcome {
            // A wrong answer, too, came in time.
            Outcome::Answered | Outcome::BadReply if present => counters.misses_in_a_row = 0,
            Outcome::Missed if present => {
                counters.misses_in_a_row = counters.misses_in_a_row.saturating_add(1);
                counters.open_until = now + OPEN_FOR;
            }
            _ => {}
        }
    }

    /// Adds the numbers of one type, of all for 0, to a provider's statistics.
    pub(crate) fn add_to(&self, statistics: &mut ProviderStatistics) {
        let wanted = statistics.message;
        let numbered = (0_u16..).zip(self.0.iter());
        for (_, c) in numbered.filter(|(message, _)| wanted == 0 || *message == wanted) {
            statistics.asked += c.asked;
            for (sum, count) in statistics.outcomes.iter_mut().zip(c.outcomes) {
                *sum += count;
            }
        }
    }

    /// A new decider starts with a closed circuit.
    pub(crate) fn close_circuits(&mut self, messages: u64) {
        for (message, counters) in (0_u16..).zip(self.0.iter_mut()) {
            if messages & bit(message) != 0 {
                counters.misses_in_a_row = 0;
            }
        }
    }

    /// The rows of these types for the operator; `decider` names who decides.
    pub(crate) fn rows(
        &self,
        provider: u16,
        types: u64,
        decider: impl Fn(u16) -> u32,
    ) -> impl Iterator<Item = RequestRow> {
        let now = interrupt_time();
        (0_u16..)
            .zip(self.0.iter())
            .filter(move |(message, _)| types & bit(*message) != 0)
            .map(move |(message, c)| {
                let open = c.misses_in_a_row >= MISSES_TO_OPEN && now < c.open_until;
                RequestRow {
                    provider,
                    message,
                    decider: decider(message),
                    asked: c.asked,
                    outcomes: c.outcomes,
                    circuit_open: open.into(),
                }
            })
    }
}

/// A request as a client driver makes it.
pub(crate) struct Asked<'a> {
    pub(crate) message: u16,
    pub(crate) fixed: u16,
    pub(crate) payload: &'a [u8],
    pub(crate) deadline_ms: u32,
}

/// Whether that can be asked, for a reply of so many bytes. `STATUS_INVALID_PARAMETER` if it is not a
/// request of the provider, `STATUS_BUFFER_OVERFLOW` if it is too large.
pub(crate) fn check(provider: &Provider, asked: &Asked<'_>, reply: usize) -> Result<()> {
    if provider.requests & bit(asked.message) == 0 || usize::from(asked.fixed) > asked.payload.len()
    {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    if asked.payload.len() > MAX_REQUEST || reply > MAX_REPLY {
        return Err(NtError(STATUS_BUFFER_OVERFLOW));
    }
    Ok(())
}

/// IRQL: PASSIVE_LEVEL or APC_LEVEL. Asks the decider. `reply` holds the default and is overwritten
/// only by a proper answer. How it ended, and after how many microseconds.
///
/// Fails only if there is nothing to ask, as [`check`].
pub(crate) fn ask(
    driver: &PoolArc<Driver>,
    provider: &Provider,
    asked: &Asked<'_>,
    reply: &mut [u8],
) -> Result<(Outcome, u32)> {
    check(provider, asked, reply.len())?;
    let started = interrupt_time();
    let id = driver.next_request();
    if let Some(slot) = driver.routes().lock().provider(provider.number) {
        slot.requests.begin(asked.message);
    }
    let (number, since, outcome) = ask_deciders(driver, provider, asked, id, started, reply);
    account(driver, provider, asked.message, number, outcome, since);
    let now = interrupt_time();
    let waited_us = u32::try_from(now.saturating_sub(started) / 10).unwrap_or(u32::MAX);
    let header = OutcomeHeader {
        request: id,
        waited_us,
        decider: number,
        payload: asked.payload.len() as u32,
        reply: reply.len() as u16,
        outcome: outcome as u16,
    };
    let subject = Subject {
        payload: asked.payload,
        fixed: asked.fixed,
        process: Some(ps::current_process_id()),
    };
    let mut routes = driver.routes().lock();
    let ended = (outcome, now);
    routes.conclude(
        provider.number,
        asked.message,
        &header,
        ended,
        &subject,
        reply,
    );
    drop(routes);
    Ok((outcome, waited_us))
}

/// How long a requester waits at a time for a decider that has only just connected, in
/// milliseconds.
const NEW_DECIDER_MS: u32 = 50;

/// Asks the decider, and when its connection ends before it has answered, whoever has the role by
/// then, within what is left of the deadline: a service that another instance takes over leaves no
/// request unanswered. Who was asked last (0 if nobody), since when, and how it ended.
///
/// Nobody answers twice: once a send has ended with "disconnected", the Filter Manager takes no reply
/// to it.
#[inline(never)]
fn ask_deciders(
    driver: &Driver,
    provider: &Provider,
    asked: &Asked<'_>,
    id: u64,
    started: u64,
    reply: &mut [u8],
) -> (u32, u64, Outcome) {
    let deadline = started.saturating_add(u64::from(asked.deadline_ms) * 10_000);
    let mut now = started;
    // Whom this was asked of last, and whether that connection has ended.
    let (mut asked_last, mut has_ended) = (0, false);
    let mut since = now;
    loop {
        let (number, found) = find_decider(driver, provider, asked.message, asked_last, now);
        let is_gone = matches!(found, Err(Outcome::NoDecider | Outcome::Failed));
        if is_gone && asked_last != 0 {
            // Whom this was asked of is gone, and nobody has followed.
            return (asked_last, since, Outcome::Disconnected);
        }
        if number != asked_last && asked_last != 0 {
            account(
                driver,
                provider,
                asked.message,
                asked_last,
                Outcome::Disconnected,
                since,
            );
            since = now;
        }
        let decider = match found {
            Ok(decider) => decider,
            Err(at_once) => return (number, since, at_once),
        };
        if now >= deadline || has_ended && number == asked_last {
            return (number, since, Outcome::Disconnected);
        }
        let left_ms = (deadline - now).div_ceil(10_000) as u32;
        let was_known = decider.was_heard_of();
        let outcome = send(&decider, provider, asked, id, left_ms, reply);
        if outcome != Ok(Outcome::Disconnected) {
            return (number, since, outcome.unwrap_or(Outcome::Failed));
        }
        // A connection gives its role away before it ends. One that is so new that the Filter
        // Manager does not deliver to it yet has not ended.
        (asked_last, has_ended) = (number, was_known);
        if !was_known {
            decider.wait_until_heard_of(Timeout::from_millis(left_ms.min(NEW_DECIDER_MS)));
        }
        now = interrupt_time();
    }
}

/// Writes down how a request ended that was asked of this decider at `since`.
fn account(
    driver: &Driver,
    provider: &Provider,
    message: u16,
    decider: u32,
    outcome: Outcome,
    since: u64,
) {
    let waited_us = interrupt_time().saturating_sub(since) / 10;
    driver
        .routes()
        .lock()
        .account_request(decider, provider.number, |accounts| {
            accounts.end(message, outcome, waited_us)
        });
}

/// Looks who is to be asked: the decider's number, 0 if there is none, and the decider, or the
/// outcome of a request that is not sent. Begins its account, unless that is with who was asked
/// `before`: the same decider again, or nobody since.
fn find_decider(
    driver: &Driver,
    provider: &Provider,
    message: u16,
    before: u32,
    now: u64,
) -> (u32, core::result::Result<PoolArc<Connection>, Outcome>) {
    // References to the decider that are dropped in here are never the last: the routes have one.
    let mut routes = driver.routes().lock();
    let decider = routes.decider(provider.number, message);
    let number = decider.as_ref().map_or(0, |d| d.identity.number);
    let found = match decider {
        _ if driver.is_closing() => Err(Outcome::Failed),
        None => Err(Outcome::NoDecider),
        Some(decider) if decider.access.is_own_process() => Err(Outcome::FromDecider),
        Some(decider) => Ok(decider),
    };
    // Only a request that would be sent may be the one that tries an open circuit.
    let may_ask = found.is_err()
        || routes
            .provider(provider.number)
            .is_some_and(|slot| slot.requests.may_ask(message, now));
    let found = match found {
        Ok(_) if !may_ask => Err(Outcome::CircuitOpen),
        found => found,
    };
    let is_gone = matches!(found, Err(Outcome::NoDecider | Outcome::Failed));
    if before == 0 || (number != before && !is_gone) {
        routes.account_request(number, provider.number, |accounts| accounts.begin(message));
    }
    (number, found)
}

impl Routes {
    /// Accounts for a request that ended at this time, and offers its outcome to the observers;
    /// without a decider there is nothing to observe.
    pub(crate) fn conclude(
        &mut self,
        provider: u16,
        message: u16,
        header: &OutcomeHeader,
        (outcome, now): (Outcome, u64),
        asked: &Subject<'_>,
        reply: &[u8],
    ) {
        let mut start = [0; OutcomeHeader::SIZE];
        // Always fits: the array has the header's size.
        let _fits = header.write(&mut start);
        let present = self.decider_number(provider, message) == header.decider;
        if let Some(slot) = self.provider(provider) {
            slot.requests.end(message, outcome, present, now);
        }
        if outcome != Outcome::NoDecider {
            let offer = Offer {
                message,
                kind: RecordKind::Outcome,
                fixed: OutcomeHeader::SIZE as u16,
                time: system_time(),
                subject: *asked,
                booking: 0,
                parts: &[&start, asked.payload, reply],
            };
            self.offer(provider, &offer);
        }
    }
}

/// Sends the request and judges the answer.
fn send(
    connection: &Connection,
    provider: &Provider,
    asked: &Asked<'_>,
    id: u64,
    left_ms: u32,
    reply: &mut [u8],
) -> Result<Outcome> {
    let frame = frame(&connection.identity, provider, asked, id, left_ms)?;
    // One byte more than the longest that is taken, so that a longer one is seen as such whatever the
    // Filter Manager does with it.
    let longest = ReplyHeader::SIZE + reply.len() + GROWTH;
    let mut answer = PoolBytes::zeroed(tag::BUFFER, longest + 1)?;
    let outcome =
        match connection
            .port()
            .send(&frame, Some(&mut answer), Timeout::from_millis(left_ms))
        {
            SendOutcome::Replied(length) => {
                let proper = ReplyHeader::read(&answer).is_some_and(|header| {
                    header.magic == REPLY_MAGIC
                        && header.request == id
                        && header.provider == provider.number
                        && header.message == asked.message
                });
                let given = answer.get(ReplyHeader::SIZE..length).filter(|_| proper);
                match given.is_some_and(|given| reply::take(provider, asked.message, given, reply))
                {
                    true => Outcome::Answered,
                    false => Outcome::BadReply,
                }
            }
            SendOutcome::ReplyTooLong => Outcome::BadReply,
            SendOutcome::TimedOut => Outcome::Missed,
            SendOutcome::Disconnected => Outcome::Disconnected,
            SendOutcome::Delivered | SendOutcome::ThreadTerminating | SendOutcome::Failed(_) => {
                Outcome::Failed
            }
        };
    Ok(outcome)
}

/// The frame of a request.
fn frame(
    decider: &Identity,
    provider: &Provider,
    asked: &Asked<'_>,
    id: u64,
    left_ms: u32,
) -> Result<PoolBytes> {
    let size = record_size(asked.payload.len());
    let length = FrameHeader::SIZE + size;
    let mut frame = PoolBytes::zeroed(tag::BUFFER, length)?;
    let header = FrameHeader {
        magic: MAGIC,
        version: decider.version,
        kind: FRAME_REQUEST,
        length: length as u32,
        records: 1,
        deadline_ms: left_ms,
        connection: decider.number,
    };
    let record = RecordHeader {
        size: size as u32,
        payload: asked.payload.len() as u32,
        sequence: id,
        time: system_time(),
        provider: provider.number,
        message: asked.message,
        kind: RecordKind::Request as u16,
        fixed: asked.fixed,
    };
    let too_small = NtError(STATUS_INVALID_PARAMETER);
    header.write(&mut frame).ok_or(too_small)?;
    let rest = frame.get_mut(FrameHeader::SIZE..).ok_or(too_small)?;
    record.write(rest).ok_or(too_small)?;
    let place = rest
        .get_mut(RecordHeader::SIZE..)
        .and_then(|r| r.get_mut(..asked.payload.len()))
        .ok_or(too_small)?;
    place.copy_from_slice(asked.payload);
    Ok(frame)
}
