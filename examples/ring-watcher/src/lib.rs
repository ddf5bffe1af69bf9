// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service in C that reads rings: its sources lie beside this crate, whose `build.sh` compiles them. This is how tests
//! do, and the program is C alone.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the sources are.
pub const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

/// Compiles the program with a compiler and flags of one's own into a folder, under this name.
///
/// # Panics
/// If it does not compile, with what the compiler says.
#[track_caller]
pub fn build(compiler: &str, flags: &[&str], folder: &Path, name: &str) -> PathBuf {
    let program = folder.join(name);
    let mut command = Command::new(Path::new(SOURCES).join("build.sh"));
    command.arg(compiler).arg(&program).args(flags);
    let output = command.output().expect("there is a shell");
    assert_well(&format!("{compiler} {flags:?}"), &output);
    program
}

/// Whether a compiler is installed; says so if it is not.
pub fn is_installed(compiler: &str) -> bool {
    let answers = Command::new(compiler).arg("--version").output();
    let is_installed = answers.is_ok_and(|output| output.status.success());
    if !is_installed {
        assert_ne!(compiler, "cc", "install gcc or clang");
        println!("SKIPPED ring-watcher by {compiler}: it is not installed");
    }
    is_installed
}

/// That a program has ended well; else what it has said.
///
/// # Panics
/// If it has not.
#[track_caller]
pub fn assert_well(what: &str, output: &Output) {
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(status.success(), "{what}: {status}\n{out}{err}");
}
