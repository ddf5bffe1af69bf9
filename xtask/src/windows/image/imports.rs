// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an image takes from others, and what it gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{Export, Import, PeFile64};

use super::{Expectation, Fault, Image, is_code};
use crate::bindings;
use crate::workspace::Workspace;

type Imports = BTreeMap<String, Vec<String>>;

/// The images that a driver may import from. Anything else, ntdll.dll first of all, fails its load.
const KERNEL_IMAGES: [&str; 3] = ["ntoskrnl.exe", "fltmgr.sys", "hal.dll"];
/// The common driver; a static client imports from it.
const COMMON_DRIVER: &str = "fltport.sys";

/// What drivers import without its being documented as a function of that name, and why.
const LISTED: [(&str, &str); 8] = [
    (
        "ExEventObjectType",
        "documented with ObReferenceObjectByHandle; the metadata has no variables",
    ),
    (
        "KeAcquireSpinLockAtDpcLevel",
        "documented, but not in the metadata",
    ),
    (
        "KeAcquireSpinLockRaiseToDpc",
        "what the documented macro KeAcquireSpinLock is on x64 (wdm.h)",
    ),
    ("KeLowerIrql", "documented, but not in the metadata"),
    (
        "KeReleaseSpinLock",
        "documented, but not in the metadata, which has the 32-bit name KfReleaseSpinLock",
    ),
    (
        "KeReleaseSpinLockFromDpcLevel",
        "documented, but not in the metadata",
    ),
    (
        "ZwQuerySystemInformation",
        "documented by Microsoft; the metadata has it as NtQuerySystemInformation of ntdll.dll only",
    ),
    (
        "__C_specific_handler",
        "the handler that exception tables of x64 name, by the documented exception handling ABI",
    ),
];

/// The DLLs that every Windows 10 and 11 has in system32 and that programs may import from.
/// `api-ms-win-*` are names that the loader maps to one of them.
const SYSTEM_DLLS: [&str; 13] = [
    "advapi32.dll",
    "bcrypt.dll",
    "bcryptprimitives.dll",
    "crypt32.dll",
    "fltlib.dll",
    "kernel32.dll",
    "ktmw32.dll",
    // The C runtime that mingw-w64 builds on; it has been part of Windows since 98.
    "msvcrt.dll",
    "ntdll.dll",
    "oleaut32.dll",
    "userenv.dll",
    "wintrust.dll",
    "ws2_32.dll",
];
const API_SETS: &str = "api-ms-win-";

/// Functions that refuse an image without IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY, with
/// STATUS_ACCESS_DENIED. Source: Microsoft's documentation of these functions.
const WANT_INTEGRITY: [&str; 2] = [
    "PsSetCreateProcessNotifyRoutineEx",
    "PsSetCreateProcessNotifyRoutineEx2",
];

/// The functions that a driver may import.
#[derive(Debug)]
pub(crate) struct Known(BTreeSet<String>);

impl Known {
    /// Those of kernel/nt/bindings.txt, all of which are in Microsoft's metadata, and those listed
    /// here.
    pub(crate) fn read(workspace: &Workspace) -> Result<Known> {
        let path = workspace.path(bindings::LIST);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut names: BTreeSet<String> = bindings::names(&text)?.into_iter().collect();
        names.extend(LISTED.map(|(name, _)| name.to_string()));
        Ok(Known(names))
    }

    #[cfg(test)]
    pub(super) fn of(names: &[&str]) -> Known {
        Known(names.iter().map(ToString::to_string).collect())
    }
}

/// The listed functions that none of these images imports: their line is to go.
pub(crate) fn unused(images: &[Image]) -> Vec<&'static str> {
    let imported: BTreeSet<&str> = images
        .iter()
        .flat_map(|image| image.imports.values().flatten())
        .map(String::as_str)
        .collect();
    LISTED
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !imported.contains(name))
        .collect()
}

/// The imports of an image, by library.
pub(super) fn of(file: &PeFile64<'_>) -> object::Result<Imports> {
    let mut imports = Imports::new();
    let Some(table) = file.import_table()? else {
        return Ok(imports);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let library = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).into_owned();
        let functions = imports.entry(library).or_default();
        let mut thunks = table.thunks(descriptor.original_first_thunk.get(LE))?;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
            functions.push(match table.import::<pe::ImageNtHeaders64>(thunk)? {
                Import::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
                Import::Ordinal(number) => format!("#{number}"),
            });
        }
    }
    Ok(imports)
}

/// The tables that the loader writes imported addresses to are data. Source: Microsoft's "Code
/// integrity checking" (Driver Verifier), 0x2005.
pub(super) fn in_code(file: &PeFile64<'_>) -> object::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    let Some(table) = file.import_table()? else {
        return Ok(faults);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        if is_code(file, descriptor.first_thunk.get(LE)) {
            let library = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?);
            faults.push(Fault::ImportsInCode(library.into_owned()));
        }
    }
    Ok(faults)
}

/// Whether an image has imports besides those that are checked here.
pub(super) fn delayed(file: &PeFile64<'_>) -> Option<Fault> {
    let place = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT)?;
    (place.virtual_address.get(LE) != 0).then_some(Fault::DelayedImports)
}

/// What a driver imports and may not.
pub(super) fn of_driver(imports: &Imports, expectation: &Expectation) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (library, functions) in imports {
        let lower = library.to_ascii_lowercase();
        if lower == COMMON_DRIVER && expectation.static_client {
            continue;
        }
        if !KERNEL_IMAGES.contains(&lower.as_str()) {
            faults.push(foreign(library, functions));
            continue;
        }
        let unknown = functions
            .iter()
            .filter(|function| !expectation.known.0.contains(*function));
        faults.extend(unknown.map(|function| Fault::UnknownImport {
            library: library.clone(),
            function: function.clone(),
        }));
    }
    faults
}

/// What a program imports and not every Windows has.
pub(super) fn of_program(imports: &Imports) -> Vec<Fault> {
    imports
        .iter()
        .filter(|(library, _)| {
            let lower = library.to_ascii_lowercase();
            !SYSTEM_DLLS.contains(&lower.as_str()) && !lower.starts_with(API_SETS)
        })
        .map(|(library, functions)| foreign(library, functions))
        .collect()
}

fn foreign(library: &str, functions: &[String]) -> Fault {
    Fault::ForeignImport {
        library: library.to_string(),
        functions: functions.to_vec(),
    }
}

/// Whether a function that it imports will refuse the image.
pub(super) fn integrity(file: &PeFile64<'_>, imports: &Imports) -> Option<Fault> {
    let flags = file
        .nt_headers()
        .optional_header
        .dll_characteristics
        .get(LE);
    if flags.contains(pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY) {
        return None;
    }
    imports
        .values()
        .flatten()
        .find(|function| WANT_INTEGRITY.contains(&function.as_str()))
        .map(|function| Fault::NoForceIntegrity(function.clone()))
}

/// Whether an image exports anything but what it should.
pub(super) fn exports(file: &PeFile64<'_>, wanted: Option<&[&str]>) -> Option<Fault> {
    let wanted = wanted?;
    let mut found = match exported(file) {
        Ok(found) => found,
        Err(error) => return Some(Fault::Unreadable(error.to_string())),
    };
    let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    found.sort();
    wanted.sort();
    (found != wanted).then_some(Fault::Exports { found, wanted })
}

fn exported(file: &PeFile64<'_>) -> object::Result<Vec<String>> {
    let Some(table) = file.export_table()? else {
        return Ok(Vec::new());
    };
    let exports = table.exports()?;
    let name = |export: &Export| match export.name {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => format!("#{}", export.ordinal),
    };
    Ok(exports.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metadata_has_needs_no_reason() {
        let workspace = Workspace::locate();
        let text = fs::read_to_string(workspace.path(bindings::LIST)).unwrap();
        let documented = bindings::names(&text).unwrap();
        for (name, reason) in LISTED {
            assert!(!documented.contains(&name.to_string()), "{name}");
            assert!(reason.len() > 20, "{name}");
        }
    }

    #[test]
    fn a_listed_function_that_nobody_imports_is_found() {
        let all: Vec<String> = LISTED.map(|(name, _)| name.to_string()).to_vec();
        let image = |functions: &[String]| Image {
            size: 0,
            entry: 0,
            imports: [("ntoskrnl.exe".to_string(), functions.to_vec())].into(),
            signed: false,
            guarded: 0,
            deepest: 0,
        };
        let halves = [image(&all[..1]), image(&all[1..])];
        assert!(unused(&halves).is_empty());
        assert_eq!(unused(&[image(&all[1..])]), [LISTED[0].0]);
    }
}
