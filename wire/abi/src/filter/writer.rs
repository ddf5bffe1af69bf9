// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing a program.

use super::network::Network;
use super::program::{InstructionHeader, MAGIC, Op, ProgramHeader, flags};
use super::{Class, VERSION, class};
use crate::fixed::Fixed;
use crate::limits::MAX_FILTER;
use crate::message::EncodeError;
use crate::schema::FieldKind;
use crate::text::Text;
use core::net::IpAddr;

/// The field that a predicate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPlace {
    /// Its kind.
    pub kind: FieldKind,
    /// Where it lies in the fixed part.
    pub offset: u16,
    /// It is optional.
    pub optional: bool,
}

/// Writes a program into `out`, in postfix order. [`Program::check`](super::Program::check) says
/// whether it may run.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
    message: u16,
    instructions: u16,
}

impl<'o> Writer<'o> {
    /// An empty program about messages of this type; of `out` at most [`MAX_FILTER`] bytes are
    /// used.
    pub fn new(out: &'o mut [u8], message: u16) -> Self {
        let most = out.len().min(MAX_FILTER);
        Writer {
            out: out.get_mut(..most).unwrap_or_default(),
            at: ProgramHeader::SIZE,
            message,
            instructions: 0,
        }
    }

    fn put(
        &mut self,
        op: Op,
        place: Option<FieldPlace>,
        set: u8,
        operand: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.at + InstructionHeader::SIZE;
        let length = operand(self.out.get_mut(start..).ok_or(EncodeError::TooLarge)?)?;
        let marked = place.is_some_and(|p| p.optional && !p.kind.is_variable());
        let header = InstructionHeader {
            op: op as u8,
            kind: place.map_or(0, |p| p.kind as u8),
            flags: if marked { set | flags::OPTIONAL } else { set },
            reserved: 0,
            offset: place.map_or(0, |p| p.offset),
            operand: u16::try_from(length).map_err(|_| EncodeError::TooLarge)?,
        };
        self.out
            .get_mut(self.at..)
            .and_then(|out| header.write(out))
            .ok_or(EncodeError::TooLarge)?;
        self.at = start + length;
        self.instructions = self
            .instructions
            .checked_add(1)
            .ok_or(EncodeError::TooLarge)?;
        Ok(())
    }

    /// An operator: [`Op::And`], [`Op::Or`] or [`Op::Not`].
    pub fn operator(&mut self, op: Op) -> Result<(), EncodeError> {
        self.put(op, None, 0, |_| Ok(0))
    }

    /// The field is not there.
    pub fn absent(&mut self, place: FieldPlace) -> Result<(), EncodeError> {
        self.put(Op::Absent, Some(place), 0, |_| Ok(0))
    }

    /// [`Op::Range`], [`Op::In`] or [`Op::Masked`] with these numbers; one with a sign as its two's
    /// complement.
    pub fn numbers(
        &mut self,
        op: Op,
        place: FieldPlace,
        numbers: &[u64],
    ) -> Result<(), EncodeError> {
        self.put(op, Some(place), 0, |out| {
            for (i, number) in numbers.iter().enumerate() {
                out.get_mut(8 * i..)
                    .and_then(|out| number.write(out))
                    .ok_or(EncodeError::TooLarge)?;
            }
            Ok(8 * numbers.len())
        })
    }

    /// A predicate about a text, or the texts of a list.
    pub fn text(
        &mut self,
        op: Op,
        place: FieldPlace,
        text: Text<'_>,
        ignore_case: bool,
    ) -> Result<(), EncodeError> {
        let flags = if ignore_case { flags::IGNORE_CASE } else { 0 };
        self.put(op, Some(place), flags, |out| text.write(out))
    }

    /// A predicate about bytes.
    pub fn bytes(&mut self, op: Op, place: FieldPlace, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put(op, Some(place), 0, |out| {
            out.get_mut(..bytes.len())
                .ok_or(EncodeError::TooLarge)?
                .copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    /// [`Op::Network`]: an address whose first `bits` are those of `network`.
    pub fn network(
        &mut self,
        place: FieldPlace,
        network: IpAddr,
        bits: u32,
    ) -> Result<(), EncodeError> {
        let operand = Network::new(network, bits);
        self.put(Op::Network, Some(place), 0, |out| {
            operand.write(out).ok_or(EncodeError::TooLarge)?;
            Ok(Network::SIZE)
        })
    }

    /// Ends the program; its length.
    pub fn finish(self) -> Result<usize, EncodeError> {
        let header = ProgramHeader {
            magic: MAGIC,
            version: VERSION,
            instructions: self.instructions,
            length: u32::try_from(self.at).map_err(|_| EncodeError::TooLarge)?,
            message: self.message,
            reserved: 0,
        };
        header.write(self.out).ok_or(EncodeError::TooLarge)?;
        Ok(self.at)
    }
}

impl FieldPlace {
    /// How its values are compared.
    pub const fn class(self) -> Class {
        class(self.kind)
    }
}
