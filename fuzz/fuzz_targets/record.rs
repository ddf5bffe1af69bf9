// SPDX-License-Identifier: MIT OR Apache-2.0
//! A record and a schema of anybody: `u16` bytes of the fixed part, `u16` bytes of the schema (0 for
//! one of ours), the schema, the message. What is verified can be read to the end, and what the
//! typed decoder takes the schema alone takes as well, and comes out of the encoder again.
#![no_main]

use fltport::{Message, Schema, read_fields};
use fltport_fuzz::{All, PROVIDER, look, sound};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static OURS: LazyLock<Schema> = LazyLock::new(|| {
    let mut bytes = vec![0; 16 * 1024];
    let length = PROVIDER.encode(&mut bytes).unwrap();
    Schema::decode(&bytes[..length]).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_at_checked(4) else {
        return;
    };
    let fixed = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let Some((schema, message)) = rest.split_at_checked(length) else {
        return;
    };
    if schema.is_empty() {
        typed(message, fixed);
        read(&OURS, message, fixed);
    } else if let Ok(schema) = Schema::decode(schema) {
        read(&schema, message, fixed);
    }
});

fn read(schema: &Schema, message: &[u8], fixed: usize) {
    for kind in &schema.messages {
        if kind.verify(message, fixed).is_ok() {
            let fields = read_fields(&kind.fields, message, fixed);
            let seen: usize = fields.map(|(_, value)| look(&sound(value))).sum();
            // Fields of fixed size, names of flags and what the message holds: no list of the same
            // lists has been gone through again and again.
            assert!(seen <= 64 * 1024 + 64 * message.len() * (1 + kind.fields.len()));
        }
    }
}

fn typed(message: &[u8], fixed: usize) {
    let decoded = [All::decode(message), All::decode_fixed(message, fixed)];
    for all in decoded.into_iter().flatten() {
        let mut bytes = vec![0; all.encoded_len()];
        assert_eq!(all.encode(&mut bytes), Ok(bytes.len()));
        assert_eq!(All::decode(&bytes), Ok(all));
        assert_eq!(OURS.messages[0].verify(&bytes, All::FIXED), Ok(()));
    }
    if All::decode_fixed(message, fixed).is_ok() {
        assert_eq!(OURS.messages[0].verify(message, fixed), Ok(()));
    }
}
