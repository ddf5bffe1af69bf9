// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::message::Message;

const SET: ValueSet<'_> = ValueSet {
    pid: Pid(0x1234),
    tid: Pid(0x10),
    status: Status(0xC000_0022_u32 as i32),
    kind: ValueType::Binary,
    size: 300,
    key: Some(Text::Utf8("\\R")),
    name: Text::Utf8("v"),
    data: &[1, 2, 3],
    truncated: false,
};

const SET_BYTES: [u8; 57] = [
    0x34, 0x12, 0, 0, 0x10, 0, 0, 0, // pid, tid
    0x22, 0, 0, 0xC0, 3, 0, 0, 0, 0x2C, 1, 0, 0, // status, kind, size
    48, 0, 0, 0, 4, 0, 0, 0, // key: offset 48, 4 bytes
    52, 0, 0, 0, 2, 0, 0, 0, // name
    54, 0, 0, 0, 3, 0, 0, 0, // data
    0, 0, 0, 0, // truncated
    b'\\', 0, b'R', 0, b'v', 0, 1, 2, 3,
];

#[test]
fn golden_bytes_of_value_set() {
    let mut out = [0xff; 64];
    assert_eq!(SET.encode(&mut out), Ok(57));
    assert_eq!(out[..57], SET_BYTES);
    assert_eq!(ValueSet::decode(&SET_BYTES), Ok(SET));
}

#[test]
fn what_ends_too_early_is_refused() {
    for n in 0..SET_BYTES.len() {
        assert!(ValueSet::decode(&SET_BYTES[..n]).is_err(), "{n} bytes");
    }
}

#[test]
fn golden_bytes_of_change() {
    let change = KeyChange {
        pid: Pid(7),
        tid: Pid(8),
        operation: Intention::DeleteKey,
        kind: ValueType::None,
        size: 0,
        key: Text::Utf8("\\K"),
        name: None,
        data: &[],
        truncated: true,
    };
    let mut out = [0xff; 64];
    assert_eq!(change.encode(&mut out), Ok(52));
    assert_eq!(out[8..12], 3_u32.to_le_bytes());
    assert_eq!(KeyChange::decode(&out[..52]), Ok(change));
    let mut verdict = [0; 4];
    assert_eq!(ChangeVerdict { deny: true }.encode(&mut verdict), Ok(4));
    assert_eq!(verdict, [1, 0, 0, 0]);
}
