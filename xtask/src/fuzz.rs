// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask fuzz`: the targets in `fuzz/`, for a bounded time, with the stable compiler.
//!
//! `cargo fuzz` wants a nightly compiler, for its sanitizers. What is fuzzed here has no `unsafe` but in the memory of rings, whose bounds it asserts, so
//! coverage is all that is needed, and rustc has that behind flags of LLVM.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// What `cargo fuzz` passes, without the sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Fuzz whatever is decoded: schemas, records, frames, commands, hellos, filters; and the encoder.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this one.
    target: Option<String>,
}

/// Builds the targets and runs them.
///
/// # Errors
/// A target does not build, there is none of that name, or an input makes one fail.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut targets = targets(&workspace.root().join("fuzz/fuzz_targets"))?;
    if let Some(wanted) = &arguments.target {
        if !targets.contains(wanted) {
            bail!(
                "there is no target {wanted}; there are {}",
                targets.join(", ")
            );
        }
        targets.retain(|target| target == wanted);
    }
    let programs = build(workspace)?;
    for target in &targets {
        fuzz(
            workspace,
            &programs,
            target,
            Effort::Seconds(arguments.seconds),
        )?;
    }
    Ok(())
}

/// All targets, with so many inputs each, those of rings with a tenth: what the repository has, and then always the same ones, so that
/// nobody's change is refused for what somebody else's luck has found.
///
/// # Errors
/// As [`run`].
pub(crate) fn again(workspace: &Workspace, inputs: u32) -> Result<()> {
    let targets = targets(&workspace.root().join("fuzz/fuzz_targets"))?;
    let programs = build(workspace)?;
    for target in &targets {
        // An input of these is a life of rings, and takes as long as twenty of the others.
        let inputs = match target.starts_with("ring_") {
            true => inputs / 10,
            false => inputs,
        };
        fuzz(workspace, &programs, target, Effort::Inputs(inputs))?;
    }
    Ok(())
}

/// How far a target is driven.
#[derive(Clone, Copy)]
enum Effort {
    /// So long, from what former runs have found, and with luck.
    Seconds(u32),
    /// So many inputs, always the same ones.
    Inputs(u32),
}

impl Effort {
    fn options(self) -> Vec<String> {
        match self {
            Effort::Seconds(seconds) => vec![format!("-max_total_time={seconds}")],
            Effort::Inputs(inputs) => vec![format!("-runs={inputs}"), "-seed=1".to_owned()],
        }
    }
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.context("the targets cannot be listed")?.path();
        names.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

/// The folder of the programs.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let host = host(workspace)?;
    let folder = workspace.target().join("fuzz");
    let mut cargo = command::cargo(workspace);
    cargo.args(["build", "--release", "--bins", "--locked"]);
    cargo.arg("--manifest-path");
    cargo.arg(workspace.root().join("fuzz/Cargo.toml"));
    // With a target named, the flags are not for build scripts and macros.
    cargo.args(["--target", &host, "--target-dir"]).arg(&folder);
    let flags = format!("{} {FLAGS}", env::var("RUSTFLAGS").unwrap_or_default());
    command::run(cargo.env("RUSTFLAGS", flags.trim()))?;
    Ok(folder.join(host).join("release"))
}

fn host(workspace: &Workspace) -> Result<String> {
    let told = command::text(command::cargo(workspace).arg("-vV"))?;
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line
        .context("cargo does not say what it runs on")?
        .to_owned())
}

/// Runs one target, from the inputs in the repository.
fn fuzz(workspace: &Workspace, programs: &Path, target: &str, effort: Effort) -> Result<()> {
    let kept = workspace.target().join("fuzz");
    let (found, anew) = match effort {
        Effort::Seconds(_) => (kept.join("corpus").join(target), false),
        Effort::Inputs(_) => (kept.join("again").join(target), true),
    };
    if anew && found.exists() {
        fs::remove_dir_all(&found).with_context(|| format!("cannot remove {}", found.display()))?;
    }
    let artifacts = kept.join("artifacts").join(target);
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut program = std::process::Command::new(programs.join(target));
    program.args(effort.options());
    program.args([
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-verbosity=0",
        "-print_final_stats=1",
    ]);
    program.arg(format!("-artifact_prefix={}/", artifacts.display()));
    program.arg(&found);
    program.arg(workspace.root().join("fuzz/corpus").join(target));
    // It is told what it has learnt, which nobody reads unless something is wrong.
    let output = program
        .output()
        .with_context(|| format!("cannot start the target {target}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprint!("{told}");
        bail!(
            "an input makes {target} fail; it is kept in {}",
            artifacts.display()
        );
    }
    let ran = told
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    match ran {
        None | Some(0) => bail!("{target} has run no input"),
        Some(inputs) => println!("fuzz {target}: {inputs} inputs"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_a_program_and_inputs() {
        let workspace = Workspace::locate();
        let folder = workspace.root().join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let targets = targets(&folder.join("fuzz_targets")).unwrap();
        assert!(targets.len() >= 6, "{targets:?}");
        for target in targets {
            let path = format!("path = \"fuzz_targets/{target}.rs\"");
            assert!(manifest.contains(&path), "{target}");
            let inputs = fs::read_dir(folder.join("corpus").join(&target)).unwrap();
            assert!(inputs.count() > 0, "{target}");
        }
    }
}
