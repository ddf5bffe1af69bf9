// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a provider's messages consist of, as a table that travels: the provider hands it to the
//! common driver when it registers, the service gets it when it subscribes and can print messages
//! that it has never heard of.
//!
//! Encoded: `u32` magic, `u16` version, `u16` number of messages, `u64` hash, name; then each
//! message: `u16` number, `u8` role, `u8` number of fields, `u8` number of reply fields, `u8` 0,
//! name, the fields, the reply fields; a field is `u8` kind, `u8` 0, `u16` offset, name. A name is
//! a `u8` length and that many bytes of UTF-8.

use crate::fixed::Fixed;
use crate::message::{DecodeError, EncodeError, variable};
use crate::text::{Text, TextList};
use crate::{Pid, Status, Time};

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FieldKind {
    /// Unsigned, 16 bits.
    U16 = 1,
    /// Unsigned, 32 bits.
    U32 = 2,
    /// Unsigned, 64 bits.
    U64 = 3,
    /// Signed, 32 bits.
    I32 = 4,
    /// Signed, 64 bits.
    I64 = 5,
    /// 0 or 1 in 32 bits.
    Bool = 6,
    /// A process or thread id, 32 bits.
    Pid = 7,
    /// NT system time, 64 bits.
    Time = 8,
    /// An NTSTATUS or exit status, 32 bits.
    Status = 9,
    /// UTF-16 text in the variable data; may be absent.
    Text = 10,
    /// Bytes in the variable data.
    Bytes = 11,
    /// A list of texts in the variable data.
    TextList = 12,
}

impl FieldKind {
    /// Bytes in the fixed part.
    pub const fn size(self) -> usize {
        match self {
            FieldKind::U16 => 2,
            FieldKind::U32
            | FieldKind::I32
            | FieldKind::Bool
            | FieldKind::Pid
            | FieldKind::Status => 4,
            FieldKind::U64 | FieldKind::I64 | FieldKind::Time => 8,
            FieldKind::Text | FieldKind::Bytes | FieldKind::TextList => 8,
        }
    }

    /// The alignment in the fixed part: two 32-bit words address variable data.
    pub const fn align(self) -> usize {
        match self {
            FieldKind::Text | FieldKind::Bytes | FieldKind::TextList => 4,
            fixed => fixed.size(),
        }
    }

    /// The kind with this number on the wire; `None` for one that this version does not know.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => FieldKind::U16,
            2 => FieldKind::U32,
            3 => FieldKind::U64,
            4 => FieldKind::I32,
            5 => FieldKind::I64,
            6 => FieldKind::Bool,
            7 => FieldKind::Pid,
            8 => FieldKind::Time,
            9 => FieldKind::Status,
            10 => FieldKind::Text,
            11 => FieldKind::Bytes,
            12 => FieldKind::TextList,
            _ => return None,
        })
    }
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, as in the definition.
    pub name: &'a str,
    /// The type.
    pub kind: FieldKind,
    /// Where it lies in the fixed part.
    pub offset: u16,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Driver to service, without an answer.
    Notification = 1,
    /// Driver to service, answered by a deadline.
    Request = 2,
    /// Service to driver, with a result.
    Command = 3,
}

impl Role {
    /// The role with this number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Role::Notification,
            2 => Role::Request,
            3 => Role::Command,
            _ => return None,
        })
    }
}

/// One message type of a provider.
#[derive(Clone, Copy, Debug)]
pub struct MessageType {
    /// 1 to [`MAX_MESSAGE_NUMBER`](crate::limits::MAX_MESSAGE_NUMBER).
    pub number: u16,
    /// What it is for.
    pub role: Role,
    /// The name as users read it.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field<'static>],
    /// The fields of the reply (of a request) or result (of a command); empty for a notification.
    pub reply: &'static [Field<'static>],
}

/// A provider and all its message types.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// Unique among the registered providers; at most
    /// [`MAX_PROVIDER_NAME`](crate::limits::MAX_PROVIDER_NAME) bytes.
    pub name: &'static str,
    /// The message types, numbers unique.
    pub messages: &'static [MessageType],
}

/// Makes a field table from names and kinds; for [`messages!`](crate::messages). Does not compile
/// if a field would need padding.
pub const fn fields<const N: usize>(pairs: [(&'static str, FieldKind); N]) -> [Field<'static>; N] {
    let mut table = [Field {
        name: "",
        kind: FieldKind::U16,
        offset: 0,
    }; N];
    let mut offset = 0;
    let mut i = 0;
    while i < N {
        let (name, kind) = pairs[i];
        assert!(
            offset % kind.align() == 0,
            "a field needs padding before it: order the fields by size"
        );
        assert!(offset <= u16::MAX as usize, "the fixed part is too large");
        table[i] = Field {
            name,
            kind,
            offset: offset as u16,
        };
        offset += kind.size();
        i += 1;
    }
    table
}

/// Bytes of the fixed part with these fields.
pub const fn fixed_size(fields: &[Field<'_>]) -> usize {
    match fields.last() {
        Some(last) => last.offset as usize + last.kind.size(),
        None => 0,
    }
}

const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    (hash ^ 0xff).wrapping_mul(0x0000_0100_0000_01b3)
}

const fn fnv_fields(mut hash: u64, fields: &[Field<'_>]) -> u64 {
    let mut i = 0;
    while i < fields.len() {
        hash = fnv(hash, fields[i].name.as_bytes());
        hash = fnv(hash, &[fields[i].kind as u8]);
        i += 1;
    }
    fnv(hash, b"|")
}

impl Provider {
    /// A number that changes whenever a name, a type or the order of anything here does (64-bit
    /// FNV-1a).
    pub const fn hash(&self) -> u64 {
        let mut hash = fnv(0xcbf2_9ce4_8422_2325, self.name.as_bytes());
        let mut i = 0;
        while i < self.messages.len() {
            let message = &self.messages[i];
            hash = fnv(hash, &message.number.to_le_bytes());
            hash = fnv(hash, &[message.role as u8]);
            hash = fnv(hash, message.name.as_bytes());
            hash = fnv_fields(fnv_fields(hash, message.fields), message.reply);
            i += 1;
        }
        hash
    }

    /// Writes the schema to the start of `out`; returns its length.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut w = Writer { out, at: 0 };
        w.put(MAGIC)?;
        w.put(VERSION)?;
        w.put(u16::try_from(self.messages.len()).map_err(|_| EncodeError::TooLarge)?)?;
        w.put(self.hash())?;
        w.name(self.name)?;
        for message in self.messages {
            w.put(message.number)?;
            w.put(message.role as u8)?;
            w.put(u8::try_from(message.fields.len()).map_err(|_| EncodeError::TooLarge)?)?;
            w.put(u8::try_from(message.reply.len()).map_err(|_| EncodeError::TooLarge)?)?;
            w.put(0_u8)?;
            w.name(message.name)?;
            for field in message.fields.iter().chain(message.reply) {
                w.put(field.kind as u8)?;
                w.put(0_u8)?;
                w.put(field.offset)?;
                w.name(field.name)?;
            }
        }
        Ok(w.at)
    }
}

const MAGIC: u32 = u32::from_le_bytes(*b"FPSC");
const VERSION: u16 = 1;

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
}

/// What a reader of an encoded schema is told, part by part.
pub trait SchemaVisitor {
    /// The provider itself.
    fn provider(&mut self, name: &str, hash: u64);
    /// The next message type.
    fn message(&mut self, number: u16, role: Role, name: &str);
    /// A field of the last message; `reply` if it belongs to the reply or result. `kind` is the
    /// number on the wire, which a newer provider may have and this version not know.
    fn field(&mut self, reply: bool, name: &str, kind: u8, offset: u16);
}

/// Reads an encoded schema, part by part; refuses what is not one.
pub fn read(bytes: &[u8], visitor: &mut impl SchemaVisitor) -> Result<(), DecodeError> {
    let mut r = Reader { rest: bytes };
    if r.get::<u32>()? != MAGIC || r.get::<u16>()? != VERSION {
        return Err(DecodeError::BadValue);
    }
    let messages = r.get::<u16>()?;
    let hash = r.get::<u64>()?;
    visitor.provider(r.name()?, hash);
    for _ in 0..messages {
        let number = r.get::<u16>()?;
        let role = Role::from_wire(r.get::<u8>()?).ok_or(DecodeError::BadValue)?;
        let fields = r.get::<u8>()?;
        let replies = r.get::<u8>()?;
        r.get::<u8>()?;
        if number == 0 || number > crate::limits::MAX_MESSAGE_NUMBER {
            return Err(DecodeError::BadValue);
        }
        visitor.message(number, role, r.name()?);
        for i in 0..u16::from(fields) + u16::from(replies) {
            let kind = r.get::<u8>()?;
            r.get::<u8>()?;
            let offset = r.get::<u16>()?;
            visitor.field(i >= u16::from(fields), r.name()?, kind, offset);
        }
    }
    if r.rest.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::BadValue)
    }
}

/// A field's value, read with nothing but the schema.
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
    /// An optional field that is not there.
    Absent,
}

/// Reads the field at `offset` of a message whose fixed part has `fixed` bytes. A field beyond
/// that, added by a newer version of the schema than the writer's, is [`Value::Absent`].
pub fn value<'a>(
    message: &'a [u8],
    fixed: usize,
    kind: FieldKind,
    offset: usize,
) -> Result<Value<'a>, DecodeError> {
    use crate::message::Field as _;
    if offset
        .checked_add(kind.size())
        .is_none_or(|end| end > fixed)
    {
        return Ok(Value::Absent);
    }
    Ok(match kind {
        FieldKind::U16 => Value::Unsigned(u16::load(message, offset)?.into()),
        FieldKind::U32 => Value::Unsigned(u32::load(message, offset)?.into()),
        FieldKind::U64 => Value::Unsigned(u64::load(message, offset)?),
        FieldKind::I32 => Value::Signed(i32::load(message, offset)?.into()),
        FieldKind::I64 => Value::Signed(i64::load(message, offset)?),
        FieldKind::Bool => Value::Bool(bool::load(message, offset)?),
        FieldKind::Pid => Value::Pid(Pid::load(message, offset)?),
        FieldKind::Time => Value::Time(Time::load(message, offset)?),
        FieldKind::Status => Value::Status(Status::load(message, offset)?),
        FieldKind::Text => {
            Option::<Text<'_>>::load(message, offset)?.map_or(Value::Absent, Value::Text)
        }
        FieldKind::Bytes => variable(message, offset)?.map_or(Value::Absent, Value::Bytes),
        FieldKind::TextList => match variable(message, offset)? {
            None => Value::Absent,
            Some(_) => Value::TextList(TextList::load(message, offset)?),
        },
    })
}
