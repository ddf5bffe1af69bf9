// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters: what a service wants of a message type, by the values of its fields.
//!
//! A filter is a program in postfix order: predicates, each about one field, and `and`, `or`,
//! `not`. The service writes it ([`Writer`]), the driver checks it once against the provider's
//! schema ([`Program::check`]) and runs it for each message ([`Program::evaluate`]), at
//! DISPATCH_LEVEL, without allocating, in a bounded number of steps.
//!
//! **Absent fields.** A field that the writer of a message did not have, because it was built
//! against an older schema, or that it left out, is absent. Every predicate about an absent field is
//! false, but [`Op::Absent`], which is true.
//!
//! **What cannot be decided passes.** When the steps are used up, or a field's bytes are not what
//! the schema says, the message goes to the service: a filter leaves out only what it is sure of.
//!
//! A subscription carries its filters one behind the other, at most one for each message type, with
//! the bounds of [`MAX_FILTER`](crate::limits::MAX_FILTER) and
//! [`MAX_PREDICATES`](crate::limits::MAX_PREDICATES) for all of them together. What has no filter
//! passes.
//!
//! Encoded: a [`ProgramHeader`], then the instructions, each an [`InstructionHeader`] and its
//! operand, one behind the other. Numbers are little-endian, texts UTF-16 as everywhere.

mod check;
mod evaluate;
mod network;
mod program;
mod texts;
mod writer;

pub use check::{Fault, FilterError};
pub use evaluate::Verdict;
pub use network::Network;
pub use program::{Instruction, InstructionHeader, Op, Program, ProgramHeader, flags};
pub use writer::{FieldPlace, Writer};

use crate::schema::FieldKind;

/// The version of the encoding.
pub const VERSION: u16 = 1;

/// Instructions that one program may have, predicates included.
pub const MAX_INSTRUCTIONS: usize = 192;

/// The steps of one evaluation: one for each instruction, one for each UTF-16 unit or byte that is
/// compared. Enough to look once for a word in the longest command line that the process monitor
/// tells; and at about a nanosecond each, the driver's lock is held some microseconds longer.
pub const MAX_STEPS: u32 = 16 * 1024;

/// How the values of a kind are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// By number, without sign.
    Unsigned,
    /// By number, with sign.
    Signed,
    /// As text; a list of texts by any of them.
    Text,
    /// As bytes of the variable data.
    Bytes,
    /// As an IPv4 or IPv6 address, by networks.
    Address,
    /// As a GUID.
    Guid,
    /// Only whether it is there.
    Opaque,
}

/// How fields of this kind are compared.
pub const fn class(kind: FieldKind) -> Class {
    match kind {
        FieldKind::U8
        | FieldKind::U16
        | FieldKind::U32
        | FieldKind::U64
        | FieldKind::Bool
        | FieldKind::Pid
        | FieldKind::Enum
        | FieldKind::Flags => Class::Unsigned,
        FieldKind::I8
        | FieldKind::I16
        | FieldKind::I32
        | FieldKind::I64
        | FieldKind::Time
        | FieldKind::Status => Class::Signed,
        FieldKind::Text | FieldKind::TextList => Class::Text,
        FieldKind::Bytes => Class::Bytes,
        FieldKind::Ipv4 | FieldKind::Ipv6 | FieldKind::Address => Class::Address,
        FieldKind::Guid => Class::Guid,
        FieldKind::Record | FieldKind::List => Class::Opaque,
    }
}

#[cfg(test)]
mod tests;
