// SPDX-License-Identifier: MIT OR Apache-2.0

//! LLVM's tools for coverage, of the LLVM that the compiler was built with: the format of the
//! counters changes from one major version to the next.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, provision};

/// Where `llvm-profdata` and `llvm-cov` are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    /// rustup's component `llvm-tools`, else the system's tools of the same LLVM, which are
    /// installed if need be.
    ///
    /// # Errors
    /// Neither can be had; the message says how to get one.
    pub(super) fn find() -> Result<Tools> {
        let version = command::text(rustc().args(["--version", "--verbose"]))?;
        let sysroot = command::text(rustc().args(["--print", "sysroot"]))?;
        let host = field(&version, "host: ").context("`rustc -vV` does not name its host")?;
        let major = llvm_major(&version).context("`rustc -vV` does not name its LLVM version")?;
        for tools in [
            Tools::of_rustup(Path::new(sysroot.trim()), host),
            Tools::packaged(major),
        ] {
            if tools.answer() {
                return Ok(tools);
            }
        }
        let package = format!("llvm-{major}");
        provision::packages(&[&package]).with_context(|| {
            format!(
                "no llvm-profdata and llvm-cov of LLVM {major}; `rustup component add llvm-tools` \
                 or the package {package} brings them"
            )
        })?;
        let tools = Tools::packaged(major);
        if !tools.answer() {
            bail!("the package {package} is installed, but {tools:?} do not start");
        }
        Ok(tools)
    }

    fn of_rustup(sysroot: &Path, host: &str) -> Tools {
        let folder = sysroot.join("lib/rustlib").join(host).join("bin");
        Tools {
            profdata: folder.join("llvm-profdata"),
            cov: folder.join("llvm-cov"),
        }
    }

    fn packaged(major: &str) -> Tools {
        Tools {
            profdata: PathBuf::from(format!("llvm-profdata-{major}")),
            cov: PathBuf::from(format!("llvm-cov-{major}")),
        }
    }

    fn answer(&self) -> bool {
        // llvm-profdata knows no --version of its own.
        command::answers(self.profdata().args(["merge", "--help"]))
            && command::answers(self.cov().arg("--version"))
    }

    pub(super) fn profdata(&self) -> Command {
        Command::new(&self.profdata)
    }

    pub(super) fn cov(&self) -> Command {
        Command::new(&self.cov)
    }
}

/// The compiler that cargo uses for us.
fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")))
}

/// What follows `name` in its line of `rustc -vV`.
fn field<'a>(version: &'a str, name: &str) -> Option<&'a str> {
    version.lines().find_map(|line| line.strip_prefix(name))
}

fn llvm_major(version: &str) -> Option<&str> {
    field(version, "LLVM version: ")?.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_says_which_llvm_it_has() {
        let version = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_major(version), Some("22"));
        assert_eq!(field(version, "host: "), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(llvm_major("rustc 1.95.0"), None);
    }

    #[test]
    fn debian_has_the_version_in_the_name() {
        let tools = Tools::packaged("22");
        assert_eq!(tools.cov().get_program(), "llvm-cov-22");
        assert_eq!(tools.profdata().get_program(), "llvm-profdata-22");
    }
}
