// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields read with nothing but the schema.

use super::FieldKind;
use crate::message::{Block, DecodeError, Decoder, Field as _, Guid, Pid, Status, Time, is_marked};
use crate::text::{Text, TextList};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// An address, of whichever kind the field is.
    Address(IpAddr),
    /// One of the values that the field's definition names, or another.
    Enum(u32),
    /// Bits that the field's definition names, and others.
    Flags(u32),
    /// A record, or a list of records, of the field's definition. What is in them has not been
    /// looked at.
    Records(Elements<'a>),
    /// An optional field that is not there, or one that the writer does not know.
    Absent,
}

/// Records in a message, of a definition that the reader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elements<'a> {
    /// The message that they lie in.
    pub message: &'a [u8],
    /// Where.
    pub block: Block,
}

impl Elements<'_> {
    /// Where the fixed part of each begins, and before what it ends.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Block { at, stride, count } = self.block;
        (0..count).map(move |index| (at + index * stride, at + index * stride + stride))
    }
}

/// Reads the field at `offset` of a message whose fixed part has `fixed` bytes. A field beyond
/// that, added by a newer version of the schema than the writer's, is [`Value::Absent`]. An optional
/// field that is not in the variable data needs [`value_of`].
pub fn value<'a>(
    message: &'a [u8],
    fixed: usize,
    kind: FieldKind,
    offset: usize,
) -> Result<Value<'a>, DecodeError> {
    let decoder = Decoder::with_fixed(message, fixed)?;
    value_of(&decoder, offset, fixed, kind, false)
}

/// Reads the field at `at` of a message, or of a record in it, whose fixed part ends before `end`.
/// One decoder for all fields of a message sees to it that they do not overlap.
pub fn value_of<'a>(
    decoder: &Decoder<'a>,
    at: usize,
    end: usize,
    kind: FieldKind,
    optional: bool,
) -> Result<Value<'a>, DecodeError> {
    if at >= end {
        return Ok(Value::Absent);
    }
    if at + kind.place(optional) > end {
        return Err(DecodeError::TooShort);
    }
    let absent = if kind.is_variable() {
        decoder.is_absent(at)?
    } else {
        optional && !is_marked(decoder, kind, at)?
    };
    if absent {
        Ok(Value::Absent)
    } else {
        present(decoder, at, kind)
    }
}

fn present<'a>(
    decoder: &Decoder<'a>,
    at: usize,
    kind: FieldKind,
) -> Result<Value<'a>, DecodeError> {
    Ok(match kind {
        FieldKind::U8 => Value::Unsigned(u8::load(decoder, at)?.into()),
        FieldKind::U16 => Value::Unsigned(u16::load(decoder, at)?.into()),
        FieldKind::U32 => Value::Unsigned(u32::load(decoder, at)?.into()),
        FieldKind::U64 => Value::Unsigned(u64::load(decoder, at)?),
        FieldKind::I8 => Value::Signed(i8::load(decoder, at)?.into()),
        FieldKind::I16 => Value::Signed(i16::load(decoder, at)?.into()),
        FieldKind::I32 => Value::Signed(i32::load(decoder, at)?.into()),
        FieldKind::I64 => Value::Signed(i64::load(decoder, at)?),
        FieldKind::Bool => Value::Bool(bool::load(decoder, at)?),
        FieldKind::Pid => Value::Pid(Pid::load(decoder, at)?),
        FieldKind::Time => Value::Time(Time::load(decoder, at)?),
        FieldKind::Status => Value::Status(Status::load(decoder, at)?),
        FieldKind::Text => Value::Text(Text::load(decoder, at)?),
        FieldKind::Bytes => Value::Bytes(<&[u8]>::load(decoder, at)?),
        FieldKind::TextList => Value::TextList(TextList::load(decoder, at)?),
        FieldKind::Guid => Value::Guid(Guid::load(decoder, at)?),
        FieldKind::Ipv4 => Value::Address(IpAddr::V4(Ipv4Addr::load(decoder, at)?)),
        FieldKind::Ipv6 => Value::Address(IpAddr::V6(Ipv6Addr::load(decoder, at)?)),
        FieldKind::Address => Value::Address(IpAddr::load(decoder, at)?),
        FieldKind::Enum => Value::Enum(u32::load(decoder, at)?),
        FieldKind::Flags => Value::Flags(u32::load(decoder, at)?),
        FieldKind::Record | FieldKind::List => {
            let block = decoder.block(at)?.ok_or(DecodeError::Missing)?;
            if kind == FieldKind::Record && block.count != 1 {
                return Err(DecodeError::BadValue);
            }
            let message = decoder.message();
            Value::Records(Elements { message, block })
        }
    })
}
