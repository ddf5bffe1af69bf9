// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of fields, read with nothing but a provider's schema.

use crate::schema::{FieldSchema, FormSchema};
use fltport_abi::message::{Decoder, Guid};
use fltport_abi::schema::{self, Elements, FieldKind, value_of};
use fltport_abi::{DecodeError, Pid, Status, Text, TextList, Time};
use std::net::IpAddr;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// An unsigned number.
    Unsigned(u64),
    /// A signed number.
    Signed(i64),
    /// Yes or no.
    Bool(bool),
    /// A process or thread id.
    Pid(Pid),
    /// A point in time.
    Time(Time),
    /// A status.
    Status(Status),
    /// Text.
    Text(Text<'a>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Texts.
    TextList(TextList<'a>),
    /// A GUID.
    Guid(Guid),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// One of a choice.
    Enum(Choice<'a>),
    /// Bits.
    Flags(Bits<'a>),
    /// A record.
    Record(Fields<'a>),
    /// A list of records.
    List(Records<'a>),
    /// The bytes in the fixed part of a field whose type this version of the library does not know.
    Unknown(&'a [u8]),
    /// An optional field that is not there, or one that the writer does not know.
    Absent,
}

/// A value of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The value.
    pub number: u32,
    /// Its name; `None` for one that the provider's schema does not name.
    pub name: Option<&'a str>,
}

/// A value of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits<'a> {
    /// The bits.
    pub bits: u32,
    names: &'a [(u32, String)],
}

impl<'a> Bits<'a> {
    /// The names of those that are set. A group of bits is named if all of them are; a group of
    /// none, only if no bit is set.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        let set = move |bits: u32| match bits {
            0 => self.bits == 0,
            _ => self.bits & bits == bits,
        };
        let named = self.names.iter().filter(move |(bits, _)| set(*bits));
        named.map(|(_, name)| name.as_str())
    }

    /// Those that are set and have no name.
    pub fn unnamed(self) -> u32 {
        let set = |bits: &u32| self.bits & bits == *bits;
        let named = self.names.iter().map(|(bits, _)| *bits).filter(set);
        self.bits & !named.fold(0, |all, bits| all | bits)
    }
}

/// The fields of a record in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    fields: &'a [FieldSchema],
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// The fields by name, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Result<Value<'a>, DecodeError>)> {
        self.fields.iter().map(move |field| {
            let decoder = Decoder::new(self.message);
            let value = read_field(field, &decoder, self.at, self.end);
            (field.name.as_str(), value)
        })
    }
}

/// The records of a list in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    fields: &'a [FieldSchema],
    elements: Elements<'a>,
}

impl<'a> Records<'a> {
    /// The records in order.
    pub fn iter(self) -> impl Iterator<Item = Fields<'a>> {
        self.elements.places().map(move |(at, end)| Fields {
            fields: self.fields,
            message: self.elements.message,
            at,
            end,
        })
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.elements.block.count
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The values of `fields` in a message whose fixed part has `fixed` bytes.
pub fn read_fields<'a>(
    fields: &'a [FieldSchema],
    message: &'a [u8],
    fixed: usize,
) -> impl Iterator<Item = (&'a str, Result<Value<'a>, DecodeError>)> {
    fields.iter().map(move |field| {
        let value = Decoder::with_fixed(message, fixed)
            .and_then(|decoder| read_field(field, &decoder, 0, fixed));
        (field.name.as_str(), value)
    })
}

/// The bytes that the writer's fixed part has in a message whose record does not say it: those in
/// front of its variable data.
pub(crate) fn fixed_part(fields: &[FieldSchema], message: &[u8]) -> usize {
    let decoder = Decoder::new(message);
    for field in fields {
        // What cannot be read says nothing about the fixed part.
        let _value = read_field(field, &decoder, 0, decoder.end());
    }
    decoder.end()
}

/// Whether `message`, whose fixed part has `fixed` bytes, can be read with `fields`, down to the
/// last record of the last list.
pub(crate) fn verify(
    fields: &[FieldSchema],
    message: &[u8],
    fixed: usize,
) -> Result<(), DecodeError> {
    let decoder = Decoder::with_fixed(message, fixed)?;
    verify_fields(fields, &decoder, 0, fixed)
}

/// The decoder sees to it that this ends: records are no more than the message has bytes, and the
/// schema has been checked not to nest without end.
fn verify_fields(
    fields: &[FieldSchema],
    decoder: &Decoder<'_>,
    at: usize,
    end: usize,
) -> Result<(), DecodeError> {
    for field in fields {
        match read_field(field, decoder, at, end)? {
            Value::Record(record) => {
                verify_fields(record.fields, decoder, record.at, record.end)?;
            }
            Value::List(records) => {
                for (at, end) in records.elements.places() {
                    verify_fields(records.fields, decoder, at, end)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A field of a fixed part that begins at `base` and ends before `end`.
fn read_field<'a>(
    field: &'a FieldSchema,
    decoder: &Decoder<'a>,
    base: usize,
    end: usize,
) -> Result<Value<'a>, DecodeError> {
    let at = base + usize::from(field.offset);
    let Some(kind) = field.kind else {
        let next = field.next.map_or(end, |next| base + usize::from(next));
        let bytes = decoder.message().get(at..next.min(end));
        return Ok(bytes.map_or(Value::Absent, Value::Unknown));
    };
    let form = field.definition.as_deref().map(|d| &d.form);
    let value = value_of(decoder, at, end, kind, field.optional)?;
    Ok(match (value, form) {
        (schema::Value::Enum(number), Some(FormSchema::Enum(names))) => {
            let name = names.iter().find(|(value, _)| *value == number);
            let name = name.map(|(_, name)| name.as_str());
            Value::Enum(Choice { number, name })
        }
        (schema::Value::Enum(number), _) => Value::Enum(Choice { number, name: None }),
        (schema::Value::Flags(bits), Some(FormSchema::Flags(names))) => {
            Value::Flags(Bits { bits, names })
        }
        (schema::Value::Flags(bits), _) => Value::Flags(Bits { bits, names: &[] }),
        (schema::Value::Records(elements), Some(FormSchema::Record(fields))) => {
            records(kind, elements, fields)
        }
        (schema::Value::Records(elements), _) => records(kind, elements, &[]),
        (simple, _) => unnamed(simple),
    })
}

fn records<'a>(kind: FieldKind, elements: Elements<'a>, fields: &'a [FieldSchema]) -> Value<'a> {
    let list = Records { fields, elements };
    let first = list.iter().next().filter(|_| kind == FieldKind::Record);
    first.map_or(Value::List(list), Value::Record)
}

/// A value that has no definition.
fn unnamed(value: schema::Value<'_>) -> Value<'_> {
    match value {
        schema::Value::Unsigned(number) => Value::Unsigned(number),
        schema::Value::Signed(number) => Value::Signed(number),
        schema::Value::Bool(value) => Value::Bool(value),
        schema::Value::Pid(pid) => Value::Pid(pid),
        schema::Value::Time(time) => Value::Time(time),
        schema::Value::Status(status) => Value::Status(status),
        schema::Value::Text(text) => Value::Text(text),
        schema::Value::Bytes(bytes) => Value::Bytes(bytes),
        schema::Value::TextList(texts) => Value::TextList(texts),
        schema::Value::Guid(guid) => Value::Guid(guid),
        schema::Value::Address(address) => Value::Address(address),
        schema::Value::Enum(number) => Value::Enum(Choice { number, name: None }),
        schema::Value::Flags(bits) => Value::Flags(Bits { bits, names: &[] }),
        schema::Value::Records(elements) => records(FieldKind::List, elements, &[]),
        schema::Value::Absent => Value::Absent,
    }
}

#[cfg(test)]
mod tests;
