// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask functions`: docs/nt-functions.md from the code of the hosted kernel.
//!
//! What is known of a function of NT stands in front of its body, in `testbed/host`; an example of
//! that crate prints it, so that this one need not link the hosted kernel.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

const OUTPUT: &str = "docs/nt-functions.md";

/// Generate the list of NT's functions in the hosted kernel, docs/nt-functions.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when the file is not what would be generated.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Generates the list, or compares it with what is there.
///
/// # Errors
/// The hosted kernel does not build, the file cannot be written, or it differs.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut cargo = command::cargo(workspace);
    cargo.args(["run", "--quiet", "--package", "nt-host"]);
    let generated = command::text(cargo.args(["--example", "functions"]))?;
    let output = workspace.path(OUTPUT);
    if !arguments.check {
        fs::write(&output, &generated)
            .with_context(|| format!("cannot write {}", output.display()))?;
        println!("{OUTPUT}: {} lines", generated.lines().count());
        return Ok(());
    }
    if fs::read_to_string(&output).unwrap_or_default() != generated {
        bail!("{OUTPUT} is not what the hosted kernel says; run `cargo xtask functions`");
    }
    println!("{OUTPUT} is what the hosted kernel says");
    Ok(())
}
