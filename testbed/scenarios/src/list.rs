// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of scenarios. It is part of the program, so that there is nothing to carry to another
//! machine but this one file.

use crate::arguments::Arguments;
use crate::language::{self, Scenario};
use anyhow::{Context, Result, bail};
use std::io::Write;

macro_rules! list {
    ($($name:literal),* $(,)?) => {
        const LIST: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../list/", $name, ".scenario")))),*
        ];
    };
}

list! {
    "flood",
    "watched",
    "overrun",
    "blobs",
    "slow",
    "gap",
    "refilled",
    "dpc",
    "dpc-queued",
    "dpc-level",
    "ask",
    "ask-pending",
    "observed",
    "undecided",
    "missed",
    "circuit",
    "decider-killed",
    "killed",
    "killed-busy",
    "commands",
    "sizes",
    "pointers-out",
    "pointers-in",
    "pointers-both",
    "fault",
    "early",
    "early-filter-manager",
    "survivor",
    "absent",
    "crowd",
    "refused",
    "forced",
    "rounds",
    "five-providers",
    "skew",
    "hostile-hello",
    "hostile-filter",
    "hostile-resume",
    "hostile-schema",
    "muted",
    "muted-children",
    "snapshot-under-flood",
    "pairs-under-flood",
    "resume-under-flood",
    "hand-over-under-flood",
    "hand-over-only",
    "registry",
    "registry-watched",
    "registry-denied",
    "registry-unload",
}

fn read(name: &str, text: &str) -> Result<Scenario> {
    language::read(name, &format!("list/{name}.scenario"), text)
}

/// The scenarios that the command line asks for.
pub(crate) fn chosen(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for wanted in &arguments.names {
        let Some((name, text)) = LIST.iter().find(|(name, _)| name == wanted) else {
            bail!("there is no scenario {wanted}. `scenarios --list` names them");
        };
        scenarios.push(read(name, text)?);
    }
    for path in &arguments.file {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{file} cannot be read. See whether it is there"))?;
        let name = path
            .file_stem()
            .map_or(file.as_str().into(), |stem| stem.to_string_lossy());
        scenarios.push(language::read(&name, &file, &text)?);
    }
    if scenarios.is_empty() {
        let all: Result<Vec<Scenario>> = LIST.iter().map(|(name, text)| read(name, text)).collect();
        return all;
    }
    Ok(scenarios)
}

/// Prints it.
pub(crate) fn print() -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for (name, text) in LIST {
        writeln!(stdout, "{name:16} {}", read(name, text)?.about)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_in_the_list_and_can_be_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("list");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<String> = LIST.iter().map(|(n, _)| format!("{n}.scenario")).collect();
        assert_eq!(files, listed);
        for (name, text) in LIST {
            read(name, text).unwrap();
        }
    }
}
