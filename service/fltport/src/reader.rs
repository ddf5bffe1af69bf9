// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection's rings hold, merged with what frames bring beside them, in the order of the stream.
//!
//! Records are copied from the rings a batch at a time and handed on from the copy: to a handler, and then the driver is
//! told that they were read; or to the queue, and then it is told at once. Which number comes next
//! is the [`Resequencer`]'s to say: each comes by one way only.

use crate::connection::Connection;
use crate::edge::MappedRings;
use crate::error::Error;
use crate::event::Event;
use crate::event_ref::{EventRef, RecordRef, tell};
use crate::failure::Failure;
use crate::pace::Pace;
use crate::reading::Reading;
use crate::rings::{self, Item, LONG, Rings};
use crate::schema_cache::SchemaCache;
use crate::sequence::{Resequencer, Step};
use crate::supervisor::Shared;
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{self, GapHeader, RecordHeader, RecordKind, record_size};
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_ring::{Corrupt, Front, Shape};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch ends when it has so many bytes.
const BATCH: usize = 32 * 1024;
/// Room for a batch, whose last record may be the largest.
const ROOM: usize = BATCH + record_size(MAX_PAYLOAD);

/// Who did not look for so long cannot say how long a number has been missing.
const ABSENCE: Duration = Duration::from_secs(1);

/// How often to look between two looks at the clock.
const LOOKS: u32 = 32;

type Sized = (Event, usize);

/// Whose rings these are.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'c> {
    pub(crate) rings: &'c Rings,
    pub(crate) connection: &'c Arc<Connection>,
    pub(crate) shared: &'c Shared,
}

impl Owner<'_> {
    /// These events are handed on.
    pub(crate) fn note<'e>(&self, events: impl Iterator<Item = &'e Event> + Clone) {
        for event in events.clone() {
            self.shared.notice(event);
        }
        self.shared.progress.received(events);
    }
}

/// What there was to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Something; or something is in the queue.
    Some,
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reader {
    rings: MappedRings,
    order: Resequencer<Sized>,
    schemas: SchemaCache,
    /// Records that were copied: those from `at` to `filled` are to be handed on, then what is in `steps`.
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    steps: VecDeque<Step<Sized>>,
    /// Taken from the order, on their way to `steps`.
    new_steps: Vec<Step<Sized>>,
    /// The first number in the rings when they were looked at last, if that was not the next one.
    beyond: Option<u64>,
    /// Numbers were given up waiting for, and may come yet.
    may_be_late: bool,
    /// The driver has not been told that what was copied was read.
    unreleased: bool,
    pace: Pace,
    /// When it was looked last whether something is missing.
    looked: Instant,
}

impl Reader {
    /// Of these rings, in a stream that begins with this number.
    pub(crate) fn new(rings: MappedRings, first: u64) -> Reader {
        Reader {
            rings,
            order: Resequencer::new(first),
            schemas: SchemaCache::default(),
            buffer: vec![0; ROOM].into_boxed_slice(),
            at: 0,
            filled: 0,
            steps: VecDeque::new(),
            new_steps: Vec::new(),
            beyond: None,
            may_be_late: false,
            unreleased: false,
            pace: Pace::default(),
            looked: Instant::now(),
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.rings.shape()
    }

    fn is_pending(&self) -> bool {
        self.at < self.filled || !self.steps.is_empty()
    }

    /// Gets what comes next, unless something is there; whether there is. Of a connection that has ended only what
    /// frames had brought, and what comes before that.
    fn gather(&mut self, owner: &Owner<'_>, ended: bool) -> Result<bool, Error> {
        if self.is_pending() {
            return Ok(true);
        }
        self.pace.keep(owner.shared.spin);
        if owner.rings.has_letters() {
            self.take_letters(owner);
        }
        if self.steps.is_empty() && (!ended || self.order.is_holding()) {
            self.fill(owner)?;
        }
        if !self.is_pending() {
            self.judge(ended);
        }
        Ok(self.is_pending())
    }

    fn take_letters(&mut self, owner: &Owner<'_>) {
        let (items, frames) = owner.rings.letters();
        for Item { first, last, event } in items {
            self.order.push(first, last, event, &mut self.new_steps);
        }
        for _ in 0..frames {
            self.order.note_frame();
        }
        self.steps.extend(self.new_steps.drain(..));
        // Gets may have been held back. If this fails the connection has ended, and the pump says so.
        let _ended = owner.connection.refill(&owner.shared.queue);
    }

    fn judge(&mut self, ended: bool) {
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) > ABSENCE {
            // The program had no room, or its handler took long: what is missing may have waited for that.
            self.order.forgive();
        }
        self.looked = now;
        if ended {
            self.order.judge(0, now, &mut self.new_steps);
        } else {
            let order = &mut self.order;
            self.may_be_late |= order.judge_with_rings(self.beyond, now, &mut self.new_steps);
        }
        self.steps.extend(self.new_steps.drain(..));
    }

    /// Copies a batch from the rings.
    fn fill(&mut self, owner: &Owner<'_>) -> Result<(), Error> {
        let first = self.order.next();
        let batch = self.buffer.get_mut(..BATCH).unwrap_or_default();
        (self.at, self.filled) = (0, 0);
        let next = match self.rings.fill(first, batch) {
            Ok((1.., bytes, behind)) => {
                self.filled = bytes;
                self.unreleased = true;
                self.pace.copied(bytes, BATCH, Instant::now);
                behind
            }
            _ => self.copy_one(first, owner)?,
        };
        if next != first {
            self.order.advance(next, &mut self.new_steps);
            self.steps.extend(self.new_steps.drain(..));
        }
        Ok(())
    }

    /// Copies the record with this number, which may be larger than a batch, or finds out why there is none; the number
    /// that follows what was copied.
    #[cold]
    fn copy_one(&mut self, next: u64, owner: &Owner<'_>) -> Result<u64, Error> {
        loop {
            match self.rings.front(next) {
                Ok(Front::Record) => break,
                Ok(front) => {
                    self.beyond = match front {
                        Front::Missing(number) => Some(number),
                        _ => None,
                    };
                    return Ok(next);
                }
                Err(corrupt) => self.pass_over(next, owner, corrupt)?,
            }
        }
        let (size, behind) = self
            .rings
            .take(&mut self.buffer)
            .map_err(rings::corrupt)?
            .ok_or(Error::Protocol("a record in a ring that is too large"))?;
        self.filled = size;
        self.unreleased = true;
        Ok(behind)
    }

    /// What comes first in the rings is corrupt, or a record that is too late; then the next one is to be looked for again.
    #[cold]
    fn pass_over(&mut self, next: u64, owner: &Owner<'_>, corrupt: Corrupt) -> Result<(), Error> {
        if !self.may_be_late {
            return Err(rings::corrupt(corrupt));
        }
        let passed = self.rings.pass_over(next).map_err(rings::corrupt)?;
        if passed == 0 {
            return Err(rings::corrupt(corrupt));
        }
        owner.shared.counters.repeated.add(passed.into());
        self.unreleased = true;
        Ok(())
    }

    /// All that was copied has been handed on.
    fn release(&mut self) {
        if self.unreleased && !self.is_pending() {
            self.unreleased = false;
            self.rings.release();
        }
    }

    /// The next events for the queue, into which the caller puts them; none if there are none now.
    ///
    /// # Errors
    /// If a ring holds what cannot be.
    pub(crate) fn events(&mut self, owner: &Owner<'_>, ended: bool) -> Result<Vec<Sized>, Error> {
        let mut events = Vec::new();
        while events.is_empty() && self.gather(owner, ended)? {
            self.schemas.refresh(owner.connection);
            self.batch_events(owner, &mut events);
            let counters = &owner.shared.counters;
            events.extend(self.steps.drain(..).filter_map(|step| step.event(counters)));
            // Before the program can have them: then the ledger says no later that they were delivered.
            self.release();
        }
        Ok(events)
    }

    /// The events of the batch, which share one copy of its bytes.
    fn batch_events(&mut self, owner: &Owner<'_>, events: &mut Vec<Sized>) {
        let Some(batch) = self.buffer.get(self.at..self.filled) else {
            return;
        };
        let batch: Arc<[u8]> = Arc::from(batch);
        self.at = self.filled;
        let (mut at, mut records) = (0, 0);
        let mut reading = Reading {
            connection: owner.connection,
            counters: &owner.shared.counters,
            schemas: &mut self.schemas,
        };
        while at < batch.len() {
            at += event_at(&batch, at, &mut reading, events);
            records += 1;
        }
        owner.shared.counters.ring_records.add(records);
    }

    /// Hands a batch, or what is left of one, to a handler.
    ///
    /// # Errors
    /// If a ring holds what cannot be.
    pub(crate) fn serve<B>(
        &mut self,
        owner: &Owner<'_>,
        ended: bool,
        handler: &mut impl FnMut(EventRef<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B, Served>, Error> {
        if !self.gather(owner, ended)? {
            return Ok(ControlFlow::Continue(Served::Nothing));
        }
        self.schemas.refresh(owner.connection);
        let (mut records, mut others) = (0, 0);
        let mut flow = ControlFlow::Continue(());
        while self.at < self.filled && flow.is_continue() {
            if owner.shared.queue.has_any() {
                break;
            }
            records += 1;
            flow = match self.serve_notification(owner, handler) {
                Some(flow) => flow,
                None => {
                    others += 1;
                    self.serve_other(owner, handler)
                }
            };
        }
        let counters = &owner.shared.counters;
        counters.ring_records.add(records);
        counters.records.add(records - others);
        while self.at == self.filled
            && flow.is_continue()
            && !owner.shared.queue.has_any()
            && let Some(step) = self.steps.pop_front()
        {
            if let Some((event, _)) = step.event(counters) {
                owner.note([&event].into_iter());
                flow = tell(event, handler);
            }
        }
        self.release();
        Ok(match flow {
            ControlFlow::Continue(()) => ControlFlow::Continue(Served::Some),
            ControlFlow::Break(with) => ControlFlow::Break(with),
        })
    }

    /// Hands the next record to a handler, if it is a provider's notification and as its schema says.
    #[inline]
    fn serve_notification<B>(
        &mut self,
        owner: &Owner<'_>,
        handler: &mut impl FnMut(EventRef<'_>) -> ControlFlow<B>,
    ) -> Option<ControlFlow<B>> {
        let rest = self.buffer.get(self.at..self.filled)?;
        let (parsed, _) = frame::Record::split(rest).ok()?;
        let header = parsed.header;
        if parsed.kind != RecordKind::Notification || header.provider == common_driver::NUMBER {
            return None;
        }
        let known = self
            .schemas
            .of(owner.connection, header.provider, header.message);
        known.verify(parsed.payload, header.fixed.into()).ok()?;
        self.at += header.size as usize;
        Some(handler(EventRef::Notification(RecordRef {
            header,
            payload: parsed.payload,
            schema: known.schema.as_ref(),
        })))
    }

    /// Hands the next record to a handler, whatever it is.
    #[cold]
    fn serve_other<B>(
        &mut self,
        owner: &Owner<'_>,
        handler: &mut impl FnMut(EventRef<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let rest = self.buffer.get(self.at..self.filled).unwrap_or_default();
        let size = size_of_record(rest);
        let record: Arc<[u8]> = Arc::from(rest.get(..size).unwrap_or(rest));
        self.at += size;
        let mut events = Vec::new();
        let mut reading = Reading {
            connection: owner.connection,
            counters: &owner.shared.counters,
            schemas: &mut self.schemas,
        };
        event_at(&record, 0, &mut reading, &mut events);
        for (event, _) in events {
            owner.note([&event].into_iter());
            tell(event, handler)?;
        }
        ControlFlow::Continue(())
    }

    /// Nothing is there: waits for something, or until `interrupted`, which whoever makes it so says by the signal.
    pub(crate) fn sleep(
        &mut self,
        owner: &Owner<'_>,
        interrupted: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let rings = owner.rings;
        let called = || rings.has_letters() || rings.has_ended() || interrupted();
        if self.spin(owner.shared.spin, called) || !self.rings.arm() {
            return Ok(());
        }
        if called() {
            self.rings.disarm();
            return Ok(());
        }
        owner.shared.counters.sleeps.add(1);
        let patience = self.order.patience(Instant::now());
        let waited = rings.signal.wait(patience.map_or(LONG, |it| it.min(LONG)));
        self.rings.disarm();
        self.looked = Instant::now();
        waited.map(drop)
    }

    /// Looks for so long whether something comes; whether it has.
    fn spin(&mut self, duration: Duration, called: impl Fn() -> bool) -> bool {
        if duration.is_zero() {
            return false;
        }
        let (next, beyond) = (self.order.next(), self.beyond);
        let begun = Instant::now();
        loop {
            for _ in 0..LOOKS {
                std::hint::spin_loop();
                let same = match self.rings.front(next) {
                    Ok(Front::Empty) => beyond.is_none(),
                    Ok(Front::Missing(number)) => beyond == Some(number),
                    Ok(Front::Record) | Err(_) => false,
                };
                if !same || called() {
                    return true;
                }
            }
            if begun.elapsed() >= duration {
                return false;
            }
        }
    }
}

/// Bytes of the record that these begin with. The consumer has checked its header; if that is none after all, the
/// batch is over.
fn size_of_record(bytes: &[u8]) -> usize {
    let header = RecordHeader::read(bytes);
    let size = header.map_or(bytes.len(), |header| header.size as usize);
    size.clamp(1, bytes.len().max(1))
}

/// The event of the record that lies there in a batch; its size. If it is damaged, that its numbers are missing.
fn event_at(
    batch: &Arc<[u8]>,
    at: usize,
    reading: &mut Reading<'_>,
    events: &mut Vec<Sized>,
) -> usize {
    let bytes = batch.get(at..).unwrap_or_default();
    let read = frame::Record::split(bytes).and_then(|(parsed, _)| {
        let start = at + RecordHeader::SIZE;
        let payload = start..start + parsed.payload.len();
        if parsed.kind == RecordKind::Request {
            return Err(fltport_abi::DecodeError::BadValue);
        }
        let record = reading.record(batch, parsed.header, payload);
        reading.item(record, &parsed)
    });
    match read {
        Ok(item) => events.push(item.event),
        Err(_) => {
            reading.counters.damaged.add(1);
            if let Some((first, last)) = numbers(bytes) {
                let missing: Step<Sized> = Step::Missing { first, last };
                events.extend(missing.event(reading.counters));
            }
        }
    }
    size_of_record(bytes)
}

/// The numbers that a record stands for, whatever else is wrong with it.
fn numbers(bytes: &[u8]) -> Option<(u64, u64)> {
    let header = RecordHeader::read(bytes)?;
    let first = match header.kind == RecordKind::Gap as u16 {
        true => GapHeader::read(bytes.get(RecordHeader::SIZE..)?)?.first,
        false => header.sequence,
    };
    (first <= header.sequence && first != 0).then_some((first, header.sequence))
}
