// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of fields as text on a line.

use crate::clock;
use fltport::{Fields, Value};

/// The value; empty if there is none.
pub(crate) fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Unsigned(number) => format!("{number:#x}"),
        Value::Signed(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Pid(pid) => pid.0.to_string(),
        Value::Status(status) => format!("{:#x}", status.0),
        Value::Time(time) => clock::utc(*time).unwrap_or_else(|| "?".into()),
        Value::Text(text) => text.to_string(),
        Value::TextList(texts) => join(texts.iter().map(|t| t.to_string()), ","),
        Value::Bytes(bytes) | Value::Unknown(bytes) => hex(bytes),
        Value::Guid(guid) => guid.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Enum(choice) => match choice.name {
            Some(name) => name.to_owned(),
            None => format!("{:#x}", choice.number),
        },
        Value::Flags(flags) => {
            let mut names: Vec<String> = flags.names().map(str::to_owned).collect();
            if flags.unnamed() != 0 || names.is_empty() {
                names.push(format!("{:#x}", flags.unnamed()));
            }
            names.join("|")
        }
        Value::Record(record) => fields(*record),
        Value::List(records) => format!("[{}]", join(records.iter().map(fields), " ")),
        // Absent; a type of a newer library has no text here.
        _ => String::new(),
    }
}

fn join(texts: impl Iterator<Item = String>, between: &str) -> String {
    texts.collect::<Vec<_>>().join(between)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `{name=value name=value}`, without those that are absent.
fn fields(fields: Fields<'_>) -> String {
    let there = fields
        .iter()
        .filter(|(_, value)| *value != Ok(Value::Absent));
    let texts = there.map(|(name, value)| match value {
        Ok(value) => format!("{name}={}", plain(&value)),
        Err(_) => format!("{name}=?"),
    });
    format!("{{{}}}", join(texts, " "))
}
