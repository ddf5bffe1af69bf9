// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever is said is written and read back: a message whose values are drawn from the input, into
//! a buffer that fits and into one that does not.
#![no_main]

use fltport::{EncodeError, Guid, List, Message, Status, Text, TextList, Time};
use fltport_fuzz::{All, Branch, Choice, Leaf, Rights};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

/// Values from the input; zeros when that is at its end.
struct Draw<'d>(&'d [u8]);

impl<'d> Draw<'d> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let length = N.min(self.0.len());
        let (drawn, rest) = self.0.split_at(length);
        bytes[..length].copy_from_slice(drawn);
        self.0 = rest;
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn blob(&mut self) -> &'d [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (blob, rest) = self.0.split_at(length);
        self.0 = rest;
        blob
    }

    fn text(&mut self) -> Text<'d> {
        let blob = self.blob();
        Text::Wire(&blob[..blob.len() & !1])
    }

    fn leaf(&mut self) -> Leaf<'d> {
        Leaf {
            number: u32::from_le_bytes(self.bytes()),
            other: (self.byte() & 1 == 1).then(|| i16::from_le_bytes(self.bytes())),
            name: (self.byte() & 1 == 1).then(|| self.text()),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut draw = Draw(data);
    let leaves: Vec<Leaf<'_>> = (0..draw.byte() % 8).map(|_| draw.leaf()).collect();
    let branch = |rights: u8| Branch {
        leaves: List::new(&leaves[..leaves.len() * usize::from(rights % 3) / 2]),
        rights: Rights(rights.into()),
    };
    let branches: Vec<Branch<'_>> = (0..draw.byte() % 4).map(|_| branch(draw.byte())).collect();
    let texts: Vec<Text<'_>> = (0..draw.byte() % 4).map(|_| draw.text()).collect();
    let all = All {
        wide: u64::from_le_bytes(draw.bytes()),
        time: Time(i64::from_le_bytes(draw.bytes())),
        guid: Guid(draw.bytes()),
        address: match draw.byte() % 2 {
            0 => IpAddr::from(draw.bytes::<4>()),
            _ => IpAddr::from(draw.bytes::<16>()),
        },
        v4: draw.bytes::<4>().into(),
        v6: draw.bytes::<16>().into(),
        choice: Choice::from_number(u32::from(draw.byte())),
        rights: Rights(u32::from_le_bytes(draw.bytes())),
        status: Status(i32::from_le_bytes(draw.bytes())),
        yes: draw.byte() & 1 == 1,
        small: draw.byte(),
        signed: draw.byte().cast_signed(),
        short: i16::from_le_bytes(draw.bytes()),
        text: draw.text(),
        one: draw.leaf(),
        branches: List::new(&branches),
        blob: draw.blob(),
        names: TextList::Texts(&texts),
        perhaps: (draw.byte() & 1 == 1).then_some(Choice::That),
        later: 5,
    };
    let mut bytes = vec![0xff; all.encoded_len()];
    assert_eq!(all.encode(&mut bytes), Ok(bytes.len()));
    assert_eq!(All::decode(&bytes), Ok(all));
    assert_eq!(All::decode_fixed(&bytes, All::FIXED), Ok(all));
    let short = usize::from(draw.byte()) % bytes.len();
    assert_eq!(all.encode(&mut bytes[..short]), Err(EncodeError::TooLarge));
});
