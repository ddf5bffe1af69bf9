// SPDX-License-Identifier: MIT OR Apache-2.0

//! Getting tools that are missing: components and targets from rustup, packages from Debian or
//! Ubuntu.

use std::process::Command;
use std::time::Duration;

use std::fmt;

use anyhow::{Context, Result, anyhow};

use crate::command;

/// A tool is missing and cannot be had here; the message says what to do about it.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Enough for a download of some 30 MB; without a way to rustup's server it may never answer.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);
/// Enough for a few hundred MB.
const APT_LIMIT: Duration = Duration::from_secs(900);

/// `rustup component add`, for the toolchain in use.
pub(crate) fn component(name: &str) -> Result<()> {
    rustup(&["component", "add", name])
}

/// `rustup target add`, for the toolchain in use.
pub(crate) fn target(triple: &str) -> Result<()> {
    rustup(&["target", "add", triple])
}

fn rustup(arguments: &[&str]) -> Result<()> {
    let mut rustup = Command::new("rustup");
    command::run_within(rustup.args(arguments), RUSTUP_LIMIT)
}

/// Installs Debian packages.
///
/// # Errors
/// [`Missing`] when this is no Debian or we are not root; another error when apt-get fails.
pub(crate) fn packages(names: &[&str]) -> Result<()> {
    let wanted = names.join(" ");
    if !command::answers(Command::new("apt-get").arg("--version")) {
        let cure =
            format!("this system has no apt-get; install what Debian calls {wanted} by its means");
        return Err(Missing(cure).into());
    }
    if !is_root() {
        let cure = format!("not root; install the packages with `sudo apt-get install {wanted}`");
        return Err(Missing(cure).into());
    }
    println!("installing {wanted}");
    apt(&["update", "--quiet=2"]).with_context(|| format!("for {wanted}"))?;
    let mut install = vec!["install", "--quiet=2", "--yes", "--no-install-recommends"];
    install.extend(names);
    apt(&install)
}

/// Makes sure of a compiler for C and C++: there is a driver in C among the tests, and headers for
/// others.
///
/// # Errors
/// There is none, and it cannot be installed. That is no tool to do without: the workspace does not
/// build.
pub(crate) fn c_compiler() -> Result<()> {
    let compiles = |language| {
        let mut cc = Command::new("cc");
        cc.args([
            "-x",
            language,
            "-include",
            "stdint.h",
            "-fsyntax-only",
            "/dev/null",
        ]);
        command::answers(&mut cc)
    };
    if compiles("c") && compiles("c++") {
        return Ok(());
    }
    packages(&["gcc", "g++", "libc6-dev"])
        .map_err(|error| anyhow!("`cc` compiles no C and C++: {error:#}"))
}

/// Gets the other compilers that the header for client drivers is held against. Where they cannot be
/// had the test says so, and counts them as skipped.
pub(crate) fn other_compilers() {
    for (program, package) in [
        ("clang", "clang"),
        ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64"),
        ("x86_64-w64-mingw32-g++", "g++-mingw-w64-x86-64"),
    ] {
        if !command::answers(Command::new(program).arg("--version"))
            && let Err(error) = packages(&[package])
        {
            println!("{program} is missing: {error:#}");
        }
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    command::run_within(
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments),
        APT_LIMIT,
    )
}

/// The owner of /proc/self is the user this process runs as.
#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// There are packages of Debian for root alone, and no root on Windows.
#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
