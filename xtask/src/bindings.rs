// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bindings`: kernel/nt/src/bindings.rs from kernel/nt/bindings.txt.
//!
//! The declarations come from Microsoft's metadata by way of windows-bindgen. Three things are
//! changed on the way: the library of each function (the metadata binds many kernel functions to
//! ntdll.dll, which no driver may import), the way a library is named (raw-dylib, so that no import
//! library is needed), and the place of that name (only on Windows, so that elsewhere the linker
//! finds the functions of the hosted kernel).

mod emit;
mod library;
mod list;
mod metadata;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

pub(crate) const LIST: &str = "kernel/nt/bindings.txt";
const OUTPUT: &str = "kernel/nt/src/bindings.rs";

/// Generate the NT declarations from the list of names in kernel/nt/bindings.txt.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when the file is not what would be generated.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Generates the bindings, or compares them with what is there.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let generated = generate(workspace)?;
    let output = workspace.path(OUTPUT);
    if arguments.check {
        return compare(&generated, &output);
    }
    fs::write(&output, &generated).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{OUTPUT}: {} lines", generated.lines().count());
    Ok(())
}

/// The names of a list like kernel/nt/bindings.txt.
///
/// # Errors
/// A line that is not one name.
pub(crate) fn names(text: &str) -> Result<Vec<String>> {
    list::parse(text).context(LIST)
}

fn generate(workspace: &Workspace) -> Result<String> {
    // windows-bindgen formats with it, too, and without it writes everything in one line.
    if !command::answers(Command::new("rustfmt").arg("--version")) {
        bail!("no rustfmt; install it with `rustup component add rustfmt`");
    }
    let path = workspace.path(LIST);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names = names(&text)?;
    let raw =
        metadata::declarations(&names, workspace.target()).with_context(|| LIST.to_string())?;
    format(&emit::source(&raw)?)
}

fn compare(generated: &str, output: &Path) -> Result<()> {
    let present = fs::read_to_string(output).unwrap_or_default();
    if present == generated {
        println!("{OUTPUT} is what {LIST} generates");
        return Ok(());
    }
    let line = present
        .lines()
        .zip(generated.lines())
        .take_while(|(old, new)| old == new)
        .count()
        + 1;
    bail!(
        "{OUTPUT} differs from what {LIST} generates, first in line {line}; \
         run `cargo xtask bindings`"
    )
}

/// rustfmt over standard input, so that nothing half-formatted is ever on disk.
fn format(source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args([
            "--edition",
            "2024",
            "--emit",
            "stdout",
            "--config",
            "max_width=100",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt")?;
    let mut stdin = child
        .stdin
        .take()
        .context("rustfmt has no standard input")?;
    let text = source.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("rustfmt did not finish")?;
    let written = writer.join();
    if !output.status.success() || !matches!(written, Ok(Ok(()))) {
        bail!("rustfmt refused the generated bindings");
    }
    String::from_utf8(output.stdout).context("rustfmt's output is not text")
}
