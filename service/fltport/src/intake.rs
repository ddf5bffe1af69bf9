// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the bytes that gets bring to events in order. Everything in them is checked; what does not
//! hold is dropped and counted, and the numbers that are then missing are told as such.

use crate::connection::Connection;
use crate::envelope::{ENVELOPE, MessageHeader};
use crate::event::{Corrupt, Event, Gap, Loss, Record, RequestOutcome};
use crate::request::{Answer, Request};
use crate::sequence::{Resequencer, Step};
use crate::statistics::Counters;
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{
    self, AsyncRequestHeader, FRAME_REQUEST, Frame, FrameHeader, OutcomeHeader, RecordHeader,
    RecordKind,
};
use fltport_abi::limits::{MIN_PROTOCOL_VERSION, PROTOCOL_VERSION};
use fltport_abi::{DecodeError, Time};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Sized = (Event, usize);

/// The state of one connection's stream.
#[derive(Debug)]
pub(crate) struct Intake<'c> {
    connection: &'c Arc<Connection>,
    counters: &'c Counters,
    order: Option<Resequencer<Sized>>,
    steps: Vec<Step<Sized>>,
    requests: Vec<Sized>,
}

impl<'c> Intake<'c> {
    pub(crate) fn new(connection: &'c Arc<Connection>, counters: &'c Counters) -> Self {
        Intake {
            connection,
            counters,
            // Where the stream begins is known when the connection is; no frame comes before that.
            order: None,
            steps: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// How long to wait for the next get before calling [`Intake::judge`].
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.order.as_ref()?.patience(Instant::now())
    }

    /// Takes what the get in `slot` brought; `waiting` are the slots of the others at the port.
    pub(crate) fn take(&mut self, slot: u32, message: Vec<u8>, waiting: u64) {
        self.counters.frames.add(1);
        if self.read(&Arc::from(message)).is_err() {
            self.counters.damaged.add(1);
        }
        let now = Instant::now();
        let order = order(&mut self.order, self.connection);
        order.completed(slot, waiting, now, &mut self.steps);
    }

    /// Declares holes that nothing can fill any more.
    pub(crate) fn judge(&mut self, waiting: u64) {
        if let Some(order) = &mut self.order {
            order.judge(waiting, Instant::now(), &mut self.steps);
        }
    }

    /// The events so far, in order.
    pub(crate) fn events(&mut self) -> Vec<Sized> {
        let mut events = std::mem::take(&mut self.requests);
        for step in self.steps.drain(..) {
            match step {
                Step::Item(event) => events.push(event),
                Step::Missing { first, last } => {
                    self.counters.missing.add(last - first + 1);
                    events.push((Event::Missing { first, last }, 0));
                }
                Step::Repeated => self.counters.repeated.add(1),
            }
        }
        events
    }

    fn read(&mut self, message: &Arc<[u8]>) -> Result<(), DecodeError> {
        let envelope = MessageHeader::read(message).ok_or(DecodeError::TooShort)?;
        let bytes = message.get(ENVELOPE..).ok_or(DecodeError::TooShort)?;
        let frame = Frame::parse(bytes)?;
        if !(MIN_PROTOCOL_VERSION..=PROTOCOL_VERSION).contains(&frame.header.version) {
            return Err(DecodeError::BadValue);
        }
        if frame.header.connection != self.connection.number() {
            self.counters.foreign_frames.add(1);
            return Ok(());
        }
        let mut at = ENVELOPE + FrameHeader::SIZE;
        for parsed in frame.records() {
            let parsed = parsed?;
            let start = at + RecordHeader::SIZE;
            at += parsed.header.size as usize;
            let record = Record {
                frame: message.clone(),
                header: parsed.header,
                payload: start..start + parsed.payload.len(),
                schema: self.connection.schema_of(parsed.header.provider),
            };
            let is_request = parsed.kind == RecordKind::Request;
            if is_request != (frame.header.kind == FRAME_REQUEST) {
                return Err(DecodeError::BadValue);
            }
            if is_request {
                self.ask(record, &envelope, frame.header.deadline_ms);
            } else {
                self.enter(record, &parsed)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, record: Record, envelope: &MessageHeader, deadline_ms: u32) {
        self.counters.requests.add(1);
        let size = record.payload.len();
        if let Some(corrupt) = record.corrupt(None) {
            self.counters.corrupt_records.add(1);
            self.requests.push((Event::Corrupt(corrupt), 0));
            return;
        }
        let request = Request {
            id: record.sequence(),
            record,
            answer: Answer::Reply {
                message_id: envelope.message_id,
                capacity: envelope.reply_length as usize,
            },
            deadline: Instant::now() + Duration::from_millis(deadline_ms.into()),
            connection: Arc::downgrade(self.connection),
        };
        self.requests.push((Event::Request(request), size));
    }

    fn enter(&mut self, record: Record, parsed: &frame::Record<'_>) -> Result<(), DecodeError> {
        let (sequence, size) = (record.sequence(), record.payload.len());
        let (first, event) = match parsed.kind {
            RecordKind::Gap => {
                let gap = frame::Gap::parse(parsed)?;
                self.counters.explained.add(gap.last - gap.first + 1);
                (gap.first, Event::Gap(self.gap(&gap, &record)))
            }
            RecordKind::Outcome => {
                let outcome = outcome(record, parsed)?;
                let corrupt = outcome.record.corrupt(Some(&outcome));
                (sequence, self.sound(corrupt, Event::Outcome(outcome)))
            }
            RecordKind::AsyncRequest => {
                let request = self.asynchronous(record)?;
                let corrupt = request.record.corrupt(None);
                (sequence, self.sound(corrupt, Event::Request(request)))
            }
            RecordKind::SnapshotEnd => {
                let end = Event::SnapshotEnd {
                    provider: record.provider(),
                    time: record.time(),
                    schema: record.schema,
                    sequence,
                };
                (sequence, end)
            }
            RecordKind::Snapshot => {
                let corrupt = record.corrupt(None);
                (sequence, self.sound(corrupt, Event::Snapshot(record)))
            }
            _ => {
                let corrupt = record.corrupt(None);
                let event = match record.provider() {
                    common_driver::NUMBER => Event::CommonDriver(record),
                    _ => Event::Notification(record),
                };
                (sequence, self.sound(corrupt, event))
            }
        };
        self.counters.records.add(1);
        let order = order(&mut self.order, self.connection);
        order.push(first, sequence, (event, size), &mut self.steps);
        Ok(())
    }

    /// The request in a record of the stream.
    fn asynchronous(&self, mut record: Record) -> Result<Request, DecodeError> {
        let header = AsyncRequestHeader::read(record.payload()).ok_or(DecodeError::TooShort)?;
        let fixed = u16::try_from(header.fixed).map_err(|_| DecodeError::OutOfBounds)?;
        record.payload.start += AsyncRequestHeader::SIZE;
        record.header.fixed = fixed;
        if usize::from(fixed) > record.payload.len() {
            return Err(DecodeError::OutOfBounds);
        }
        self.counters.requests.add(1);
        Ok(Request {
            id: header.request,
            deadline: Instant::now() + left(record.time(), header.deadline_ms),
            record,
            answer: Answer::Command(self.connection.answers()),
            connection: Arc::downgrade(self.connection),
        })
    }

    /// The event, unless the record is corrupt.
    fn sound(&self, corrupt: Option<Corrupt>, event: Event) -> Event {
        let Some(corrupt) = corrupt else {
            return event;
        };
        self.counters.corrupt_records.add(1);
        Event::Corrupt(corrupt)
    }

    fn gap(&self, gap: &frame::Gap<'_>, record: &Record) -> Gap {
        let loss = |entry| Loss::new(&entry, |provider| self.connection.schema_of(provider));
        Gap {
            first: gap.first,
            last: gap.last,
            time: record.time(),
            losses: gap.entries().map(loss).collect(),
        }
    }
}

/// How much is left of so many milliseconds since this time. A clock that was set meanwhile cannot make
/// it more than all of them.
fn left(since: Time, milliseconds: u32) -> Duration {
    let whole = Duration::from_millis(milliseconds.into());
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = unix.map_or(0, |unix| unix.as_nanos() / 100 + UNIX_EPOCH_IN_NT_TIME);
    let passed = now.saturating_sub(u128::try_from(since.0).unwrap_or(0)) / 10;
    whole.saturating_sub(Duration::from_micros(
        u64::try_from(passed).unwrap_or(u64::MAX),
    ))
}

/// 1970 in 100-nanosecond intervals since 1601.
const UNIX_EPOCH_IN_NT_TIME: u128 = 116_444_736_000_000_000;

/// The order of the connection's stream, which begins where the connection says.
fn order<'o>(
    order: &'o mut Option<Resequencer<Sized>>,
    connection: &Connection,
) -> &'o mut Resequencer<Sized> {
    order.get_or_insert_with(|| Resequencer::new(connection.first()))
}

fn outcome(record: Record, parsed: &frame::Record<'_>) -> Result<RequestOutcome, DecodeError> {
    let outcome = frame::OutcomeRecord::parse(parsed)?;
    let request = record.payload.start + OutcomeHeader::SIZE;
    let reply = request + outcome.request.len().next_multiple_of(8);
    Ok(RequestOutcome {
        header: outcome.header,
        request: request..request + outcome.request.len(),
        reply: reply..reply + outcome.reply.len(),
        record,
    })
}
