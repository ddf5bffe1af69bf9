// SPDX-License-Identifier: MIT OR Apache-2.0

//! INF files: read as Windows does, judged by the rules for drivers without a device, and stamped
//! with a date and a version.

mod rules;
mod stamp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Result, bail};

pub(crate) use rules::{Instance, Subject, faults};
pub(crate) use stamp::{Date, stamp};

/// A line of a section: `key = value, value` or `value, value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What stands before the equals sign.
    pub(crate) key: Option<String>,
    /// What stands between the commas, without quotes and comments, with strings not yet put in.
    pub(crate) values: Vec<String>,
}

/// An INF file: sections by name, as it is spelt first. Names are the same in any case; sections of
/// one name are one.
#[derive(Debug, Default)]
pub(crate) struct Inf {
    sections: Vec<(String, Vec<Line>)>,
    strings: BTreeMap<String, String>,
}

impl Inf {
    /// Reads an INF file.
    ///
    /// # Errors
    /// A line outside of all sections, a section's name or a quotation that does not end.
    pub(crate) fn parse(text: &str) -> Result<Inf> {
        let mut inf = Inf::default();
        let mut current = None;
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let mut line = without_comment(line).trim().to_string();
            while let Some(begun) = line.strip_suffix('\\')
                && let Some((_, next)) = lines.next()
            {
                line = format!("{begun}{}", without_comment(next).trim());
            }
            let number = number + 1;
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                let Some(name) = name.strip_suffix(']') else {
                    bail!("line {number}: the section's name has no closing bracket");
                };
                current = Some(inf.section_or_new(name.trim()));
                continue;
            }
            let Some(section) = current else {
                bail!("line {number} is in no section");
            };
            let Some(line) = split(&line) else {
                bail!("line {number}: a quotation does not end");
            };
            inf.sections[section].1.push(line);
        }
        inf.strings = inf
            .lines("Strings")
            .iter()
            .filter_map(|line| {
                Some((
                    line.key.as_ref()?.to_ascii_lowercase(),
                    line.values.concat(),
                ))
            })
            .collect();
        Ok(inf)
    }

    fn section_or_new(&mut self, name: &str) -> usize {
        let found = self
            .sections
            .iter()
            .position(|(each, _)| each.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| {
            self.sections.push((name.to_string(), Vec::new()));
            self.sections.len() - 1
        })
    }

    /// The names of all sections.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }

    /// Whether there is a section.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().any(|each| each.eq_ignore_ascii_case(name))
    }

    /// The lines of a section; none if it does not exist.
    pub(crate) fn lines(&self, name: &str) -> &[Line] {
        self.sections
            .iter()
            .find(|(each, _)| each.eq_ignore_ascii_case(name))
            .map_or(&[], |(_, lines)| lines)
    }

    /// All values of a key in a section, with strings put in.
    pub(crate) fn values(&self, section: &str, key: &str) -> Vec<String> {
        self.lines(section)
            .iter()
            .filter(|line| {
                line.key
                    .as_ref()
                    .is_some_and(|each| each.eq_ignore_ascii_case(key))
            })
            .flat_map(|line| &line.values)
            .map(|value| self.expand(value))
            .collect()
    }

    /// The only value of a key in a section; nothing if there are more or none.
    pub(crate) fn value(&self, section: &str, key: &str) -> Option<String> {
        match &self.values(section, key)[..] {
            [value] => Some(value.clone()),
            _ => None,
        }
    }

    /// A text with its `%strings%` put in. `%12%` and its like are folders, and stay.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        for (index, part) in text.split('%').enumerate() {
            let inside = index % 2 == 1;
            match self.strings.get(&part.to_ascii_lowercase()) {
                Some(value) if inside => expanded.push_str(value),
                _ if inside => expanded.push_str(&format!("%{part}%")),
                _ => expanded.push_str(part),
            }
        }
        expanded
    }

    /// The `%strings%` that a text names.
    pub(crate) fn strings_in(text: &str) -> impl Iterator<Item = &str> {
        text.split('%')
            .skip(1)
            .step_by(2)
            .filter(|name| !name.is_empty() && !name.bytes().all(|each| each.is_ascii_digit()))
    }

    /// The names of the strings that are defined, in small letters.
    pub(crate) fn defined_strings(&self) -> impl Iterator<Item = &str> {
        self.strings.keys().map(String::as_str)
    }
}

/// A comment begins with a semicolon outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, each) in line.char_indices() {
        match each {
            '"' => quoted = !quoted,
            ';' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// The key and the values of a line; nothing if a quotation does not end.
fn split(line: &str) -> Option<Line> {
    let mut parts = vec![String::new()];
    let mut key = None;
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(each) = characters.next() {
        match each {
            // Two quotes within quotes are one of the text.
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                parts.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            '=' if !quoted && key.is_none() && parts.len() == 1 => {
                key = Some(parts.pop()?.trim().to_string());
                parts.push(String::new());
            }
            each if each.is_whitespace() && !quoted && parts.last()?.is_empty() => {}
            each => parts.last_mut()?.push(each),
        }
    }
    let values = parts
        .iter()
        .map(|part| part.trim_end().to_string())
        .collect();
    (!quoted).then_some(Line { key, values })
}
