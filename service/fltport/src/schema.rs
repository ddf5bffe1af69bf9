// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider's schema, owned: enough to name and print messages that this program has never heard
//! of.

use crate::message_set::MessageSet;
use crate::value::{Value, fixed_part, read_fields, verify};
use fltport_abi::DecodeError;
use fltport_abi::schema::{
    self, DefinitionForm, FieldKind, FieldRow, Owner, Role, SchemaError, SchemaVisitor, field_flags,
};
use std::sync::Arc;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSchema {
    /// Its name.
    pub name: String,
    /// Its type; `None` for one that this version of the library does not know.
    pub kind: Option<FieldKind>,
    /// The number of its type on the wire.
    pub kind_number: u8,
    /// Where it lies in the fixed part.
    pub offset: u16,
    /// Where the next field lies; `None` for the last one.
    pub next: Option<u16>,
    /// It may be absent. Providers that were built with the first version of the schema do not say
    /// so of texts and lists.
    pub optional: bool,
    /// What its values or its fields are called.
    pub definition: Option<Arc<DefinitionSchema>>,
}

/// What the values of an enum, the bits of flags or the fields of a record are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionSchema {
    /// Its name.
    pub name: String,
    /// What it defines.
    pub form: FormSchema,
}

/// What a definition defines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormSchema {
    /// Values with names.
    Enum(Vec<(u32, String)>),
    /// Bits, or groups of bits, with names.
    Flags(Vec<(u32, String)>),
    /// Fields.
    Record(Vec<FieldSchema>),
    /// Something that this version of the library does not know.
    Unknown,
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
    /// What its fields refer to.
    pub definitions: Vec<Arc<DefinitionSchema>>,
    /// The message types.
    pub messages: Vec<MessageSchema>,
}

#[derive(Default)]
struct Builder {
    schema: Schema,
    /// The definition that is being told.
    open: Option<DefinitionSchema>,
}

impl Builder {
    /// The open definition is complete.
    fn close(&mut self) {
        let complete = self.open.take().map(Arc::new);
        self.schema.definitions.extend(complete);
    }

    fn row(&self, field: &FieldRow<'_>) -> FieldSchema {
        let index = usize::from(field.definition).checked_sub(1);
        FieldSchema {
            name: field.name.to_owned(),
            kind: FieldKind::from_wire(field.kind),
            kind_number: field.kind,
            offset: field.offset,
            next: None,
            optional: field.flags & field_flags::OPTIONAL != 0,
            definition: index.and_then(|at| self.schema.definitions.get(at).cloned()),
        }
    }
}

impl SchemaVisitor for Builder {
    fn provider(&mut self, name: &str, hash: u64) {
        self.schema.provider = name.to_owned();
        self.schema.hash = hash;
    }

    fn definition(&mut self, form: Option<DefinitionForm>, name: &str) {
        self.close();
        let form = match form {
            Some(DefinitionForm::Enum) => FormSchema::Enum(Vec::new()),
            Some(DefinitionForm::Flags) => FormSchema::Flags(Vec::new()),
            Some(DefinitionForm::Record) => FormSchema::Record(Vec::new()),
            None => FormSchema::Unknown,
        };
        let name = name.to_owned();
        self.open = Some(DefinitionSchema { name, form });
    }

    fn value(&mut self, value: u32, name: &str) {
        if let Some(FormSchema::Enum(values) | FormSchema::Flags(values)) =
            self.open.as_mut().map(|d| &mut d.form)
        {
            values.push((value, name.to_owned()));
        }
    }

    fn message(&mut self, number: u16, role: Role, name: &str) {
        self.close();
        self.schema.messages.push(MessageSchema {
            number,
            role,
            name: name.to_owned(),
            fields: Vec::new(),
            reply: Vec::new(),
        });
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        let row = self.row(field);
        let message = self.schema.messages.last_mut();
        let fields = match (field.owner, message, &mut self.open) {
            (Owner::Message, Some(message), _) => &mut message.fields,
            (Owner::Reply, Some(message), _) => &mut message.reply,
            (Owner::Record, _, Some(definition)) => match &mut definition.form {
                FormSchema::Record(fields) => fields,
                _ => return,
            },
            _ => return,
        };
        if let Some(former) = fields.last_mut() {
            former.next = Some(row.offset);
        }
        fields.push(row);
    }
}

impl MessageSchema {
    /// Whether `payload`, whose fixed part has `fixed` bytes, can be read with this schema, down to
    /// the last record of the last list. What a [`Client`](crate::Client) hands out has been.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, payload: &[u8], fixed: usize) -> Result<(), DecodeError> {
        verify(&self.fields, payload, fixed)
    }

    /// The fields of a reply to this request, or of this command's result, with their values.
    pub fn reply_fields<'a>(
        &'a self,
        reply: &'a [u8],
    ) -> impl Iterator<Item = (&'a str, Result<Value<'a>, DecodeError>)> {
        read_fields(&self.reply, reply, fixed_part(&self.reply, reply))
    }
}

impl Schema {
    /// Reads an encoded schema.
    ///
    /// # Errors
    /// If the bytes are not one, or one that makes no sense. One of a newer version is read as far
    /// as it is known.
    pub fn decode(bytes: &[u8]) -> Result<Schema, SchemaError> {
        schema::check(bytes)?;
        let mut builder = Builder::default();
        schema::read(bytes, &mut builder).map_err(SchemaError::Unreadable)?;
        builder.close();
        Ok(builder.schema)
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
        assert_eq!(create.fields[0].next, Some(4));
        assert!(create.fields[4].optional);
        assert!(Schema::decode(&bytes[..n - 1]).is_err());
    }
}
