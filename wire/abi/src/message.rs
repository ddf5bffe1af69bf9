// SPDX-License-Identifier: MIT OR Apache-2.0
//! Typed messages: [`messages!`](crate::messages) turns one definition into a struct, its field
//! table, its schema hash, its encoder and its checked decoder.
//!
//! A message is a fixed part, the fields in the order of the definition, followed by the variable
//! data of its texts and lists, which the fixed part addresses by offset and length within the
//! message. The first variable data stands directly behind the fixed part, no two overlap, and each
//! lies behind the field that addresses it.
//!
//! A definition grows at its end, so a reader must know how long the fixed part is that the writer
//! wrote. The record around a notification or a request says so; of commands and replies it is what
//! lies in front of the first variable data. What the reader does not know it skips; what the
//! writer did not know is absent, or has a default.

mod decoder;
mod define;
mod encoder;
mod field;
mod guid;
mod list;

pub use decoder::{Block, Decoder, Layout};
pub use encoder::Encoder;
pub use field::Field;
pub(crate) use field::is_marked;
pub use guid::Guid;
pub use list::{List, Nested};
#[doc(hidden)]
pub use list::{load_one, one_len, store_one};

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
    /// Reads the message's fields.
    fn read(decoder: &Decoder<'a>) -> Result<Self, DecodeError>;

    /// Reads a message that fills `bytes`, whichever version of it that is.
    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(&Decoder::new(bytes))
    }

    /// Reads a message that fills `bytes`, and whose fixed part has `fixed` of them, as its record
    /// says.
    #[inline]
    fn decode_fixed(bytes: &'a [u8], fixed: usize) -> Result<Self, DecodeError> {
        Self::read(&Decoder::with_fixed(bytes, fixed)?)
    }
}

/// A request of a definition, which knows what it is answered with.
pub trait Request {
    /// The reply.
    type Reply: Message<'static> + 'static;
}

#[cfg(test)]
mod tests;
