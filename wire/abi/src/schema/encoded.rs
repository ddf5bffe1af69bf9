// SPDX-License-Identifier: MIT OR Apache-2.0
//! The encoded schema.
//!
//! It begins, in every version, with `u32` magic `FPSC`, `u16` version, `u16` number of messages,
//! `u64` hash, and the provider's name. A name is a `u8` length and that many bytes of UTF-8.
//!
//! **Version 1** is written as long as the schema has no definitions, so that readers of that
//! version need not be refused. Each message follows: `u16` number, `u8` role, `u8` number of
//! fields, `u8` number of reply fields, `u8` 0, name, the fields, the reply fields; a field is `u8`
//! kind, `u8` flags, `u16` offset, name.
//!
//! **Version 2**: `u32` bytes that follow, then items to the end, each beginning with its whole
//! size as `u16` and a `u8` tag:
//!
//! | tag | item | behind the tag |
//! |---|---|---|
//! | 1 | definition | `u8` form (1 enum, 2 flags, 3 record), name |
//! | 2 | value or bit of the last definition | `u8` 0, `u32` value, name |
//! | 3 | message | `u8` role, `u16` number, name |
//! | 4 | field of the last message or record | `u8` kind, `u16` offset, `u8` flags, `u8` definition (0 none, 1 the first), name |
//! | 5 | field of the last message's reply | as 4 |
//!
//! Definitions stand before all messages, and each before what refers to it. Of a version that it
//! does not know a reader takes what it does know: it skips items with other tags, forms and roles,
//! and what follows the name in an item.

use super::{Definition, Field, Form, Provider, Role};
use crate::fixed::Fixed;
use crate::limits::MAX_MESSAGE_NUMBER;
use crate::message::{DecodeError, EncodeError};

/// The first four bytes: `FPSC`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FPSC");

/// The newest version that is written here.
pub const VERSION: u16 = 2;

const DEFINITION: u8 = 1;
const NAMED: u8 = 2;
const MESSAGE: u8 = 3;
const FIELD: u8 = 4;
const REPLY_FIELD: u8 = 5;

/// What a definition defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DefinitionForm {
    /// Values with names.
    Enum = 1,
    /// Bits with names.
    Flags = 2,
    /// Fields.
    Record = 3,
}

impl DefinitionForm {
    /// The form with this number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => DefinitionForm::Enum,
            2 => DefinitionForm::Flags,
            3 => DefinitionForm::Record,
            _ => return None,
        })
    }
}

/// What a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The last message.
    Message,
    /// The reply or result of the last message.
    Reply,
    /// The last definition.
    Record,
}

/// A field as it lies in an encoded schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRow<'a> {
    /// What it belongs to.
    pub owner: Owner,
    /// Its name.
    pub name: &'a str,
    /// The number of its kind, which a newer provider may have and this version not know.
    pub kind: u8,
    /// Where it lies in the fixed part.
    pub offset: u16,
    /// [`field_flags`](super::field_flags).
    pub flags: u8,
    /// The number of its definition, from 1 in their order; 0 for none.
    pub definition: u8,
}

/// What a reader of an encoded schema is told, part by part.
pub trait SchemaVisitor {
    /// The provider itself.
    fn provider(&mut self, name: &str, hash: u64);
    /// The next definition; `None` for a form that this version does not know.
    fn definition(&mut self, _form: Option<DefinitionForm>, _name: &str) {}
    /// A value or bit of the last definition.
    fn value(&mut self, _value: u32, _name: &str) {}
    /// The next message type.
    fn message(&mut self, number: u16, role: Role, name: &str);
    /// A field.
    fn field(&mut self, field: &FieldRow<'_>);
}

impl Provider {
    /// Writes the schema to the start of `out`; returns its length.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut w = Writer { out, at: 0 };
        let version = if self.definitions.is_empty() { 1 } else { 2 };
        w.put(MAGIC)?;
        w.put::<u16>(version)?;
        w.put(u16::try_from(self.messages.len()).map_err(|_| EncodeError::TooLarge)?)?;
        w.put(self.hash())?;
        w.name(self.name)?;
        if version == 1 {
            self.messages_of_version_1(&mut w)?;
        } else {
            self.items(&mut w)?;
        }
        Ok(w.at)
    }

    fn messages_of_version_1(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        for message in self.messages {
            w.put(message.number)?;
            w.put(message.role as u8)?;
            w.put(u8::try_from(message.fields.len()).map_err(|_| EncodeError::TooLarge)?)?;
            w.put(u8::try_from(message.reply.len()).map_err(|_| EncodeError::TooLarge)?)?;
            w.put(0_u8)?;
            w.name(message.name)?;
            for field in message.fields.iter().chain(message.reply) {
                w.put(field.kind as u8)?;
                w.put(field.flags)?;
                w.put(field.offset)?;
                w.name(field.name)?;
            }
        }
        Ok(())
    }

    fn items(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        let start = w.at;
        w.put(0_u32)?;
        for definition in self.definitions {
            let (form, values) = match definition.form {
                Form::Enum(values) => (DefinitionForm::Enum, values),
                Form::Flags(values) => (DefinitionForm::Flags, values),
                Form::Record(_) => (DefinitionForm::Record, &[][..]),
            };
            w.item(DEFINITION, form as u8, definition.name, |_| Ok(()))?;
            for named in values {
                w.item(NAMED, 0, named.name, |w| w.put(named.value))?;
            }
            if let Form::Record(fields) = definition.form {
                self.fields(w, FIELD, fields)?;
            }
        }
        for message in self.messages {
            let role = message.role as u8;
            w.item(MESSAGE, role, message.name, |w| w.put(message.number))?;
            self.fields(w, FIELD, message.fields)?;
            self.fields(w, REPLY_FIELD, message.reply)?;
        }
        let length = u32::try_from(w.at - start - 4).map_err(|_| EncodeError::TooLarge)?;
        let place = w.out.get_mut(start..).ok_or(EncodeError::TooLarge)?;
        length.write(place).ok_or(EncodeError::TooLarge)
    }

    fn fields(&self, w: &mut Writer<'_>, tag: u8, fields: &[Field<'_>]) -> Result<(), EncodeError> {
        for field in fields {
            let definition = field.definition.map_or(0, |d| self.number_of(d));
            w.item(tag, field.kind as u8, field.name, |w| {
                w.put(field.offset)?;
                w.put(field.flags)?;
                w.put(definition)
            })?;
        }
        Ok(())
    }

    /// The number of a definition, from 1; 0, which readers refuse where one is needed, for one that
    /// is not in the list.
    fn number_of(&self, definition: &Definition) -> u8 {
        let mut names = self.definitions.iter().map(|d| d.name);
        let at = names.position(|name| name == definition.name);
        at.map_or(0, |at| u8::try_from(at + 1).unwrap_or(0))
    }
}

struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put<T: Fixed>(&mut self, value: T) -> Result<(), EncodeError> {
        value
            .write(self.out.get_mut(self.at..).ok_or(EncodeError::TooLarge)?)
            .ok_or(EncodeError::TooLarge)?;
        self.at += T::SIZE;
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<(), EncodeError> {
        self.put(u8::try_from(name.len()).map_err(|_| EncodeError::TooLarge)?)?;
        let end = self.at + name.len();
        self.out
            .get_mut(self.at..end)
            .ok_or(EncodeError::TooLarge)?
            .copy_from_slice(name.as_bytes());
        self.at = end;
        Ok(())
    }

    fn item(
        &mut self,
        tag: u8,
        detail: u8,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.at;
        self.put(0_u16)?;
        self.put(tag)?;
        self.put(detail)?;
        body(self)?;
        self.name(name)?;
        let size = u16::try_from(self.at - start).map_err(|_| EncodeError::TooLarge)?;
        let place = self.out.get_mut(start..).ok_or(EncodeError::TooLarge)?;
        size.write(place).ok_or(EncodeError::TooLarge)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn get<T: Fixed>(&mut self) -> Result<T, DecodeError> {
        let value = T::read(self.rest).ok_or(DecodeError::TooShort)?;
        self.rest = self.rest.get(T::SIZE..).ok_or(DecodeError::TooShort)?;
        Ok(value)
    }

    fn name(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::from(self.get::<u8>()?);
        let (name, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        core::str::from_utf8(name).map_err(|_| DecodeError::BadValue)
    }

    /// The next item: its tag, and what is behind that.
    fn item(&mut self) -> Result<(u8, Reader<'a>), DecodeError> {
        let size = usize::from(u16::read(self.rest).ok_or(DecodeError::TooShort)?);
        let (item, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        let mut item = Reader { rest: item };
        item.get::<u16>()?;
        Ok((item.get()?, item))
    }
}

/// Reads an encoded schema, part by part; refuses what cannot be read. Whether what it tells makes
/// sense is for [`check`](super::check) to say.
// One reader for all visitors: it is large, and nobody is in a hurry who reads a schema.
pub fn read(bytes: &[u8], visitor: &mut dyn SchemaVisitor) -> Result<(), DecodeError> {
    let mut r = Reader { rest: bytes };
    if r.get::<u32>()? != MAGIC {
        return Err(DecodeError::BadValue);
    }
    let version = r.get::<u16>()?;
    let messages = r.get::<u16>()?;
    let hash = r.get::<u64>()?;
    visitor.provider(r.name()?, hash);
    match version {
        0 => Err(DecodeError::BadValue),
        1 => read_version_1(r, messages, visitor),
        _ => read_items(r, version, messages, visitor),
    }
}

fn checked_number(number: u16) -> Result<u16, DecodeError> {
    let within = number != 0 && number <= MAX_MESSAGE_NUMBER;
    within.then_some(number).ok_or(DecodeError::BadValue)
}

fn read_version_1(
    mut r: Reader<'_>,
    messages: u16,
    visitor: &mut dyn SchemaVisitor,
) -> Result<(), DecodeError> {
    for _ in 0..messages {
        let number = checked_number(r.get()?)?;
        let role = Role::from_wire(r.get()?).ok_or(DecodeError::BadValue)?;
        let fields = u16::from(r.get::<u8>()?);
        let replies = u16::from(r.get::<u8>()?);
        r.get::<u8>()?;
        visitor.message(number, role, r.name()?);
        for i in 0..fields + replies {
            let (kind, flags, offset) = (r.get()?, r.get()?, r.get()?);
            visitor.field(&FieldRow {
                owner: if i < fields {
                    Owner::Message
                } else {
                    Owner::Reply
                },
                name: r.name()?,
                kind,
                offset,
                flags,
                definition: 0,
            });
        }
    }
    if r.rest.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::BadValue)
    }
}

/// Where the reader of items is.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Definition(Option<DefinitionForm>),
    Message(Option<Role>),
}

fn read_items(
    mut r: Reader<'_>,
    version: u16,
    messages: u16,
    visitor: &mut dyn SchemaVisitor,
) -> Result<(), DecodeError> {
    let newer = version > VERSION;
    if r.get::<u32>()? as usize != r.rest.len() {
        return Err(DecodeError::TooShort);
    }
    let mut within = Within::Nothing;
    let mut found = 0_u16;
    while !r.rest.is_empty() {
        let (tag, mut item) = r.item()?;
        match tag {
            DEFINITION => {
                if matches!(within, Within::Message(_)) {
                    return Err(DecodeError::BadValue);
                }
                let form = DefinitionForm::from_wire(item.get()?);
                within = Within::Definition(form);
                visitor.definition(form, item.name()?);
            }
            NAMED => {
                item.get::<u8>()?;
                let value = item.get()?;
                let name = item.name()?;
                match within {
                    Within::Definition(Some(DefinitionForm::Enum | DefinitionForm::Flags)) => {
                        visitor.value(value, name);
                    }
                    Within::Definition(None) => {}
                    _ => return Err(DecodeError::BadValue),
                }
            }
            MESSAGE => {
                let role = Role::from_wire(item.get()?);
                let number = checked_number(item.get()?)?;
                let name = item.name()?;
                within = Within::Message(role);
                found = found.saturating_add(1);
                if let Some(role) = role {
                    visitor.message(number, role, name);
                }
            }
            FIELD | REPLY_FIELD => {
                if let Some(field) = read_field(&mut item, tag, within)? {
                    visitor.field(&field);
                }
            }
            _ if newer => continue,
            _ => return Err(DecodeError::BadValue),
        }
        let unknown = matches!(within, Within::Definition(None) | Within::Message(None));
        if !newer && (unknown || !item.rest.is_empty()) {
            return Err(DecodeError::BadValue);
        }
    }
    if found == messages {
        Ok(())
    } else {
        Err(DecodeError::BadValue)
    }
}

/// A field; `None` if it belongs to something of a form or role that is not known.
fn read_field<'a>(
    item: &mut Reader<'a>,
    tag: u8,
    within: Within,
) -> Result<Option<FieldRow<'a>>, DecodeError> {
    let kind = item.get()?;
    let offset = item.get()?;
    let flags = item.get()?;
    let definition = item.get()?;
    let name = item.name()?;
    let owner = match (within, tag) {
        (Within::Definition(None) | Within::Message(None), _) => return Ok(None),
        (Within::Definition(Some(DefinitionForm::Record)), FIELD) => Owner::Record,
        (Within::Message(_), FIELD) => Owner::Message,
        (Within::Message(_), REPLY_FIELD) => Owner::Reply,
        _ => return Err(DecodeError::BadValue),
    };
    Ok(Some(FieldRow {
        owner,
        name,
        kind,
        offset,
        flags,
        definition,
    }))
}
