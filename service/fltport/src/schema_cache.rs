// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a reading thread knows of the messages that it meets, so that it asks the connection for a schema once for a
//! message type and not once for a record.

use crate::connection::Connection;
use crate::schema::{FieldSchema, Schema};
use crate::value::verify;
use fltport_abi::DecodeError;
use fltport_abi::schema::FieldKind;
use std::sync::Arc;

/// So many message types at most; more than any service is told of.
const MAX_KNOWN: usize = 256;

/// One message type.
#[derive(Debug)]
pub(crate) struct Known {
    provider: u16,
    message: u16,
    pub(crate) schema: Option<Arc<Schema>>,
    /// Where it is in the schema; `None` if that does not have it.
    index: Option<usize>,
    /// Bytes of the fixed part that has all fields, if a fixed part of these has nothing in it that could be wrong.
    sound: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SchemaCache {
    /// Which of the connection's schemas these are.
    epoch: u64,
    known: Vec<Known>,
    /// The one that was asked for last.
    last: usize,
}

impl Known {
    fn new(connection: &Connection, provider: u16, message: u16) -> Known {
        let schema = connection.schema_of(provider);
        let is_it = |s: &Arc<Schema>| s.messages.iter().position(|m| m.number == message);
        let index = schema.as_ref().and_then(is_it);
        let mut known = Known {
            provider,
            message,
            schema,
            index,
            sound: None,
        };
        known.sound = known.fields().and_then(sound_size);
        known
    }

    fn fields(&self) -> Option<&[FieldSchema]> {
        let message = self.schema.as_ref()?.messages.get(self.index?)?;
        Some(&message.fields)
    }

    /// What is wrong with a message of this type, if its schema says otherwise.
    #[inline]
    pub(crate) fn verify(&self, payload: &[u8], fixed: usize) -> Result<(), DecodeError> {
        match self.sound {
            Some(size) if size <= fixed && fixed <= payload.len() => Ok(()),
            _ => self.verify_fields(payload, fixed),
        }
    }

    fn verify_fields(&self, payload: &[u8], fixed: usize) -> Result<(), DecodeError> {
        self.fields()
            .map_or(Ok(()), |fields| verify(fields, payload, fixed))
    }
}

/// Bytes of the fixed part that has all of these fields; `None` if one of them can be wrong although it is there.
fn sound_size(fields: &[FieldSchema]) -> Option<usize> {
    fields.iter().try_fold(0, |size: usize, field| {
        let Some(kind) = field.kind else {
            return Some(size);
        };
        let can_be_wrong = field.optional
            || kind.is_variable()
            || matches!(kind, FieldKind::Bool | FieldKind::Address);
        let end = usize::from(field.offset) + kind.place(false);
        (!can_be_wrong).then_some(size.max(end))
    })
}

impl SchemaCache {
    /// Forgets what the connection has learnt anew since.
    pub(crate) fn refresh(&mut self, connection: &Connection) {
        let epoch = connection.schema_epoch();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.known.clear();
        }
    }

    /// What is known of a message type.
    #[inline]
    pub(crate) fn of(&mut self, connection: &Connection, provider: u16, message: u16) -> &Known {
        let is_it = |known: &Known| known.provider == provider && known.message == message;
        if !self.known.get(self.last).is_some_and(is_it) {
            self.last = self.find(connection, provider, message);
        }
        &self.known[self.last]
    }

    fn find(&mut self, connection: &Connection, provider: u16, message: u16) -> usize {
        let is_it = |known: &Known| known.provider == provider && known.message == message;
        if let Some(place) = self.known.iter().position(is_it) {
            return place;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.push(Known::new(connection, provider, message));
        self.known.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: FieldKind, offset: u16, optional: bool) -> FieldSchema {
        FieldSchema {
            name: String::new(),
            kind: Some(kind),
            kind_number: 0,
            offset,
            next: None,
            optional,
            definition: None,
        }
    }

    #[test]
    fn fields_that_cannot_be_wrong_are_not_looked_at_and_others_are() {
        let (u32_at_0, u64_at_8) = (
            field(FieldKind::U32, 0, false),
            field(FieldKind::U64, 8, false),
        );
        assert_eq!(sound_size(&[u32_at_0.clone(), u64_at_8.clone()]), Some(16));
        assert_eq!(sound_size(&[]), Some(0));
        for wrong in [
            field(FieldKind::Bool, 4, false),
            field(FieldKind::Text, 16, false),
            field(FieldKind::U32, 16, true),
            field(FieldKind::List, 16, false),
        ] {
            assert_eq!(
                sound_size(&[u32_at_0.clone(), wrong, u64_at_8.clone()]),
                None
            );
        }
    }
}
