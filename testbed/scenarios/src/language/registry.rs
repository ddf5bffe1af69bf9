// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines that begin with `registry`: what a program does to it.

use super::words::Words;
use crate::registry::Change;
use anyhow::{Result, bail};

/// What a line about the registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A change, so often.
    Change { change: Change, count: u64 },
    /// Threads that set values from now on.
    Begin { key: String, threads: u32 },
    /// Their end.
    End,
}

/// Reads the rest of a line.
pub(super) fn read(words: &mut Words<'_>) -> Result<Work> {
    let verb = words.next("what is done to the registry")?;
    if verb == "ends" {
        return Ok(Work::End);
    }
    let key = words.next("the key")?.to_owned();
    let mut name = |what| words.next(what).map(str::to_owned);
    let change = match verb {
        "creates" => Change::Create { key },
        "sets" => Change::Set {
            key,
            name: name("the value")?,
            bytes: words.number_of("bytes", 4)?,
        },
        "unsets" => Change::Unset {
            key,
            name: name("the value")?,
        },
        "renames" => Change::Rename {
            key,
            name: name("its new name")?,
        },
        "deletes" => Change::Delete { key },
        "begins" => {
            let threads = words.number_of("threads", 1)?;
            return Ok(Work::Begin { key, threads });
        }
        other => bail!(
            "nobody can do \"{other}\" to the registry. There are creates, sets, unsets, renames, deletes, begins and ends"
        ),
    };
    let count = words.number_of("count", 1)?;
    Ok(Work::Change { change, count })
}
