// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask windows`: what a user of Windows installs, built on Linux or Windows, and what can
//! be checked of it here.
//!
//! A driver crate is an ordinary library. It is compiled to a static library with `core` and
//! `alloc` built for the kernel, then linked into a native image. Its declarations of NT carry
//! their libraries with them (raw-dylib), so neither the WDK nor an import library is needed.

pub(crate) mod build;
mod image;
mod inf;
pub(crate) mod linker;
mod lint;
mod map;
mod package;
mod panics;
mod sign;
pub(crate) mod toolchain;
mod version;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fltport_abi::import::FUNCTIONS;

use crate::workspace::Workspace;
use build::{Artifact, DriverImage, LinkedDriver, UserImage};
use image::imports::{self, Known};
use image::{Expectation, Fault, Image};
use linker::Linker;
use map::Map;
use sign::Signer;
use toolchain::Toolchain;

/// Build what is for Windows and check it; lint everything that is for Windows.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// List the functions that can still panic in a driver, but do not fail for them.
    #[arg(long)]
    pub(crate) allow_panics: bool,

    /// Build nothing; check these drivers (.sys) and programs (.exe), and print every fault.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    #[arg(conflicts_with_all = ["sign", "allow_panics"])]
    pub(crate) check: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) signing: sign::Options,
}

/// A driver that is shipped.
#[derive(Debug)]
pub(crate) struct Shipped {
    pub(crate) driver: DriverImage,
    /// The image stays smaller than this, in bytes.
    limit: usize,
    /// It may import from fltport.sys, and is then not loaded without it.
    static_client: bool,
    /// Its INF file.
    inf: &'static str,
    /// It registers with the Filter Manager.
    is_filter: bool,
}

/// Bytes of stack that one function of a driver may take.
///
/// A kernel stack has 24 KiB on x64 (Microsoft, "How do I keep my driver from running out of
/// kernel-mode stack?"), of which a notification finds what those above it have left. 1 KiB is where
/// Microsoft's own analysis warns of a driver's function (C6262).
const FRAME_LIMIT: u32 = 1024;

pub(crate) const DRIVERS: [Shipped; 3] = [
    Shipped {
        driver: DriverImage {
            package: "fltport-driver",
            image: "fltport.sys",
            exports: &FUNCTIONS,
            force_integrity: false,
        },
        limit: 168 * 1024,
        static_client: false,
        inf: "kernel/driver/fltport.inf",
        is_filter: true,
    },
    Shipped {
        driver: DriverImage {
            package: "process-monitor",
            image: "process-monitor.sys",
            exports: &[],
            force_integrity: true,
        },
        limit: 44 * 1024,
        static_client: false,
        inf: "kernel/process-monitor/process-monitor.inf",
        is_filter: false,
    },
    Shipped {
        driver: DriverImage {
            package: "registry-monitor",
            image: "registry-monitor.sys",
            exports: &[],
            force_integrity: false,
        },
        limit: 44 * 1024,
        static_client: false,
        inf: "kernel/registry-monitor/registry-monitor.inf",
        is_filter: false,
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
    let known = Known::read(workspace)?;
    if !arguments.check.is_empty() {
        return check_files(&arguments.check, &known);
    }
    arguments.signing.check()?;
    let toolchain = Toolchain::choose()?;
    println!("core and alloc: {}", toolchain.origin());
    let linker = Linker::find()?;
    println!("linker: {}", linker.path().display());

    let folder = workspace.target().join("windows");
    empty(&folder)?;
    let mut files = drivers(workspace, arguments, toolchain, &linker, &known, &folder)?;
    for program in &PROGRAMS {
        let path = build::user(workspace, toolchain, program, &folder)?;
        report(&path, &judge(&path, &known, None)?);
        files.push(path);
    }
    let packages = DRIVERS.each_ref().map(|each| each.driver.package);
    lint::drivers(workspace, toolchain, &packages)?;
    lint::user_mode(workspace, toolchain)?;
    // Last, so that where there are no tools to sign with all else has been checked.
    let signer = Signer::prepare(workspace, &arguments.signing)?;
    package(workspace, signer.as_ref(), &files, &known, &folder)
}

/// What was there of a former version, or signed with another certificate, is not to be shipped.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Signs what has been built, if wanted, and makes the rest of what is shipped.
fn package(
    workspace: &Workspace,
    signer: Option<&Signer>,
    files: &[PathBuf],
    known: &Known,
    folder: &Path,
) -> Result<()> {
    let mut certificate = None;
    if let Some(signer) = signer {
        for path in files {
            signer.sign(path)?;
            // The signature is part of the file: its checksum, to name one, is another.
            if !judge(path, known, None)?.signed {
                bail!("{} has no signature", path.display());
            }
        }
        certificate = Some(signer.lay_beside(folder)?);
    }
    package::infs(workspace, &DRIVERS, folder)?;
    println!(
        "  no catalogs: inf2cat, which makes them, runs on Windows only. pnputil needs one beside \
         each INF file, `fltport install` does not"
    );
    package::texts(workspace, certificate.as_deref(), folder)?;
    println!("{}", package::archive(workspace, folder)?.display());
    Ok(())
}

/// Builds and checks the drivers; the images.
fn drivers(
    workspace: &Workspace,
    arguments: &Arguments,
    toolchain: Toolchain,
    linker: &Linker,
    known: &Known,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    let mut paths = Vec::new();
    let mut panicking = 0;
    for Shipped { driver, .. } in &DRIVERS {
        let linked = build::driver(workspace, toolchain, linker, driver, folder)?;
        let map = Map::read(&linked.map)?;
        let image = judge(&linked.path, known, Some(&map))?;
        report(&linked.path, &image);
        panicking += can_panic(&image, driver, &linked, &map)?;
        images.push(image);
        paths.push(linked.path);
    }
    if panicking > 0 && !arguments.allow_panics {
        bail!(
            "{panicking} functions can panic, and a panic in a driver stops the machine; replace \
             indexing, unwrap, overflowing arithmetic and infallible allocation in them \
             (--allow-panics only lists them)"
        );
    }
    let unused = imports::unused(&images);
    if !unused.is_empty() {
        bail!(
            "no driver imports {} any more; take it off LISTED in windows/image/imports.rs",
            unused.join(", ")
        );
    }
    Ok(paths)
}

/// Checks files that were built before, and reports all faults of all.
fn check_files(files: &[PathBuf], known: &Known) -> Result<()> {
    let mut wrong = 0;
    for path in files {
        match judge(path, known, None) {
            Ok(image) => report(path, &image),
            Err(error) => {
                println!("{error:#}");
                wrong += 1;
            }
        }
    }
    match wrong {
        0 => Ok(()),
        _ => bail!("{wrong} of {} files not as they should be", files.len()),
    }
}

/// Checks a file as what it is named: a driver or a program.
fn judge(path: &Path, known: &Known, map: Option<&Map>) -> Result<Image> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let outcome = match extension.to_ascii_lowercase().as_str() {
        "sys" => image::driver(&bytes, &expectation(&name, known, map)),
        "exe" => image::program(&bytes),
        _ => bail!(
            "{} is neither a driver (.sys) nor a program (.exe)",
            path.display()
        ),
    };
    outcome.map_err(|faults| {
        let line = |fault: &Fault| format!("\n  {fault}");
        let lines: String = faults.iter().map(line).collect();
        anyhow::anyhow!("{} is not as it should be:{lines}", path.display())
    })
}

/// What is known of a driver of ours; another one may be of any size, take any stack, export
/// anything, and be a static client.
fn expectation<'a>(name: &'a str, known: &'a Known, map: Option<&'a Map>) -> Expectation<'a> {
    let shipped = DRIVERS.iter().find(|each| each.driver.image == name);
    Expectation {
        name,
        known,
        static_client: shipped.is_none_or(|each| each.static_client),
        exports: shipped.map(|each| each.driver.exports),
        limit: shipped.map_or(usize::MAX, |each| each.limit),
        frame_limit: shipped.map_or(u32::MAX, |_| FRAME_LIMIT),
        map,
    }
}

fn report(path: &Path, image: &Image) {
    let signed = if image.signed { ", signed" } else { "" };
    println!("{}: {} bytes{signed}", path.display(), image.size);
    for (library, functions) in &image.imports {
        println!("  imports from {library}: {}", functions.len());
    }
    if image.deepest > 0 {
        println!(
            "  stack: no function takes more than {} bytes",
            image.deepest
        );
    }
    if image.guarded > 0 {
        println!(
            "  guarded: {} functions may be called through a pointer",
            image.guarded
        );
    }
}

/// Prints the functions of an image that can panic; their number.
fn can_panic(
    image: &Image,
    driver: &DriverImage,
    linked: &LinkedDriver,
    map: &Map,
) -> Result<usize> {
    if map.name_at(image.entry) != Some("DriverEntry") {
        bail!(
            "the entry point of {} is not DriverEntry; does {} define it?",
            driver.image,
            driver.package
        );
    }
    let bytes =
        fs::read(&linked.path).with_context(|| format!("cannot read {}", linked.path.display()))?;
    let culprits = panics::culprits(&bytes, map)?;
    println!("  panic sites: {}", culprits.len());
    for culprit in &culprits {
        println!("  can panic: {culprit}");
    }
    Ok(culprits.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_drivers_have_their_limits_and_others_have_none() {
        let known = Known::read(&Workspace::locate()).unwrap();
        let ours = expectation("fltport.sys", &known, None);
        assert_eq!(ours.limit, 168 * 1024);
        assert!(!ours.static_client && ours.exports.is_some());
        let another = expectation("somebodys.sys", &known, None);
        assert_eq!(ours.frame_limit, FRAME_LIMIT);
        assert_eq!((another.limit, another.frame_limit), (usize::MAX, u32::MAX));
        assert!(another.static_client && another.exports.is_none());
    }

    #[test]
    fn every_file_is_looked_at_before_it_fails() {
        let known = Known::read(&Workspace::locate()).unwrap();
        let xtask = Workspace::locate().path("xtask");
        // Neither is an image for Windows, by its name or by its contents.
        let files = [xtask.join("Cargo.toml"), xtask.join("no-such.sys")];
        let error = check_files(&files, &known).unwrap_err().to_string();
        assert!(error.starts_with("2 of 2 files"), "{error}");
        assert!(check_files(&[], &known).is_ok());
    }

    #[test]
    fn what_is_exported_is_what_import_libraries_are_made_from() {
        let def = Workspace::locate().path("include/fltport.def");
        let text = fs::read_to_string(def).unwrap();
        let names = text.lines().map(str::trim);
        assert!(
            names
                .filter(|name| name.starts_with("FltPort"))
                .eq(FUNCTIONS)
        );
    }

    #[test]
    fn what_is_shipped_has_files_of_its_name() {
        for shipped in &DRIVERS {
            let inf = Workspace::locate().path(shipped.inf);
            let stem = Path::new(shipped.driver.image).file_stem();
            assert!(inf.exists(), "{}", inf.display());
            assert_eq!(inf.file_stem(), stem);
        }
    }
}
