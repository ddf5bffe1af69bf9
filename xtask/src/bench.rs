// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench`: ways out of a kernel, side by side.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::workspace::Workspace;

/// Measure ways out of a kernel side by side, and tell ratios; not a part of the tests.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What the program takes; `cargo xtask bench --help` lists it.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    rest: Vec<OsString>,
}

/// Builds the program optimised, runs it, and has its files in `target/bench`.
///
/// # Errors
/// It does not build, or a measurement failed, which it has told of itself.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let with_all = !arguments.rest.iter().any(|it| it == "--without-iceoryx2");
    let has_all = with_all && command::run(&mut build(workspace, true)).is_ok();
    if with_all && !has_all {
        eprintln!("iceoryx2 cannot be had here, see above; the others go without it");
    }
    if !has_all {
        command::run(&mut build(workspace, false))?;
    }
    let output = workspace.target().join("bench");
    let mut bench = Command::new(program(workspace, has_all));
    bench
        .current_dir(workspace.root())
        .arg("--output")
        .arg(output);
    command::run(bench.args(&arguments.rest))
}

/// With a target folder of its own where a flag of the compiler differs, or all else would be
/// built anew each time.
fn build(workspace: &Workspace, with_iceoryx2: bool) -> Command {
    let mut cargo = command::cargo(workspace);
    cargo.args(["build", "--quiet", "--release", "--package", "bench"]);
    if with_iceoryx2 {
        cargo.env("RUSTFLAGS", "--cfg bench_iceoryx2");
        cargo
            .arg("--target-dir")
            .arg(workspace.target().join("bench/build"));
    }
    cargo
}

fn program(workspace: &Workspace, with_iceoryx2: bool) -> std::path::PathBuf {
    let folder = match with_iceoryx2 {
        true => workspace.target().join("bench/build"),
        false => workspace.target().to_path_buf(),
    };
    folder.join("release/bench")
}
