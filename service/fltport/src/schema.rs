// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider's schema, owned: enough to name and print messages that this program has never heard
//! of.

use crate::message_set::MessageSet;
use fltport_abi::DecodeError;
use fltport_abi::schema::{self, FieldKind, Role, SchemaVisitor, Value};

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSchema {
    /// Its name.
    pub name: String,
    /// Its type; `None` for one that this version of the library does not know.
    pub kind: Option<FieldKind>,
    /// Where it lies in the fixed part.
    pub offset: u16,
}

/// One message type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSchema {
    /// Its number.
    pub number: u16,
    /// What it is for.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its fields.
    pub fields: Vec<FieldSchema>,
    /// The fields of its reply or result.
    pub reply: Vec<FieldSchema>,
}

/// A provider's message types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The provider's name.
    pub provider: String,
    /// The schema's hash: changes whenever anything in it does.
    pub hash: u64,
    /// The message types.
    pub messages: Vec<MessageSchema>,
}

struct Builder(Schema);

impl SchemaVisitor for Builder {
    fn provider(&mut self, name: &str, hash: u64) {
        self.0.provider = name.to_owned();
        self.0.hash = hash;
    }

    fn message(&mut self, number: u16, role: Role, name: &str) {
        self.0.messages.push(MessageSchema {
            number,
            role,
            name: name.to_owned(),
            fields: Vec::new(),
            reply: Vec::new(),
        });
    }

    fn field(&mut self, reply: bool, name: &str, kind: u8, offset: u16) {
        let field = FieldSchema {
            name: name.to_owned(),
            kind: FieldKind::from_wire(kind),
            offset,
        };
        if let Some(message) = self.0.messages.last_mut() {
            if reply {
                message.reply.push(field);
            } else {
                message.fields.push(field);
            }
        }
    }
}

impl Schema {
    /// Reads an encoded schema.
    ///
    /// # Errors
    /// If the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Result<Schema, DecodeError> {
        let mut builder = Builder(Schema::default());
        schema::read(bytes, &mut builder)?;
        Ok(builder.0)
    }

    /// The message type with this number.
    pub fn message(&self, number: u16) -> Option<&MessageSchema> {
        self.messages.iter().find(|m| m.number == number)
    }

    /// The numbers of all messages with this role.
    pub fn numbers(&self, role: Role) -> MessageSet {
        let with_role = self.messages.iter().filter(|m| m.role == role);
        with_role.map(|m| m.number).collect()
    }

    /// The fields of a record's message, in order, with their values. Empty if the schema has no
    /// such message.
    pub fn fields<'a>(
        &'a self,
        record: &'a crate::Record,
    ) -> impl Iterator<Item = (&'a str, Result<Value<'a>, DecodeError>)> {
        let fields = self
            .message(record.message())
            .map_or(&[][..], |m| &m.fields);
        read_fields(fields, record.payload(), record.fixed())
    }
}

/// The bytes that the fields take in the fixed part, as far as they are known.
pub(crate) fn fixed_size(fields: &[FieldSchema]) -> usize {
    let end = |f: &FieldSchema| usize::from(f.offset) + f.kind.map_or(0, FieldKind::size);
    fields.iter().map(end).max().unwrap_or(0)
}

/// The values of `fields` in a message whose fixed part has `fixed` bytes.
///
/// A field of a type that this version does not know is absent.
pub fn read_fields<'a>(
    fields: &'a [FieldSchema],
    message: &'a [u8],
    fixed: usize,
) -> impl Iterator<Item = (&'a str, Result<Value<'a>, DecodeError>)> {
    fields.iter().map(move |field| {
        let value = match field.kind {
            Some(kind) => schema::value(message, fixed, kind, field.offset.into()),
            None => Ok(Value::Absent),
        };
        (field.name.as_str(), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fltport_abi::process_monitor::PROVIDER;

    #[test]
    fn an_encoded_schema_is_read_back() {
        let mut bytes = [0; 4096];
        let n = PROVIDER.encode(&mut bytes).unwrap();
        let schema = Schema::decode(&bytes[..n]).unwrap();
        assert_eq!(schema.provider, "process-monitor");
        assert_eq!(schema.hash, PROVIDER.hash());
        assert_eq!(schema.numbers(Role::Notification), [1, 2, 3, 4].into());
        assert_eq!(schema.numbers(Role::Request), 5.into());
        let create = schema.message(5).unwrap();
        assert_eq!(create.name, "create");
        assert_eq!(create.reply[0].name, "deny");
        assert_eq!(fixed_size(&create.fields), 36);
        assert!(Schema::decode(&bytes[..n - 1]).is_err());
    }
}
