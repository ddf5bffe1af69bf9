// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask windows`: the drivers for Windows, built on Linux, and what can be checked of them
//! here.
//!
//! A driver crate is an ordinary library. It is compiled to a static library with `core` and
//! `alloc` built for the kernel, then linked into a native image. Its declarations of NT carry
//! their libraries with them (raw-dylib), so neither the WDK nor an import library is needed.

mod image;
mod linker;
mod lint;
mod panics;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;
use image::{Expectation, Image};
use linker::Linker;
use toolchain::Toolchain;

const KERNEL_TARGET: &str = "x86_64-pc-windows-msvc";

/// Build the drivers for Windows and check the images; lint everything that is for Windows.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// List the functions that can still panic in a driver, but do not fail for them.
    #[arg(long)]
    pub(crate) allow_panics: bool,
}

/// One driver: a library crate and the image that is made of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Driver {
    package: &'static str,
    image: &'static str,
    /// Process notify routines of the `Ex` kind need IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY.
    force_integrity: bool,
}

const DRIVERS: [Driver; 2] = [
    Driver {
        package: "fltport-driver",
        image: "fltport.sys",
        force_integrity: false,
    },
    Driver {
        package: "process-monitor",
        image: "process-monitor.sys",
        force_integrity: true,
    },
];

/// Builds and checks everything that is for Windows.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::choose()?;
    println!("core and alloc: {}", toolchain.origin());
    let linker = Linker::find()?;
    println!("linker: {}", linker.path().display());

    let folder = workspace.target().join("windows");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut panicking = 0;
    for driver in DRIVERS {
        let library = compile(workspace, toolchain, driver)?;
        linker.link(&library, driver, &folder)?;
        report(&check(driver, &folder)?, driver, &folder)?;
        panicking += can_panic(driver, &folder)?;
    }
    if panicking > 0 && !arguments.allow_panics {
        bail!(
            "{panicking} functions can panic, and a panic in a driver stops the machine; replace \
             indexing, unwrap, overflowing arithmetic and infallible allocation in them \
             (--allow-panics only lists them)"
        );
    }
    lint::drivers(workspace, toolchain, &DRIVERS.map(|driver| driver.package))?;
    lint::user_mode(workspace, toolchain)
}

/// The static library of a driver crate.
fn compile(workspace: &Workspace, toolchain: Toolchain, driver: Driver) -> Result<PathBuf> {
    println!("{}: compiling {}", driver.image, driver.package);
    let target = workspace.target().join("kernel");
    let mut cargo = toolchain.cargo(workspace);
    cargo
        .args([
            "rustc",
            "--quiet",
            "--release",
            "--lib",
            "--crate-type",
            "staticlib",
        ])
        .args(["--package", driver.package, "--target", KERNEL_TARGET])
        .arg("--target-dir")
        .arg(&target)
        .args(toolchain::KERNEL_STD)
        // One unit and link-time optimisation: what cannot be reached, panics first of all, is
        // found and removed.
        .args(["--config", "profile.release.panic='abort'"])
        .args(["--config", "profile.release.lto='fat'"])
        .args(["--config", "profile.release.codegen-units=1"]);
    command::run(&mut cargo)
        .with_context(|| format!("{} does not compile for {KERNEL_TARGET}", driver.package))?;
    let file = format!("{}.lib", driver.package.replace('-', "_"));
    Ok(target.join(KERNEL_TARGET).join("release").join(file))
}

fn check(driver: Driver, folder: &Path) -> Result<Image> {
    let path = folder.join(driver.image);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let expectation = Expectation {
        force_integrity: driver.force_integrity,
    };
    image::inspect(&bytes, expectation).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        anyhow::anyhow!(
            "{} would not load as a driver:{}",
            driver.image,
            lines.concat()
        )
    })
}

fn report(image: &Image, driver: Driver, folder: &Path) -> Result<()> {
    println!(
        "{}: {} bytes, in {}",
        driver.image,
        image.size,
        folder.display()
    );
    for (library, functions) in &image.imports {
        println!("  imports from {library}: {}", functions.len());
    }
    let map = panics::Map::read(&linker::map_file(folder, driver))?;
    if map.name_at(image.entry) != Some("DriverEntry") {
        bail!(
            "the entry point of {} is not DriverEntry; does {} define it?",
            driver.image,
            driver.package
        );
    }
    Ok(())
}

/// Prints the functions of an image that can panic; their number.
fn can_panic(driver: Driver, folder: &Path) -> Result<usize> {
    let map = panics::Map::read(&linker::map_file(folder, driver))?;
    let path = folder.join(driver.image);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let culprits = panics::culprits(&bytes, &map)?;
    if culprits.is_empty() {
        println!("  no path to a panic");
    }
    for culprit in &culprits {
        println!("  can panic: {culprit}");
    }
    Ok(culprits.len())
}
