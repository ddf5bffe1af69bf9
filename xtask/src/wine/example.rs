// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver and the service in C of testbed/wine/example, built with mingw-w64 alone, as
//! testbed/wine/README.md tells others to build theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::files::Files;
use crate::command;
use crate::workspace::Workspace;

const SOURCES: &str = "testbed/wine/example";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// Builds both into `folder` and adds them to the files.
pub(super) fn build(workspace: &Workspace, folder: &Path, files: &mut Files) -> Result<()> {
    let library = import_library(workspace, folder)?;
    files.drivers.push(driver(workspace, folder, &library)?);
    files.user.push(client(workspace, folder)?);
    Ok(())
}

/// mingw-w64 has an import library for ntoskrnl.exe, but none for fltmgr.sys.
fn import_library(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let library = folder.join("libfltmgr.a");
    let mut dlltool = Command::new("x86_64-w64-mingw32-dlltool");
    dlltool
        .arg("--input-def")
        .arg(workspace.path(SOURCES).join("fltmgr.def"))
        .arg("--output-lib")
        .arg(&library);
    command::run(&mut dlltool).context("no import library for fltmgr.sys")?;
    Ok(library)
}

fn driver(workspace: &Workspace, folder: &Path, library: &Path) -> Result<PathBuf> {
    let image = folder.join("example.sys");
    let mut gcc = compiler(workspace, "driver.c", &image);
    gcc.args(["-nostdlib", "-ffreestanding", "-isystem"])
        .arg(workspace.path("testbed/host/include"))
        .args(["-Wl,--subsystem,native", "-Wl,--entry,DriverEntry"])
        .arg("-Wl,--dynamicbase")
        .arg(library)
        .arg("-lntoskrnl");
    command::run(&mut gcc).context("the example's driver does not build")?;
    Ok(image)
}

fn client(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("example-client.exe");
    let mut gcc = compiler(workspace, "client.c", &image);
    command::run(gcc.arg("-lfltlib")).context("the example's service does not build")?;
    Ok(image)
}

fn compiler(workspace: &Workspace, source: &str, image: &Path) -> Command {
    let mut gcc = Command::new(COMPILER);
    gcc.args(["-O2", "-Wall", "-Werror", "-o"])
        .arg(image)
        .arg(workspace.path(SOURCES).join(source));
    gcc
}
