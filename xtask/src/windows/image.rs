// SPDX-License-Identifier: MIT OR Apache-2.0

//! What Windows' loader, the I/O manager and code integrity will look for in an image, checked on
//! the finished file.

mod checksum;
mod fault;
mod guard;
mod headers;
pub(crate) mod imports;
mod sections;
mod stack;

use std::collections::BTreeMap;

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{PeFile64, ResourceDirectoryEntryData};

pub(crate) use fault::Fault;

use super::map::Map;
use super::version::{RT_VERSION, Version};
use imports::Known;

#[cfg(test)]
mod tests;

/// What is asked of a driver's image beyond what every driver needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expectation<'a> {
    /// The file's name.
    pub(crate) name: &'a str,
    /// The functions that a driver may import.
    pub(crate) known: &'a Known,
    /// Whether it may import from fltport.sys.
    pub(crate) static_client: bool,
    /// What it exports, if that is known.
    pub(crate) exports: Option<&'a [&'a str]>,
    /// The size that the file must stay below, in bytes.
    pub(crate) limit: usize,
    /// The bytes of stack that one function may take.
    pub(crate) frame_limit: u32,
    /// The names of its functions, if they are known.
    pub(crate) map: Option<&'a Map>,
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
    /// Whether there is a signature; what it is worth is not looked at.
    pub(crate) signed: bool,
    /// Functions that may be called through a pointer, by control flow guard's table.
    pub(crate) guarded: u64,
    /// Bytes of stack that the function takes which takes most; 0 for a program, where nobody looks.
    pub(crate) deepest: u32,
}

/// Checks a driver.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub(crate) fn driver(bytes: &[u8], expectation: &Expectation) -> Result<Image, Vec<Fault>> {
    let unreadable = |error: object::Error| vec![Fault::Unreadable(error.to_string())];
    let file = PeFile64::parse(bytes).map_err(unreadable)?;
    let imports = imports::of(&file).map_err(unreadable)?;

    let mut faults = headers::driver(&file, bytes);
    faults.extend(imports::integrity(&file, &imports));
    faults.extend(imports::in_code(&file).map_err(unreadable)?);
    faults.extend(sections::faults(&file));
    faults.extend(sections::entry(&file));
    let guarded = guard::functions(&file).unwrap_or_else(|fault| {
        faults.push(fault);
        0
    });
    faults.extend(imports::delayed(&file));
    faults.extend(imports::of_driver(&imports, expectation));
    faults.extend(imports::exports(&file, expectation.exports));
    faults.extend(version(&file, expectation.name));
    let frames = stack::frames(&file).unwrap_or_else(|fault| {
        faults.push(fault);
        Vec::new()
    });
    faults.extend(stack::faults(&frames, expectation));
    let deepest = frames.iter().map(|frame| frame.bytes).max().unwrap_or(0);
    if bytes.len() >= expectation.limit {
        faults.push(Fault::TooLarge {
            size: bytes.len(),
            limit: expectation.limit,
        });
    }
    let image = judge(bytes, &file, imports, faults)?;
    Ok(Image {
        guarded,
        deepest,
        ..image
    })
}

/// Checks a program for user mode.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn program(bytes: &[u8]) -> Result<Image, Vec<Fault>> {
    let unreadable = |error: object::Error| vec![Fault::Unreadable(error.to_string())];
    let file = PeFile64::parse(bytes).map_err(unreadable)?;
    let imports = imports::of(&file).map_err(unreadable)?;
    let mut faults = headers::program(&file, bytes);
    faults.extend(sections::of_all(&file));
    faults.extend(imports::delayed(&file));
    faults.extend(imports::of_program(&imports));
    judge(bytes, &file, imports, faults)
}

fn judge(
    bytes: &[u8],
    file: &PeFile64<'_>,
    imports: BTreeMap<String, Vec<String>>,
    faults: Vec<Fault>,
) -> Result<Image, Vec<Fault>> {
    if !faults.is_empty() {
        return Err(faults);
    }
    let header = &file.nt_headers().optional_header;
    let signature = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_SECURITY);
    Ok(Image {
        size: bytes.len(),
        signed: signature.is_some_and(|place| place.size.get(LE) > 0),
        entry: header.image_base.get(LE) + u64::from(header.address_of_entry_point.get(LE)),
        imports,
        guarded: 0,
        deepest: 0,
    })
}

fn version(file: &PeFile64<'_>, name: &str) -> Vec<Fault> {
    let faults = match version_data(file) {
        Ok(Some(data)) => match Version::decode(data) {
            Ok(version) => version.faults(name),
            Err(error) => vec![format!("{error:#}")],
        },
        Ok(None) => vec!["there is none".to_string()],
        Err(error) => vec![error.to_string()],
    };
    faults.into_iter().map(Fault::Version).collect()
}

/// The data of the version resource: in the tree of resources by type, name and language.
fn version_data<'data>(file: &PeFile64<'data>) -> object::Result<Option<&'data [u8]>> {
    let sections = file.section_table();
    let data = file.data();
    let Some(directory) = file
        .data_directories()
        .resource_directory(data, &sections)?
    else {
        return Ok(None);
    };
    let of_type = directory
        .root()?
        .entries
        .iter()
        .find(|entry| entry.name_or_id().id() == Some(RT_VERSION));
    let Some(mut entry) = of_type else {
        return Ok(None);
    };
    // Type, name, language: two more levels, then the data.
    for _ in 0..3 {
        match entry.data(directory)? {
            ResourceDirectoryEntryData::Table(table) => match table.entries.first() {
                Some(first) => entry = first,
                None => return Ok(None),
            },
            ResourceDirectoryEntryData::Data(place) => {
                let size = place.size.get(LE) as usize;
                let at = place.offset_to_data.get(LE);
                let data = sections.pe_data_at(data, at);
                return Ok(data.and_then(|data| data.get(..size)));
            }
        }
    }
    Ok(None)
}

/// The name of a section, without its padding.
fn section_name(section: &pe::ImageSectionHeader) -> String {
    let name = section.name.split(|byte| *byte == 0).next();
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// The section that an address of the image lies in.
fn section_at<'file>(
    file: &PeFile64<'file>,
    address: u32,
) -> Option<&'file pe::ImageSectionHeader> {
    file.section_table().iter().find(|section| {
        address
            .checked_sub(section.virtual_address.get(LE))
            .is_some_and(|at| at < section.virtual_size.get(LE))
    })
}

fn is_code(file: &PeFile64<'_>, address: u32) -> bool {
    section_at(file, address).is_some_and(|section| {
        let flags = section.characteristics.get(LE);
        flags.contains(pe::IMAGE_SCN_MEM_EXECUTE)
    })
}
