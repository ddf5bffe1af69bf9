// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::message::{DecodeError, EncodeError, Message};
use crate::schema::{self, FieldKind, FieldRow, Owner, Role, SchemaVisitor, Value};

const START: ProcessStart<'_> = ProcessStart {
    pid: Pid(0x1234),
    parent_pid: Pid(0x10),
    creating_pid: Pid(0x11),
    creating_tid: Pid(0x12),
    image: Some(Text::Utf8("/a")),
    command_line: None,
    truncated: true,
};

const START_BYTES: [u8; 40] = [
    0x34, 0x12, 0, 0, 0x10, 0, 0, 0, 0x11, 0, 0, 0, 0x12, 0, 0, 0, // pids
    36, 0, 0, 0, 4, 0, 0, 0, // image: offset 36, 4 bytes
    0, 0, 0, 0, 0, 0, 0, 0, // command line: absent
    1, 0, 0, 0, // truncated
    b'/', 0, b'a', 0,
];

#[test]
fn golden_bytes_of_start() {
    let mut out = [0xff; 64];
    assert_eq!(START.encode(&mut out), Ok(40));
    assert_eq!(START.encoded_len(), 40);
    assert_eq!(out[..40], START_BYTES);
    assert_eq!(ProcessStart::decode(&START_BYTES), Ok(START));
    assert_eq!(ProcessStart::FIXED, 36);
}

#[test]
fn every_prefix_and_every_bad_offset_is_refused() {
    for n in 0..START_BYTES.len() {
        assert!(
            ProcessStart::decode(&START_BYTES[..n]).is_err(),
            "{n} bytes"
        );
        let mut out = [0; 64];
        assert_eq!(
            START.encode(&mut out[..n]),
            Err(EncodeError::TooLarge),
            "{n} bytes"
        );
    }
    for (at, value, error) in [
        (16, 37_u32, DecodeError::OutOfBounds),
        (16, u32::MAX, DecodeError::OutOfBounds),
        (20, 5, DecodeError::OutOfBounds),
        (20, 3, DecodeError::BadValue),
        (20, u32::MAX, DecodeError::OutOfBounds),
        (28, 1, DecodeError::OutOfBounds),
        (32, 2, DecodeError::BadValue),
    ] {
        let mut bytes = START_BYTES;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(ProcessStart::decode(&bytes), Err(error), "{value} at {at}");
    }
}

#[test]
fn an_empty_text_is_not_an_absent_one() {
    let mut out = [0; 64];
    let start = ProcessStart {
        image: Some(Text::Utf8("")),
        ..START
    };
    let n = start.encode(&mut out).unwrap();
    assert_eq!(
        ProcessStart::decode(&out[..n]).unwrap().image,
        Some(Text::Utf8(""))
    );
}

#[test]
fn lists_are_checked() {
    let mut out = [0; 64];
    let message = SetExclusions {
        images: TextList::Strings(&["a", "bc"]),
    };
    let n = message.encode(&mut out).unwrap();
    assert_eq!(SetExclusions::decode(&out[..n]), Ok(message));
    out[8] = 200;
    assert_eq!(SetExclusions::decode(&out[..n]), Err(DecodeError::BadValue));
}

#[derive(Default)]
struct Collected(std::string::String);

impl SchemaVisitor for Collected {
    fn provider(&mut self, name: &str, hash: u64) {
        assert_eq!(hash, PROVIDER.hash());
        self.0 += name;
    }
    fn message(&mut self, number: u16, role: Role, name: &str) {
        self.0 += &std::format!("\n{number} {role:?} {name}:");
    }
    fn field(&mut self, field: &FieldRow<'_>) {
        let kind = FieldKind::from_wire(field.kind).unwrap();
        let arrow = if field.owner == Owner::Reply {
            "->"
        } else {
            ""
        };
        self.0 += &std::format!(" {arrow}{} {kind:?}@{}", field.name, field.offset);
    }
}

#[test]
fn the_schema_survives_the_wire() {
    let mut out = [0; 2048];
    let n = PROVIDER.encode(&mut out).unwrap();
    let mut collected = Collected::default();
    schema::read(&out[..n], &mut collected).unwrap();
    assert!(
        collected
            .0
            .contains("\n2 Notification exit: pid Pid@0 exit_status Status@4\n"),
        "{}",
        collected.0
    );
    assert!(
        collected.0.contains("truncated Bool@32 ->deny Bool@0\n"),
        "{}",
        collected.0
    );
    for short in 0..n {
        assert!(
            schema::read(&out[..short], &mut Collected::default()).is_err(),
            "{short} bytes"
        );
    }
}

#[test]
fn values_are_read_with_the_schema_alone() {
    let read = |name: &str, fixed| {
        let field = ProcessStart::FIELDS
            .iter()
            .find(|f| f.name == name)
            .unwrap();
        schema::value(&START_BYTES, fixed, field.kind, field.offset.into())
    };
    assert_eq!(read("pid", 36), Ok(Value::Pid(Pid(0x1234))));
    assert_eq!(read("image", 36), Ok(Value::Text(Text::Utf8("/a"))));
    assert_eq!(read("command_line", 36), Ok(Value::Absent));
    assert_eq!(read("truncated", 36), Ok(Value::Bool(true)));
    // Written by an older provider, whose fixed part ended before the field.
    assert_eq!(read("truncated", 32), Ok(Value::Absent));
}
