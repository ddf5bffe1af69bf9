// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask windows`: what a user of Windows installs, built on Linux or Windows, and what can
//! be checked of it here.
//!
//! A driver crate is an ordinary library. It is compiled to a static library with `core` and
//! `alloc` built for the kernel, then linked into a native image. Its declarations of NT carry
//! their libraries with them (raw-dylib), so neither the WDK nor an import library is needed.

pub(crate) mod build;
mod image;
pub(crate) mod linker;
mod lint;
mod panics;
pub(crate) mod toolchain;

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use build::{Artifact, DriverImage, LinkedDriver, UserImage};
use image::{Expectation, Image};
use linker::Linker;
use toolchain::Toolchain;

/// Build the drivers for Windows and check the images; lint everything that is for Windows.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// List the functions that can still panic in a driver, but do not fail for them.
    #[arg(long)]
    pub(crate) allow_panics: bool,
}

/// The drivers that are shipped.
pub(crate) const DRIVERS: [DriverImage; 2] = [
    DriverImage {
        package: "fltport-driver",
        image: "fltport.sys",
        exports: &[],
        force_integrity: false,
    },
    DriverImage {
        package: "process-monitor",
        image: "process-monitor.sys",
        exports: &[],
        force_integrity: true,
    },
];

/// The programs that are shipped.
pub(crate) const PROGRAMS: [UserImage; 1] = [UserImage {
    package: "fltport-cli",
    image: "fltport.exe",
    artifact: Artifact::Program("fltport"),
}];

/// Builds and checks everything that is for Windows.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let toolchain = Toolchain::choose()?;
    println!("core and alloc: {}", toolchain.origin());
    let linker = Linker::find()?;
    println!("linker: {}", linker.path().display());

    let folder = workspace.target().join("windows");
    let mut panicking = 0;
    for driver in &DRIVERS {
        let linked = build::driver(workspace, toolchain, &linker, driver, &folder)?;
        report(&check(driver, &linked)?, driver, &linked)?;
        panicking += can_panic(&linked)?;
    }
    if panicking > 0 && !arguments.allow_panics {
        bail!(
            "{panicking} functions can panic, and a panic in a driver stops the machine; replace \
             indexing, unwrap, overflowing arithmetic and infallible allocation in them \
             (--allow-panics only lists them)"
        );
    }
    for program in &PROGRAMS {
        build::user(workspace, toolchain, program, &folder)?;
    }
    lint::drivers(workspace, toolchain, &DRIVERS.map(|driver| driver.package))?;
    lint::user_mode(workspace, toolchain)
}

fn check(driver: &DriverImage, linked: &LinkedDriver) -> Result<Image> {
    let bytes = read(linked)?;
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

fn report(image: &Image, driver: &DriverImage, linked: &LinkedDriver) -> Result<()> {
    println!("{}: {} bytes", linked.path.display(), image.size);
    for (library, functions) in &image.imports {
        println!("  imports from {library}: {}", functions.len());
    }
    let map = panics::Map::read(&linked.map)?;
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
fn can_panic(linked: &LinkedDriver) -> Result<usize> {
    let map = panics::Map::read(&linked.map)?;
    let culprits = panics::culprits(&read(linked)?, &map)?;
    if culprits.is_empty() {
        println!("  no path to a panic");
    }
    for culprit in &culprits {
        println!("  can panic: {culprit}");
    }
    Ok(culprits.len())
}

fn read(linked: &LinkedDriver) -> Result<Vec<u8>> {
    fs::read(&linked.path).with_context(|| format!("cannot read {}", linked.path.display()))
}
