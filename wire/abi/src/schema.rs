// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a provider's messages consist of, as a table that travels: the provider hands it to the
//! common driver when it registers, the service gets it when it subscribes and can print messages
//! that it has never heard of.
//!
//! [`messages!`](crate::messages) makes the table; [`Provider::encode`] writes it, [`check`] refuses
//! what is not one, [`read`] tells it part by part. The encoding stands in
//! [`encoded`]'s documentation.

mod check;
pub mod encoded;
mod hash;
mod kind;
mod layout;
mod value;

pub use check::{SchemaError, check};
pub use encoded::{DefinitionForm, FieldRow, Owner, SchemaVisitor, read};
pub use kind::{FieldKind, KINDS};
#[doc(hidden)]
pub use layout::optional_flag;
pub use layout::{FieldSpec, fields, fixed_size};
pub use value::{Elements, Value, value, value_of};

use crate::limits::{MAX_MESSAGE_NUMBER, MAX_PROVIDER_NAME};

/// The longest name of anything but a provider, in bytes of UTF-8.
pub const MAX_NAME: usize = 64;

/// The most definitions that a schema may have.
pub const MAX_DEFINITIONS: usize = 64;

/// How deep records may lie in records.
pub const MAX_DEPTH: usize = 4;

/// One field of a message or of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, as in the definition.
    pub name: &'a str,
    /// The type.
    pub kind: FieldKind,
    /// Where it lies in the fixed part.
    pub offset: u16,
    /// [`field_flags`].
    pub flags: u8,
    /// What its values or its fields are called, for kinds that need it.
    pub definition: Option<&'a Definition>,
}

/// The bits of [`Field::flags`].
pub mod field_flags {
    /// The value may be absent.
    pub const OPTIONAL: u8 = 1;
    /// Readers have a value of their own for it where the writer does not know the field.
    pub const DEFAULTED: u8 = 2;
}

impl Field<'_> {
    /// Whether the value may be absent.
    pub const fn is_optional(&self) -> bool {
        self.flags & field_flags::OPTIONAL != 0
    }

    /// Bytes that it takes in the fixed part.
    pub const fn place(&self) -> usize {
        self.kind.place(self.is_optional())
    }
}

/// What the values of an enum, the bits of flags or the fields of a record are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Unique within the provider.
    pub name: &'static str,
    /// What it defines.
    pub form: Form,
}

/// What a [`Definition`] defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The values that have names.
    Enum(&'static [Named]),
    /// The bits, or groups of bits, that have names.
    Flags(&'static [Named]),
    /// The fields.
    Record(&'static [Field<'static>]),
}

/// A value with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The value.
    pub value: u32,
    /// Its name, as users read it.
    pub name: &'static str,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Driver to service, without an answer.
    Notification = 1,
    /// Driver to service, answered by a deadline.
    Request = 2,
    /// Service to driver, with a result.
    Command = 3,
}

impl Role {
    /// The role with this number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Role::Notification,
            2 => Role::Request,
            3 => Role::Command,
            _ => return None,
        })
    }

    /// The name, as users read it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Notification => "notification",
            Role::Request => "request",
            Role::Command => "command",
        }
    }
}

/// One message type of a provider.
#[derive(Clone, Copy, Debug)]
pub struct MessageType {
    /// 1 to [`MAX_MESSAGE_NUMBER`].
    pub number: u16,
    /// What it is for.
    pub role: Role,
    /// The name as users read it.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field<'static>],
    /// The fields of the reply (of a request) or result (of a command); empty for a notification.
    pub reply: &'static [Field<'static>],
}

/// A provider and all its message types.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// Unique among the registered providers; at most [`MAX_PROVIDER_NAME`] bytes.
    pub name: &'static str,
    /// What fields refer to, each before whatever refers to it.
    pub definitions: &'static [&'static Definition],
    /// The message types, numbers and names unique.
    pub messages: &'static [MessageType],
}

const fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

impl Provider {
    /// For [`messages!`](crate::messages): does not compile if names or numbers collide, or one is
    /// out of bounds.
    pub const fn assert_sound(&self) {
        assert!(
            !self.name.is_empty() && self.name.len() <= MAX_PROVIDER_NAME,
            "a provider's name has 1 to 32 bytes"
        );
        let mut i = 0;
        while i < self.messages.len() {
            let message = &self.messages[i];
            assert!(
                message.number >= 1 && message.number <= MAX_MESSAGE_NUMBER,
                "messages have numbers from 1 to 63"
            );
            assert_name(message.name);
            let mut j = 0;
            while j < i {
                let other = &self.messages[j];
                assert!(
                    message.number != other.number,
                    "two messages have one number"
                );
                assert!(
                    !is_equal(message.name, other.name),
                    "two messages have one name"
                );
                j += 1;
            }
            assert_defined(message.fields, self.definitions);
            assert_defined(message.reply, self.definitions);
            i += 1;
        }
        self.assert_definitions();
    }

    const fn assert_definitions(&self) {
        assert!(
            self.definitions.len() <= MAX_DEFINITIONS,
            "a provider has at most 64 types of its own"
        );
        let mut i = 0;
        while i < self.definitions.len() {
            let definition = self.definitions[i];
            assert_name(definition.name);
            assert!(self.index(definition.name) == i, "two types have one name");
            match definition.form {
                Form::Enum(values) | Form::Flags(values) => assert_values(values),
                Form::Record(fields) => {
                    assert!(!fields.is_empty(), "a record has at least one field");
                    assert_defined(fields, self.definitions.split_at(i).0);
                    assert!(
                        depth(fields) <= MAX_DEPTH,
                        "records lie too deep in records"
                    );
                }
            }
            i += 1;
        }
    }

    /// The place of the definition with this name; their number if there is none.
    const fn index(&self, name: &str) -> usize {
        let mut i = 0;
        while i < self.definitions.len() && !is_equal(self.definitions[i].name, name) {
            i += 1;
        }
        i
    }
}

const fn assert_name(name: &str) {
    assert!(
        !name.is_empty() && name.len() <= MAX_NAME,
        "a name has 1 to 64 bytes"
    );
}

const fn assert_values(values: &[Named]) {
    let mut i = 0;
    while i < values.len() {
        assert_name(values[i].name);
        let mut j = 0;
        while j < i {
            assert!(
                values[i].value != values[j].value,
                "two names have one value"
            );
            assert!(
                !is_equal(values[i].name, values[j].name),
                "two values have one name"
            );
            j += 1;
        }
        i += 1;
    }
}

const fn assert_defined(fields: &[Field<'_>], definitions: &[&Definition]) {
    let mut i = 0;
    while i < fields.len() {
        assert_name(fields[i].name);
        if let Some(definition) = fields[i].definition {
            let mut known = false;
            let mut j = 0;
            while j < definitions.len() {
                known |= is_equal(definitions[j].name, definition.name);
                j += 1;
            }
            assert!(
                known,
                "a field's type must stand in `types`, before the record that uses it"
            );
        }
        i += 1;
    }
}

const fn depth(fields: &[Field<'_>]) -> usize {
    let mut deepest = 1;
    let mut i = 0;
    while i < fields.len() {
        if let Some(Definition {
            form: Form::Record(inner),
            ..
        }) = fields[i].definition
        {
            let below = depth(inner) + 1;
            if below > deepest {
                deepest = below;
            }
        }
        i += 1;
    }
    deepest
}
