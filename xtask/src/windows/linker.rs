// SPDX-License-Identifier: MIT OR Apache-2.0

//! From a static library to a native image.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::build::DriverImage;
use super::toolchain;
use crate::workspace::Workspace;
use crate::{command, provision};

/// What the compiler itself calls and ntoskrnl.exe exports: the handler of the exception tables that
/// kernel/nt's copies from user memory carry, and stack probes. (A function of a shipped driver that
/// needs a probe has more than 4 KiB on its stack, which is too much: the imports are checked.)
const RUNTIME: [&str; 2] = ["__C_specific_handler", "__chkstk"];

/// What every driver is linked with.
const FLAGS: [&str; 17] = [
    "/NOLOGO",
    "/MACHINE:X64",
    "/DRIVER",
    "/SUBSYSTEM:NATIVE,10.00",
    "/ENTRY:DriverEntry",
    "/NODEFAULTLIB",
    "/FIXED:NO",
    "/TSAWARE:NO",
    "/OPT:REF,ICF",
    // The pointers of the guard lie in a section of their own, and are read-only data.
    "/GUARD:CF",
    "/MERGE:.00cfg=.rdata",
    // What only DriverEntry needs; NT frees it afterwards.
    "/SECTION:INIT,ERD",
    // The loader of boot drivers wants a checksum; equal sources shall give equal images.
    "/RELEASE",
    "/BREPRO",
    "/DEBUG",
    // What the symbols take for the folder of the link.
    "/PDBSOURCEPATH:fltport",
    // compiler_builtins refers to the C runtime's mark for "uses floating point"; nobody reads it.
    "/ALTERNATENAME:_fltused=__ImageBase",
];

/// A linker that speaks link.exe's language.
#[derive(Debug)]
pub(crate) struct Linker {
    path: PathBuf,
    /// rust-lld is several linkers in one.
    flavor: &'static [&'static str],
}

impl Linker {
    /// rust-lld of the toolchain in use, else lld-link of the system, else the one that Debian has.
    ///
    /// # Errors
    /// There is none and none can be installed.
    pub(crate) fn find() -> Result<Linker> {
        if let Some(linker) = Linker::of_rust().or_else(Linker::of_system) {
            return Ok(linker);
        }
        provision::packages(&["lld"])
            .context("no linker for Windows images: neither rust-lld nor lld-link")?;
        Linker::of_system().context("the package lld is installed, but has no lld-link")
    }

    fn of_rust() -> Option<Linker> {
        let hosts = fs::read_dir(toolchain::sysroot().ok()?.join("lib/rustlib")).ok()?;
        let program = format!("rust-lld{EXE_SUFFIX}");
        let path = hosts
            .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(&program)))
            .find(|path| path.exists())?;
        Some(Linker {
            path,
            flavor: &["-flavor", "link"],
        })
    }

    fn of_system() -> Option<Linker> {
        let path = provision::find("lld-link")?;
        Some(Linker { path, flavor: &[] })
    }

    /// For the report.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Links `<folder>/<image>` of a library and a resource file, with its symbols (`.pdb`) and, if it
    /// exports anything, its import library (`.lib`) beside it; what else comes of it goes to `scratch`.
    ///
    /// # Errors
    /// The library is missing, or refers to what nobody has.
    pub(crate) fn link(
        &self,
        workspace: &Workspace,
        library: &Path,
        resource: &Path,
        driver: &DriverImage,
        folder: &Path,
        scratch: &Path,
    ) -> Result<()> {
        if !library.exists() {
            bail!(
                "{} is missing; cargo was to make it of {}",
                library.display(),
                driver.package
            );
        }
        let stem = Path::new(driver.image).with_extension("");
        let runtime = self.runtime(scratch)?;
        // The linker writes its arguments and its folder into the symbols, and what identifies the
        // symbols into the image: without relative paths each folder would have images of its own.
        let target = workspace.target();
        let here = |path: PathBuf| {
            path.strip_prefix(target)
                .map_or(path.clone(), Path::to_path_buf)
        };
        let mut link = self.command();
        link.current_dir(target)
            .args(FLAGS)
            .arg(option("/OUT:", &here(folder.join(driver.image))))
            .arg(option(
                "/PDB:",
                &here(folder.join(stem.with_extension("pdb"))),
            ))
            .arg(option("/PDBALTPATH:", &stem.with_extension("pdb")))
            .arg(option("/MAP:", &here(map_file(scratch, driver))))
            .arg(here(library.to_path_buf()))
            .arg(here(resource.to_path_buf()))
            .arg(here(runtime));
        if driver.force_integrity {
            link.arg("/INTEGRITYCHECK");
        }
        for export in driver.exports {
            link.arg(format!("/EXPORT:{export}"));
        }
        if !driver.exports.is_empty() {
            let import_library = folder.join(stem.with_extension("lib"));
            link.arg(option("/IMPLIB:", &here(import_library)));
        }
        command::run(&mut link).with_context(|| {
            format!(
                "{} does not link; a symbol that is missing has no link attribute in kernel/nt, or \
                 comes from a crate that needs an operating system",
                driver.image
            )
        })
    }

    /// An import library for [`RUNTIME`].
    fn runtime(&self, scratch: &Path) -> Result<PathBuf> {
        let definition = scratch.join("runtime.def");
        let library = scratch.join("runtime.lib");
        let text = format!("LIBRARY ntoskrnl.exe\nEXPORTS\n{}\n", RUNTIME.join("\n"));
        fs::write(&definition, text)
            .with_context(|| format!("cannot write {}", definition.display()))?;
        let mut archive = self.command();
        archive
            .args(["/lib", "/nologo", "/machine:x64"])
            .arg(option("/def:", &definition))
            .arg(option("/out:", &library));
        command::run(&mut archive)?;
        Ok(library)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        // It is told its own name, which goes into the symbols as well.
        #[cfg(unix)]
        if let Some(name) = self.path.file_name() {
            std::os::unix::process::CommandExt::arg0(&mut command, name);
        }
        command.args(self.flavor);
        command
    }
}

/// Where the linker writes the addresses of an image's functions.
pub(crate) fn map_file(scratch: &Path, driver: &DriverImage) -> PathBuf {
    scratch.join(driver.image).with_extension("map")
}

fn option(name: &str, value: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(value);
    option
}
