// SPDX-License-Identifier: MIT OR Apache-2.0

//! The list of names: one a line, `#` starts a comment, empty lines are free.

use std::collections::HashMap;

use anyhow::{Result, bail};

/// The names of a list, in its order.
///
/// # Errors
/// A line that is not one identifier, a name that is there twice, an empty list.
pub(super) fn parse(text: &str) -> Result<Vec<String>> {
    let mut lines = HashMap::new();
    let mut names = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        if !is_identifier(name) {
            bail!("line {number}: `{name}` is not one name; write one name a line");
        }
        if let Some(first) = lines.insert(name, number) {
            bail!("line {number}: {name} is already in line {first}; remove one of them");
        }
        names.push(name.to_string());
    }
    if names.is_empty() {
        bail!("the list names nothing");
    }
    Ok(names)
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || each == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_no_names() {
        let names = parse("# Ke\nKeSetEvent # wakes\n\n  ZwClose\n").unwrap();
        assert_eq!(names, ["KeSetEvent", "ZwClose"]);
    }

    #[test]
    fn a_name_twice_is_refused_with_both_lines() {
        let error = parse("ZwClose\n# again\nZwClose\n")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "line 3: ZwClose is already in line 1; remove one of them"
        );
    }

    #[test]
    fn two_names_on_a_line_are_refused() {
        let error = parse("ZwClose ZwOpenKey\n").unwrap_err().to_string();
        assert!(error.starts_with("line 1: `ZwClose ZwOpenKey`"), "{error}");
    }

    #[test]
    fn an_empty_list_is_refused() {
        assert!(parse("# nothing\n").is_err());
    }
}
