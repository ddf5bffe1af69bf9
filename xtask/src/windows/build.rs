// SPDX-License-Identifier: MIT OR Apache-2.0

//! From a crate to a file that Windows loads. What is built is the caller's choice: the images that
//! are shipped, or stand-ins for tests.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::linker::{self, Linker};
use super::toolchain::{self, Toolchain, UserStd};
use super::version::Version;
use crate::workspace::Workspace;
use crate::{command, provision};

/// The target of the drivers.
pub(crate) const KERNEL_TARGET: &str = "x86_64-pc-windows-msvc";

/// The target of programs: where Microsoft's linker is, its own; else the one that mingw-w64 links.
pub(crate) const USER_TARGET: &str = if cfg!(all(windows, target_env = "msvc")) {
    "x86_64-pc-windows-msvc"
} else {
    "x86_64-pc-windows-gnu"
};

/// The C compiler that links programs for the target of mingw-w64, by the name rustc gives it.
const MINGW_GCC: &str = "x86_64-w64-mingw32-gcc";

/// A driver: a library crate, and the image that is made of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriverImage {
    /// The crate.
    pub(crate) package: &'static str,
    /// The file's name, with its extension.
    pub(crate) image: &'static str,
    /// What other drivers import from it: names of `#[no_mangle]` functions.
    pub(crate) exports: &'static [&'static str],
    /// Process notify routines of the `Ex` kind need IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY.
    pub(crate) force_integrity: bool,
}

/// A driver that has been linked.
#[derive(Debug)]
pub(crate) struct LinkedDriver {
    /// The image.
    pub(crate) path: PathBuf,
    /// Its functions and their addresses, as the linker wrote them.
    pub(crate) map: PathBuf,
}

/// A program or DLL for user mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserImage {
    /// The crate.
    pub(crate) package: &'static str,
    /// The file's name, with its extension.
    pub(crate) image: &'static str,
    /// What cargo shall make of the crate.
    pub(crate) artifact: Artifact,
}

/// What cargo makes of a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "nothing that is shipped is a DLL")]
pub(crate) enum Artifact {
    /// The program of this name.
    Program(&'static str),
    /// A DLL of its library, whatever type the library has otherwise.
    Dll,
}

/// Compiles and links a driver into `folder`.
///
/// # Errors
/// It does not compile, or does not link.
pub(crate) fn driver(
    workspace: &Workspace,
    toolchain: Toolchain,
    linker: &Linker,
    driver: &DriverImage,
    folder: &Path,
) -> Result<LinkedDriver> {
    println!("{}: compiling {}", driver.image, driver.package);
    let library = static_library(workspace, toolchain, driver.package)?;
    let scratch = workspace.target().join("kernel/link");
    for each in [folder, &scratch] {
        make_folder(each)?;
    }
    let resource = scratch.join(driver.image).with_extension("res");
    let version = Version::of_driver(workspace, driver.package, driver.image)?;
    fs::write(&resource, version.resource_file())
        .with_context(|| format!("cannot write {}", resource.display()))?;
    linker.link(workspace, &library, &resource, driver, folder, &scratch)?;
    Ok(LinkedDriver {
        path: folder.join(driver.image),
        map: linker::map_file(&scratch, driver),
    })
}

/// The static library of a driver crate, with `core` and `alloc` in it.
fn static_library(workspace: &Workspace, toolchain: Toolchain, package: &str) -> Result<PathBuf> {
    let target = workspace.target().join("kernel");
    let mut cargo = toolchain.cargo(workspace);
    cargo
        .args(["rustc", "--quiet", "--release", "--lib"])
        .args(["--crate-type", "staticlib"])
        .args(["--package", package, "--target", KERNEL_TARGET])
        .arg("--target-dir")
        .arg(&target)
        .args(toolchain::KERNEL_STD)
        // One unit and link-time optimisation: what cannot be reached, panics first of all, is
        // found and removed.
        .args(["--config", "profile.release.panic='abort'"])
        .args(["--config", "profile.release.lto='fat'"])
        .args(["--config", "profile.release.codegen-units=1"])
        // Half the size, and the driver is not what is slow about a message.
        .args(["--config", "profile.release.opt-level='s'"]);
    // For core and alloc as well.
    toolchain::flags(&mut cargo, workspace, &["-Ccontrol-flow-guard"]);
    command::run(&mut cargo)
        .with_context(|| format!("{package} does not compile for {KERNEL_TARGET}"))?;
    let file = format!("{}.lib", package.replace('-', "_"));
    Ok(target.join(KERNEL_TARGET).join("release").join(file))
}

/// Compiles and links a program or a DLL for user mode into `folder`; the path of the file.
///
/// # Errors
/// It does not compile, or there is no linker for it.
pub(crate) fn user(
    workspace: &Workspace,
    toolchain: Toolchain,
    user: &UserImage,
    folder: &Path,
) -> Result<PathBuf> {
    let std = UserStd::choose(toolchain, USER_TARGET);
    println!("std for {USER_TARGET}: {}", std.origin());
    mingw()?;
    println!("{}: compiling {}", user.image, user.package);
    make_folder(folder)?;
    let target = workspace.target().join("user");
    let mut cargo = std.cargo(workspace);
    cargo
        .args(["rustc", "--quiet", "--release", "--package", user.package])
        .args(["--target", USER_TARGET, "--target-dir"])
        .arg(&target)
        .args(std.arguments())
        // Of the standard library's debug information there is ten times more than of code; and the
        // linker's symbols name folders of this machine, some of them made up for each build.
        .args(["--config", "profile.release.strip='symbols'"]);
    let made = match user.artifact {
        Artifact::Program(name) => {
            cargo.args(["--bin", name]);
            format!("{name}.exe")
        }
        Artifact::Dll => {
            cargo.args(["--lib", "--crate-type", "cdylib"]);
            // Its crate names the library as the file is named.
            user.image.to_string()
        }
    };
    let flags: &[&str] = if USER_TARGET.ends_with("msvc") {
        // Else it would need the redistributable package of Microsoft's C runtime.
        &["-Ctarget-feature=+crt-static", "-Clink-arg=/BREPRO"]
    } else {
        // Equal sources shall give equal programs.
        &["-Clink-arg=-Wl,--no-insert-timestamp"]
    };
    toolchain::flags(&mut cargo, workspace, flags);
    command::run_tidily(&mut cargo, &target.join("scratch"))
        .with_context(|| format!("{} does not build for {USER_TARGET}", user.package))?;
    let made = target.join(USER_TARGET).join("release").join(made);
    let path = folder.join(user.image);
    fs::copy(&made, &path)
        .with_context(|| format!("cannot copy {} to {}", made.display(), path.display()))?;
    Ok(path)
}

/// Makes sure of mingw-w64's compiler, where the target needs it.
fn mingw() -> Result<()> {
    let gcc = format!("{MINGW_GCC}{EXE_SUFFIX}");
    let is_there = || command::answers(std::process::Command::new(&gcc).arg("--version"));
    if !USER_TARGET.ends_with("gnu") || is_there() {
        return Ok(());
    }
    provision::packages(&["gcc-mingw-w64-x86-64"])
        .with_context(|| format!("{gcc} links programs for {USER_TARGET}, and is missing"))
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
