// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON, written as it goes: what is here needs no tree in memory and keeps the order of the
//! fields.

use crate::clock;
use fltport::{DecodeError, Fields, Value};
use std::fmt::Write;

/// A JSON text being written. Commas come by themselves.
#[derive(Debug, Default)]
pub(crate) struct Json {
    text: String,
    comma: bool,
}

impl Json {
    /// The text; begins anew.
    pub(crate) fn take(&mut self) -> String {
        self.comma = false;
        std::mem::take(&mut self.text)
    }

    fn before(&mut self) {
        if self.comma {
            self.text.push(',');
        }
        self.comma = true;
    }

    /// Opens an object, writes what is in it and closes it.
    pub(crate) fn object(&mut self, inside: impl FnOnce(&mut Json)) {
        self.brackets('{', '}', inside);
    }

    /// Opens a list, writes what is in it and closes it.
    pub(crate) fn list(&mut self, inside: impl FnOnce(&mut Json)) {
        self.brackets('[', ']', inside);
    }

    fn brackets(&mut self, open: char, close: char, inside: impl FnOnce(&mut Json)) {
        self.before();
        self.text.push(open);
        self.comma = false;
        inside(self);
        self.text.push(close);
        self.comma = true;
    }

    /// A key; its value follows.
    pub(crate) fn key(&mut self, name: &str) -> &mut Json {
        self.before();
        self.quote(name.chars());
        self.text.push(':');
        self.comma = false;
        self
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.before();
        self.quote(text.chars());
    }

    pub(crate) fn number(&mut self, number: impl Into<i128>) {
        self.before();
        // Writing to a string does not fail.
        let _written = write!(self.text, "{}", number.into());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.before();
        self.text.push_str(if value { "true" } else { "false" });
    }

    pub(crate) fn null(&mut self) {
        self.before();
        self.text.push_str("null");
    }

    /// The text, or null.
    pub(crate) fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// A field of a message. One that is absent or cannot be read is null.
    pub(crate) fn value(&mut self, value: &Result<Value<'_>, DecodeError>) {
        match value {
            Ok(Value::Unsigned(number)) => self.number(*number),
            Ok(Value::Signed(number)) => self.number(*number),
            Ok(Value::Bool(value)) => self.bool(*value),
            Ok(Value::Pid(pid)) => self.number(pid.0),
            Ok(Value::Status(status)) => self.number(status.0),
            Ok(Value::Time(time)) => self.text_or_null(clock::utc(*time).as_deref()),
            Ok(Value::Text(text)) => {
                self.before();
                self.quote(text.chars());
            }
            Ok(Value::TextList(texts)) => self.list(|json| {
                for text in texts.iter() {
                    json.before();
                    json.quote(text.chars());
                }
            }),
            Ok(Value::Bytes(bytes) | Value::Unknown(bytes)) => {
                let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                self.text(&digits);
            }
            Ok(Value::Guid(guid)) => self.text(&guid.to_string()),
            Ok(Value::Address(address)) => self.text(&address.to_string()),
            Ok(Value::Enum(choice)) => match choice.name {
                Some(name) => self.text(name),
                None => self.number(choice.number),
            },
            Ok(Value::Flags(flags)) => self.list(|json| {
                flags.names().for_each(|name| json.text(name));
                if flags.unnamed() != 0 {
                    json.number(flags.unnamed());
                }
            }),
            Ok(Value::Record(record)) => self.object(|json| json.fields(*record)),
            Ok(Value::List(records)) => self.list(|json| {
                for record in records.iter() {
                    json.object(|json| json.fields(record));
                }
            }),
            // Absent; a type of a newer library has no text here.
            Ok(_) | Err(_) => self.null(),
        }
    }

    /// The fields of a record.
    fn fields(&mut self, fields: Fields<'_>) {
        for (name, value) in fields.iter() {
            self.key(name).value(&value);
        }
    }

    fn quote(&mut self, characters: impl Iterator<Item = char>) {
        self.text.push('"');
        for character in characters {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                // Control characters; and DEL and the C1 set, which a terminal might act upon.
                '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                    let _written = write!(self.text, "\\u{:04x}", u32::from(character));
                }
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fltport::{Pid, Status, Text, TextList, Time};
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_value() {
        let mut json = Json::default();
        json.object(|json| {
            for (name, value) in [
                ("a", Value::Unsigned(u64::MAX)),
                ("b", Value::Signed(i64::MIN)),
                ("c", Value::Bool(true)),
                ("d", Value::Pid(Pid(7))),
                ("e", Value::Status(Status(-1))),
                ("f", Value::Time(Time(0))),
                ("g", Value::Text(Text::Units(&[0x61, 0xd800]))),
                ("h", Value::TextList(TextList::Strings(&["x", "y"]))),
                ("i", Value::Bytes(&[0, 255])),
                ("j", Value::Absent),
            ] {
                json.key(name).value(&Ok(value));
            }
            json.key("k").value(&Err(DecodeError::TooShort));
            json.key("l").list(|_| {});
        });
        assert_eq!(
            json.take(),
            "{\"a\":18446744073709551615,\"b\":-9223372036854775808,\"c\":true,\"d\":7,\"e\":-1,\
             \"f\":\"1601-01-01T00:00:00.0000000Z\",\"g\":\"a\u{fffd}\",\"h\":[\"x\",\"y\"],\"i\":\"00ff\",\
             \"j\":null,\"k\":null,\"l\":[]}"
        );
        assert_eq!(json.take(), "");
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(texts in prop::collection::vec(any::<String>(), 0..5)) {
            let mut json = Json::default();
            json.list(|json| texts.iter().for_each(|t| json.text(t)));
            let text = json.take();
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), texts);
        }
    }
}
