// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records in a message, and lists of them.

use super::decoder::Block;
use super::{DecodeError, Decoder, EncodeError, Encoder, Field};
use crate::message::encoder::BLOCK;
use crate::schema::{Definition, FieldKind};

/// A record type made by [`messages!`](crate::messages): fields that lie together, in a message or
/// in another record.
pub trait Nested<'a>: Copy {
    /// Its name and its fields.
    const RECORD: &'static Definition;
    /// Bytes of the fixed part.
    const FIXED: usize;

    /// Bytes of variable data that this value needs.
    fn variable_len(&self) -> usize;
    /// Writes the fields at `at`.
    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError>;
    /// Reads the fields of a record whose fixed part lies from `at` to before `end`.
    fn load(decoder: &Decoder<'a>, at: usize, end: usize) -> Result<Self, DecodeError>;
}

/// Bytes of variable data that a single record needs.
#[doc(hidden)]
pub fn one_len<'a, T: Nested<'a>>(record: &T) -> usize {
    BLOCK + T::FIXED + record.variable_len()
}

/// Writes a single record.
#[doc(hidden)]
pub fn store_one<'a, T: Nested<'a>>(
    record: &T,
    encoder: &mut Encoder<'_>,
    at: usize,
) -> Result<(), EncodeError> {
    let place = encoder.records(at, T::FIXED, 1)?;
    record.store(encoder, place)
}

/// Reads a single record.
#[doc(hidden)]
pub fn load_one<'a, T: Nested<'a>>(decoder: &Decoder<'a>, at: usize) -> Result<T, DecodeError> {
    let block = decoder.block(at)?.ok_or(DecodeError::Missing)?;
    if block.count != 1 {
        return Err(DecodeError::BadValue);
    }
    T::load(decoder, block.at, block.at + block.stride)
}

/// Any number of records, in memory or in a message.
pub struct List<'a, T> {
    origin: Origin<'a, T>,
}

enum Origin<'a, T> {
    Memory(&'a [T]),
    /// Checked when it was decoded.
    Wire {
        message: &'a [u8],
        block: Block,
    },
}

impl<T> Clone for Origin<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Origin<'_, T> {}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<'a, T> List<'a, T> {
    /// A list to be written.
    pub const fn new(records: &'a [T]) -> Self {
        List {
            origin: Origin::Memory(records),
        }
    }

    /// How many records there are.
    pub fn len(self) -> usize {
        match self.origin {
            Origin::Memory(records) => records.len(),
            Origin::Wire { block, .. } => block.count,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Nested<'a>> List<'a, T> {
    /// The records in order.
    pub fn iter(self) -> impl Iterator<Item = T> + 'a
    where
        T: 'a,
    {
        (0..self.len()).filter_map(move |at| self.get(at))
    }

    /// The record at this place of the list.
    pub fn get(self, index: usize) -> Option<T> {
        match self.origin {
            Origin::Memory(records) => records.get(index).copied(),
            Origin::Wire { message, block } => {
                let at = block.at + index.checked_mul(block.stride)?;
                let within = index < block.count;
                let decoder = Decoder::new(message);
                // Each was read when the list was decoded, so this succeeds.
                within.then(|| T::load(&decoder, at, at + block.stride).ok())?
            }
        }
    }
}

impl<'a, T: Nested<'a> + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|at| self.get(at) == other.get(at))
    }
}

impl<'a, T: Nested<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: Nested<'a> + core::fmt::Debug> core::fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut list = f.debug_list();
        list.entries((0..self.len()).filter_map(|at| self.get(at)));
        list.finish()
    }
}

impl<'a, T: Nested<'a>> Field<'a> for List<'a, T> {
    const KIND: FieldKind = FieldKind::List;
    const DEFINITION: Option<&'static Definition> = Some(T::RECORD);

    fn variable_len(&self) -> usize {
        let records = (0..self.len()).filter_map(|at| self.get(at));
        BLOCK + records.map(|r| T::FIXED + r.variable_len()).sum::<usize>()
    }

    fn store(&self, encoder: &mut Encoder<'_>, at: usize) -> Result<(), EncodeError> {
        let mut place = encoder.records(at, T::FIXED, self.len())?;
        for index in 0..self.len() {
            let record = self.get(index).ok_or(EncodeError::TooLarge)?;
            record.store(encoder, place)?;
            place += T::FIXED;
        }
        Ok(())
    }

    fn load(decoder: &Decoder<'a>, at: usize) -> Result<Self, DecodeError> {
        let block = decoder.block(at)?.ok_or(DecodeError::Missing)?;
        for index in 0..block.count {
            let at = block.at + index * block.stride;
            T::load(decoder, at, at + block.stride)?;
        }
        let message = decoder.message();
        Ok(List {
            origin: Origin::Wire { message, block },
        })
    }
}
