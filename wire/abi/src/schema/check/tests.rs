// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::process_monitor::PROVIDER;
use std::vec::Vec;

/// An encoded schema of version 2, item by item.
struct Schema {
    messages: u16,
    items: Vec<u8>,
}

const ENUM: u8 = 1;
const RECORD: u8 = 3;

impl Schema {
    fn new() -> Schema {
        Schema {
            messages: 0,
            items: Vec::new(),
        }
    }

    fn item(mut self, tag: u8, head: &[u8], name: &[u8]) -> Schema {
        let size = 3 + head.len() + 1 + name.len();
        self.items.extend((size as u16).to_le_bytes());
        self.items.push(tag);
        self.items.extend(head);
        self.items.push(name.len() as u8);
        self.items.extend(name);
        self
    }

    fn definition(self, form: u8, name: &str) -> Schema {
        self.item(1, &[form], name.as_bytes())
    }

    fn value(self, value: u8, name: &str) -> Schema {
        self.item(2, &[0, value, 0, 0, 0], name.as_bytes())
    }

    fn message(mut self, number: u8, role: u8, name: &str) -> Schema {
        self.messages += 1;
        self.item(3, &[role, number, 0], name.as_bytes())
    }

    fn field(self, kind: FieldKind, offset: u16, name: &str) -> Schema {
        self.refer(kind, offset, 0, name)
    }

    fn reply(self, kind: FieldKind, offset: u16, name: &str) -> Schema {
        let [low, high] = offset.to_le_bytes();
        self.item(5, &[kind as u8, low, high, 0, 0], name.as_bytes())
    }

    fn refer(self, kind: FieldKind, offset: u16, definition: u8, name: &str) -> Schema {
        let [low, high] = offset.to_le_bytes();
        let head = [kind as u8, low, high, 0, definition];
        self.item(4, &head, name.as_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"FPSC\x02\0".to_vec();
        bytes.extend(self.messages.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(b"\x04wall");
        bytes.extend((self.items.len() as u32).to_le_bytes());
        bytes.extend(&self.items);
        bytes
    }

    fn check(&self) -> Result<(), SchemaError> {
        check(&self.bytes())
    }
}

fn message() -> Schema {
    Schema::new().message(1, 1, "m")
}

const BAD: Result<(), SchemaError> = Err(SchemaError::Unreadable(DecodeError::BadValue));

#[test]
fn what_the_macro_makes_is_sound() {
    let mut bytes = [0; 4096];
    let length = PROVIDER.encode(&mut bytes).unwrap();
    assert_eq!(check(&bytes[..length]), Ok(()));
    let sound = Schema::new()
        .definition(ENUM, "choice")
        .value(0, "no")
        .value(1, "yes")
        .definition(RECORD, "part")
        .refer(FieldKind::Enum, 0, 1, "choice")
        .message(1, 1, "m")
        .refer(FieldKind::List, 0, 2, "parts")
        .refer(FieldKind::Enum, 8, 1, "choice")
        .message(2, 3, "n")
        .field(FieldKind::U32, 0, "parts");
    assert_eq!(sound.check(), Ok(()));
    let bytes = sound.bytes();
    for short in 0..bytes.len() {
        assert!(check(&bytes[..short]).is_err(), "{short} bytes");
    }
}

#[test]
fn fields_that_overlap_or_lie_outside_are_refused() {
    let wide = |offset| message().field(FieldKind::U64, offset, "a");
    assert_eq!(wide(0).check(), Ok(()));
    assert_eq!(wide(4).check(), Err(SchemaError::BadOffset));
    assert_eq!(wide(65_528).check(), Err(SchemaError::BadOffset));
    for (offset, overlaps) in [(0, true), (4, true), (8, false)] {
        let two = wide(0).field(FieldKind::U32, offset, "b").check();
        assert_eq!(two.is_err(), overlaps, "{offset}: {two:?}");
    }
    let backwards = message()
        .field(FieldKind::U32, 8, "a")
        .field(FieldKind::U32, 0, "b");
    assert_eq!(backwards.check(), Err(SchemaError::Overlap));
}

#[test]
fn fields_on_both_sides_of_a_reply_are_fields_of_one_message() {
    let mixed = |offset| {
        message()
            .field(FieldKind::U32, 8, "a")
            .reply(FieldKind::U32, 4, "x")
            .field(FieldKind::U32, offset, "b")
    };
    assert_eq!(mixed(8).check(), Err(SchemaError::Overlap));
    assert_eq!(mixed(12).check(), Ok(()));
    let replies = |offset| mixed(12).reply(FieldKind::U32, offset, "y").check();
    assert_eq!(replies(4), Err(SchemaError::Overlap));
    assert_eq!(replies(8), Ok(()));
}

#[test]
fn names_and_numbers_are_unique_and_sane() {
    let two = |name: &str, number| message().message(number, 2, name).check();
    assert_eq!(two("n", 2), Ok(()));
    assert_eq!(two("m", 2), Err(SchemaError::SameName));
    assert_eq!(two("n", 1), Err(SchemaError::SameNumber));
    assert_eq!(two("n", 0), BAD);
    assert_eq!(two("n", 64), BAD);
    let fields = message()
        .field(FieldKind::U32, 0, "a")
        .field(FieldKind::U32, 4, "a");
    assert_eq!(fields.check(), Err(SchemaError::SameName));
    let values = Schema::new()
        .definition(ENUM, "e")
        .value(0, "a")
        .value(1, "a");
    assert_eq!(values.check(), Err(SchemaError::SameName));
    let definitions = Schema::new().definition(ENUM, "e").definition(ENUM, "e");
    assert_eq!(definitions.check(), Err(SchemaError::SameName));
    for name in ["", "a\u{1b}[31m", &"x".repeat(65)] {
        let named = Schema::new().message(1, 1, name).check();
        assert_eq!(named, Err(SchemaError::BadName), "{name:?}");
    }
    let bytes = Schema::new().item(4, &[2, 0, 0, 0, 0], b"\xff");
    assert_eq!(bytes.check(), BAD);
    let latin = message().item(4, &[2, 0, 0, 0, 0], b"\xff");
    assert_eq!(latin.check(), BAD);
}

#[test]
fn references_go_back_and_not_too_deep() {
    let enums = |definition| {
        Schema::new()
            .definition(ENUM, "e")
            .definition(RECORD, "r")
            .field(FieldKind::U8, 0, "x")
            .message(1, 1, "m")
            .refer(FieldKind::Enum, 0, definition, "f")
            .check()
    };
    assert_eq!(enums(1), Ok(()));
    for definition in [0, 2, 3, 255] {
        assert_eq!(enums(definition), Err(SchemaError::BadDefinition));
    }
    // Itself, and one behind it.
    for definition in [1, 2] {
        let cycle = Schema::new()
            .definition(RECORD, "r")
            .refer(FieldKind::List, 0, definition, "f")
            .definition(RECORD, "s")
            .field(FieldKind::U8, 0, "x");
        assert_eq!(cycle.check(), Err(SchemaError::BadDefinition));
    }
    let nested = |depth: u8| {
        let first = Schema::new()
            .definition(RECORD, "r1")
            .field(FieldKind::U8, 0, "x");
        let deeper = |schema: Schema, below: u8| {
            let name = std::format!("r{}", below + 1);
            schema
                .definition(RECORD, &name)
                .refer(FieldKind::List, 0, below, "x")
        };
        (1..depth).fold(first, deeper).check()
    };
    assert_eq!(nested(4), Ok(()));
    assert_eq!(nested(5), Err(SchemaError::TooDeep));
    let many = |count: u8| {
        let one = |schema: Schema, n| schema.definition(ENUM, &std::format!("e{n}"));
        (0..count).fold(Schema::new(), one).check()
    };
    assert_eq!(many(64), Ok(()));
    assert_eq!(many(65), Err(SchemaError::TooManyDefinitions));
}

#[test]
fn roles_forms_tags_and_tails_that_are_not_known_are_refused() {
    assert_eq!(Schema::new().message(1, 4, "m").check(), BAD);
    assert_eq!(Schema::new().definition(4, "e").check(), BAD);
    assert_eq!(Schema::new().item(6, &[0], b"x").check(), BAD);
    assert_eq!(Schema::new().value(1, "x").check(), BAD);
    assert_eq!(message().definition(ENUM, "e").check(), BAD);
    assert_eq!(Schema::new().field(FieldKind::U8, 0, "x").check(), BAD);
    let mut counted = message();
    counted.messages = 2;
    assert_eq!(counted.check(), BAD);
    let large = std::vec![0; MAX_SCHEMA + 1];
    assert_eq!(check(&large), Err(SchemaError::TooLarge));
}
