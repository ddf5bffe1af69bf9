// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is written in C and C++: the driver and the service of testbed/wine/example, the driver that
//! port-conformance gives its orders to, and client drivers and a service of the examples. Built with
//! mingw-w64 alone, as testbed/wine/README.md, docs/writing-a-driver.md and the examples tell others to
//! build theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::files::Files;
use crate::workspace::Workspace;
use crate::{command, provision};

const EXAMPLE: &str = "testbed/wine/example";
const CONFORMANCE: &str = "testbed/wine/conformance";
/// The service that watches, with a script that builds it.
const WATCHER: &str = "examples/ring-watcher";
const HEADERS: &str = "testbed/host/include";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
const CXX_COMPILER: &str = "x86_64-w64-mingw32-g++";
const DLLTOOL: &str = "x86_64-w64-mingw32-dlltool";
/// The contract of client drivers.
const INCLUDE: &str = "include";
/// The same of revision 1.0.
const FIRST: &str = "testbed/compat/1.0";
/// What mingw-w64's import library of ntoskrnl.exe lacks.
const NEWER: [&str; 3] = [
    "ExAllocatePool2",
    "KeInitializeSpinLock",
    "KeQuerySystemTimePrecise",
];

/// Builds all into `folder` and adds them to the files. mingw-w64 has an import library for
/// ntoskrnl.exe but none for fltmgr.sys, so that is made first, with `exports`.
pub(super) fn build(
    workspace: &Workspace,
    folder: &Path,
    exports: &[&str],
    files: &mut Files,
) -> Result<()> {
    println!("example.sys, conformance.sys, client.exe: compiling C");
    import_library(folder, "fltmgr", "fltmgr.sys", exports)?;
    import_library(folder, "newer", "ntoskrnl.exe", &NEWER)?;
    for (sources, image) in [(EXAMPLE, "example.sys"), (CONFORMANCE, "conformance.sys")] {
        let image = folder.join(image);
        driver(workspace, folder, sources, &image)?;
        files.drivers.push(image);
    }
    files.user.push(client(workspace, folder)?);
    println!("hello-c.sys, hello-1-0.sys, hello-cpp.sys: compiling C and C++");
    for (image, stub) in [("hello-c.sys", INCLUDE), ("hello-1-0.sys", FIRST)] {
        let image = folder.join(image);
        hello_in_c(workspace, folder, stub, &image)?;
        files.drivers.push(image);
    }
    files.drivers.push(hello_in_cpp(workspace, folder)?);
    println!("ring-watcher.exe: compiling C");
    files.user.push(watcher(workspace, folder)?);
    Ok(())
}

/// With the header and the stub of this folder.
fn hello_in_c(workspace: &Workspace, folder: &Path, stub: &str, image: &Path) -> Result<()> {
    let mut gcc = compiler(workspace, "examples/hello-c", "hello.c", image);
    gcc.arg(workspace.path(stub).join("fltport.c"))
        .arg("-Wno-multichar")
        // Before today's, which whoever links a driver adds.
        .arg("-I")
        .arg(workspace.path(stub));
    link_driver(workspace, folder, &mut gcc)
        .with_context(|| format!("hello-c does not build with {stub}"))
}

/// With an import library of fltport.sys that mingw-w64 makes: its linker gets the table wrong with the
/// one that lies beside the image.
fn hello_in_cpp(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    if !command::answers(Command::new(CXX_COMPILER).arg("--version")) {
        provision::packages(&["g++-mingw-w64-x86-64"])
            .with_context(|| format!("{CXX_COMPILER} compiles hello-cpp, and is missing"))?;
    }
    make_library(
        folder,
        "fltport",
        &workspace.path(INCLUDE).join("fltport.def"),
    )?;
    let image = folder.join("hello-cpp.sys");
    let mut gcc = Command::new(CXX_COMPILER);
    gcc.args(["-std=c++17", "-O2", "-Wall", "-Werror", "-Wno-multichar"])
        .args(["-fno-exceptions", "-fno-rtti", "-o"])
        .arg(&image)
        .arg(workspace.path("examples/hello-cpp/hello.cpp"))
        .arg(folder.join("libfltport.a"));
    link_driver(workspace, folder, &mut gcc).context("hello-cpp does not build")?;
    Ok(image)
}

fn import_library(folder: &Path, name: &str, image: &str, exports: &[&str]) -> Result<()> {
    let definition = folder.join(name).with_extension("def");
    let text = format!("LIBRARY {image}\nEXPORTS\n{}\n", exports.join("\n"));
    fs::write(&definition, text)
        .with_context(|| format!("cannot write {}", definition.display()))?;
    make_library(folder, name, &definition)
}

/// `lib<name>.a` of a module definition.
fn make_library(folder: &Path, name: &str, definition: &Path) -> Result<()> {
    let mut dlltool = Command::new(DLLTOOL);
    dlltool
        .arg("-d")
        .arg(definition)
        .arg("-l")
        .arg(folder.join(format!("lib{name}.a")));
    command::run_tidily(&mut dlltool, &folder.join("scratch"))
        .with_context(|| format!("no import library of {}", definition.display()))
}

fn driver(workspace: &Workspace, folder: &Path, sources: &str, image: &Path) -> Result<()> {
    let mut gcc = compiler(workspace, sources, "driver.c", image);
    link_driver(workspace, folder, &mut gcc)
        .with_context(|| format!("the driver of {sources} does not build"))
}

/// Runs a compiler to the end that a driver comes out.
fn link_driver(workspace: &Workspace, folder: &Path, gcc: &mut Command) -> Result<()> {
    gcc.args(["-ffreestanding", "-nostdlib", "-I"])
        .arg(workspace.path(INCLUDE))
        .arg("-isystem")
        .arg(workspace.path(HEADERS))
        .args(["-Wl,--subsystem,native", "-Wl,--entry,DriverEntry"])
        .args(["-Wl,--dynamicbase", "-Wl,--nxcompat", "-L"])
        .arg(folder)
        .args(["-lfltmgr", "-lnewer", "-lntoskrnl"]);
    command::run(gcc)
}

fn client(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("client.exe");
    let mut gcc = compiler(workspace, EXAMPLE, "client.c", &image);
    command::run(gcc.arg("-lfltlib")).context("the service in C does not build")?;
    Ok(image)
}

fn watcher(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("ring-watcher.exe");
    let mut build = Command::new("sh");
    build
        .arg(workspace.path(WATCHER).join("build.sh"))
        .arg(COMPILER)
        .arg(&image);
    command::run(&mut build).context("the watcher in C does not build")?;
    Ok(image)
}

fn compiler(workspace: &Workspace, sources: &str, source: &str, image: &Path) -> Command {
    let mut gcc = Command::new(COMPILER);
    gcc.args(["-std=gnu11", "-O2", "-Wall", "-Werror", "-o"])
        .arg(image)
        .arg(workspace.path(sources).join(source));
    gcc
}
