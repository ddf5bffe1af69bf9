// SPDX-License-Identifier: MIT OR Apache-2.0
//! A message with fields of all kinds, and a look at every value that a schema names.

use fltport::{DecodeError, Fields, Guid, List, Status, Text, TextList, Time, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fltport_abi::messages! {
    /// A provider with a field of each kind.
    provider PROVIDER = "everything";

    types {
        /// A choice.
        enum Choice {
            /// This.
            0 "this" This,
            /// That.
            7 "that" That,
        }

        /// Rights.
        flags Rights {
            /// May read.
            0x1 "read" READ,
            /// May write.
            0x2 "write" WRITE,
        }

        /// A leaf.
        record Leaf<'a> {
            /// A number.
            number: u32,
            /// Another.
            other: Option<i16>,
            /// A name.
            name: Option<Text<'a>>,
        }

        /// A branch.
        record Branch<'a> {
            /// Leaves.
            leaves: List<'a, Leaf<'a>>,
            /// What may be done with it.
            rights: Rights,
        }
    }

    /// A bit of everything.
    notification 1 "all" All<'a> {
        /// 8 bytes.
        wide: u64,
        /// 8 bytes.
        time: Time,
        /// 16 bytes.
        guid: Guid,
        /// 20 bytes.
        address: IpAddr,
        /// 4 bytes.
        v4: Ipv4Addr,
        /// 16 bytes.
        v6: Ipv6Addr,
        /// 4 bytes.
        choice: Choice,
        /// 4 bytes.
        rights: Rights,
        /// 4 bytes.
        status: Status,
        /// 4 bytes.
        yes: bool,
        /// 1 byte.
        small: u8,
        /// 1 byte.
        signed: i8,
        /// 2 bytes.
        short: i16,
        /// In the variable data.
        text: Text<'a>,
        /// In the variable data.
        one: Leaf<'a>,
        /// In the variable data.
        branches: List<'a, Branch<'a>>,
        /// In the variable data.
        blob: &'a [u8],
        /// In the variable data.
        names: TextList<'a>,
        /// A choice and a mark.
        perhaps: Option<Choice>,
        /// Of a newer version.
        later: u32 = 3,
    }
}

/// Looks at a value and whatever is in it; returns how much that was.
pub fn look(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.chars().count(),
        Value::TextList(texts) => texts.iter().map(|t| 1 + t.chars().count()).sum(),
        Value::Bytes(bytes) | Value::Unknown(bytes) => bytes.len(),
        Value::Flags(bits) => bits.names().count() + bits.unnamed().count_ones() as usize,
        Value::Record(record) => 1 + look_at_fields(*record),
        Value::List(records) => records.iter().map(|r| 1 + look_at_fields(r)).sum(),
        _ => 1,
    }
}

fn look_at_fields(fields: Fields<'_>) -> usize {
    let values = fields.iter().map(|(_, value)| sound(value));
    values.map(|value| look(&value)).sum()
}

/// A value of a message that was found to be right.
pub fn sound<'a>(value: Result<Value<'a>, DecodeError>) -> Value<'a> {
    value.expect("verified, and then not readable")
}
