// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is written in C: the driver and the service of testbed/wine/example, and the driver that
//! port-conformance gives its orders to. Built with mingw-w64 alone, as testbed/wine/README.md tells
//! others to build theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::files::Files;
use crate::command;
use crate::workspace::Workspace;

const EXAMPLE: &str = "testbed/wine/example";
const CONFORMANCE: &str = "testbed/wine/conformance";
const HEADERS: &str = "testbed/host/include";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
const DLLTOOL: &str = "x86_64-w64-mingw32-dlltool";

/// Builds all into `folder` and adds them to the files. mingw-w64 has an import library for
/// ntoskrnl.exe but none for fltmgr.sys, so that is made first, with `exports`.
pub(super) fn build(
    workspace: &Workspace,
    folder: &Path,
    exports: &[&str],
    files: &mut Files,
) -> Result<()> {
    println!("example.sys, conformance.sys, client.exe: compiling C");
    import_library(folder, exports)?;
    for (sources, image) in [(EXAMPLE, "example.sys"), (CONFORMANCE, "conformance.sys")] {
        let image = folder.join(image);
        driver(workspace, folder, sources, &image)?;
        files.drivers.push(image);
    }
    files.user.push(client(workspace, folder)?);
    Ok(())
}

fn import_library(folder: &Path, exports: &[&str]) -> Result<()> {
    let definition = folder.join("fltmgr.def");
    let text = format!("LIBRARY fltmgr.sys\nEXPORTS\n{}\n", exports.join("\n"));
    fs::write(&definition, text)
        .with_context(|| format!("cannot write {}", definition.display()))?;
    let mut dlltool = Command::new(DLLTOOL);
    dlltool
        .arg("-d")
        .arg(&definition)
        .arg("-l")
        .arg(folder.join("libfltmgr.a"));
    command::run_tidily(&mut dlltool, &folder.join("scratch"))
        .context("no import library for fltmgr.sys")
}

fn driver(workspace: &Workspace, folder: &Path, sources: &str, image: &Path) -> Result<()> {
    let mut gcc = compiler(workspace, sources, "driver.c", image);
    gcc.args(["-ffreestanding", "-nostdlib", "-isystem"])
        .arg(workspace.path(HEADERS))
        .args(["-Wl,--subsystem,native", "-Wl,--entry,DriverEntry"])
        .args(["-Wl,--dynamicbase", "-Wl,--nxcompat", "-L"])
        .arg(folder)
        .args(["-lfltmgr", "-lntoskrnl"]);
    command::run(&mut gcc).with_context(|| format!("the driver of {sources} does not build"))
}

fn client(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("client.exe");
    let mut gcc = compiler(workspace, EXAMPLE, "client.c", &image);
    command::run(gcc.arg("-lfltlib")).context("the service in C does not build")?;
    Ok(image)
}

fn compiler(workspace: &Workspace, sources: &str, source: &str, image: &Path) -> Command {
    let mut gcc = Command::new(COMPILER);
    gcc.args(["-std=gnu11", "-O2", "-Wall", "-Werror", "-o"])
        .arg(image)
        .arg(workspace.path(sources).join(source));
    gcc
}
