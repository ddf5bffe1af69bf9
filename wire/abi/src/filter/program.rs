// SPDX-License-Identifier: MIT OR Apache-2.0
//! A filter as it travels.

use super::check::{Fault, FilterError};
use super::{MAX_INSTRUCTIONS, VERSION};
use crate::fixed::Fixed;
use crate::limits::{MAX_FILTER, MAX_MESSAGE_NUMBER};
use crate::schema::FieldKind;

/// The first four bytes of a program: `FPFI`.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"FPFI");

crate::fixed! {
    /// The start of a program.
    pub struct ProgramHeader: 16 {
        /// `FPFI`.
        pub magic: u32,
        /// [`VERSION`](super::VERSION).
        pub version: u16,
        /// The number of instructions.
        pub instructions: u16,
        /// Bytes of the whole program, this header included.
        pub length: u32,
        /// The message type whose records it is about.
        pub message: u16,
        /// 0.
        pub reserved: u16,
    }

    /// The start of an instruction; its operand follows.
    pub struct InstructionHeader: 8 {
        /// An [`Op`].
        pub op: u8,
        /// The field's [`FieldKind`](crate::schema::FieldKind); 0 for an operator.
        pub kind: u8,
        /// [`flags`].
        pub flags: u8,
        /// 0.
        pub reserved: u8,
        /// Where the field lies in the fixed part; 0 for an operator.
        pub offset: u16,
        /// Bytes of the operand.
        pub operand: u16,
    }
}

/// Flags of an instruction.
pub mod flags {
    /// Texts are compared by NT's upper case of each unit.
    pub const IGNORE_CASE: u8 = 1;
    /// The field is optional, and its kind has a mark that says whether it is there. Not for kinds
    /// whose values lie in the variable data.
    pub const OPTIONAL: u8 = 2;
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Takes two results, gives whether both are true.
    And = 1,
    /// Takes two results, gives whether one is true.
    Or = 2,
    /// Takes a result, gives the opposite.
    Not = 3,
    /// The field is not there.
    Absent = 16,
    /// A number in the range; operand: the lowest and the highest, 64 bits each, both included.
    Range = 17,
    /// A number in the set; operand: the numbers, 64 bits each, ascending.
    In = 18,
    /// Bits of a number; operand: a mask and the value that is left of the number under it, 64 bits
    /// each.
    Masked = 19,
    /// The text is the operand.
    Equal = 32,
    /// The text begins with the operand.
    Prefix = 33,
    /// The text ends with the operand.
    Suffix = 34,
    /// The text has the operand in it.
    Contains = 35,
    /// The whole text matches the operand: `*` stands for any characters, `?` for one.
    Glob = 36,
    /// The bytes are the operand.
    BytesEqual = 48,
    /// The bytes begin with the operand.
    BytesPrefix = 49,
    /// The address is in the network; operand: a [`Network`](super::Network).
    Network = 64,
}

impl Op {
    /// The operation with this number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Op::And,
            2 => Op::Or,
            3 => Op::Not,
            16 => Op::Absent,
            17 => Op::Range,
            18 => Op::In,
            19 => Op::Masked,
            32 => Op::Equal,
            33 => Op::Prefix,
            34 => Op::Suffix,
            35 => Op::Contains,
            36 => Op::Glob,
            48 => Op::BytesEqual,
            49 => Op::BytesPrefix,
            64 => Op::Network,
            _ => return None,
        })
    }

    /// Whether it combines results instead of looking at a field.
    pub const fn is_operator(self) -> bool {
        matches!(self, Op::And | Op::Or | Op::Not)
    }
}

/// One instruction, its numbers known.
#[derive(Clone, Copy, Debug)]
pub struct Instruction<'a> {
    /// What it does.
    pub op: Op,
    /// The field's kind; `None` for an operator.
    pub kind: Option<FieldKind>,
    /// Texts are compared without regard to case.
    pub ignore_case: bool,
    /// The field has a mark that says whether it is there.
    pub optional: bool,
    /// Where the field lies.
    pub offset: u16,
    /// What the field is held against.
    pub operand: &'a [u8],
}

/// A program whose framing has been read; [`Program::check`] says whether it may run.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The message type whose records it is about.
    pub message: u16,
    instructions: u16,
    body: &'a [u8],
}

impl<'a> Program<'a> {
    /// Reads the program at the start of `bytes`; what follows it.
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FilterError> {
        let malformed = FilterError::whole(Fault::Malformed);
        let header = ProgramHeader::read(bytes).ok_or(malformed)?;
        if header.magic != MAGIC {
            return Err(malformed);
        }
        if header.version != VERSION {
            return Err(FilterError::whole(Fault::Version));
        }
        let (program, rest) = bytes
            .split_at_checked(header.length as usize)
            .ok_or(malformed)?;
        let body = program.get(ProgramHeader::SIZE..).ok_or(malformed)?;
        let sane = (1..=MAX_MESSAGE_NUMBER).contains(&header.message) && header.reserved == 0;
        if !sane {
            return Err(malformed);
        }
        if program.len() > MAX_FILTER || usize::from(header.instructions) > MAX_INSTRUCTIONS {
            return Err(FilterError::whole(Fault::TooLong));
        }
        let program = Program {
            message: header.message,
            instructions: header.instructions,
            body,
        };
        Ok((program, rest))
    }

    /// Reads a program that fills `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FilterError> {
        match Self::split(bytes)? {
            (program, []) => Ok(program),
            _ => Err(FilterError::whole(Fault::Malformed)),
        }
    }

    /// The instructions in order; `Err` for one that is not, with which the iteration ends.
    pub fn instructions(&self) -> Instructions<'a> {
        Instructions {
            left: self.instructions,
            rest: self.body,
        }
    }

    /// How many predicates it has.
    pub fn predicates(&self) -> usize {
        let predicates = self
            .instructions()
            .flatten()
            .filter(|i| !i.op.is_operator());
        predicates.count()
    }

    /// Whether it compares a text without regard to case, and so needs a mapping to upper case.
    pub fn ignores_case(&self) -> bool {
        self.instructions().flatten().any(|i| i.ignore_case)
    }
}

/// The instructions of a [`Program`].
#[derive(Clone, Debug)]
pub struct Instructions<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Instructions<'a> {
    /// Bytes behind the last instruction.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn split(&mut self) -> Result<Instruction<'a>, Fault> {
        let header = InstructionHeader::read(self.rest).ok_or(Fault::Malformed)?;
        let rest = self
            .rest
            .get(InstructionHeader::SIZE..)
            .ok_or(Fault::Malformed)?;
        let (operand, rest) = rest
            .split_at_checked(header.operand.into())
            .ok_or(Fault::Malformed)?;
        let op = Op::from_wire(header.op).ok_or(Fault::UnknownOperation)?;
        if header.reserved != 0 || header.flags & !(flags::IGNORE_CASE | flags::OPTIONAL) != 0 {
            return Err(Fault::Malformed);
        }
        let kind = FieldKind::from_wire(header.kind);
        if kind.is_none() != op.is_operator() {
            return Err(Fault::WrongKind);
        }
        self.rest = rest;
        Ok(Instruction {
            op,
            kind,
            ignore_case: header.flags & flags::IGNORE_CASE != 0,
            optional: header.flags & flags::OPTIONAL != 0,
            offset: header.offset,
            operand,
        })
    }
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Result<Instruction<'a>, Fault>;
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let instruction = self.split();
        if instruction.is_err() {
            self.left = 0;
        }
        Some(instruction)
    }
}
