// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schema's hash.

use super::{Definition, Field, Form, Named, Provider};

const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    (hash ^ 0xff).wrapping_mul(0x0000_0100_0000_01b3)
}

const fn fnv_fields(mut hash: u64, fields: &[Field<'_>]) -> u64 {
    let mut i = 0;
    while i < fields.len() {
        let field = &fields[i];
        hash = fnv(hash, field.name.as_bytes());
        hash = fnv(hash, &[field.kind as u8]);
        // What changes nothing about the bytes is not hashed.
        if field.place() != field.kind.size() {
            hash = fnv(hash, b"?");
        }
        if let Some(definition) = field.definition {
            hash = fnv_definition(hash, definition);
        }
        i += 1;
    }
    fnv(hash, b"|")
}

const fn fnv_definition(hash: u64, definition: &Definition) -> u64 {
    let hash = fnv(hash, definition.name.as_bytes());
    match definition.form {
        Form::Enum(values) => fnv_values(fnv(hash, b"e"), values),
        Form::Flags(values) => fnv_values(fnv(hash, b"f"), values),
        Form::Record(fields) => fnv_fields(fnv(hash, b"r"), fields),
    }
}

const fn fnv_values(mut hash: u64, values: &[Named]) -> u64 {
    let mut i = 0;
    while i < values.len() {
        hash = fnv(hash, &values[i].value.to_le_bytes());
        hash = fnv(hash, values[i].name.as_bytes());
        i += 1;
    }
    fnv(hash, b"|")
}

impl Provider {
    /// A number that changes whenever a name, a type or the order of anything here does (64-bit
    /// FNV-1a).
    pub const fn hash(&self) -> u64 {
        let mut hash = fnv(0xcbf2_9ce4_8422_2325, self.name.as_bytes());
        let mut i = 0;
        while i < self.messages.len() {
            let message = &self.messages[i];
            hash = fnv(hash, &message.number.to_le_bytes());
            hash = fnv(hash, &[message.role as u8]);
            hash = fnv(hash, message.name.as_bytes());
            hash = fnv_fields(fnv_fields(hash, message.fields), message.reply);
            i += 1;
        }
        hash
    }
}
