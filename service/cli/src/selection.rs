// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--where`: which messages of a type are shown.

use fltport::{FilterProblem, Role, Schema};
use std::sync::Arc;

/// A filter, and what it is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selection {
    /// Without one, every provider that has such a message.
    provider: Option<String>,
    message: String,
    filter: String,
}

impl Selection {
    /// As it is written on the command line: `MESSAGE: FILTER` or `PROVIDER/MESSAGE: FILTER`. What
    /// the filter says is seen when the provider's fields are known.
    pub(crate) fn parse(text: &str) -> Result<Selection, String> {
        let form = "write it as MESSAGE: FILTER, as in: start: image ends '/nc'";
        let (about, filter) = text
            .split_once(':')
            .ok_or_else(|| format!("it does not say which messages it is about; {form}"))?;
        let (provider, message) = match about.trim().split_once('/') {
            Some((provider, message)) => (Some(provider.trim().to_owned()), message.trim()),
            None => (None, about.trim()),
        };
        if message.is_empty() || provider.as_deref() == Some("") || filter.trim().is_empty() {
            return Err(format!("there is nothing on one side of the colon; {form}"));
        }
        Ok(Selection {
            provider,
            message: message.to_owned(),
            filter: filter.trim().to_owned(),
        })
    }

    /// The message of this provider that it is about, if it is about one.
    pub(crate) fn message_of(&self, schema: &Schema) -> Option<u16> {
        if self
            .provider
            .as_ref()
            .is_some_and(|p| *p != schema.provider)
        {
            return None;
        }
        let mut messages = schema.messages.iter();
        let found = messages.find(|m| m.role != Role::Command && m.name == self.message);
        found.map(|m| m.number)
    }

    /// The filter's text.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// What is said when it is about no message of any of these providers.
    pub(crate) fn unmet(&self, schemas: &[Arc<Schema>]) -> String {
        let message = &self.message;
        let whose = match &self.provider {
            Some(name) => {
                if let Some(schema) = schemas.iter().find(|s| s.provider == *name) {
                    return format!(
                        "--where: {name} tells of no message \"{message}\". It tells of {}",
                        told(schema).join(", ")
                    );
                }
                format!("there is no provider \"{name}\"")
            }
            None => format!("no provider tells of a message \"{message}\""),
        };
        let there: Vec<String> = schemas
            .iter()
            .map(|s| format!("{}: {}", s.provider, told(s).join(", ")))
            .collect();
        format!(
            "--where: {whose}. There are {}. If it is another driver's, load that first",
            there.join("; ")
        )
    }
}

/// The messages of a provider that can be shown.
fn told(schema: &Schema) -> Vec<&str> {
    let messages = schema.messages.iter();
    let shown = messages.filter(|m| m.role != Role::Command);
    shown.map(|m| m.name.as_str()).collect()
}

/// What is said when a filter is wrong: of which messages it is, for there may be several.
pub(crate) fn wrong(selections: &[Selection], problem: &FilterProblem) -> String {
    let mut about = selections.iter().filter(|s| s.filter == problem.text());
    match about.next() {
        Some(selection) => format!("--where, about \"{}\": {problem}", selection.message),
        None => format!("--where: {problem}"),
    }
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro's items are")]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_about_stands_before_the_colon() {
        let selection = Selection::parse(" start : image ends 'c:\\x' ").unwrap();
        assert_eq!(selection.message, "start");
        assert_eq!(selection.filter(), "image ends 'c:\\x'");
        assert_eq!(selection.provider, None);
        let selection = Selection::parse("process-monitor/exit: exit_status != 0").unwrap();
        assert_eq!(selection.provider.as_deref(), Some("process-monitor"));
        assert_eq!(selection.message, "exit");
        for bad in [
            "",
            "start",
            "start:",
            ": pid == 4",
            "process-monitor/: pid == 4",
            "/start: pid == 4",
        ] {
            assert!(Selection::parse(bad).is_err(), "{bad}");
        }
    }
    fltport_abi::messages! {
        /// A door.
        provider DOOR = "door";
        /// It has been opened.
        notification 1 "opened" Opened {
            /// Which.
            door: u32,
        }
        /// Open it.
        command 2 "open" Open {} -> /// It is open.
        Done {}
    }

    #[test]
    fn what_there_is_is_said_when_it_is_about_nothing() {
        let mut bytes = [0; 1024];
        let length = DOOR.encode(&mut bytes).unwrap();
        let schemas = [Arc::new(Schema::decode(&bytes[..length]).unwrap())];
        for (wrong, expected) in [
            (
                "opend: door == 4",
                "--where: no provider tells of a message \"opend\". There are door: opened. If it is another driver's, load that first",
            ),
            (
                "door/open: door == 4",
                "--where: door tells of no message \"open\". It tells of opened",
            ),
            (
                "gate/opened: door == 4",
                "--where: there is no provider \"gate\". There are door: opened. If it is another driver's, load that first",
            ),
        ] {
            let selection = Selection::parse(wrong).unwrap();
            assert_eq!(selection.message_of(&schemas[0]), None);
            assert_eq!(selection.unmet(&schemas), expected);
        }
    }
}
