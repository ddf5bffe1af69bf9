// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running a program over a message.

use super::check::rank;
use super::network::Network;
use super::program::{Instruction, Op, Program};
use super::texts::{self, Steps};
use super::{MAX_STEPS, class};
use crate::fixed::Fixed;
use crate::message::Decoder;
use crate::schema::{self, FieldKind, Value};
use crate::text::Text;

/// What a filter says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service wants it.
    Wanted,
    /// The service does not want it.
    Unwanted,
    /// The filter could not tell: it used up its steps, or the message is not what its schema says.
    /// The service gets it.
    Undecided,
}

/// The results that have not been combined yet: bit 0 is the last one. As many as a program has
/// predicates.
#[derive(Default)]
struct Results(u64);

const _: () = assert!(crate::limits::MAX_PREDICATES <= 64, "a bit for each");

impl Results {
    fn push(&mut self, result: bool) {
        self.0 = self.0 << 1 | u64::from(result);
    }

    fn pop(&mut self) -> bool {
        let last = self.0 & 1 != 0;
        self.0 >>= 1;
        last
    }
}

impl Program<'_> {
    /// Runs the program over a message whose fixed part has `fixed` bytes. `upcase` maps one UTF-16
    /// unit to upper case. Time is bounded by [`MAX_STEPS`]; nothing is allocated; no byte outside
    /// `message` is read, whatever the program or the message say.
    ///
    /// The program has been [checked](Program::check); one that has not gives some verdict.
    pub fn evaluate(&self, message: &[u8], fixed: usize, upcase: impl Fn(u16) -> u16) -> Verdict {
        self.evaluate_counted(message, fixed, upcase).0
    }

    /// [`Program::evaluate`], and how many steps that took.
    pub fn evaluate_counted(
        &self,
        message: &[u8],
        fixed: usize,
        upcase: impl Fn(u16) -> u16,
    ) -> (Verdict, u32) {
        let mut steps = Steps(MAX_STEPS);
        let verdict = self.run(message, fixed, upcase, &mut steps);
        (verdict, MAX_STEPS - steps.0)
    }

    fn run(
        &self,
        message: &[u8],
        fixed: usize,
        upcase: impl Fn(u16) -> u16,
        steps: &mut Steps,
    ) -> Verdict {
        let mut results = Results::default();
        for instruction in self.instructions() {
            let Some(instruction) = instruction.ok().filter(|_| steps.take(1).is_some()) else {
                return Verdict::Undecided;
            };
            let result = match instruction.op {
                // Both are taken, whatever the first one is.
                Op::And => results.pop() & results.pop(),
                Op::Or => results.pop() | results.pop(),
                Op::Not => !results.pop(),
                _ => match predicate(&instruction, message, fixed, &upcase, steps) {
                    Some(result) => result,
                    None => return Verdict::Undecided,
                },
            };
            results.push(result);
        }
        match results.pop() {
            true => Verdict::Wanted,
            false => Verdict::Unwanted,
        }
    }
}

/// What a predicate says; `None` if it cannot be told.
fn predicate(
    instruction: &Instruction<'_>,
    message: &[u8],
    fixed: usize,
    upcase: &impl Fn(u16) -> u16,
    steps: &mut Steps,
) -> Option<bool> {
    let (kind, offset) = (instruction.kind?, usize::from(instruction.offset));
    // That a whole list is well-formed would be looked at each time; what counts is seen on the way.
    if kind == FieldKind::TextList {
        let list = match offset + kind.size() <= fixed {
            true => {
                let decoder = Decoder::with_fixed(message, fixed).ok()?;
                decoder.variable(offset).ok()?.map(|(_, list)| list)
            }
            false => None,
        };
        return match list {
            _ if instruction.op == Op::Absent => Some(list.is_none()),
            Some(list) => any_text(instruction, list, upcase, steps),
            None => Some(false),
        };
    }
    let decoder = Decoder::with_fixed(message, fixed).ok()?;
    let value = schema::value_of(&decoder, offset, fixed, kind, instruction.optional).ok()?;
    let number = match value {
        Value::Absent => return Some(instruction.op == Op::Absent),
        _ if instruction.op == Op::Absent => return Some(false),
        Value::Text(Text::Wire(text)) => {
            let upcase = instruction.ignore_case.then_some(upcase);
            return texts::matches(instruction.op, instruction.operand, text, upcase, steps);
        }
        Value::Bytes(bytes) => {
            return texts::bytes_match(instruction.op, instruction.operand, bytes, steps);
        }
        Value::Unsigned(number) => number,
        Value::Signed(number) => number.cast_unsigned(),
        Value::Bool(yes) => yes.into(),
        Value::Pid(pid) => pid.0.into(),
        Value::Time(time) => time.0.cast_unsigned(),
        Value::Status(status) => i64::from(status.0).cast_unsigned(),
        Value::Enum(number) | Value::Flags(number) => number.into(),
        Value::Guid(guid) => {
            return texts::bytes_match(instruction.op, instruction.operand, &guid.0, steps);
        }
        Value::Address(address) => {
            return Network::read(instruction.operand).map(|network| network.contains(address));
        }
        Value::Text(_) | Value::TextList(_) | Value::Records(_) => return None,
    };
    compare(instruction, kind, number)
}

/// What a predicate says about a number; one with a sign as its two's complement.
fn compare(instruction: &Instruction<'_>, kind: FieldKind, number: u64) -> Option<bool> {
    let class = class(kind);
    let (operands, _) = instruction.operand.as_chunks::<8>();
    let pair = || match operands {
        [first, second] => Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second))),
        _ => None,
    };
    let here = rank(class, number);
    Some(match instruction.op {
        Op::Range => {
            let (low, high) = pair()?;
            rank(class, low) <= here && here <= rank(class, high)
        }
        Op::Masked => {
            let (mask, value) = pair()?;
            number & mask == value
        }
        // At most ten looks at a set that fills the program: no step of their own.
        Op::In => operands
            .binary_search_by_key(&here, |n| rank(class, u64::from_le_bytes(*n)))
            .is_ok(),
        _ => return None,
    })
}

/// Whether a predicate about texts is true of one of a list.
fn any_text(
    instruction: &Instruction<'_>,
    mut list: &[u8],
    upcase: &impl Fn(u16) -> u16,
    steps: &mut Steps,
) -> Option<bool> {
    let upcase = instruction.ignore_case.then_some(upcase);
    while !list.is_empty() {
        steps.take(1)?;
        let length = usize::from(u16::read(list)?);
        let (text, rest) = list.get(2..)?.split_at_checked(length)?;
        if texts::matches(instruction.op, instruction.operand, text, upcase, steps)? {
            return Some(true);
        }
        list = rest;
    }
    Some(false)
}
