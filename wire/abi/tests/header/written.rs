// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same definition as in `written.c`, and the same messages.

use fltport_abi::message::{Message, Pid, Status, Time};
use fltport_abi::text::{Text, TextList};

fltport_abi::messages! {
    /// One of every kind.
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
}

fn encoded<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut bytes = vec![0xaa; message.encoded_len()];
    let length = message.encode(&mut bytes).expect("there is room");
    assert_eq!(length, bytes.len());
    bytes
}

/// What the program in C writes, in its order.
pub(crate) fn expected() -> Vec<(&'static str, Vec<u8>)> {
    let mut schema = vec![0; 4096];
    let length = PROVIDER.encode(&mut schema).expect("there is room");
    schema.truncate(length);
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
        ("the schema", schema),
        ("numbers", encoded(&numbers)),
        ("texts", encoded(&texts)),
        ("the decoded order", b"fit".to_vec()),
    ]
}
