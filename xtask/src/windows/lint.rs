// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lints over what is compiled only for Windows, and so unseen by the lints on Linux. Nothing
//! is linked.

use std::process::Command;

use anyhow::{Context, Result};

use super::build::{KERNEL_TARGET, USER_TARGET};
use super::toolchain::{self, Toolchain, UserStd};
use crate::command;
use crate::workspace::Workspace;

/// What tests alone load into the kernel.
const DRIVERS_OF_TESTS: [&str; 2] = ["loadgen", "wine-fltmgr"];

/// What is for user mode: the shipped, and the programs and DLLs of tests.
const USER_PACKAGES: [&str; 5] = [
    "fltport",
    "fltport-cli",
    "scenarios",
    "wine-bcryptprimitives",
    "wine-fltlib",
];

/// The driver crates, for the kernel: those that are shipped, and those of tests.
pub(super) fn drivers(workspace: &Workspace, toolchain: Toolchain, shipped: &[&str]) -> Result<()> {
    let mut cargo = toolchain.cargo(workspace);
    cargo.arg(subcommand(workspace, toolchain));
    lint(
        cargo.args(toolchain::KERNEL_STD),
        workspace,
        KERNEL_TARGET,
        &[shipped, &DRIVERS_OF_TESTS].concat(),
    )
}

/// What is for user mode.
pub(super) fn user_mode(workspace: &Workspace, toolchain: Toolchain) -> Result<()> {
    let std = UserStd::choose(toolchain, USER_TARGET);
    let mut cargo = std.cargo(workspace);
    cargo.arg(subcommand(workspace, std.toolchain()));
    cargo.args(std.arguments());
    lint(&mut cargo, workspace, USER_TARGET, &USER_PACKAGES)
}

/// clippy, or at least the compiler's own lints: Debian's cargo has no clippy of its own, and would
/// run rustup's.
fn subcommand(workspace: &Workspace, toolchain: Toolchain) -> &'static str {
    let mut cargo = toolchain.cargo(workspace);
    let has_clippy =
        toolchain == Toolchain::Rustup && command::answers(cargo.args(["clippy", "--version"]));
    if has_clippy { "clippy" } else { "check" }
}

fn lint(cargo: &mut Command, workspace: &Workspace, target: &str, packages: &[&str]) -> Result<()> {
    // Not `-D warnings`: that would reach into the sources of the standard library as well.
    cargo.args(["--quiet", "-Zwarnings", "--config", "build.warnings='deny'"]);
    cargo
        .args(["--target", target, "--target-dir"])
        .arg(workspace.target().join("windows-lint"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo.arg("--all-features");
    command::run(cargo).with_context(|| format!("not clean for {target}"))?;
    println!("{}: clean for {target}", packages.join(", "));
    Ok(())
}
