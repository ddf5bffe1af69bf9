// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask sim`: the whole of fltport under a seeded scheduler.

use std::ffi::OsString;

use anyhow::Result;

use crate::command;
use crate::workspace::Workspace;

/// Run seeds of the simulation: drivers and hostile services, the laws checked after each.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What the simulation takes; `cargo xtask sim --help` lists it.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    rest: Vec<OsString>,
}

/// Builds the simulation optimised, and runs it.
///
/// # Errors
/// It does not build, or a seed failed, which it has told of itself.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    seeds(workspace, &arguments.rest)
}

/// Runs the simulation with these arguments.
///
/// # Errors
/// As [`run`].
pub(crate) fn seeds(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let mut cargo = command::cargo(workspace);
    cargo.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "fltport-sim",
        "--",
    ]);
    command::run(cargo.args(arguments))
}
