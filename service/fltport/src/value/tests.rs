// SPDX-License-Identifier: MIT OR Apache-2.0
#![allow(unreachable_pub)]

use super::*;
use crate::schema::Schema;
use fltport_abi::Message;
use fltport_abi::message::List;
use fltport_abi::schema::Provider;

fltport_abi::messages! {
    /// A provider with definitions.
    provider PROVIDER = "keys";

    types {
        /// What happens to a key.
        enum Operation {
            /// It is made.
            1 "create" Create,
            /// It is removed.
            2 "delete" Delete,
        }

        /// Access.
        flags Access {
            /// Read.
            0x1 "read" READ,
            /// Write.
            0x2 "write" WRITE,
            /// Both.
            0x3 "all" ALL,
        }

        /// A value of a key.
        record Entry<'a> {
            /// Its name.
            name: Text<'a>,
            /// Its type.
            kind: Option<u16>,
        }
    }

    /// Something happened to a key.
    notification 1 "key" Key<'a> {
        /// What.
        operation: Operation,
        /// With which rights.
        access: Access,
        /// From where.
        from: IpAddr,
        /// The values.
        entries: List<'a, Entry<'a>>,
        /// The one that matters.
        entry: Option<Entry<'a>>,
    }
}

fn schema_of(provider: &Provider) -> Schema {
    let mut bytes = vec![0; 16 * 1024];
    let length = provider.encode(&mut bytes).unwrap();
    Schema::decode(&bytes[..length]).unwrap()
}

fn key_bytes(operation: Operation, access: u32) -> Vec<u8> {
    let entry = |name, kind| Entry {
        name: Text::Utf8(name),
        kind,
    };
    let entries = [entry("a", Some(1)), entry("b", None)];
    let key = Key {
        operation,
        access: Access(access),
        from: "fe80::1".parse().unwrap(),
        entries: List::new(&entries),
        entry: Some(entry("c", None)),
    };
    let mut bytes = vec![0; key.encoded_len()];
    key.encode(&mut bytes).unwrap();
    bytes
}

fn value<'a>(schema: &'a Schema, bytes: &'a [u8], name: &str) -> Value<'a> {
    let mut fields = read_fields(&schema.messages[0].fields, bytes, Key::FIXED);
    let found = fields.find(|(field, _)| *field == name).unwrap();
    found.1.unwrap()
}

#[test]
fn values_and_bits_have_their_names() {
    let schema = schema_of(&PROVIDER);
    let bytes = key_bytes(Operation::Delete, 0x12);
    let Value::Enum(choice) = value(&schema, &bytes, "operation") else {
        panic!()
    };
    assert_eq!((choice.number, choice.name), (2, Some("delete")));
    let Value::Flags(bits) = value(&schema, &bytes, "access") else {
        panic!()
    };
    assert!(bits.names().eq(["write"]));
    assert_eq!(bits.unnamed(), 0x10);
    let bytes = key_bytes(Operation::Other(9), 3);
    let Value::Enum(choice) = value(&schema, &bytes, "operation") else {
        panic!()
    };
    assert_eq!((choice.number, choice.name), (9, None));
    let Value::Flags(bits) = value(&schema, &bytes, "access") else {
        panic!()
    };
    assert!(bits.names().eq(["read", "write", "all"]));
    assert_eq!(bits.unnamed(), 0);
}

#[test]
fn records_are_read_with_the_schema_alone() {
    let schema = schema_of(&PROVIDER);
    let bytes = key_bytes(Operation::Create, 0);
    let Value::List(entries) = value(&schema, &bytes, "entries") else {
        panic!()
    };
    let read: Vec<Vec<_>> = entries.iter().map(|e| e.iter().collect()).collect();
    let name = |name| ("name", Ok(Value::Text(Text::Utf8(name))));
    let kind = |value| ("kind", Ok(value));
    assert_eq!(
        read,
        [
            [name("a"), kind(Value::Unsigned(1))],
            [name("b"), kind(Value::Absent)]
        ]
    );
    let Value::Record(entry) = value(&schema, &bytes, "entry") else {
        panic!()
    };
    assert!(entry.iter().eq([name("c"), kind(Value::Absent)]));
}

#[test]
fn what_is_wrong_in_the_last_record_of_a_list_is_found() {
    let schema = schema_of(&PROVIDER);
    let fields = &schema.messages[0].fields;
    let bytes = key_bytes(Operation::Create, 0);
    assert_eq!(verify(fields, &bytes, Key::FIXED), Ok(()));
    assert_eq!(fixed_part(fields, &bytes), Key::FIXED);
    // The second entry: 8 bytes behind the block, and 12 behind that. Its name's length is odd.
    let at = Key::FIXED + 8 + 12 + 4;
    let mut odd = bytes.clone();
    odd[at] = 1;
    assert_eq!(verify(fields, &odd, Key::FIXED), Err(DecodeError::BadValue));
    // Its mark is neither 0 nor 1.
    let mut marked = bytes;
    marked[at + 4 + 2] = 2;
    assert_eq!(
        verify(fields, &marked, Key::FIXED),
        Err(DecodeError::BadValue)
    );
}

/// The schema as a newer version would write it, with what this one does not know.
fn of_a_newer_version() -> Vec<u8> {
    let mut items = Vec::new();
    let mut item = |tag: u8, body: &[u8]| {
        items.extend((body.len() as u16 + 3).to_le_bytes());
        items.push(tag);
        items.extend(body);
    };
    item(9, b"who knows");
    item(1, b"\x07\x01F");
    item(2, b"\0\x01\0\0\0\x01x");
    item(3, b"\x01\x01\0\x01n and more");
    item(4, b"\x02\0\0\0\0\x03pid");
    item(4, b"\xc8\x04\0\0\x01\x03odd and more");
    item(4, b"\x02\x08\0\0\0\x04last");
    item(3, b"\x09\x02\0\x01r");
    item(4, b"\x02\0\0\0\0\x03pid");
    let mut bytes = b"FPSC\x03\0\x02\0\0\0\0\0\0\0\0\0\x03new".to_vec();
    bytes.extend((items.len() as u32).to_le_bytes());
    bytes.extend(items);
    bytes
}

#[test]
fn a_newer_schema_is_read_as_far_as_it_is_known() {
    let bytes = of_a_newer_version();
    let schema = Schema::decode(&bytes).unwrap();
    assert_eq!(schema.messages.len(), 1, "one has a role of its own");
    assert_eq!(schema.definitions[0].form, FormSchema::Unknown);
    let message = [5, 0, 0, 0, 1, 2, 3, 4, 6, 0, 0, 0];
    let fields = &schema.messages[0].fields;
    assert_eq!(verify(fields, &message, 12), Ok(()));
    assert!(read_fields(fields, &message, 12).eq([
        ("pid", Ok(Value::Unsigned(5))),
        ("odd", Ok(Value::Unknown(&[1, 2, 3, 4]))),
        ("last", Ok(Value::Unsigned(6))),
    ]));
    for short in 0..bytes.len() {
        assert!(Schema::decode(&bytes[..short]).is_err(), "{short} bytes");
    }
    // The version that this one knows may not have such things.
    let mut known = bytes;
    known[4] = 2;
    assert!(Schema::decode(&known).is_err());
}
