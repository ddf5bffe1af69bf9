// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of a filter.

use super::FilterProblem;
use super::compile::too_long;
use std::ops::Range;

/// What a filter's text consists of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A field or a keyword.
    Name(String),
    /// Digits, as they stand there: what they mean depends on the field.
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    /// An operator, or a bracket.
    Sign(&'static str),
}

/// A word and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) word: Word,
    pub(super) at: Range<usize>,
}

/// More words than the driver takes in any filter; what is done with each word of it may then be
/// recursive.
const MAX_WORDS: usize = 4096;

/// The longer ones first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "..", "(", ")", "<", ">", "~", "!", ",",
];

/// The words of `text`.
pub(super) fn words(text: &str) -> Result<Vec<Placed>, FilterProblem> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let from = text.len() - rest.len();
        let (word, behind) = first(text, from, rest)?;
        let at = from..text.len() - behind.len();
        if words.len() == MAX_WORDS {
            return Err(FilterProblem::new(text, at, too_long()));
        }
        words.push(Placed { word, at });
        rest = behind.trim_start();
    }
    Ok(words)
}

/// The first word of `rest`, which begins at `from`, and what follows it.
fn first<'t>(text: &str, from: usize, rest: &'t str) -> Result<(Word, &'t str), FilterProblem> {
    let problem = |length: usize, cause: &str| {
        let to = (from + length.max(1)).min(text.len());
        FilterProblem::new(text, from..to, cause.to_owned())
    };
    if let Some(quoted) = rest.strip_prefix('\'') {
        let unended = || problem(rest.len(), "the text has no end; close it with '");
        let (inside, behind) = quoted.split_once('\'').ok_or_else(unended)?;
        return Ok((Word::Text(inside.to_owned()), behind));
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        return escaped(quoted)
            .map(|(text, behind)| (Word::Text(text), behind))
            .map_err(|cause| problem(rest.len(), cause));
    }
    if let Some(quoted) = rest.strip_prefix("x\"") {
        let unended = || problem(rest.len(), "the bytes have no end; close them with \"");
        let (digits, behind) = quoted.split_once('"').ok_or_else(unended)?;
        let bytes = hexadecimal(digits).ok_or_else(|| {
            let cause = "bytes are written as pairs of hexadecimal digits, as in x\"4d5a\"";
            problem(digits.len() + 3, cause)
        })?;
        return Ok((Word::Bytes(bytes), behind));
    }
    if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        return Ok((Word::Sign(sign), &rest[sign.len()..]));
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    // A minus belongs to a number in front of it, and to a name inside of it.
    let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(length);
    match word.chars().next() {
        None if rest.starts_with('=') => Err(problem(1, "to compare, write ==")),
        None => {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            Err(problem(length, "this belongs to no filter"))
        }
        Some(c) if c.is_ascii_digit() || c == '-' => Ok((Word::Number(word.to_owned()), behind)),
        Some(_) => Ok((Word::Name(word.to_owned()), behind)),
    }
}

/// Text up to the closing quotation mark, with its escapes resolved, and what follows.
fn escaped(quoted: &str) -> Result<(String, &str), &'static str> {
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next() {
            None => return Err("the text has no end; close it with \""),
            Some('"') => return Ok((text, characters.as_str())),
            Some('\\') => match characters.next() {
                Some(c @ ('\\' | '"')) => text.push(c),
                _ => {
                    return Err(
                        "in \"…\" a backslash is written twice; in '…' everything is itself",
                    );
                }
            },
            Some(c) => text.push(c),
        }
    }
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            let whole = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            u8::from_str_radix(pair, 16).ok().filter(|_| whole)
        })
        .collect()
}
