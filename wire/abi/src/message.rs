// SPDX-License-Identifier: MIT OR Apache-2.0
//! Typed messages: [`messages!`](crate::messages) turns one definition into a struct, its field
//! table, its schema hash, its encoder and its checked decoder.
//!
//! A message is a fixed part, the fields in the order of the definition, followed by the variable
//! data of its texts and lists, which the fixed part addresses by offset and length within the
//! message. The record around it says how long the fixed part is, so a reader that knows fewer
//! fields skips the rest.

use crate::fixed::Fixed;
use crate::schema::FieldKind;
use crate::text::{Text, TextList};

/// A message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// It does not fit into the buffer, or a part of it exceeds what its length field can say.
    TooLarge,
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the message does not fit into the buffer")
    }
}

impl core::error::Error for EncodeError {}

/// Bytes are not a message of the type they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than the fixed part.
    TooShort,
    /// An offset or length points outside the message.
    OutOfBounds,
    /// A field holds a value that its type does not have.
    BadValue,
    /// A required field is missing.
    Missing,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            DecodeError::TooShort => "the message is shorter than its fixed part",
            DecodeError::OutOfBounds => "an offset or a length points outside the message",
            DecodeError::BadValue => "a field holds a value that its type does not have",
            DecodeError::Missing => "a required field is missing",
        })
    }
}

impl core::error::Error for DecodeError {}

macro_rules! newtypes {
    ($($(#[$doc:meta])* $name:ident($ty:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $ty);
    )*};
}

newtypes! {
    /// A process or thread id.
    Pid(u32);
    /// A point in time: 100-nanosecond intervals since 1601-01-01 00:00 UTC, as NT counts system
    /// time.
    Time(i64);
    /// An NTSTATUS, or a process's exit status.
    Status(i32);
}

/// A field's type: how it lies in the fixed part and, for texts and lists, in the variable data.
pub trait Field<'a>: Sized {
    /// What the schema says about it.
    const KIND: FieldKind;
    /// Bytes of variable data that this value needs.
    fn variable_len(&self) -> usize {
        0
    }
    /// Writes the value at `offset` of the fixed part.
    fn store(&self, encoder: &mut Encoder<'_>, offset: usize) -> Result<(), EncodeError>;
    /// Reads the value at `offset` of the fixed part.
    fn load(message: &'a [u8], offset: usize) -> Result<Self, DecodeError>;
}

/// Writes one message: the fixed part in place, variable data behind what is there already.
#[derive(Debug)]
pub struct Encoder<'o> {
    out: &'o mut [u8],
    end: usize,
}

impl<'o> Encoder<'o> {
    /// Starts a message whose fixed part has `fixed` bytes.
    pub fn new(out: &'o mut [u8], fixed: usize) -> Result<Self, EncodeError> {
        out.get_mut(..fixed).ok_or(EncodeError::TooLarge)?.fill(0);
        Ok(Encoder { out, end: fixed })
    }

    /// The message's length so far.
    pub fn len(&self) -> usize {
        self.end
    }

    /// Whether nothing has been written, not even a fixed part.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    fn fixed<T: Fixed>(&mut self, offset: usize, value: T) -> Result<(), EncodeError> {
        value
            .write(self.out.get_mut(offset..).ok_or(EncodeError::TooLarge)?)
            .ok_or(EncodeError::TooLarge)
    }

    fn variable(
        &mut self,
        offset: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.end;
        let length = write(self.out.get_mut(start..).ok_or(EncodeError::TooLarge)?)?;
        self.end = start.checked_add(length).ok_or(EncodeError::TooLarge)?;
        self.fixed(
            offset,
            u32::try_from(start).map_err(|_| EncodeError::TooLarge)?,
        )?;
        self.fixed(
            offset + 4,
            u32::try_from(length).map_err(|_| EncodeError::TooLarge)?,
        )
    }
}

fn read<T: Fixed>(message: &[u8], offset: usize) -> Result<T, DecodeError> {
    message
        .get(offset..)
        .and_then(T::read)
        .ok_or(DecodeError::TooShort)
}

/// The variable data that the slice at `offset` addresses; `None` if the field is absent (offset
/// 0).
pub(crate) fn variable(message: &[u8], offset: usize) -> Result<Option<&[u8]>, DecodeError> {
    let start = read::<u32>(message, offset)? as usize;
    let length = read::<u32>(message, offset + 4)? as usize;
    if start == 0 {
        return if length == 0 {
            Ok(None)
        } else {
            Err(DecodeError::OutOfBounds)
        };
    }
    let end = start.checked_add(length).ok_or(DecodeError::OutOfBounds)?;
    message
        .get(start..end)
        .map(Some)
        .ok_or(DecodeError::OutOfBounds)
}

macro_rules! fixed_fields {
    ($($ty:ty, $kind:ident, $raw:ty, $to:expr, $from:expr;)*) => {$(
        impl<'a> Field<'a> for $ty {
            const KIND: FieldKind = FieldKind::$kind;
            fn store(&self, encoder: &mut Encoder<'_>, offset: usize) -> Result<(), EncodeError> {
                let to: fn($ty) -> $raw = $to;
                encoder.fixed(offset, to(*self))
            }
            fn load(message: &'a [u8], offset: usize) -> Result<Self, DecodeError> {
                let from: fn($raw) -> Option<$ty> = $from;
                from(read(message, offset)?).ok_or(DecodeError::BadValue)
            }
        }
    )*};
}

fixed_fields! {
    u16, U16, u16, |v| v, Some;
    u32, U32, u32, |v| v, Some;
    u64, U64, u64, |v| v, Some;
    i32, I32, i32, |v| v, Some;
    i64, I64, i64, |v| v, Some;
    bool, Bool, u32, u32::from, |v| (v <= 1).then_some(v == 1);
    Pid, Pid, u32, |v| v.0, |v| Some(Pid(v));
    Time, Time, i64, |v| v.0, |v| Some(Time(v));
    Status, Status, i32, |v| v.0, |v| Some(Status(v));
}

impl<'a> Field<'a> for Option<Text<'a>> {
    const KIND: FieldKind = FieldKind::Text;
    fn variable_len(&self) -> usize {
        self.map_or(0, Text::wire_len)
    }
    fn store(&self, encoder: &mut Encoder<'_>, offset: usize) -> Result<(), EncodeError> {
        self.map_or(Ok(()), |text| {
            encoder.variable(offset, |out| text.write(out))
        })
    }
    fn load(message: &'a [u8], offset: usize) -> Result<Self, DecodeError> {
        let bytes = variable(message, offset)?;
        if bytes.is_some_and(|b| b.len() % 2 != 0) {
            return Err(DecodeError::BadValue);
        }
        Ok(bytes.map(Text::Wire))
    }
}

impl<'a> Field<'a> for Text<'a> {
    const KIND: FieldKind = FieldKind::Text;
    fn variable_len(&self) -> usize {
        self.wire_len()
    }
    fn store(&self, encoder: &mut Encoder<'_>, offset: usize) -> Result<(), EncodeError> {
        Some(*self).store(encoder, offset)
    }
    fn load(message: &'a [u8], offset: usize) -> Result<Self, DecodeError> {
        Option::<Text<'a>>::load(message, offset)?.ok_or(DecodeError::Missing)
    }
}

impl<'a> Field<'a> for TextList<'a> {
    const KIND: FieldKind = FieldKind::TextList;
    fn variable_len(&self) -> usize {
        self.wire_len()
    }
    fn store(&self, encoder: &mut Encoder<'_>, offset: usize) -> Result<(), EncodeError> {
        encoder.variable(offset, |out| self.write(out))
    }
    fn load(message: &'a [u8], offset: usize) -> Result<Self, DecodeError> {
        let list = TextList::Wire(variable(message, offset)?.ok_or(DecodeError::Missing)?);
        if list.is_well_formed() {
            Ok(list)
        } else {
            Err(DecodeError::BadValue)
        }
    }
}

impl<'a> Field<'a> for &'a [u8] {
    const KIND: FieldKind = FieldKind::Bytes;
    fn variable_len(&self) -> usize {
        self.len()
    }
    fn store(&self, encoder: &mut Encoder<'_>, offset: usize) -> Result<(), EncodeError> {
        encoder.variable(offset, |out| {
            out.get_mut(..self.len())
                .ok_or(EncodeError::TooLarge)?
                .copy_from_slice(self);
            Ok(self.len())
        })
    }
    fn load(message: &'a [u8], offset: usize) -> Result<Self, DecodeError> {
        variable(message, offset)?.ok_or(DecodeError::Missing)
    }
}

/// A message type made by [`messages!`](crate::messages).
pub trait Message<'a>: Sized {
    /// The message's number within its provider; 0 for a reply or a result, which travels under the
    /// number of what it answers.
    const NUMBER: u16;
    /// The name as users read it.
    const NAME: &'static str;
    /// The fields in order.
    const FIELDS: &'static [crate::schema::Field<'static>];
    /// Bytes of the fixed part.
    const FIXED: usize;

    /// Bytes that this message takes.
    fn encoded_len(&self) -> usize;
    /// Writes the message to the start of `out`; returns its length.
    fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError>;
    /// Reads a message that fills `bytes`.
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError>;
}

/// Where the next field of the fixed part goes.
#[doc(hidden)]
#[derive(Default)]
pub struct Layout(usize);

impl Layout {
    /// Takes the place of a field of this kind.
    pub fn next(&mut self, kind: FieldKind) -> usize {
        let offset = self.0;
        self.0 += kind.size();
        offset
    }
}

/// Defines a provider's messages: `notification N "name"`, `request N "name" … -> Reply`, `command
/// N "name" … -> Result`.
///
/// Each gives a struct with public fields that implements [`Message`], and the list becomes a
/// [`Provider`](crate::schema::Provider) constant. Fields must be ordered so that each lies at a
/// multiple of its alignment; the definition does not compile otherwise. See
/// [`process_monitor`](crate::process_monitor) for one in use.
#[macro_export]
macro_rules! messages {
    (
        $(#[$pdoc:meta])*
        provider $provider:ident = $pname:literal;
        $(
            $(#[$doc:meta])*
            $role:ident $number:literal $name:literal $ty:ident $(<$lt:lifetime>)? { $($(#[$fdoc:meta])* $field:ident : $fty:ty,)* }
            $(-> $(#[$rdoc:meta])* $rty:ident $(<$rlt:lifetime>)? { $($(#[$rfdoc:meta])* $rfield:ident : $rfty:ty,)* })?
        )*
    ) => {
        $(
            $crate::messages!(@struct $number $name $(#[$doc])* $ty $(<$lt>)? { $($(#[$fdoc])* $field: $fty,)* });
            $($crate::messages!(@struct 0 $name $(#[$rdoc])* $rty $(<$rlt>)? { $($(#[$rfdoc])* $rfield: $rfty,)* });)?
        )*
        $(#[$pdoc])*
        pub const $provider: $crate::schema::Provider = $crate::schema::Provider {
            name: $pname,
            messages: &[$($crate::schema::MessageType {
                number: $number,
                role: $crate::messages!(@role $role),
                name: $name,
                fields: <$ty as $crate::message::Message>::FIELDS,
                reply: $crate::messages!(@reply $($rty)?),
            },)*],
        };
    };
    (@role notification) => { $crate::schema::Role::Notification };
    (@role request) => { $crate::schema::Role::Request };
    (@role command) => { $crate::schema::Role::Command };
    (@reply) => { &[] };
    (@reply $rty:ident) => { <$rty as $crate::message::Message>::FIELDS };
    (@struct $number:literal $name:literal $(#[$doc:meta])* $ty:ident { $($(#[$fdoc:meta])* $field:ident : $fty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $ty { $($(#[$fdoc])* pub $field: $fty,)* }
        impl<'a> $crate::message::Message<'a> for $ty { $crate::messages!(@impl $number $name $($field: $fty,)*); }
    };
    (@struct $number:literal $name:literal $(#[$doc:meta])* $ty:ident <$lt:lifetime> { $($(#[$fdoc:meta])* $field:ident : $fty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $ty<$lt> { $($(#[$fdoc])* pub $field: $fty,)* }
        impl<$lt> $crate::message::Message<$lt> for $ty<$lt> { $crate::messages!(@impl $number $name $($field: $fty,)*); }
    };
    (@impl $number:literal $name:literal $($field:ident : $fty:ty,)*) => {
        const NUMBER: u16 = $number;
        const NAME: &'static str = $name;
        const FIELDS: &'static [$crate::schema::Field<'static>] = &$crate::schema::fields([
            $((stringify!($field), <$fty as $crate::message::Field>::KIND),)*
        ]);
        const FIXED: usize = $crate::schema::fixed_size(Self::FIELDS);

        fn encoded_len(&self) -> usize {
            Self::FIXED $(+ $crate::message::Field::variable_len(&self.$field))*
        }

        #[allow(unused_mut, unused_variables)]
        fn encode(&self, out: &mut [u8]) -> ::core::result::Result<usize, $crate::EncodeError> {
            let mut encoder = $crate::message::Encoder::new(out, Self::FIXED)?;
            let mut layout = $crate::message::Layout::default();
            $($crate::message::Field::store(&self.$field, &mut encoder, layout.next(<$fty as $crate::message::Field>::KIND))?;)*
            Ok(encoder.len())
        }

        #[allow(unused_mut, unused_variables)]
        fn decode(bytes: &'a [u8]) -> ::core::result::Result<Self, $crate::DecodeError> {
            if bytes.len() < Self::FIXED {
                return Err($crate::DecodeError::TooShort);
            }
            let mut layout = $crate::message::Layout::default();
            Ok(Self { $($field: <$fty as $crate::message::Field>::load(bytes, layout.next(<$fty as $crate::message::Field>::KIND))?,)* })
        }
    };
}
