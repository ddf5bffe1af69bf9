// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::vec::Vec;

fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = std::vec![0; T::SIZE];
    value.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn golden_bytes_of_every_struct() {
    assert_eq!(
        bytes(&RequestHeader::new(op::GET, 0x0102, 8)),
        [
            b'F', b'P', b'H', b'Q', 0x1f, 0x40, 0x08, 0, 2, 1, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0,
            0, 0
        ]
    );
    assert_eq!(
        bytes(&CompletionHeader::new(7, -1, 3, 5)),
        [
            b'F', b'P', b'H', b'C', 255, 255, 255, 255, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5, 0,
            0, 0
        ]
    );
    let send = Send {
        input: 1,
        output: 2,
        input_length: 3,
        output_length: 4,
    };
    assert_eq!(
        bytes(&send),
        [
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0
        ]
    );
    let connect = Connect {
        name: 2,
        context: 3,
    };
    assert_eq!(bytes(&connect), [2, 0, 0, 0, 3, 0, 0, 0]);
    let get = Get {
        capacity: 0x10010,
        reserved: 0,
    };
    assert_eq!(bytes(&get), [0x10, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(&Cancel { id: 9 }), [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        bytes(&MapView::new(5, 0x2000, true)),
        [
            b'F', b'P', b'H', b'M', 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0
        ]
    );
    let mapped = Mapped {
        id: 5,
        status: -2,
        reserved: 0,
        address: 0x10_0000_1000,
    };
    assert_eq!(
        bytes(&mapped),
        [
            5, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x10, 0, 0, 0
        ]
    );
    let description = Description {
        capabilities: 1,
        pid: 2,
    };
    assert_eq!(bytes(&description), [1, 0, 0, 0, 2, 0, 0, 0]);
}

#[test]
fn the_codes_are_those_of_windows() {
    let code = |access: u32, function: u32| 8 << 16 | access << 14 | function << 2 | 3;
    assert_eq!(
        [op::SEND, op::GET, op::REPLY],
        [code(2, 6), code(1, 7), code(2, 8)]
    );
}

fn parse(op: u32, payload: &[u8]) -> Result<Request<'_>, Violation> {
    Request::parse(&RequestHeader::new(op, 1, payload.len()), payload)
}

#[test]
fn requests_are_read() {
    assert_eq!(parse(op::DESCRIBE, &[]), Ok(Request::Describe));
    let connect = [2, 0, 0, 0, 3, 0, 0, 0, b'\\', 0, 1, 2, 3];
    assert_eq!(
        parse(op::CONNECT, &connect),
        Ok(Request::Connect {
            name: b"\\\0",
            context: &[1, 2, 3]
        })
    );
    assert_eq!(
        parse(op::CANCEL, &[0; 8]),
        Ok(Request::Cancel(None)),
        "0 is all"
    );
    assert_eq!(
        parse(op::GET, &[16, 0, 0, 0, 0, 0, 0, 0]),
        Ok(Request::Get(16))
    );
    assert_eq!(parse(op::REPLY, b"x"), Ok(Request::Reply(b"x")));
}

#[test]
fn a_question_for_a_view_stands_between_completions() {
    let question = MapView::new(5, 4096, false);
    assert_eq!(
        MapView::SIZE,
        CompletionHeader::SIZE,
        "one is told from the other"
    );
    assert_eq!(MapView::find(&bytes(&question)), Ok(Some(question)));
    let completion = bytes(&CompletionHeader::new(7, 0, 0, 0));
    assert_eq!(MapView::find(&completion), Ok(None));
    for broken in [
        MapView {
            writable: 2,
            ..question
        },
        MapView { id: 0, ..question },
        MapView {
            length: 0,
            ..question
        },
    ] {
        assert_eq!(MapView::find(&bytes(&broken)), Err(Violation::Value));
    }
    let mut mapped = Mapped {
        id: 5,
        status: 0,
        reserved: 0,
        address: 4096,
    };
    assert_eq!(
        parse(op::MAPPED, &bytes(&mapped)),
        Ok(Request::Mapped(mapped))
    );
    mapped.reserved = 1;
    assert_eq!(parse(op::MAPPED, &bytes(&mapped)), Err(Violation::Value));
    let send = Send {
        input: 1,
        output: 2,
        input_length: 3,
        output_length: 4,
    };
    let with_views = parse(op::SEND_WITH_VIEWS, &bytes(&send)) == Ok(Request::SendWithViews(send));
    assert!(with_views);
}

#[test]
fn every_cut_of_a_request_is_refused() {
    let connect = [2, 0, 0, 0, 3, 0, 0, 0, b'\\', 0, 1, 2, 3];
    for n in 0..connect.len() {
        assert_eq!(
            parse(op::CONNECT, &connect[..n]),
            Err(Violation::Length),
            "{n} bytes"
        );
    }
    for n in (0..8).chain([9]) {
        assert_eq!(parse(op::GET, &[0; 9][..n]), Err(Violation::Length));
        assert_eq!(parse(op::CANCEL, &[0; 9][..n]), Err(Violation::Length));
    }
    assert_eq!(parse(op::SEND, &[0; 23]), Err(Violation::Length));
    assert_eq!(parse(op::DESCRIBE, &[0]), Err(Violation::Length));
}

#[test]
fn hostile_lengths_are_refused_before_they_are_believed() {
    for (op, length) in [
        (op::REPLY, MAX_REPLY as u32 + 1),
        (op::CONNECT, u32::MAX),
        (op::GET, u32::MAX),
        (op::SEND, 25),
    ] {
        let header = RequestHeader {
            length,
            ..RequestHeader::new(op, 1, 0)
        };
        assert_eq!(header.payload_len(), Err(Violation::Length), "{op:#x}");
    }
    let odd_name = [1, 0, 0, 0, 0, 0, 0, 0, b'x'];
    assert_eq!(parse(op::CONNECT, &odd_name), Err(Violation::Length));
    let huge_get = bytes(&Get {
        capacity: u32::MAX,
        reserved: 0,
    });
    assert_eq!(parse(op::GET, &huge_get), Err(Violation::Value));
    let huge_send = bytes(&Send {
        input: 0,
        output: 0,
        input_length: u32::MAX,
        output_length: 0,
    });
    assert_eq!(parse(op::SEND, &huge_send), Err(Violation::Value));
    assert_eq!(parse(99, &[]), Err(Violation::Operation));
    let completion = CompletionHeader {
        length: u32::MAX,
        ..CompletionHeader::new(1, 0, 0, 0)
    };
    assert_eq!(completion.payload_len(), Err(Violation::Length));
}

#[test]
fn wrong_magic_and_reserved_bits_are_refused() {
    let header = RequestHeader {
        magic: COMPLETION_MAGIC,
        ..RequestHeader::new(op::DESCRIBE, 1, 0)
    };
    assert_eq!(header.payload_len(), Err(Violation::Magic));
    let header = RequestHeader {
        reserved: 1,
        ..RequestHeader::new(op::DESCRIBE, 1, 0)
    };
    assert_eq!(header.payload_len(), Err(Violation::Value));
    let nameless = RequestHeader::new(op::DESCRIBE, NO_REQUEST, 0);
    assert_eq!(nameless.payload_len(), Err(Violation::Value));
    let completion = CompletionHeader {
        magic: 0,
        ..CompletionHeader::new(1, 0, 0, 0)
    };
    assert_eq!(completion.payload_len(), Err(Violation::Magic));
}
