// SPDX-License-Identifier: MIT OR Apache-2.0

//! Getting tools that are missing: components and targets from rustup, packages from Debian or
//! Ubuntu.

use std::env::{self, consts::EXE_SUFFIX};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::command;
use crate::workspace::Workspace;

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

/// Makes sure of the other compilers that headers and examples are held against. Where they cannot be had
/// the tests say so, and count them as skipped.
///
/// What is here under the name of its version alone gets the plain one in a folder of the target folder;
/// then it is the PATH with that folder in front that the tests need.
pub(crate) fn other_compilers(workspace: &Workspace) -> Result<Option<OsString>> {
    let mut renamed = Vec::new();
    for (program, package) in [
        ("clang", "clang"),
        ("clang++", "clang"),
        ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64"),
        ("x86_64-w64-mingw32-g++", "g++-mingw-w64-x86-64"),
    ] {
        if command::answers(Command::new(program).arg("--version")) {
            continue;
        }
        if let Some(path) = find(program) {
            println!("{program}: {}", path.display());
            renamed.push((program, path));
        } else if let Err(error) = packages(&[package]) {
            println!("{program} is missing: {error:#}");
        }
    }
    if renamed.is_empty() {
        return Ok(None);
    }
    let folder = workspace.target().join("compilers");
    rename(&renamed, &folder).with_context(|| format!("cannot fill {}", folder.display()))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder].into_iter().chain(env::split_paths(&path)));
    Ok(Some(
        path.context("the target folder's name cannot be in PATH")?,
    ))
}

/// Fills a folder, which is made anew, with these names for these programs.
fn rename(programs: &[(&str, PathBuf)], folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for (name, program) in programs {
        link(program, &folder.join(name))?;
    }
    Ok(())
}

#[cfg(unix)]
fn link(program: &Path, name: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(program, name)
}

/// There nobody names programs by their versions.
#[cfg(not(unix))]
fn link(_program: &Path, _name: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// A program of this name in PATH; else the newest of Debian's `NAME-19` and its like.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let plain = format!("{name}{EXE_SUFFIX}");
    let plain = folders.iter().map(|folder| folder.join(&plain));
    plain.into_iter().find(|path| path.exists()).or_else(|| {
        let entries = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        let paths = entries
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()));
        let versions = paths.filter_map(|path| {
            let version = version(&path.file_name()?.to_string_lossy(), name)?;
            Some((version, path))
        });
        versions.max().map(|(_, path)| path)
    })
}

/// The version in a file's name, if it is that program's.
fn version(file: &str, program: &str) -> Option<u32> {
    let version = file.strip_prefix(program)?.strip_prefix('-')?;
    let is_number = version.bytes().all(|each| each.is_ascii_digit());
    version.parse().ok().filter(|_| is_number)
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

    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// There are packages of Debian for root alone, and no root on Windows.
#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_versions() {
        assert_eq!(version("lld-link-19", "lld-link"), Some(19));
        assert_eq!(version("clang++-9", "clang++"), Some(9));
        for other in ["clang", "clang-", "clang-+1", "clang-cl-19", "clang++-19"] {
            assert_eq!(version(other, "clang"), None, "{other}");
        }
    }

    #[test]
    fn a_program_is_found_by_its_plain_name_first() {
        assert!(find("cargo").is_some_and(|path| path.ends_with(format!("cargo{EXE_SUFFIX}"))));
        assert_eq!(find("no-such-program"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_has_another_name_in_a_folder() {
        let folder = env::temp_dir().join(format!("xtask-rename-{}", std::process::id()));
        let shell = find("sh").unwrap();
        for _ in 0..2 {
            rename(&[("renamed", shell.clone())], &folder).unwrap();
        }
        let mut renamed = Command::new(folder.join("renamed"));
        assert!(command::answers(renamed.args(["-c", "true"])));
        fs::remove_dir_all(&folder).unwrap();
    }
}
