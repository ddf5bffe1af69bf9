// SPDX-License-Identifier: MIT OR Apache-2.0

//! What Windows' loader and the I/O manager will look for in a driver's image, checked on the
//! finished file.

use std::collections::BTreeMap;
use std::fmt;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{Import, PeFile64};

#[cfg(test)]
mod tests;

/// The images that a driver may import from. Anything else, ntdll.dll first of all, fails its load.
const KERNEL_IMAGES: [&str; 3] = ["ntoskrnl.exe", "fltmgr.sys", "hal.dll"];

/// What is asked of an image beyond what every driver needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expectation {
    /// IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY; without it PsSetCreateProcessNotifyRoutineEx
    /// answers STATUS_ACCESS_DENIED.
    pub(crate) force_integrity: bool,
}

/// An image that passed.
#[derive(Debug)]
pub(crate) struct Image {
    /// Bytes of the file.
    pub(crate) size: usize,
    /// Address of the entry point, with the preferred base.
    pub(crate) entry: u64,
    /// Imported functions by image.
    pub(crate) imports: BTreeMap<String, Vec<String>>,
}

/// Why an image would not load, or would be refused later.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unreadable(String),
    Machine(u16),
    Subsystem(u16),
    Dll,
    NotRelocatable,
    NoEntry,
    NoChecksum,
    NoForceIntegrity,
    ForeignImport {
        library: String,
        functions: Vec<String>,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(cause) => write!(f, "this is no complete 64-bit PE image: {cause}"),
            Fault::Machine(found) => {
                write!(f, "built for machine {found:#06x}, not x86-64 (0x8664)")
            }
            Fault::Subsystem(found) => {
                write!(
                    f,
                    "its subsystem is {found}, not 1 (native); link with /SUBSYSTEM:NATIVE"
                )
            }
            Fault::Dll => write!(
                f,
                "it is marked as a DLL; a driver is a program: link without /DLL"
            ),
            Fault::NotRelocatable => {
                write!(
                    f,
                    "it cannot be relocated; link with /FIXED:NO and /DYNAMICBASE"
                )
            }
            Fault::NoEntry => {
                write!(
                    f,
                    "its entry point is not in executable code; link with /ENTRY:DriverEntry"
                )
            }
            Fault::NoChecksum => write!(f, "it has no checksum; link with /RELEASE"),
            Fault::NoForceIntegrity => {
                write!(
                    f,
                    "PsSetCreateProcessNotifyRoutineEx will refuse it; link with /INTEGRITYCHECK"
                )
            }
            Fault::ForeignImport { library, functions } => write!(
                f,
                "it imports {} from {library}; a driver has only {}",
                functions.join(", "),
                KERNEL_IMAGES.join(", ")
            ),
        }
    }
}

/// Checks an image.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub(crate) fn inspect(bytes: &[u8], expectation: Expectation) -> Result<Image, Vec<Fault>> {
    let file =
        PeFile64::parse(bytes).map_err(|error| vec![Fault::Unreadable(error.to_string())])?;
    let imports = imports(&file).map_err(|error| vec![Fault::Unreadable(error.to_string())])?;

    let mut faults = header_faults(&file, expectation);
    faults.extend(foreign(&imports));
    if !faults.is_empty() {
        return Err(faults);
    }
    let header = &file.nt_headers().optional_header;
    let entry = header.image_base.get(LE) + u64::from(header.address_of_entry_point.get(LE));
    Ok(Image {
        size: bytes.len(),
        entry,
        imports,
    })
}

fn header_faults(file: &PeFile64<'_>, expectation: Expectation) -> Vec<Fault> {
    let headers = file.nt_headers();
    let machine = headers.file_header.machine.get(LE);
    let marks = headers.file_header.characteristics.get(LE);
    let header = &headers.optional_header;
    let subsystem = header.subsystem.get(LE);
    let flags = header.dll_characteristics.get(LE);
    let relocatable = !marks.contains(pe::IMAGE_FILE_RELOCS_STRIPPED)
        && flags.contains(pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE);
    let force_integrity = flags.contains(pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY);
    [
        (
            machine != pe::IMAGE_FILE_MACHINE_AMD64,
            Fault::Machine(machine.0),
        ),
        (
            subsystem != pe::IMAGE_SUBSYSTEM_NATIVE,
            Fault::Subsystem(subsystem.0),
        ),
        (marks.contains(pe::IMAGE_FILE_DLL), Fault::Dll),
        (!relocatable, Fault::NotRelocatable),
        (
            !is_code(file, header.address_of_entry_point.get(LE)),
            Fault::NoEntry,
        ),
        (header.check_sum.get(LE) == 0, Fault::NoChecksum),
        (
            expectation.force_integrity && !force_integrity,
            Fault::NoForceIntegrity,
        ),
    ]
    .into_iter()
    .filter_map(|(wrong, fault)| wrong.then_some(fault))
    .collect()
}

fn is_code(file: &PeFile64<'_>, address: u32) -> bool {
    file.section_table().iter().any(|section| {
        let start = section.virtual_address.get(LE);
        let inside = address
            .checked_sub(start)
            .is_some_and(|at| at < section.virtual_size.get(LE));
        inside
            && section
                .characteristics
                .get(LE)
                .contains(pe::IMAGE_SCN_MEM_EXECUTE)
    })
}

fn foreign(imports: &BTreeMap<String, Vec<String>>) -> impl Iterator<Item = Fault> {
    imports
        .iter()
        .filter(|(library, _)| !KERNEL_IMAGES.contains(&library.to_ascii_lowercase().as_str()))
        .map(|(library, functions)| Fault::ForeignImport {
            library: library.clone(),
            functions: functions.clone(),
        })
}

fn imports(file: &PeFile64<'_>) -> object::Result<BTreeMap<String, Vec<String>>> {
    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
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
