// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask wine`: the files for Windows, run under Wine.
//!
//! The drivers and programs are the ones that Windows gets. Where Wine has no Filter Manager there
//! are the stand-ins of testbed/wine.

mod example;
mod files;
mod prefix;
mod session;
mod steps;

use std::time::Instant;

use anyhow::{Context, Result};

use crate::windows::linker::Linker;
use crate::windows::toolchain::Toolchain;
use crate::workspace::Workspace;
use prefix::Prefix;
use session::Session;
use steps::STEPS;

pub(crate) use steps::Checks;

/// Run the drivers and programs for Windows under Wine.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build what is run into target/wine, and run nothing; testbed/wine/README.md goes on from
    /// there.
    #[arg(long)]
    prepare: bool,
}

/// Builds, and runs unless only that is asked for.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.prepare {
        return build(workspace).map(drop);
    }
    let checks = test(workspace)?;
    println!("{} checks under Wine passed", checks.passed);
    if checks.skipped > 0 {
        println!("{} cannot be had there; see above for why", checks.skipped);
    }
    Ok(())
}

fn build(workspace: &Workspace) -> Result<files::Files> {
    let toolchain = Toolchain::choose()?;
    let linker = Linker::find()?;
    files::build(workspace, toolchain, &linker)
}

/// Builds everything and runs every step in a new prefix; what was checked.
///
/// # Errors
/// The first step that failed, with what the drivers told the debugger; or Wine cannot be had.
pub(crate) fn test(workspace: &Workspace) -> Result<Checks> {
    let version = prefix::wine()?;
    println!("{version}");
    let files = build(workspace)?;
    let prefix = Prefix::make(workspace, &files)?;
    let logs = workspace.target().join("wine/logs");
    let session = Session::start(&prefix, &logs)?;
    let mut checks = Checks::default();
    for step in &STEPS {
        let begin = Instant::now();
        let passed = (step.run)(&session)
            .inspect_err(|_| println!("the drivers and Wine, at last:\n{}", session.last_words()))
            .with_context(|| format!("{}; logs are in {}", step.name, logs.display()))?;
        println!(
            "{:<12} {} checks, {:.1} s: {}",
            step.name,
            passed.passed,
            begin.elapsed().as_secs_f64(),
            step.what
        );
        checks += passed;
    }
    Ok(checks)
}
