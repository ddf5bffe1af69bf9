// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `docs/schema.md` shows, and what it says of it.

mod wall;

use fltport_abi::message::{DecodeError, List, Message};
use fltport_abi::text::Text;
use std::net::{IpAddr, Ipv4Addr};
use wall::{PROVIDER, Packet, Rule, Verdict};

const RULES: [Rule<'static>; 1] = [Rule {
    name: Text::Utf8("no telnet"),
}];

fn packet(port: Option<u16>) -> Packet<'static> {
    Packet {
        remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
        verdict: Verdict::Drop,
        rules: List::new(&RULES),
        port,
    }
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len()];
    assert_eq!(packet.encode(&mut bytes), Ok(bytes.len()));
    bytes
}

#[test]
fn the_first_block_is_what_is_compiled_here() {
    let guide = include_str!("../../../../docs/schema.md");
    let (_, behind) = guide.split_once("```rust\n").expect("a block");
    let (shown, _) = behind.split_once("```\n").expect("its end");
    let (_, compiled) = include_str!("wall.rs").split_once("block.\n\n").unwrap();
    assert_eq!(
        shown, compiled,
        "docs/schema.md and wire/abi/tests/guide/wall.rs differ: copy the one into the other"
    );
}

#[test]
fn a_packet_is_read_as_it_was_written() {
    assert_eq!((PROVIDER.name, PROVIDER.messages.len()), ("wall", 1));
    for port in [None, Some(23)] {
        let bytes = encoded(&packet(port));
        let read = Packet::decode(&bytes).unwrap();
        assert_eq!((read.remote, read.port), (packet(port).remote, port));
        assert!(read.verdict == Verdict::Drop);
        let names: Vec<String> = read.rules.iter().map(|it| it.name.to_string()).collect();
        assert_eq!(names, ["no telnet"]);
    }
}

#[test]
fn a_packet_that_was_cut_off_is_none() {
    let bytes = encoded(&packet(None));
    let cut = Packet::decode(&bytes[..bytes.len() - 1]);
    assert!(matches!(cut, Err(DecodeError::OutOfBounds)), "{cut:?}");
}
