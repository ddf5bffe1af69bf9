// SPDX-License-Identifier: MIT OR Apache-2.0

//! The steps of `cargo xtask test`, in the order in which they run: cheap ones first.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::counts::Counts;
use super::{Floor, Outcome};
use crate::workspace::Workspace;
use crate::{bindings, command, functions, fuzz, provision, sim, windows, wine};

/// The name of a step on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Name {
    Format,
    Bindings,
    Clippy,
    Functions,
    Unit,
    Integration,
    Doctest,
    Loom,
    Sim,
    Fuzz,
    Doc,
    Windows,
    Wine,
}

impl Name {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Name::Format => "format",
            Name::Bindings => "bindings",
            Name::Clippy => "clippy",
            Name::Functions => "functions",
            Name::Unit => "unit",
            Name::Integration => "integration",
            Name::Doctest => "doctest",
            Name::Loom => "loom",
            Name::Sim => "sim",
            Name::Fuzz => "fuzz",
            Name::Doc => "doc",
            Name::Windows => "windows",
            Name::Wine => "wine",
        }
    }
}

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: Name,
    pub(super) floor: Floor,
    pub(super) what: &'static str,
    pub(super) run: fn(&Workspace, &mut Counts) -> Result<Outcome>,
}

pub(super) const STEPS: [Step; 13] = [
    Step {
        name: Name::Format,
        floor: Floor::Host,
        what: "every file is as rustfmt writes it",
        run: format,
    },
    Step {
        name: Name::Bindings,
        floor: Floor::Host,
        what: "kernel/nt/src/bindings.rs is what its list generates",
        run: check_bindings,
    },
    Step {
        name: Name::Clippy,
        floor: Floor::Host,
        what: "no warning from the compiler or clippy, all packages, all targets",
        run: clippy,
    },
    Step {
        name: Name::Functions,
        floor: Floor::HostedKernel,
        what: "docs/nt-functions.md is what the hosted kernel says",
        run: check_functions,
    },
    Step {
        name: Name::Unit,
        floor: Floor::Host,
        what: "unit and property tests",
        run: unit,
    },
    Step {
        name: Name::Integration,
        floor: Floor::HostedKernel,
        what: "integration and end-to-end tests",
        run: integration,
    },
    Step {
        name: Name::Doctest,
        floor: Floor::Host,
        what: "examples in the documentation",
        run: doctest,
    },
    Step {
        name: Name::Loom,
        floor: Floor::Host,
        what: "every interleaving of the concurrent code",
        run: loom,
    },
    Step {
        name: Name::Sim,
        floor: Floor::HostedKernel,
        what: "the whole system under a seeded scheduler, the laws checked after each seed",
        run: simulation,
    },
    Step {
        name: Name::Fuzz,
        floor: Floor::Host,
        what: "whatever is decoded, with up to a million inputs each, always the same ones",
        run: fuzzing,
    },
    Step {
        name: Name::Doc,
        floor: Floor::Host,
        what: "the documentation builds without a warning",
        run: doc,
    },
    Step {
        name: Name::Windows,
        floor: Floor::WindowsBuild,
        what: "what is for Windows: built, checked, signed for tests and packed",
        run: windows_build,
    },
    Step {
        name: Name::Wine,
        floor: Floor::Wine,
        what: "the files for Windows, loaded and run by Wine",
        run: run_wine,
    },
];

fn format(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    component(workspace, "fmt", "rustfmt")?;
    let mut cargo = command::cargo(workspace);
    cargo.args(["fmt", "--all", "--check"]);
    if !std::io::stdout().is_terminal() {
        // rustfmt shows colours wherever TERM promises them.
        cargo.args(["--", "--color", "never"]);
    }
    command::run(&mut cargo).context("run `cargo fmt --all`")?;
    Ok(Outcome::Passed)
}

fn check_bindings(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    bindings::run(workspace, &bindings::Arguments { check: true })?;
    Ok(Outcome::Passed)
}

fn clippy(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    component(workspace, "clippy", "clippy")?;
    // The first step that compiles everything.
    provision::c_compiler()?;
    let mut cargo = command::cargo(workspace);
    command::run(cargo.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Outcome::Passed)
}

fn check_functions(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    functions::run(workspace, &functions::Arguments { check: true })?;
    Ok(Outcome::Passed)
}

fn unit(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    tests(
        command::cargo(workspace).args([
            "test",
            "--workspace",
            "--all-features",
            "--lib",
            "--bins",
        ]),
        counts,
    )
}

fn integration(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    let mut cargo = command::cargo(workspace);
    cargo.args(["test", "--workspace", "--all-features", "--test", "*"]);
    if let Some(path) = provision::other_compilers(workspace)? {
        cargo.env("PATH", path);
    }
    tests(&mut cargo, counts)
}

fn doctest(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    tests(
        command::cargo(workspace).args(["test", "--workspace", "--all-features", "--doc"]),
        counts,
    )
}

/// The crates that name loom run their library's tests under its model, in their own target folder:
/// everything is compiled with another configuration. All in one go, for what they depend on is then compiled once.
fn loom(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    let packages = packages_with(workspace, "loom")?;
    if packages.is_empty() {
        return Ok(Outcome::NotTested("no crate uses loom".to_string()));
    }
    let flags = format!("{} --cfg loom", env::var("RUSTFLAGS").unwrap_or_default());
    let mut cargo = command::cargo(workspace);
    cargo
        .args(["test", "--profile", "loom", "--lib", "--target-dir"])
        .arg(workspace.target().join("loom"))
        .env("RUSTFLAGS", flags.trim());
    for package in &packages {
        cargo.args(["--package", package]);
    }
    let mut libraries = 0;
    let outcome = tests_by(&mut cargo, |of_line| {
        libraries += usize::from(of_line.ran() != 0);
        *counts += of_line;
    })?;
    if libraries < packages.len() {
        bail!(
            "{} depend on loom, but tests run under `cfg(loom)` in {libraries} of their libraries only. \
             Add a model, or take the dependency out",
            packages.join(", ")
        );
    }
    Ok(outcome)
}

/// A bounded number of seeds, always the same ones: what failed once is in the regression tests.
fn simulation(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    for (size, seeds) in [("small", "10000"), ("full", "10000")] {
        sim::seeds(
            workspace,
            &["--size", size, "--seeds", seeds].map(OsString::from),
        )?;
    }
    Ok(Outcome::Passed)
}

/// Enough inputs to see that the targets work and that what is known is still handled; `cargo xtask
/// fuzz` looks for new ones.
fn fuzzing(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    fuzz::again(workspace, 1_000_000)?;
    Ok(Outcome::Passed)
}

fn doc(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    let mut cargo = command::cargo(workspace);
    command::run(
        cargo
            .args(["doc", "--workspace", "--all-features", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    Ok(Outcome::Passed)
}

fn windows_build(workspace: &Workspace, _: &mut Counts) -> Result<Outcome> {
    let mut arguments = windows::Arguments::default();
    arguments.signing.sign = true;
    windows::run(workspace, &arguments)?;
    Ok(Outcome::Passed)
}

fn run_wine(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    let checks = wine::test(workspace)?;
    // As the test runners of cargo do, which know no better.
    counts.passed += checks.passed + checks.skipped;
    counts.skipped += checks.skipped;
    Ok(Outcome::Passed)
}

/// Runs `cargo test …`, shows what is worth it of its output and counts the tests in it.
fn tests(cargo: &mut Command, counts: &mut Counts) -> Result<Outcome> {
    tests_by(cargo, |of_line| *counts += of_line)
}

/// The same, and says what each line of the output counts.
fn tests_by(cargo: &mut Command, mut count: impl FnMut(Counts)) -> Result<Outcome> {
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("no pipe to cargo")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output of cargo")?;
        let line = String::from_utf8_lossy(&line);
        if is_worth_showing(&line) {
            println!("{line}");
        }
        count(Counts::of_line(&line));
    }
    let status = child.wait().context("cannot wait for cargo")?;
    command::judge(cargo, status)?;
    Ok(Outcome::Passed)
}

/// Not each test that passed, and not what stands around them.
fn is_worth_showing(line: &str) -> bool {
    let passed = line.starts_with("test ") && line.ends_with(" ... ok");
    let opening = line.starts_with("running ") && line.ends_with(['t', 's']);
    let nothing_ran = line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored");
    !(passed || opening || nothing_ran || line.is_empty())
}

/// Makes sure of `cargo <subcommand>`.
fn component(workspace: &Workspace, subcommand: &str, name: &str) -> Result<()> {
    let is_there = || command::answers(command::cargo(workspace).args([subcommand, "--version"]));
    if is_there() {
        return Ok(());
    }
    provision::component(name).with_context(|| {
        format!(
            "`cargo {subcommand}` is missing, and rustup does not bring it; install {name} for \
             this Rust by hand"
        )
    })?;
    if is_there() {
        return Ok(());
    }
    bail!("`cargo {subcommand}` is still missing after `rustup component add {name}`")
}

/// The packages of the workspace that depend on a crate, for any target.
fn packages_with(workspace: &Workspace, dependency: &str) -> Result<Vec<String>> {
    let mut cargo = command::cargo(workspace);
    let text = command::text(cargo.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata wrote no JSON")?;
    Ok(names_with(&metadata, dependency))
}

fn names_with(metadata: &Value, dependency: &str) -> Vec<String> {
    let list = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let name = |value: &Value| {
        value
            .get("name")
            .and_then(Value::as_str)
            .map(str::to_string)
    };
    list(metadata, "packages")
        .iter()
        .filter(|package| {
            list(package, "dependencies")
                .iter()
                .any(|each| name(each).as_deref() == Some(dependency))
        })
        .filter_map(name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_by_what_they_depend_on() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "ring", "dependencies": [{ "name": "loom" }] },
            { "name": "abi", "dependencies": [{ "name": "bytemuck" }] },
        ]});
        assert_eq!(names_with(&metadata, "loom"), ["ring"]);
    }

    #[test]
    fn tests_are_counted_from_what_the_program_prints() {
        let mut counts = Counts::default();
        let script =
            "echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";
        tests(Command::new("sh").args(["-c", script]), &mut counts).unwrap();
        assert_eq!(
            counts,
            Counts {
                passed: 3,
                ..Counts::default()
            }
        );
        assert!(tests(Command::new("sh").args(["-c", "exit 101"]), &mut counts).is_err());
    }

    #[test]
    fn a_test_that_passed_is_not_shown_and_anything_else_is() {
        for line in [
            "test ke::an_event ... ok",
            "running 12 tests",
            "running 1 test",
            "",
        ] {
            assert!(!is_worth_showing(line), "{line}");
        }
        let closing = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured";
        for line in [
            "test a ... FAILED",
            "test a ... ignored",
            "  left: 1",
            closing,
        ] {
            assert!(is_worth_showing(line), "{line}");
        }
    }
}
