// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a handler is told: the same as [`Event`], but notifications lie where they were copied to, and are the handler's
//! for as long as it looks at them.

use crate::event::{Event, Record};
use crate::schema::Schema;
use crate::value::{Value, read_fields};
use fltport_abi::frame::RecordHeader;
use fltport_abi::{DecodeError, Message, Time};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What the handler of [`Client::serve`](crate::Client::serve) is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum EventRef<'e> {
    /// [`Event::Notification`].
    Notification(RecordRef<'e>),
    /// Any other event.
    Other(Event),
}

/// A notification, not kept. [`RecordRef::decode`] and what it gives borrow from it.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'r> {
    pub(crate) header: RecordHeader,
    pub(crate) payload: &'r [u8],
    pub(crate) schema: Option<&'r Arc<Schema>>,
}

impl<'r> RecordRef<'r> {
    /// Its place in the connection's stream.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// When it happened.
    #[inline]
    pub fn time(&self) -> Time {
        Time(self.header.time)
    }

    /// The provider's number.
    #[inline]
    pub fn provider(&self) -> u16 {
        self.header.provider
    }

    /// The message's number.
    #[inline]
    pub fn message(&self) -> u16 {
        self.header.message
    }

    /// The provider's schema, which came with the subscription.
    pub fn schema(&self) -> Option<&'r Schema> {
        self.schema.map(|schema| &**schema)
    }

    /// The message as it was sent.
    #[inline]
    pub fn payload(&self) -> &'r [u8] {
        self.payload
    }

    /// Bytes of the payload's fixed part.
    #[inline]
    pub fn fixed(&self) -> usize {
        self.header.fixed.into()
    }

    /// The message as the type `M`, whose texts and lists lie in the record.
    ///
    /// # Errors
    /// As [`Record::decode`].
    #[inline]
    pub fn decode<M: Message<'r>>(&self) -> Result<M, DecodeError> {
        if M::NUMBER != self.message() {
            return Err(DecodeError::BadValue);
        }
        M::decode_fixed(self.payload, self.fixed())
    }

    /// The message's fields by name, as [`Record::fields`] reads them.
    pub fn fields(
        &self,
    ) -> impl Iterator<Item = (&'r str, Result<Value<'r>, DecodeError>)> + use<'r> {
        let message = self
            .schema()
            .and_then(|schema| schema.message(self.message()));
        let fields = message.map_or(&[][..], |message| &message.fields);
        read_fields(fields, self.payload, self.fixed())
    }

    /// A record of its own, to be kept.
    pub fn to_record(&self) -> Record {
        Record {
            frame: Arc::from(self.payload),
            header: self.header,
            payload: 0..self.payload.len(),
            schema: self.schema.cloned(),
        }
    }
}

impl<'r> From<&'r Record> for RecordRef<'r> {
    fn from(record: &'r Record) -> Self {
        RecordRef {
            header: record.header,
            payload: record.payload(),
            schema: record.schema.as_ref(),
        }
    }
}

/// Tells a handler an event.
pub(crate) fn tell<B>(
    event: Event,
    handler: &mut impl FnMut(EventRef<'_>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    match event {
        Event::Notification(record) => handler(EventRef::Notification(RecordRef::from(&record))),
        event => handler(EventRef::Other(event)),
    }
}
