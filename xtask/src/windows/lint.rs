// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lints over what is compiled only for Windows, and so unseen by the lints on Linux. Nothing
//! is linked.

use std::process::Command;

use anyhow::{Context, Result};

use super::KERNEL_TARGET;
use super::toolchain::{self, Toolchain};
use crate::workspace::Workspace;
use crate::{command, provision};

const USER_TARGET: &str = "x86_64-pc-windows-gnu";
const USER_PACKAGES: [&str; 2] = ["fltport", "fltport-cli"];

/// The driver crates, for the kernel.
pub(super) fn drivers(
    workspace: &Workspace,
    toolchain: Toolchain,
    packages: &[&str],
) -> Result<()> {
    let mut cargo = toolchain.cargo(workspace);
    cargo.arg(subcommand(workspace, toolchain));
    lint(
        cargo.args(toolchain::KERNEL_STD),
        workspace,
        KERNEL_TARGET,
        packages,
    )
}

/// The service library and the command, for user mode: with the standard library of rustup, else
/// with one compiled from source.
pub(super) fn user_mode(workspace: &Workspace, toolchain: Toolchain) -> Result<()> {
    let is_installed = toolchain::has_target(USER_TARGET) || provision::target(USER_TARGET).is_ok();
    if is_installed {
        println!("std for {USER_TARGET}: installed");
        let mut cargo = Toolchain::Rustup.cargo(workspace);
        cargo.arg(subcommand(workspace, Toolchain::Rustup));
        return lint(&mut cargo, workspace, USER_TARGET, &USER_PACKAGES);
    }
    println!("std for {USER_TARGET}: {}", toolchain.origin());
    let mut cargo = toolchain.cargo(workspace);
    cargo
        .arg(subcommand(workspace, toolchain))
        .arg("-Zbuild-std=std,panic_abort");
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
