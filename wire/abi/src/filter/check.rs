// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a program may run.

use super::network::Network;
use super::program::{Instruction, Op, Program};
use super::{Class, class};
use crate::fixed::Fixed;
use crate::limits::MAX_PREDICATES;
use crate::schema::FieldKind;

/// What is wrong with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A length does not fit, or a reserved bit is set.
    Malformed,
    /// Of a version that this reader does not know.
    Version,
    /// More instructions, predicates or bytes than the bounds allow.
    TooLong,
    /// An operation that this reader does not know.
    UnknownOperation,
    /// An operator without a result to work on, or results that nothing combines.
    Stack,
    /// The message has no field of that kind at that offset.
    NoField,
    /// The operation is not for fields of that kind.
    WrongKind,
    /// The operand is not one for this operation: wrong length, a range or a set that is not
    /// ascending, a value that lies outside its mask.
    Operand,
}

/// A program may not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// What is wrong.
    pub fault: Fault,
    /// The instruction's place, from 0; `None` if it is the program as a whole.
    pub instruction: Option<u16>,
}

impl FilterError {
    pub(super) const fn whole(fault: Fault) -> Self {
        FilterError {
            fault,
            instruction: None,
        }
    }
}

impl core::fmt::Display for FilterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.fault {
            Fault::Malformed => "the filter is malformed",
            Fault::Version => "the filter is of another version",
            Fault::TooLong => "the filter is too long",
            Fault::UnknownOperation => "the filter has an unknown operation",
            Fault::Stack => "the filter's operators and predicates do not match up",
            Fault::NoField => "the message has no such field",
            Fault::WrongKind => "the operation is not for fields of that kind",
            Fault::Operand => "a value is not one for its operation",
        })?;
        match self.instruction {
            Some(at) => write!(f, " (instruction {at})"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for FilterError {}

impl Program<'_> {
    /// Whether the program may run over messages of a type that has the fields of which `has_field`
    /// is true: of this kind, at this offset, with a mark that says whether it is there or not. Time is bounded by the program's length and 64 calls of `has_field`.
    pub fn check(
        &self,
        mut has_field: impl FnMut(FieldKind, u16, bool) -> bool,
    ) -> Result<(), FilterError> {
        let (mut depth, mut predicates) = (0_usize, 0_usize);
        let mut instructions = self.instructions();
        for at in 0.. {
            let here = |fault| FilterError {
                fault,
                instruction: Some(at),
            };
            let Some(instruction) = instructions.next() else {
                break;
            };
            let instruction = instruction.map_err(here)?;
            match (instruction.op, instruction.kind) {
                (Op::And | Op::Or, _) if depth < 2 => return Err(here(Fault::Stack)),
                (Op::And | Op::Or, _) => depth -= 1,
                (Op::Not, _) if depth < 1 => return Err(here(Fault::Stack)),
                (Op::Not, _) => {}
                (_, None) => return Err(here(Fault::WrongKind)),
                (_, Some(kind)) => {
                    (depth, predicates) = (depth + 1, predicates + 1);
                    predicate(&instruction, kind).map_err(here)?;
                    if predicates > MAX_PREDICATES {
                        return Err(here(Fault::TooLong));
                    }
                    if !has_field(kind, instruction.offset, instruction.optional) {
                        return Err(here(Fault::NoField));
                    }
                }
            }
            if instruction.op.is_operator()
                && (instruction.offset != 0
                    || instruction.ignore_case
                    || instruction.optional
                    || !instruction.operand.is_empty())
            {
                return Err(here(Fault::Malformed));
            }
        }
        if depth != 1 {
            return Err(FilterError::whole(Fault::Stack));
        }
        if !instructions.rest().is_empty() {
            return Err(FilterError::whole(Fault::Malformed));
        }
        Ok(())
    }
}

/// Whether a predicate is one for this kind, with an operand for it.
fn predicate(instruction: &Instruction<'_>, kind: FieldKind) -> Result<(), Fault> {
    let class = class(kind);
    let number = matches!(class, Class::Unsigned | Class::Signed);
    let right = match instruction.op {
        Op::Absent => true,
        Op::Range | Op::In | Op::Masked => number,
        Op::Equal | Op::Prefix | Op::Suffix | Op::Contains | Op::Glob => class == Class::Text,
        Op::BytesEqual => matches!(class, Class::Bytes | Class::Guid),
        Op::BytesPrefix => class == Class::Bytes,
        Op::Network => class == Class::Address,
        Op::And | Op::Or | Op::Not => false,
    };
    if !right
        || (instruction.ignore_case && class != Class::Text)
        || (instruction.optional && kind.is_variable())
    {
        return Err(Fault::WrongKind);
    }
    let operand = instruction.operand;
    let pair = || match operand.len() {
        16 => Some((u64::read(operand)?, u64::read(operand.get(8..)?)?)),
        _ => None,
    };
    let fits = match instruction.op {
        Op::Absent => operand.is_empty() && !instruction.ignore_case,
        Op::Range => pair().is_some_and(|(low, high)| rank(class, low) <= rank(class, high)),
        Op::Masked => pair().is_some_and(|(mask, value)| value & !mask == 0),
        Op::In => {
            let (numbers, rest) = operand.as_chunks::<8>();
            let ranks = numbers.iter().map(|n| rank(class, u64::from_le_bytes(*n)));
            rest.is_empty() && !numbers.is_empty() && ranks.is_sorted_by(|a, b| a < b)
        }
        Op::Equal | Op::Prefix | Op::Suffix | Op::Contains | Op::Glob => {
            operand.len().is_multiple_of(2)
        }
        Op::BytesEqual => class != Class::Guid || operand.len() == 16,
        Op::Network => Network::read(operand).is_some_and(|network| network.is_one_for(kind)),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Fault::Operand) }
}

/// A number's place among those of its class.
pub(super) const fn rank(class: Class, number: u64) -> u64 {
    match class {
        Class::Signed => number ^ (1 << 63),
        _ => number,
    }
}
