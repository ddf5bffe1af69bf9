// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a record's bytes to the event that it is, wherever they come from.

use crate::connection::Connection;
use crate::event::{Corrupt, Event, Gap, Loss, Record, RequestOutcome};
use crate::request::{Answer, Request};
use crate::rings::Item;
use crate::schema_cache::SchemaCache;
use crate::statistics::Counters;
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{self, AsyncRequestHeader, OutcomeHeader, RecordHeader, RecordKind};
use fltport_abi::{DecodeError, Time};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads records of one connection.
pub(crate) struct Reading<'c> {
    pub(crate) connection: &'c Arc<Connection>,
    pub(crate) counters: &'c Counters,
    pub(crate) schemas: &'c mut SchemaCache,
}

impl Reading<'_> {
    /// The record with this header whose payload lies there in `bytes`.
    pub(crate) fn record(
        &mut self,
        bytes: &Arc<[u8]>,
        header: RecordHeader,
        payload: Range<usize>,
    ) -> Record {
        let known = self
            .schemas
            .of(self.connection, header.provider, header.message);
        Record {
            frame: bytes.clone(),
            header,
            payload,
            schema: known.schema.clone(),
        }
    }

    /// What a record of the stream says, with the numbers that it stands for.
    pub(crate) fn item(
        &mut self,
        record: Record,
        parsed: &frame::Record<'_>,
    ) -> Result<Item, DecodeError> {
        let (sequence, size) = (record.sequence(), record.payload.len());
        let mut first = sequence;
        let event = match parsed.kind {
            RecordKind::Gap => {
                let gap = frame::Gap::parse(parsed)?;
                self.counters.explained.add(gap.last - gap.first + 1);
                first = gap.first;
                Event::Gap(self.gap(&gap, &record))
            }
            RecordKind::Outcome => {
                let outcome = outcome(record, parsed)?;
                let corrupt = outcome.record.corrupt(Some(&outcome));
                self.sound(corrupt, Event::Outcome(outcome))
            }
            RecordKind::AsyncRequest => {
                let request = self.asynchronous(record)?;
                let corrupt = request.record.corrupt(None);
                self.sound(corrupt, Event::Request(request))
            }
            RecordKind::SnapshotEnd => Event::SnapshotEnd {
                provider: record.provider(),
                time: record.time(),
                schema: record.schema,
                sequence,
            },
            RecordKind::Snapshot => self.checked(record, Event::Snapshot),
            _ if record.provider() == common_driver::NUMBER => {
                self.checked(record, Event::CommonDriver)
            }
            _ => self.checked(record, Event::Notification),
        };
        self.counters.records.add(1);
        Ok(Item {
            first,
            last: sequence,
            event: (event, size),
        })
    }

    /// The event of this record, unless it is corrupt.
    fn checked(&mut self, record: Record, event: fn(Record) -> Event) -> Event {
        let known = self
            .schemas
            .of(self.connection, record.provider(), record.message());
        let corrupt = match known.verify(record.payload(), record.fixed()) {
            Ok(()) => None,
            Err(_) => record.corrupt(None),
        };
        self.sound(corrupt, event(record))
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
