// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same definition as in `written.c`, and the same messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fltport_abi::message::{Guid, List, Message, Pid, Status, Time};
use fltport_abi::schema::Provider;
use fltport_abi::text::{Text, TextList};

fltport_abi::messages! {
    /// A provider without types of its own.
    provider PROVIDER = "written";

    /// Numbers.
    notification 1 "numbers" Numbers {
        /// Unsigned.
        big: u64,
        /// Signed.
        low: i64,
        /// A time.
        when: Time,
        /// Unsigned.
        middle: u32,
        /// Signed.
        below: i32,
        /// Yes or no.
        yes: bool,
        /// A process.
        process: Pid,
        /// A status.
        status: Status,
        /// Unsigned.
        small: u16,
    }

    /// What has variable data.
    notification 63 "texts" Texts<'a> {
        /// Text.
        text: Text<'a>,
        /// Bytes.
        bytes: &'a [u8],
        /// Texts.
        list: TextList<'a>,
        /// Behind them.
        number: u32,
    }

    /// A question.
    request 7 "question" Question {
        /// Which.
        number: u32,
    } -> /// Its answer.
    Reply {
        /// No.
        deny: bool,
    }

    /// An order.
    command 8 "order" Order<'a> {
        /// Which.
        text: Text<'a>,
    } -> /// Done.
    Done {
        /// How often.
        times: u64,
        /// How far.
        far: i32,
    }

    /// An order that has grown.
    command 9 "limit" Limit<'a> {
        /// Which.
        number: u32,
        /// Why.
        why: Text<'a>,
        /// Since the second version.
        seconds: u32 = 30,
        /// Since the second version.
        by: Option<u32>,
        /// Since the second version.
        from: Option<Text<'a>> = Some(Text::Utf8("here")),
    } -> /// Done.
    Limited {
        /// Which.
        number: u32,
    }
}

fltport_abi::messages! {
    /// A provider with types of its own, and what is optional.
    provider TYPED = "typed";

    types {
        /// What becomes of a packet.
        enum Verdict {
            /// It passes.
            0 "pass" Pass,
            /// It is dropped.
            7 "drop" Drop,
        }

        /// What a rule looks at.
        flags Matched {
            /// Where it goes.
            0x1 "address" ADDRESS,
            /// Who sends it.
            0x8000_0000 "image" IMAGE,
        }

        /// A rule.
        record Rule<'a> {
            /// What it looked at.
            matched: Matched,
            /// Its name.
            name: Text<'a>,
        }
    }

    /// Everything.
    notification 2 "packet" Packet<'a> {
        /// There.
        wide: Option<u64>,
        /// Where it goes.
        remote: IpAddr,
        /// Where it comes from.
        local: Option<IpAddr>,
        /// An address.
        four: Ipv4Addr,
        /// An address.
        six: Ipv6Addr,
        /// Its flow.
        flow: Guid,
        /// What became of it.
        verdict: Verdict,
        /// Not there.
        former: Option<Verdict>,
        /// The rules.
        rules: List<'a, Rule<'a>>,
        /// The one that decided.
        last: Rule<'a>,
        /// There.
        note: Option<Text<'a>>,
        /// Not there.
        blob: Option<&'a [u8]>,
        /// Not there.
        process: Option<Pid>,
        /// There.
        port: Option<u16>,
        /// Signed.
        delta: i16,
        /// Unsigned.
        hops: u8,
        /// Signed.
        tone: i8,
        /// There.
        lives: Option<u8>,
    }

    /// One that has grown.
    notification 3 "ruled" Ruled {
        /// What became of it.
        verdict: Verdict = Verdict::Drop,
    }
}

fn encoded<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut bytes = vec![0xaa; message.encoded_len()];
    let length = message.encode(&mut bytes).expect("there is room");
    assert_eq!(length, bytes.len());
    bytes
}

fn schema(provider: &Provider) -> Vec<u8> {
    let mut schema = vec![0; 4096];
    let length = provider.encode(&mut schema).expect("there is room");
    schema.truncate(length);
    schema
}

fn packet() -> Vec<u8> {
    let rules = [
        Rule {
            matched: Matched::ADDRESS,
            name: Text::Utf8("no telemetry"),
        },
        Rule {
            matched: Matched::ADDRESS | Matched::IMAGE,
            name: Text::Utf8(""),
        },
    ];
    encoded(&Packet {
        wide: Some(5),
        remote: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        local: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        four: Ipv4Addr::LOCALHOST,
        six: Ipv6Addr::LOCALHOST,
        flow: Guid(std::array::from_fn(|at| at as u8)),
        verdict: Verdict::Drop,
        former: None,
        rules: List::new(&rules),
        last: Rule {
            matched: Matched::IMAGE,
            name: Text::Utf8("last"),
        },
        note: Some(Text::Utf8("n")),
        blob: None,
        process: None,
        port: Some(443),
        delta: -2,
        hops: 9,
        tone: -1,
        lives: Some(3),
    })
}

/// What the program in C writes, in its order.
pub(crate) fn expected() -> Vec<(&'static str, Vec<u8>)> {
    let numbers = Numbers {
        big: 0x0123_4567_89ab_cdef,
        low: -2,
        when: Time(132_537_600_000_000_000),
        middle: 0xdead_beef,
        below: -3,
        yes: true,
        process: Pid(4),
        status: Status(-1_073_741_790),
        small: 0x1234,
    };
    let texts = Texts {
        text: Text::Utf8("Grüße"),
        bytes: &[1, 2, 3],
        list: TextList::Strings(&["*.exe", ""]),
        number: 9,
    };
    vec![
        ("the hash", PROVIDER.hash().to_le_bytes().to_vec()),
        ("the schema", schema(&PROVIDER)),
        ("numbers", encoded(&numbers)),
        ("texts", encoded(&texts)),
        ("the decoded order", b"fit".to_vec()),
        ("the hash with types", TYPED.hash().to_le_bytes().to_vec()),
        ("the schema with types", schema(&TYPED)),
        ("the packet", packet()),
    ]
}
