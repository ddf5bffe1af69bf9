// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service is told.

use crate::error::Error;
use crate::request::Request;
use crate::schema::{FieldSchema, Schema};
use crate::value::{Value, fixed_part, read_fields, verify};
use fltport_abi::frame::{BLAME_NONE, GapEntry, OutcomeHeader, RecordHeader, RecordKind};
use fltport_abi::{Cause, DecodeError, Message, Outcome, Time};
use std::ops::Range;
use std::sync::Arc;

/// What [`Client::next`](crate::Client::next) brings. Notifications, outcomes and gaps come in the
/// order of the connection's stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A notification of a provider that is subscribed to.
    Notification(Record),
    /// The common driver's own, which it sends to every connection: a provider has registered or has
    /// gone, or nobody had read what a backlog held ([`common_driver`](crate::common_driver)). Apart,
    /// because its messages have the numbers of others' messages.
    CommonDriver(Record),
    /// How a request ended that this service does not decide, or does.
    Outcome(RequestOutcome),
    /// Messages were lost at this place of the stream, and the driver says which and why.
    Gap(Gap),
    /// A provider asks. Overtakes whatever else waits to be taken, but for an asynchronous request
    /// ([`Request::is_asynchronous`]), which has its place in the stream.
    Request(Request),
    /// Sequence numbers are missing and the driver does not say why. This is an error of the
    /// driver, the Filter Manager or this library.
    Missing {
        /// The first missing number.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A message that is not what its provider's schema says. It is counted
    /// ([`Statistics::corrupt_records`](crate::Statistics::corrupt_records)) and goes no further: a
    /// request that is corrupt stays unanswered, and the driver's miss policy answers it.
    Corrupt(Corrupt),
    /// The connection has ended. Its stream ends here; what was in flight is lost, and the driver's
    /// ledger says so.
    Disconnected {
        /// Why.
        reason: Error,
    },
    /// A new connection has been made. Its stream begins here, with number 1.
    Reconnected {
        /// How many times this client has connected before.
        generation: u32,
    },
    /// A new connection has been made, and the stream goes on with it: nothing is missing, and
    /// nothing comes again that this process has been given.
    Resumed {
        /// How many times this client has connected before.
        generation: u32,
    },
    /// Another instance has taken the stream over. No more events will come.
    TakenOver,
    /// The driver is too old for streams: this connection's ends with it, and what is in flight then
    /// is lost.
    NoStream,
    /// A part of a provider's present state, for a subscription with a snapshot. What the message
    /// means there, the provider says.
    Snapshot(Record),
    /// A provider's snapshot is complete: what follows of it is what happens.
    SnapshotEnd {
        /// The provider's number.
        provider: u16,
        /// The provider's schema, if it is subscribed to.
        schema: Option<Arc<Schema>>,
        /// When it was complete.
        time: Time,
        /// Its place in the stream.
        sequence: u64,
    },
    /// A subscription could not be made again on the new connection; it is tried again from time to
    /// time.
    SubscriptionFailed {
        /// The provider.
        provider: String,
        /// Why.
        reason: Error,
    },
}

impl Event {
    /// The number in the stream up to which it brings the program; `None` for what has no place
    /// there. [`Client::acknowledge`](crate::Client::acknowledge) takes it.
    pub fn last_sequence(&self) -> Option<u64> {
        match self {
            Event::Notification(record) | Event::CommonDriver(record) | Event::Snapshot(record) => {
                Some(record.sequence())
            }
            Event::Outcome(outcome) => Some(outcome.record.sequence()),
            Event::Gap(gap) => Some(gap.last),
            Event::Missing { last, .. } => Some(*last),
            Event::Corrupt(corrupt) => corrupt.in_stream.then_some(corrupt.sequence),
            Event::SnapshotEnd { sequence, .. } => Some(*sequence),
            Event::Request(request) if request.is_asynchronous() => Some(request.record.sequence()),
            _ => None,
        }
    }

    pub(crate) fn payload_len(&self) -> usize {
        match self {
            Event::Notification(record) | Event::CommonDriver(record) | Event::Snapshot(record) => {
                record.payload.len()
            }
            Event::Outcome(outcome) => outcome.record.payload.len(),
            Event::Request(request) => request.record.payload.len(),
            _ => 0,
        }
    }
}

/// A record of the stream. Cheap to clone: the bytes are shared, by all records that came at once. So one that is kept
/// keeps as many bytes as came with it: a batch out of rings, up to 32 KiB as a rule, or a frame of the port, up to
/// 64 KiB. Who keeps a few of many copies them: [`RecordRef::to_record`](crate::RecordRef::to_record) of
/// `RecordRef::from(&record)`.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) frame: Arc<[u8]>,
    pub(crate) header: RecordHeader,
    pub(crate) payload: Range<usize>,
    pub(crate) schema: Option<Arc<Schema>>,
}

impl Record {
    /// What is wrong with it, if its provider's schema has such a message and says otherwise: of
    /// the request and the reply in an outcome, else of the record itself.
    pub(crate) fn corrupt(&self, outcome: Option<&RequestOutcome>) -> Option<Corrupt> {
        let schema = self.schema.as_ref()?;
        let message = schema.message(self.message())?;
        let verified = match outcome {
            None => verify(&message.fields, self.payload(), self.fixed()),
            Some(outcome) => [
                (&message.fields, outcome.request()),
                (&message.reply, outcome.reply()),
            ]
            .iter()
            .try_for_each(|(fields, bytes)| verify(fields, bytes, fixed_part(fields, bytes))),
        };
        Some(Corrupt {
            sequence: self.sequence(),
            in_stream: self.header.kind != RecordKind::Request as u16,
            time: self.time(),
            provider: self.provider(),
            schema: schema.clone(),
            message: self.message(),
            error: verified.err()?,
        })
    }

    /// Its place in the connection's stream; for a request, its id.
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// When it happened.
    pub fn time(&self) -> Time {
        Time(self.header.time)
    }

    /// The provider's number.
    pub fn provider(&self) -> u16 {
        self.header.provider
    }

    /// The message's number.
    pub fn message(&self) -> u16 {
        self.header.message
    }

    /// The provider's schema, which came with the subscription.
    pub fn schema(&self) -> Option<&Schema> {
        self.schema.as_deref()
    }

    /// The message as it was sent.
    pub fn payload(&self) -> &[u8] {
        self.frame.get(self.payload.clone()).unwrap_or_default()
    }

    /// Bytes of the payload's fixed part.
    pub fn fixed(&self) -> usize {
        self.header.fixed.into()
    }

    /// The message as the type `M`.
    ///
    /// # Errors
    /// If it is another message, or was written by a provider that does not know a field that `M`
    /// requires; [`Record::fields`] reads it in any case.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, DecodeError> {
        if M::NUMBER != self.message() {
            return Err(DecodeError::BadValue);
        }
        M::decode_fixed(self.payload(), self.fixed())
    }

    /// The message's fields by name, read with the provider's own schema. Empty if that does not
    /// have this message.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Result<Value<'_>, DecodeError>)> {
        self.schema().into_iter().flat_map(|s| s.fields(self))
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct RequestOutcome {
    /// The record that says so; its payload is not the request's.
    pub record: Record,
    pub(crate) header: OutcomeHeader,
    pub(crate) request: Range<usize>,
    pub(crate) reply: Range<usize>,
}

impl RequestOutcome {
    /// The request's id.
    pub fn id(&self) -> u64 {
        self.header.request
    }

    /// How it ended; `None` for a way that this version does not know.
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::from_wire(self.header.outcome)
    }

    /// How long the requester waited, in microseconds.
    pub fn waited_us(&self) -> u32 {
        self.header.waited_us
    }

    /// The connection that was asked; `None` if none was.
    pub fn decider(&self) -> Option<u32> {
        (self.header.decider != 0).then_some(self.header.decider)
    }

    /// What was asked.
    pub fn request(&self) -> &[u8] {
        self.record
            .frame
            .get(self.request.clone())
            .unwrap_or_default()
    }

    /// What it was answered with: by the decider, or by default.
    pub fn reply(&self) -> &[u8] {
        self.record
            .frame
            .get(self.reply.clone())
            .unwrap_or_default()
    }

    /// The request as the type `M`.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_request<'a, M: Message<'a>>(&'a self) -> Result<M, DecodeError> {
        if M::NUMBER != self.record.message() {
            return Err(DecodeError::BadValue);
        }
        M::decode(self.request())
    }

    /// The reply as the type `M`.
    ///
    /// # Errors
    /// If it is not one.
    pub fn decode_reply<'a, M: Message<'a>>(&'a self) -> Result<M, DecodeError> {
        M::decode(self.reply())
    }

    /// The request's fields by name.
    pub fn request_fields(&self) -> impl Iterator<Item = (&str, Result<Value<'_>, DecodeError>)> {
        let (fields, _) = self.schemas();
        read_fields(fields, self.request(), fixed_part(fields, self.request()))
    }

    /// The reply's fields by name.
    pub fn reply_fields(&self) -> impl Iterator<Item = (&str, Result<Value<'_>, DecodeError>)> {
        let (_, fields) = self.schemas();
        read_fields(fields, self.reply(), fixed_part(fields, self.reply()))
    }

    /// The fields of the request and of the reply.
    fn schemas(&self) -> (&[FieldSchema], &[FieldSchema]) {
        let number = self.record.message();
        let message = self.record.schema().and_then(|s| s.message(number));
        message.map_or((&[], &[]), |m| (&m.fields, &m.reply))
    }
}

/// A message that could not be read.
#[derive(Clone, Debug)]
pub struct Corrupt {
    /// Its place in the connection's stream; for a request, its id.
    pub sequence: u64,
    /// It has a place in the stream: it is no request.
    pub(crate) in_stream: bool,
    /// When it was sent.
    pub time: Time,
    /// The provider's number.
    pub provider: u16,
    /// The provider's schema.
    pub schema: Arc<Schema>,
    /// The message's number.
    pub message: u16,
    /// What is wrong with it.
    pub error: DecodeError,
}

impl Corrupt {
    /// The message's name.
    pub fn message_name(&self) -> Option<&str> {
        let message = self.schema.message(self.message)?;
        Some(message.name.as_str())
    }
}

/// Losses at one place of the stream.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The first missing sequence number.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// When the last of them would have been told.
    pub time: Time,
    /// What was lost, by type and cause; the counts add up to the number of missing sequence
    /// numbers.
    pub losses: Vec<Loss>,
}

/// How many messages of one type were lost for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The provider's number.
    pub provider: u16,
    /// The provider's schema, if it is subscribed to.
    pub schema: Option<Arc<Schema>>,
    /// The message's number.
    pub message: u16,
    /// The cause; `None` for one that this version does not know.
    pub cause: Option<Cause>,
    /// How many.
    pub count: u64,
    /// The provider that took too much, by number: this one, if it was its own quota or rate; else
    /// the one that had most of the driver's queue. `None` if nobody did.
    pub by: Option<u16>,
    /// That provider's schema, if it is subscribed to.
    pub by_schema: Option<Arc<Schema>>,
}

impl Loss {
    pub(crate) fn new(entry: &GapEntry, schema_of: impl Fn(u16) -> Option<Arc<Schema>>) -> Self {
        let schema = schema_of(entry.provider);
        let by = (entry.by != BLAME_NONE).then_some(entry.by);
        Loss {
            by,
            by_schema: by.and_then(schema_of),
            provider: entry.provider,
            schema,
            message: entry.message,
            cause: entry.cause(),
            count: entry.count,
        }
    }

    /// The provider's name, if it is subscribed to.
    pub fn provider_name(&self) -> Option<&str> {
        self.schema.as_deref().map(|s| s.provider.as_str())
    }

    /// The name of the provider that took too much, if there is one and it is subscribed to.
    pub fn by_name(&self) -> Option<&str> {
        self.by_schema.as_deref().map(|s| s.provider.as_str())
    }

    /// The message's name, if the provider is subscribed to and has it.
    pub fn message_name(&self) -> Option<&str> {
        let message = self.schema.as_deref()?.message(self.message)?;
        Some(message.name.as_str())
    }
}
