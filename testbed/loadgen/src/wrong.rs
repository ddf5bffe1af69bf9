// SPDX-License-Identifier: MIT OR Apache-2.0
//! Providers whose schema is wrong on purpose, each in one way.

use crate::load::{Load, TAG};
use crate::messages::{PROVIDER, Tick, WAYS_TO_BE_WRONG};
use fltport_abi::message::Message;
use fltport_abi::schema::{Field, FieldKind, MessageType, Provider, Role};
use fltport_client::Options;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::io::DriverObject;
use fltport_nt::{NtError, Result};

const GOOD: MessageType = MessageType {
    number: 1,
    role: Role::Notification,
    name: "good",
    fields: Tick::FIELDS,
    reply: &[],
};

const fn number(offset: u16) -> Field<'static> {
    Field {
        name: "number",
        kind: FieldKind::U64,
        offset,
        flags: 0,
        definition: None,
    }
}

const fn schema(messages: &'static [MessageType]) -> Provider {
    Provider {
        name: "wrong",
        messages,
        ..PROVIDER
    }
}

/// In this order: no name, a message with the number 0, one with a number beyond all, two with one
/// number, two with one name, one without a name, two fields in one place, a field beyond the end.
static WRONG: [Provider; WAYS_TO_BE_WRONG as usize] = [
    Provider {
        name: "",
        ..schema(&[GOOD])
    },
    schema(&[MessageType { number: 0, ..GOOD }]),
    schema(&[MessageType { number: 64, ..GOOD }]),
    schema(&[
        GOOD,
        MessageType {
            name: "other",
            ..GOOD
        },
    ]),
    schema(&[GOOD, MessageType { number: 2, ..GOOD }]),
    schema(&[MessageType { name: "", ..GOOD }]),
    schema(&[MessageType {
        fields: &[
            number(0),
            Field {
                name: "other",
                ..number(0)
            },
        ],
        ..GOOD
    }]),
    schema(&[MessageType {
        fields: &[number(65_530)],
        ..GOOD
    }]),
];

/// IRQL: PASSIVE_LEVEL. Tries to register with a schema that is wrong in this way: the error of the
/// common driver.
pub(crate) fn register(driver: DriverObject, how: u32) -> Result<()> {
    let schema = WRONG.get(how as usize);
    let schema = schema.ok_or(NtError(STATUS_INVALID_PARAMETER))?;
    let load = Load::new(0)?;
    fltport_client::Provider::register(driver, schema, load, Options::new(TAG)).map(drop)
}
