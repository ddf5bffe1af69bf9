// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses, GUIDs, and fields that may be absent without lying in the variable data.

use super::samples::Endpoint;
use super::*;
use crate::message::Guid;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GUID: Guid = Guid([7; 16]);
const ENDPOINT: Endpoint = Endpoint {
    interface: GUID,
    remote: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
    local: Ipv4Addr::LOCALHOST,
    port: Some(443),
    owner: None,
};

fn on(name: &str) -> FieldPlace {
    place(Endpoint::FIELDS, name)
}

fn program(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; MAX_FILTER];
    let mut writer = Writer::new(&mut bytes, 2);
    write(&mut writer);
    let length = writer.finish().unwrap();
    bytes.truncate(length);
    bytes
}

fn checked(bytes: &[u8]) -> Result<(), Fault> {
    let program = Program::parse(bytes).expect("a program");
    let checked = program.check(|kind, at, mark| is_there(Endpoint::FIELDS, kind, at, mark));
    checked.map_err(|error| error.fault)
}

fn holds(endpoint: &Endpoint, write: impl FnOnce(&mut Writer<'_>)) -> bool {
    let bytes = program(write);
    assert_eq!(checked(&bytes), Ok(()));
    let mut message = vec![0; endpoint.encoded_len()];
    endpoint.encode(&mut message).unwrap();
    let program = Program::parse(&bytes).unwrap();
    match program.evaluate(&message, Endpoint::FIXED, upcase) {
        Verdict::Wanted => true,
        Verdict::Unwanted => false,
        Verdict::Undecided => panic!("not decided"),
    }
}

#[test]
fn addresses_lie_in_networks() {
    let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap());
    let v4 = |text: &str| IpAddr::V4(text.parse::<Ipv4Addr>().unwrap());
    let far = Endpoint {
        remote: v6("fe80::1:2"),
        ..ENDPOINT
    };
    for (endpoint, network, bits, expected) in [
        (&ENDPOINT, v4("10.0.0.0"), 8, true),
        // What does not count does not matter.
        (&ENDPOINT, v4("10.9.9.9"), 8, true),
        (&ENDPOINT, v4("10.1.2.3"), 32, true),
        (&ENDPOINT, v4("10.1.2.2"), 32, false),
        (&ENDPOINT, v4("10.1.2.2"), 31, true),
        (&ENDPOINT, v4("0.0.0.0"), 0, true),
        // The other family is no network of it, however large.
        (&ENDPOINT, v6("::"), 0, false),
        (&far, v4("0.0.0.0"), 0, false),
        (&far, v6("::"), 0, true),
        (&far, v6("fe80::"), 10, true),
        (&far, v6("fe80::1:2"), 128, true),
        (&far, v6("fe80::1:3"), 128, false),
    ] {
        let found = holds(endpoint, |w| {
            w.network(on("remote"), network, bits).unwrap()
        });
        assert_eq!(found, expected, "{network}/{bits}");
    }
    let local = |network, bits| program(|w| w.network(on("local"), network, bits).unwrap());
    assert_eq!(checked(&local(v4("127.0.0.0"), 8)), Ok(()));
    assert_eq!(checked(&local(v6("::1"), 128)), Err(Fault::Operand));
    assert_eq!(checked(&local(v4("127.0.0.1"), 33)), Err(Fault::Operand));
    let spoilt = {
        let mut bytes = local(v4("127.0.0.0"), 8);
        let last = bytes.len() - 1;
        bytes[last] = 1;
        bytes
    };
    assert_eq!(checked(&spoilt), Err(Fault::Operand));
}

#[test]
fn guids_are_equal_or_not() {
    let equal = |guid: &[u8]| program(|w| w.bytes(Op::BytesEqual, on("interface"), guid).unwrap());
    assert!(holds(&ENDPOINT, |w| {
        w.bytes(Op::BytesEqual, on("interface"), &GUID.0).unwrap();
    }));
    assert_eq!(checked(&equal(&[7; 15])), Err(Fault::Operand));
    let prefix = program(|w| w.bytes(Op::BytesPrefix, on("interface"), &[7; 4]).unwrap());
    assert_eq!(checked(&prefix), Err(Fault::WrongKind));
}

#[test]
fn a_mark_says_whether_a_number_is_there() {
    let is_https = |endpoint: &Endpoint| {
        holds(endpoint, |w| {
            w.numbers(Op::Range, on("port"), &[443, 443]).unwrap();
        })
    };
    let none = Endpoint {
        port: None,
        owner: Some(Pid(0)),
        ..ENDPOINT
    };
    assert!(is_https(&ENDPOINT) && !is_https(&none));
    for (endpoint, name, expected) in [
        (&ENDPOINT, "port", false),
        (&none, "port", true),
        (&ENDPOINT, "owner", true),
        (&none, "owner", false),
    ] {
        let absent = holds(endpoint, |w| w.absent(on(name)).unwrap());
        assert_eq!(absent, expected, "{name}");
    }
    // Zero is a value.
    assert!(holds(&none, |w| {
        w.numbers(Op::In, on("owner"), &[0]).unwrap();
    }));
    // A program that does not know of the mark would take the mark's bytes for something else.
    let unmarked = FieldPlace {
        optional: false,
        ..on("port")
    };
    let program = program(|w| w.numbers(Op::Range, unmarked, &[443, 443]).unwrap());
    assert_eq!(checked(&program), Err(Fault::NoField));
}
