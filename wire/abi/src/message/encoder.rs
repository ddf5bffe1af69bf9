// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes one message.

use super::EncodeError;
use crate::fixed::Fixed;

/// Writes one message: the fixed part in place, variable data behind what is there already.
#[derive(Debug)]
pub struct Encoder<'o> {
    out: &'o mut [u8],
    end: usize,
}

impl<'o> Encoder<'o> {
    /// Starts a message whose fixed part has `fixed` bytes.
    #[inline]
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

    /// Writes a value in place.
    #[inline]
    pub fn fixed<T: Fixed>(&mut self, at: usize, value: T) -> Result<(), EncodeError> {
        value
            .write(self.out.get_mut(at..).ok_or(EncodeError::TooLarge)?)
            .ok_or(EncodeError::TooLarge)
    }

    /// Has `write` write variable data, and return its length; the field at `at` gets its place.
    pub fn variable(
        &mut self,
        at: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.end;
        let length = write(self.out.get_mut(start..).ok_or(EncodeError::TooLarge)?)?;
        self.end = start.checked_add(length).ok_or(EncodeError::TooLarge)?;
        let word = |value| u32::try_from(value).map_err(|_| EncodeError::TooLarge);
        self.fixed(at, word(start)?)?;
        self.fixed(at + 4, word(length)?)
    }

    /// Makes room for `count` records of `stride` bytes; the field at `at` gets its place. Returns
    /// where the first record goes.
    pub fn records(
        &mut self,
        at: usize,
        stride: usize,
        count: usize,
    ) -> Result<usize, EncodeError> {
        let head = u16::try_from(stride).map_err(|_| EncodeError::TooLarge)?;
        let number = u32::try_from(count).map_err(|_| EncodeError::TooLarge)?;
        let bytes = stride.checked_mul(count).ok_or(EncodeError::TooLarge)?;
        let length = bytes.checked_add(BLOCK).ok_or(EncodeError::TooLarge)?;
        let start = self.end;
        self.variable(at, |out| {
            out.get_mut(..length).ok_or(EncodeError::TooLarge)?.fill(0);
            Ok(length)
        })?;
        self.fixed(start, head)?;
        self.fixed(start + 4, number)?;
        Ok(start + BLOCK)
    }
}

/// Bytes in front of the first of a list's records: `u16` bytes of the fixed part of each, `u16` 0,
/// `u32` number of records.
pub(crate) const BLOCK: usize = 8;
