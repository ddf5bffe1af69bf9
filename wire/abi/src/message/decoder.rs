// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads one message, which may be written by another version of its definition, or by an enemy.

use super::encoder::BLOCK;
use super::{DecodeError, Field};
use crate::fixed::Fixed;
use core::cell::Cell;

/// Reads one message.
///
/// What a field addresses lies behind it, within the message. No more bytes are looked at than the
/// message has, so texts and lists that overlap each other are refused: otherwise some kilobytes of
/// lists of the same lists would be work without end.
#[derive(Debug)]
pub struct Decoder<'a> {
    message: &'a [u8],
    /// Where the fixed part ends, as far as it is known.
    end: Cell<usize>,
    /// It is known.
    exact: bool,
    /// Bytes that variable data may still take.
    left: Cell<usize>,
}

/// Records in the variable data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where the first one lies.
    pub at: usize,
    /// Bytes of the fixed part of each.
    pub stride: usize,
    /// How many there are.
    pub count: usize,
}

impl<'a> Decoder<'a> {
    /// Of a message whose fixed part ends where the variable data begins, or else the message.
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        Decoder {
            message,
            end: Cell::new(message.len()),
            exact: false,
            left: Cell::new(message.len()),
        }
    }

    /// Of a message whose fixed part has `fixed` bytes.
    #[inline]
    pub fn with_fixed(message: &'a [u8], fixed: usize) -> Result<Self, DecodeError> {
        let rest = message.len().checked_sub(fixed);
        Ok(Decoder {
            message,
            end: Cell::new(fixed),
            exact: true,
            left: Cell::new(rest.ok_or(DecodeError::TooShort)?),
        })
    }

    /// Where the fixed part ends, as far as what has been read tells.
    pub fn end(&self) -> usize {
        self.end.get()
    }

    /// The message.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The value that lies at `at`.
    #[inline]
    pub fn fixed<T: Fixed>(&self, at: usize) -> Result<T, DecodeError> {
        let place = self.message.get(at..);
        place.and_then(T::read).ok_or(DecodeError::TooShort)
    }

    /// Whether the field at `at` addresses no variable data.
    pub fn is_absent(&self, at: usize) -> Result<bool, DecodeError> {
        let (start, length) = (self.fixed::<u32>(at)?, self.fixed::<u32>(at + 4)?);
        if start == 0 && length != 0 {
            return Err(DecodeError::OutOfBounds);
        }
        Ok(start == 0)
    }

    /// Where the variable data lies that the field at `at` addresses, and the data.
    pub fn variable(&self, at: usize) -> Result<Option<(usize, &'a [u8])>, DecodeError> {
        if self.is_absent(at)? {
            return Ok(None);
        }
        let start = self.fixed::<u32>(at)? as usize;
        let length = self.fixed::<u32>(at + 4)? as usize;
        let end = start.checked_add(length).ok_or(DecodeError::OutOfBounds)?;
        let data = self.message.get(start..end);
        let left = self.left.get().checked_sub(length);
        let (Some(data), Some(left)) = (data, left) else {
            return Err(DecodeError::OutOfBounds);
        };
        if start < at + 8 || (self.exact && start < self.end.get()) {
            return Err(DecodeError::OutOfBounds);
        }
        self.left.set(left);
        self.end.set(self.end.get().min(start));
        Ok(Some((start, data)))
    }

    /// The records that the field at `at` addresses.
    pub fn block(&self, at: usize) -> Result<Option<Block>, DecodeError> {
        let Some((start, data)) = self.variable(at)? else {
            return Ok(None);
        };
        let head = (u16::read(data), data.get(4..).and_then(u32::read));
        let (Some(stride), Some(count)) = head else {
            return Err(DecodeError::TooShort);
        };
        let (stride, count) = (usize::from(stride), count as usize);
        let length = stride
            .checked_mul(count)
            .and_then(|bytes| bytes.checked_add(BLOCK));
        if stride == 0 || length != Some(data.len()) {
            return Err(DecodeError::BadValue);
        }
        Ok(Some(Block {
            at: start + BLOCK,
            stride,
            count,
        }))
    }
}

/// Where the next field of a fixed part lies.
#[derive(Debug, Default)]
pub struct Layout {
    at: usize,
    end: Option<usize>,
}

impl Layout {
    /// The fields of a record whose fixed part begins at `at`, and ends before `end`.
    pub fn record(at: usize, end: usize) -> Self {
        Layout { at, end: Some(end) }
    }

    /// Takes the place of a field.
    pub fn next<'a, T: Field<'a>>(&mut self) -> usize {
        let at = self.at;
        self.at += T::PLACE;
        at
    }

    /// Reads the next field; what `missing` says, if the writer does not know it.
    pub fn load<'a, T: Field<'a>>(
        &mut self,
        decoder: &Decoder<'a>,
        missing: impl FnOnce() -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let at = self.next::<T>();
        let end = self.end.unwrap_or_else(|| decoder.end());
        if at >= end {
            missing()
        } else if self.at > end {
            Err(DecodeError::TooShort)
        } else {
            T::load(decoder, at)
        }
    }
}
