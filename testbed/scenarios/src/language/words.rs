// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line as words, options `name=value`, and expectations; whatever nobody takes is an error.

use crate::orders::{Expected, Relation};
use crate::status;
use anyhow::{Result, anyhow, bail};
use std::collections::VecDeque;

/// What is left of a line.
#[derive(Debug)]
pub(crate) struct Words<'l> {
    words: VecDeque<&'l str>,
    options: Vec<(&'l str, &'l str)>,
    expected: Vec<Expected>,
    refusal: Option<String>,
}

impl<'l> Words<'l> {
    pub(crate) fn new(line: &'l str) -> Result<Self> {
        let mut line = line.split_whitespace();
        let (mut words, mut options) = (VecDeque::new(), Vec::new());
        let mut expects = false;
        let before = |word: &&str| {
            expects = *word == "expect";
            !expects
        };
        for word in line.by_ref().take_while(before) {
            match word.split_once('=') {
                Some(option) => options.push(option),
                None if options.is_empty() => words.push_back(word),
                None => bail!("\"{word}\" stands behind an option. Words come first"),
            }
        }
        let (mut expected, mut refusal) = (Vec::new(), None);
        for word in line {
            match word.strip_prefix("error=") {
                Some(_) if refusal.is_some() => bail!("two errors. Write one"),
                Some(error) => refusal = Some(known_error(error)?),
                None => expected.push(expectation(word)?),
            }
        }
        // Whatever is written must be looked at: what is refused has no numbers.
        if refusal.is_some() && !expected.is_empty() {
            bail!("numbers, and an error. Write either: what is refused has no numbers");
        }
        if expects && refusal.is_none() && expected.is_empty() {
            bail!("`expect` of nothing. Write what, as in `expect done=100`, or leave it out");
        }
        Ok(Words {
            words,
            options,
            expected,
            refusal,
        })
    }

    pub(crate) fn peek(&self) -> Option<&'l str> {
        self.words.front().copied()
    }

    /// The next word, which is `what`.
    pub(crate) fn next(&mut self, what: &str) -> Result<&'l str> {
        let word = self.words.pop_front();
        word.ok_or_else(|| anyhow!("a word is missing: {what}"))
    }

    /// The next word as a number.
    pub(crate) fn number(&mut self, what: &str) -> Result<u32> {
        let word = self.next(what)?;
        let number = word.parse();
        number.map_err(|_| anyhow!("\"{word}\" is not a number. Here stands {what}"))
    }

    /// The value of an option.
    pub(crate) fn option(&mut self, name: &str) -> Option<&'l str> {
        let at = self.options.iter().position(|(option, _)| *option == name);
        at.map(|at| self.options.remove(at).1)
    }

    /// The value of an option as a number; `default` without it.
    pub(crate) fn number_of<N: TryFrom<u64>>(&mut self, name: &str, default: N) -> Result<N> {
        let Some(value) = self.option(name) else {
            return Ok(default);
        };
        let number = parse(value).and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| anyhow!("{name}={value} is not a number that fits. Write {name}=100"))
    }

    /// An option that must be there.
    pub(crate) fn required<N: TryFrom<u64>>(&mut self, name: &str) -> Result<N> {
        if !self.options.iter().any(|(option, _)| *option == name) {
            bail!("{name}= is missing. Write {name}=100");
        }
        // The default is never taken: the option is there.
        let zero = N::try_from(0).map_err(|_| anyhow!("{name} takes no number"))?;
        self.number_of(name, zero)
    }

    /// An option that is yes or no; no without it.
    pub(crate) fn yes(&mut self, name: &str) -> Result<bool> {
        match self.option(name) {
            None | Some("no") => Ok(false),
            Some("yes") => Ok(true),
            Some(other) => bail!("{name}={other} is neither. Write {name}=yes or {name}=no"),
        }
    }

    /// What is expected: numbers, or an error.
    pub(crate) fn expectations(&mut self) -> (Vec<Expected>, Option<String>) {
        (std::mem::take(&mut self.expected), self.refusal.take())
    }

    /// Fails if something is left.
    pub(crate) fn finish(self) -> Result<()> {
        if let Some(word) = self.words.front() {
            bail!("\"{word}\" is one word too many. Leave it out");
        }
        if let Some((name, value)) = self.options.first() {
            bail!("there is no option {name}={value} here. Leave it out");
        }
        if !self.expected.is_empty() || self.refusal.is_some() {
            bail!("nothing comes of this line that could be expected. Leave `expect` out");
        }
        Ok(())
    }
}

/// A number, decimal or hexadecimal, with `_` or `,` between digits.
fn parse(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn expectation(word: &str) -> Result<Expected> {
    let relations = [
        (">=", Relation::AtLeast),
        ("<=", Relation::AtMost),
        ("=", Relation::Equal),
    ];
    for (sign, relation) in relations {
        if let Some((name, number)) = word.split_once(sign) {
            let number = parse(number)
                .ok_or_else(|| anyhow!("\"{word}\" has no number behind {sign}. Write one"))?;
            let name = name.to_owned();
            return Ok(Expected {
                name,
                relation,
                number,
            });
        }
    }
    bail!(
        "\"{word}\" is not an expectation. Write name=100, name>=100, name<=100 or error=too-late"
    )
}

fn known_error(word: &str) -> Result<String> {
    let known = status::words();
    if known.contains(&word) {
        Ok(word.to_owned())
    } else {
        bail!(
            "no error is called \"{word}\". There are: {}",
            known.join(", ")
        )
    }
}
