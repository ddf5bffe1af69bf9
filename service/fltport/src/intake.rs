// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the bytes that gets bring to events. Everything in them is checked; what does not
//! hold is dropped and counted, and the numbers that are then missing are told as such.
//!
//! Without rings the events are put into order here. With rings they go to who reads those, for only there the
//! whole order is known; requests, which have no place in it, do not.

use crate::connection::Connection;
use crate::envelope::{ENVELOPE, MessageHeader};
use crate::event::{Event, Record};
use crate::reading::Reading;
use crate::request::{Answer, Request};
use crate::rings::Item;
use crate::schema_cache::SchemaCache;
use crate::sequence::{Resequencer, Step};
use crate::statistics::Counters;
use fltport_abi::DecodeError;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{FRAME_REQUEST, Frame, FrameHeader, RecordHeader, RecordKind};
use fltport_abi::limits::{MIN_PROTOCOL_VERSION, PROTOCOL_VERSION};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Sized = (Event, usize);

/// The state of one connection's stream.
#[derive(Debug)]
pub(crate) struct Intake<'c> {
    connection: &'c Arc<Connection>,
    counters: &'c Counters,
    schemas: SchemaCache,
    order: Option<Resequencer<Sized>>,
    /// What the present frame brings to the stream.
    items: Vec<Item>,
    steps: Vec<Step<Sized>>,
    requests: Vec<Sized>,
}

impl<'c> Intake<'c> {
    pub(crate) fn new(connection: &'c Arc<Connection>, counters: &'c Counters) -> Self {
        Intake {
            connection,
            counters,
            schemas: SchemaCache::default(),
            // Where the stream begins is known when the connection is; no frame comes before that.
            order: None,
            items: Vec::new(),
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
        if let Some(rings) = self.connection.rings() {
            // A request goes into the queue next, and wakes whoever sleeps there, too.
            rings.deliver(&mut self.items, self.requests.is_empty());
            return;
        }
        let first = self.connection.first();
        let order = self.order.get_or_insert_with(|| Resequencer::new(first));
        for item in self.items.drain(..) {
            order.push(item.first, item.last, item.event, &mut self.steps);
        }
        order.completed(slot, waiting, Instant::now(), &mut self.steps);
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
            events.extend(step.event(self.counters));
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
        self.schemas.refresh(self.connection);
        let mut at = ENVELOPE + FrameHeader::SIZE;
        for parsed in frame.records() {
            let parsed = parsed?;
            let start = at + RecordHeader::SIZE;
            at += parsed.header.size as usize;
            let payload = start..start + parsed.payload.len();
            let mut reading = Reading {
                connection: self.connection,
                counters: self.counters,
                schemas: &mut self.schemas,
            };
            let record = reading.record(message, parsed.header, payload);
            let is_request = parsed.kind == RecordKind::Request;
            if is_request != (frame.header.kind == FRAME_REQUEST) {
                return Err(DecodeError::BadValue);
            }
            if is_request {
                self.ask(record, &envelope, frame.header.deadline_ms);
            } else {
                self.items.push(reading.item(record, &parsed)?);
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
}

impl Step<Sized> {
    /// What the program is told, if anything.
    pub(crate) fn event(self, counters: &Counters) -> Option<Sized> {
        match self {
            Step::Item(event) => Some(event),
            Step::Missing { first, last } => {
                counters.missing.add(last - first + 1);
                Some((Event::Missing { first, last }, 0))
            }
            Step::Repeated => {
                counters.repeated.add(1);
                None
            }
        }
    }
}
