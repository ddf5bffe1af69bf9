// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where `core` and `alloc` for the kernel come from, and `std` for programs.
//!
//! Those for the kernel are compiled from source: the ones that rustup ships for this target refer to memcpy,
//! memset and to C++ exception handling in the C runtime, which no driver has.
//! `compiler-builtins-mem` brings the memory functions.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{command, provision};

/// What cargo needs to be told to build the kernel's libraries.
pub(crate) const KERNEL_STD: [&str; 2] = [
    "-Zbuild-std=core,alloc,compiler_builtins",
    "-Zbuild-std-features=compiler-builtins-mem",
];

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SYSROOT: &str = "/usr";

/// A compiler with the sources of its libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one in use, with rustup's component rust-src.
    Rustup,
    /// Debian's packages rustc-web, cargo-web and rust-web-src.
    Debian,
}

impl Toolchain {
    /// The first that is there, else the first that can be had: rustup's, Debian's.
    ///
    /// # Errors
    /// Neither can be had; the message says how to get one.
    pub(crate) fn choose() -> Result<Toolchain> {
        let present = [Toolchain::Rustup, Toolchain::Debian]
            .into_iter()
            .find(|each| each.is_present());
        if let Some(toolchain) = present {
            return Ok(toolchain);
        }
        match provision::component("rust-src") {
            Ok(()) if Toolchain::Rustup.is_present() => return Ok(Toolchain::Rustup),
            Ok(()) => println!("rustup added rust-src to another toolchain than the one in use"),
            Err(error) => println!("rustup has no rust-src for us: {error:#}"),
        }
        provision::packages(&DEBIAN_PACKAGES).context(
            "no sources of Rust's own libraries; `rustup component add rust-src` brings them",
        )?;
        Ok(Toolchain::Debian)
    }

    /// For the report.
    pub(crate) fn origin(self) -> &'static str {
        match self {
            Toolchain::Rustup => "compiled from rustup's rust-src",
            Toolchain::Debian => "compiled from Debian's rust-web-src by Debian's rustc-web",
        }
    }

    /// A cargo that may use unstable options.
    pub(crate) fn cargo(self, workspace: &Workspace) -> Command {
        let mut cargo = command::cargo(workspace);
        if self == Toolchain::Debian {
            cargo = Command::new(DEBIAN_CARGO);
            cargo
                .current_dir(workspace.root())
                .env("RUSTC", DEBIAN_RUSTC)
                // Both are set for the cargo that runs xtask and lead to its compiler.
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("LD_LIBRARY_PATH");
        }
        // -Zbuild-std is unstable, and without it no stable compiler builds a driver.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    fn is_present(self) -> bool {
        match self {
            Toolchain::Rustup => sysroot().is_ok_and(|sysroot| has_sources(&sysroot)),
            Toolchain::Debian => {
                has_sources(Path::new(DEBIAN_SYSROOT))
                    && Path::new(DEBIAN_RUSTC).exists()
                    && Path::new(DEBIAN_CARGO).exists()
            }
        }
    }
}

/// Where the standard library of programs comes from: rustup's, else compiled from source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserStd {
    /// It is installed beside the compiler in use.
    Installed,
    /// It was not, and rustup brought it.
    Added,
    /// It is compiled from this toolchain's sources.
    Compiled(Toolchain),
}

impl UserStd {
    /// The first that can be had: installed, from rustup, from source.
    pub(crate) fn choose(toolchain: Toolchain, target: &str) -> UserStd {
        if has_target(target) {
            return UserStd::Installed;
        }
        match provision::target(target) {
            Ok(()) if has_target(target) => UserStd::Added,
            Ok(()) => UserStd::Compiled(toolchain),
            Err(error) => {
                println!("rustup has no std for {target} for us: {error:#}");
                UserStd::Compiled(toolchain)
            }
        }
    }

    /// For the report.
    pub(crate) fn origin(self) -> &'static str {
        match self {
            UserStd::Installed => "installed",
            UserStd::Added => "added by rustup",
            UserStd::Compiled(toolchain) => toolchain.origin(),
        }
    }

    /// The toolchain that it belongs to.
    pub(crate) fn toolchain(self) -> Toolchain {
        match self {
            UserStd::Installed | UserStd::Added => Toolchain::Rustup,
            UserStd::Compiled(toolchain) => toolchain,
        }
    }

    /// A cargo that builds programs with it, told [`UserStd::arguments`] after the subcommand.
    pub(crate) fn cargo(self, workspace: &Workspace) -> Command {
        self.toolchain().cargo(workspace)
    }

    /// What that cargo needs to be told.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            UserStd::Installed | UserStd::Added => &[],
            UserStd::Compiled(_) => &["-Zbuild-std=std,panic_abort"],
        }
    }
}

/// What the compiler is told so that images name no folder of this machine, in their messages or in
/// the lines of their symbols.
fn without_paths(workspace: &Workspace) -> Vec<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os(if cfg!(windows) { "USERPROFILE" } else { "HOME" })?;
        Some(PathBuf::from(home).join(".cargo"))
    });
    let sources = |sysroot: PathBuf| sysroot.join("lib/rustlib/src/rust");
    [
        Some((workspace.root().to_path_buf(), "fltport")),
        // The last that fits counts, and this may lie in the one before.
        Some((workspace.target().to_path_buf(), "target")),
        home.map(|home| (home.join("registry/src"), "crates")),
        sysroot().ok().map(|sysroot| (sources(sysroot), "rust")),
        Some((sources(PathBuf::from(DEBIAN_SYSROOT)), "rust")),
    ]
    .into_iter()
    .flatten()
    .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
    .collect()
}

/// Tells the compiler that a cargo runs: no folders of this machine, and these flags. Flags that the
/// environment has for other builds do not count.
pub(crate) fn flags(cargo: &mut Command, workspace: &Workspace, flags: &[&str]) {
    let mut all = without_paths(workspace);
    all.extend(flags.iter().map(ToString::to_string));
    // Cargo's separator: a flag may contain blanks.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", all.join("\u{1f}"));
}

/// The folder of the compiler in use.
pub(crate) fn sysroot() -> Result<PathBuf> {
    let text = command::text(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(text.trim()))
}

/// Whether the compiler in use has the standard library for a target.
pub(crate) fn has_target(triple: &str) -> bool {
    sysroot().is_ok_and(|sysroot| {
        sysroot
            .join("lib/rustlib")
            .join(triple)
            .join("lib")
            .exists()
    })
}

fn has_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").exists()
}
