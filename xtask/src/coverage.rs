// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask coverage`: which lines of the Filter Manager's model, of the common driver and of what
//! client drivers link the tests on the hosted kernel run.
//!
//! The tests are compiled once more, with the compiler's own counters, in a target folder of their
//! own. LLVM's tools read the counters; they must be of the same LLVM as the compiler.

mod tally;
mod tools;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;
use crate::workspace::Workspace;
use tally::Tally;
use tools::Tools;

/// Measure which lines of testbed/fltmgr, kernel/driver, kernel/stub and kernel/client the tests run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also list the lines that no test runs.
    #[arg(long)]
    uncovered: bool,
    /// Write the table into docs/coverage.md.
    #[arg(long)]
    write: bool,
}

/// The packages whose tests run.
const TESTED: [&str; 4] = ["fltmgr", "fltport-driver", "fltport-client", "compat"];
/// The folders whose lines count, and the least percentage of each that must be covered.
const MEASURED: [(&str, f64); 4] = [
    ("testbed/fltmgr/src", 99.0),
    ("kernel/driver/src", 95.0),
    ("kernel/stub/src", 95.0),
    ("kernel/client/src", 90.0),
];
const DOCUMENT: &str = "docs/coverage.md";

/// Runs the tests with counters and prints the table.
///
/// # Errors
/// A tool is missing, a test fails, or a folder is covered less than its floor asks.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let tools = Tools::find()?;
    let run = Instrumented::new(workspace)?;
    let programs = run.build()?;
    run.test()?;
    let tallies = measure(workspace, &tools, &run, &programs)?;
    println!("\n{}", tally::table(&tallies));
    if arguments.uncovered {
        print!("{}", tally::uncovered(workspace, &tallies)?);
    }
    if arguments.write {
        let document = workspace.path(DOCUMENT);
        let text = fs::read_to_string(&document)
            .with_context(|| format!("cannot read {}", document.display()))?;
        fs::write(&document, tally::with_table(&text, &tallies)?)
            .with_context(|| format!("cannot write {}", document.display()))?;
    }
    tally::check(&tallies)
}

/// Everything that one measurement makes lies in `target/coverage`.
struct Instrumented<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
}

impl Instrumented<'_> {
    fn new(workspace: &Workspace) -> Result<Instrumented<'_>> {
        let folder = workspace.target().join("coverage");
        let run = Instrumented { workspace, folder };
        // Counters of an earlier run belong to earlier code.
        let counters = run.counters();
        if counters.exists() {
            fs::remove_dir_all(&counters)
                .with_context(|| format!("cannot empty {}", counters.display()))?;
        }
        Ok(run)
    }

    fn counters(&self) -> PathBuf {
        self.folder.join("counters")
    }

    fn cargo(&self) -> Command {
        let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
        flags.push(" -C instrument-coverage");
        let mut cargo = command::cargo(self.workspace);
        cargo
            .args(["test", "--lib", "--test", "*"])
            .args(TESTED.iter().flat_map(|package| ["--package", package]))
            .arg("--target-dir")
            .arg(&self.folder)
            .env("RUSTFLAGS", flags)
            // Build scripts write counters, too, and without this beside the sources.
            .env("LLVM_PROFILE_FILE", self.counters().join("%p-%m.profraw"));
        cargo
    }

    /// Compiles the tests and returns their programs.
    fn build(&self) -> Result<Vec<PathBuf>> {
        let mut cargo = self.cargo();
        let text =
            command::text(cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]))?;
        let programs = programs_in(&text);
        if programs.is_empty() {
            bail!("cargo named no test program of {}", TESTED.join(", "));
        }
        Ok(programs)
    }

    fn test(&self) -> Result<()> {
        command::run(self.cargo().args(["--", "--quiet"]))
    }
}

/// The executables that cargo's messages name.
pub(crate) fn programs_in(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .collect()
}

fn measure(
    workspace: &Workspace,
    tools: &Tools,
    run: &Instrumented<'_>,
    programs: &[PathBuf],
) -> Result<Vec<Tally>> {
    let profile = run.folder.join("all.profdata");
    let mut merge = tools.profdata();
    merge.args(["merge", "--sparse", "--output"]).arg(&profile);
    command::run(merge.args(counter_files(&run.counters())?))?;
    let mut export = tools.cov();
    export.args(["export", "--format", "lcov", "--instr-profile"]);
    export.arg(&profile);
    for program in programs {
        export.arg("--object").arg(program);
    }
    let lines = command::text(&mut export)?;
    MEASURED
        .iter()
        .map(|(folder, floor)| Tally::of(workspace, folder, *floor, &lines))
        .collect()
}

fn counter_files(folder: &Path) -> Result<Vec<OsString>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("no counters in {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context("cannot list the counters")?.path();
        files.push(path.into_os_string());
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_those_that_cargo_names() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "warning: not JSON\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/laws-1\"}\n",
        );
        assert_eq!(programs_in(messages), [PathBuf::from("/t/deps/laws-1")]);
    }
}
