// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--where`: which messages of a type are shown.

use fltport::{Role, Schema};

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
            Some((provider, message)) => (Some(provider.to_owned()), message),
            None => (None, about.trim()),
        };
        if message.is_empty() || filter.trim().is_empty() {
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

    /// What is said when it is about no message of any provider.
    pub(crate) fn unmet(&self) -> String {
        let whose = match &self.provider {
            Some(provider) => format!("the provider {provider} has no message"),
            None => "no provider has a message".to_owned(),
        };
        format!(
            "--where: {whose} \"{}\". Load the driver that tells it; `fltport watch` shows what there is",
            self.message
        )
    }
}

#[cfg(test)]
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
        ] {
            assert!(Selection::parse(bad).is_err(), "{bad}");
        }
    }
}
