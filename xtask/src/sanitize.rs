// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask sanitize`: the tests of the rings under AddressSanitizer and valgrind.
//!
//! loom explores the rings' words and not the bytes between them, which are copied by raw pointers. The sanitizer is a flag of
//! rustc that is not stable, so it is told to allow it; its library comes with it. ThreadSanitizer is not used: the
//! standard library is not compiled with it, so the test runner itself looks like races.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::coverage::programs_in;
use crate::workspace::Workspace;

/// Run the tests of wire/ring under AddressSanitizer and valgrind.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

const PACKAGE: &str = "fltport-ring";
/// Where the sanitizer is known to be. Named, so that build scripts are without it.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Random cases of a test that has no number of its own: each is dozens of times slower.
const CASES: &str = "16";
/// What valgrind ends with when it has found something.
const FOUND: &str = "--error-exitcode=9";

/// Builds the tests twice and runs them.
///
/// # Errors
/// They do not build, or something was found.
pub(crate) fn run(workspace: &Workspace, _: &Arguments) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the sanitizer is used on {TARGET}; run this there");
    }
    let folder = workspace.target().join("sanitize");
    let mut cargo = cargo(workspace, &folder.join("address"));
    let flags = "-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer";
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", flags);
    command::run(Command::new(program(&mut cargo)?).arg("--quiet"))?;
    println!("{PACKAGE} under the address sanitizer: clean");
    if command::answers(Command::new("valgrind").arg("--version")) {
        valgrind(workspace, &folder)?;
        println!("{PACKAGE} under valgrind: clean");
    } else {
        println!("{PACKAGE} under valgrind: not tested, for it is not installed");
    }
    Ok(())
}

fn valgrind(workspace: &Workspace, folder: &Path) -> Result<()> {
    let program = program(&mut cargo(workspace, &folder.join("valgrind")))?;
    let mut valgrind = Command::new("valgrind");
    // What is only possibly lost is what the standard library refers to by an address within.
    valgrind.args(["-q", FOUND, "--leak-check=full"]);
    valgrind.args([
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
    ]);
    valgrind.arg(program).args(["--quiet", "--test-threads=1"]);
    command::run(valgrind.env("PROPTEST_CASES", CASES))
}

fn cargo(workspace: &Workspace, folder: &Path) -> Command {
    let mut cargo = command::cargo(workspace);
    cargo.args(["test", "--quiet", "--lib", "--no-run", "--package", PACKAGE]);
    cargo.args(["--target", TARGET, "--target-dir"]).arg(folder);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo
}

/// The program of the tests that this command of cargo's builds.
fn program(cargo: &mut Command) -> Result<PathBuf> {
    let programs = programs_in(&command::text(cargo)?);
    let program = programs.into_iter().next();
    program.with_context(|| format!("cargo named no test program of {PACKAGE}"))
}
