// SPDX-License-Identifier: MIT OR Apache-2.0
// The macro makes public what other crates define in public.
#![allow(unreachable_pub)]

use super::*;
use crate::schema::{FieldKind, Value, value_of};
use crate::text::{Text, TextList};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

mod versions;

crate::messages! {
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
            number: u16,
            /// Another.
            other: i16,
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
        /// 1 byte.
        small: u8,
        /// 1 byte.
        signed: i8,
        /// 2 bytes and a mark in 2.
        maybe: Option<i16>,
        /// 2 bytes.
        short: i16,
        /// In the variable data.
        one: Leaf<'a>,
        /// In the variable data.
        none: Option<Leaf<'a>>,
        /// In the variable data.
        branches: List<'a, Branch<'a>>,
        /// In the variable data.
        blob: &'a [u8],
        /// In the variable data.
        names: TextList<'a>,
        /// A choice and a mark.
        perhaps: Option<Choice>,
    }
}

fn leaf(number: u16, name: Option<&'static str>) -> Leaf<'static> {
    Leaf {
        number,
        other: -1,
        name: name.map(Text::Utf8),
    }
}

fn all<'a>(branches: &'a [Branch<'a>]) -> All<'a> {
    All {
        wide: 1,
        guid: Guid([9; 16]),
        address: IpAddr::V6(Ipv6Addr::LOCALHOST),
        v4: Ipv4Addr::new(10, 0, 0, 1),
        v6: Ipv6Addr::UNSPECIFIED,
        choice: Choice::That,
        rights: Rights::READ | Rights(0x10),
        small: 200,
        signed: -3,
        maybe: Some(-300),
        short: -2,
        one: leaf(5, Some("five")),
        none: None,
        branches: List::new(branches),
        blob: &[1, 2, 3],
        names: TextList::Strings(&["x", ""]),
        perhaps: Some(Choice::Other(99)),
    }
}

fn encoded<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut bytes = vec![0xff; message.encoded_len()];
    assert_eq!(message.encode(&mut bytes), Ok(bytes.len()));
    for short in 0..bytes.len() {
        let mut out = vec![0; short];
        assert_eq!(message.encode(&mut out), Err(EncodeError::TooLarge));
    }
    bytes
}

#[test]
fn every_kind_survives_the_wire() {
    let leaves = [leaf(1, Some("a")), leaf(2, None)];
    let branches = [
        Branch {
            leaves: List::new(&leaves),
            rights: Rights::WRITE,
        },
        Branch {
            leaves: List::new(&[]),
            rights: Rights(0),
        },
    ];
    let all = all(&branches);
    let bytes = encoded(&all);
    assert_eq!(All::decode(&bytes), Ok(all));
    assert_eq!(All::decode_fixed(&bytes, All::FIXED), Ok(all));
    let read = All::decode(&bytes).unwrap();
    let first = read.branches.get(0).unwrap();
    assert_eq!(first.leaves.get(1), Some(leaf(2, None)));
    assert_eq!(first.leaves.get(2), None);
    assert_eq!(read.branches.iter().count(), 2);
    for short in 0..bytes.len() {
        assert!(All::decode(&bytes[..short]).is_err(), "{short} bytes");
    }
}

#[test]
fn golden_bytes_of_a_list_and_of_optional_values() {
    let leaves = [leaf(1, Some("a"))];
    let branch = Branch {
        leaves: List::new(&leaves),
        rights: Rights::READ,
    };
    let mut out = [0xff; 80];
    let mut encoder = Encoder::new(&mut out, 16).unwrap();
    branch.leaves.store(&mut encoder, 0).unwrap();
    Field::store(&Some(-2_i16), &mut encoder, 8).unwrap();
    Field::store(&None::<i16>, &mut encoder, 12).unwrap();
    let length = encoder.len();
    assert_eq!(
        out[..length],
        [
            16, 0, 0, 0, 20, 0, 0, 0, // the list: at 16, 20 bytes
            0xfe, 0xff, 1, 0, // -2, there
            0, 0, 0, 0, // nothing
            12, 0, 0, 0, 1, 0, 0, 0, // each 12 bytes, one of them
            1, 0, 0xff, 0xff, 36, 0, 0, 0, 2, 0, 0, 0, // 1, -1, the name
            b'a', 0,
        ]
    );
}

#[test]
fn golden_bytes_of_addresses() {
    let mut out = [0xff; 20];
    let mut encoder = Encoder::new(&mut out, 20).unwrap();
    let store = IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)).store(&mut encoder, 0);
    assert_eq!(store, Ok(()));
    assert_eq!(out[..8], [4, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(out[8..], [0; 12]);
    for (at, bad) in [(0, 5_u8), (1, 1), (8, 1)] {
        let mut bytes = out;
        bytes[at] = bad;
        let decoder = Decoder::with_fixed(&bytes, 20).unwrap();
        assert_eq!(IpAddr::load(&decoder, 0), Err(DecodeError::BadValue));
    }
}

/// A list of `count` leaves of `stride` bytes at 16, whose names are where `name` says.
fn hostile(stride: u16, count: u32, length: u32, name: (u32, u32)) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes[0] = 16;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes.extend(stride.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(count.to_le_bytes());
    for _ in 0..2 {
        bytes.extend([1, 0, 1, 0]);
        bytes.extend(name.0.to_le_bytes());
        bytes.extend(name.1.to_le_bytes());
    }
    bytes.extend([b'a', 0, b'b', 0]);
    bytes
}

#[test]
fn hostile_lists_are_refused() {
    let load = |bytes: &[u8]| {
        let decoder = Decoder::with_fixed(bytes, 16).unwrap();
        List::<Leaf<'_>>::load(&decoder, 0).map(List::len)
    };
    assert_eq!(load(&hostile(12, 2, 32, (48, 2))), Ok(2));
    // A stride of nothing, or of nearly everything; a count that is too large, or too small.
    for (stride, count) in [
        (0, 2),
        (0, u32::MAX),
        (24, 2),
        (12, 3),
        (12, 1),
        (u16::MAX, u32::MAX),
    ] {
        let bytes = hostile(stride, count, 32, (48, 2));
        assert_eq!(load(&bytes), Err(DecodeError::BadValue), "{stride} {count}");
    }
    // Names before the field, in the fixed part, behind the end.
    for name in [
        (8, 2),
        (20, 2),
        (24, 2),
        (52, 2),
        (u32::MAX, 2),
        (48, u32::MAX),
        (0, 2),
    ] {
        let bytes = hostile(12, 2, 32, name);
        assert_eq!(load(&bytes), Err(DecodeError::OutOfBounds), "{name:?}");
    }
    // Names that overlap, and so have more bytes than the message.
    let bytes = hostile(12, 2, 32, (48, 4));
    assert_eq!(load(&bytes), Err(DecodeError::OutOfBounds));
}

#[test]
fn fields_are_read_with_the_schema_alone() {
    let bytes = encoded(&all(&[]));
    let decoder = Decoder::with_fixed(&bytes, All::FIXED).unwrap();
    let mut read = Vec::new();
    for field in All::FIELDS {
        let (at, optional) = (field.offset.into(), field.is_optional());
        let value = value_of(&decoder, at, All::FIXED, field.kind, optional);
        read.push((field.name, value.unwrap()));
    }
    let of = |name: &str| read.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(of("guid"), Value::Guid(Guid([9; 16])));
    assert_eq!(
        of("v4"),
        Value::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)))
    );
    assert_eq!(of("choice"), Value::Enum(7));
    assert_eq!(of("rights"), Value::Flags(0x11));
    assert_eq!(of("small"), Value::Unsigned(200));
    assert_eq!(of("maybe"), Value::Signed(-300));
    assert_eq!(of("none"), Value::Absent);
    assert_eq!(of("perhaps"), Value::Enum(99));
    let Value::Records(one) = of("one") else {
        panic!("{:?}", of("one"));
    };
    let (at, end) = one.places().next().unwrap();
    let decoder = Decoder::new(one.message);
    assert_eq!(
        value_of(&decoder, at, end, FieldKind::U16, false),
        Ok(Value::Unsigned(5))
    );
}
