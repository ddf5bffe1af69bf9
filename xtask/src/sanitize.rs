// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask sanitize`: the tests of the rings under sanitizers and valgrind.
//!
//! loom explores the rings' words and not the bytes between them, which are copied by raw pointers. Sanitizers are a flag of
//! rustc that is not stable, so it is told to allow it; their libraries come with it. The standard library is not
//! compiled with them, so to ThreadSanitizer the test runner itself looks like races: it sees a test that has none.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::coverage::programs_in;
use crate::workspace::Workspace;

/// Run the tests of wire/ring under AddressSanitizer, ThreadSanitizer and valgrind.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

const PACKAGE: &str = "fltport-ring";
/// Where the sanitizer is known to be. Named, so that build scripts are without it.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Random cases of a test that has no number of its own: each is dozens of times slower.
const CASES: &str = "16";
/// What valgrind ends with when it has found something.
const FOUND: &str = "--error-exitcode=9";

/// The test without a runner, of threads that use rings at once.
const AT_ONCE: &str = "at_once";

/// Builds the tests for each and runs them.
///
/// # Errors
/// They do not build, or something was found.
pub(crate) fn run(workspace: &Workspace, _: &Arguments) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the sanitizer is used on {TARGET}; run this there");
    }
    let folder = workspace.target().join("sanitize");
    let address = sanitized(workspace, &folder, "address", &["--lib"])?;
    command::run(Command::new(address).arg("--quiet"))?;
    println!("{PACKAGE} under the address sanitizer: clean");
    let thread = sanitized(workspace, &folder, "thread", &["--test", AT_ONCE])?;
    command::run(&mut Command::new(thread))?;
    println!("{PACKAGE} under the thread sanitizer: clean");
    if command::answers(Command::new("valgrind").arg("--version")) {
        valgrind(workspace, &folder)?;
        println!("{PACKAGE} under valgrind: clean");
    } else {
        println!("{PACKAGE} under valgrind: not tested, for it is not installed");
    }
    Ok(())
}

/// The program of these tests with a sanitizer.
fn sanitized(
    workspace: &Workspace,
    folder: &Path,
    sanitizer: &str,
    tests: &[&str],
) -> Result<PathBuf> {
    let mut cargo = cargo(workspace, &folder.join(sanitizer), tests);
    let flags = format!("-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer");
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", flags);
    program(&mut cargo)
}

fn valgrind(workspace: &Workspace, folder: &Path) -> Result<()> {
    let program = program(&mut cargo(workspace, &folder.join("valgrind"), &["--lib"]))?;
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

fn cargo(workspace: &Workspace, folder: &Path, tests: &[&str]) -> Command {
    let mut cargo = command::cargo(workspace);
    cargo.args(["test", "--quiet", "--no-run", "--package", PACKAGE]);
    cargo.args(tests);
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
