// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask test`: everything that is checked on this machine, in one go, with a table at the
//! end.

mod counts;
mod steps;
mod table;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::provision::Missing;
use crate::workspace::Workspace;
use counts::Counts;
use steps::{Name, STEPS, Step};

/// Run every check: formatting, bindings, lints, all tests, documentation, the Windows build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<Name>,
    /// List the steps and run none.
    #[arg(long)]
    list: bool,
}

/// Where a step's tests run; see docs for what each floor proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// An ordinary Linux process.
    Host,
    /// Driver code on the hosted NT kernel, in a Linux process.
    HostedKernel,
    /// The finished images for Windows, and what can be seen of them.
    WindowsBuild,
    /// The same images, loaded by Wine's loader and service control manager.
    Wine,
}

impl Floor {
    fn name(self) -> &'static str {
        match self {
            Floor::Host => "host",
            Floor::HostedKernel => "hosted kernel",
            Floor::WindowsBuild => "Windows build",
            Floor::Wine => "Wine",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// With the reason; no failure, but never silent.
    NotTested(String),
    /// An earlier step failed.
    NotReached,
}

/// One line of the table.
#[derive(Debug)]
struct Record {
    step: &'static Step,
    outcome: Outcome,
    counts: Counts,
    time: Duration,
}

/// Runs the steps up to the first failure.
///
/// # Errors
/// A step failed.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let only: BTreeSet<Name> = arguments.only.iter().copied().collect();
    let chosen = STEPS
        .iter()
        .filter(|step| only.is_empty() || only.contains(&step.name));
    if arguments.list {
        chosen.for_each(|step| {
            println!(
                "{:<12} {:<14} {}",
                step.name.as_str(),
                step.floor.name(),
                step.what
            )
        });
        return Ok(());
    }
    let mut records: Vec<Record> = Vec::new();
    for step in chosen {
        let failed = records
            .iter()
            .any(|record| record.outcome == Outcome::Failed);
        records.push(if failed {
            not_reached(step)
        } else {
            attempt(step, workspace)
        });
    }
    println!("\n{}", table::render(&records));
    match records
        .iter()
        .find(|record| record.outcome == Outcome::Failed)
    {
        None => Ok(()),
        Some(record) => {
            let name = record.step.name.as_str();
            bail!("{name} failed, see above; `cargo xtask test --only {name}` runs it alone")
        }
    }
}

fn attempt(step: &'static Step, workspace: &Workspace) -> Record {
    println!("\n== {}: {}", step.name.as_str(), step.what);
    let start = Instant::now();
    let mut counts = Counts::default();
    let result = (step.run)(workspace, &mut counts);
    let time = start.elapsed();
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => judge(&error),
    };
    println!(
        "== {}: {}, {:.1} s",
        step.name.as_str(),
        table::result(&outcome),
        time.as_secs_f64()
    );
    Record {
        step,
        outcome,
        counts,
        time,
    }
}

/// A tool that cannot be had here is no failure of the project.
fn judge(error: &anyhow::Error) -> Outcome {
    if error.chain().any(|cause| cause.is::<Missing>()) {
        return Outcome::NotTested(format!("{error:#}"));
    }
    eprintln!("error: {error:#}");
    Outcome::Failed
}

fn not_reached(step: &'static Step) -> Record {
    Record {
        step,
        outcome: Outcome::NotReached,
        counts: Counts::default(),
        time: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_missing_tool_is_not_tested_and_anything_else_failed() {
        let missing: Result<()> = Err(Missing("no lld".to_string()).into());
        let error = missing.context("no linker").unwrap_err();
        assert_eq!(
            judge(&error),
            Outcome::NotTested("no linker: no lld".to_string())
        );
        assert_eq!(judge(&anyhow::anyhow!("boom")), Outcome::Failed);
    }

    #[test]
    fn every_name_has_exactly_one_step() {
        let names: BTreeSet<Name> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}
