// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an image's sections may be: code or data, for good or until DriverEntry has returned.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

use super::{Fault, is_code, section_at, section_name};

/// Code that only DriverEntry needs.
const INIT: &str = "INIT";
/// What nobody looks at after the load.
const DISCARDABLE: [&str; 3] = [INIT, ".reloc", ".rsrc"];

/// The faults of the sections of a driver.
pub(super) fn faults(file: &PeFile64<'_>) -> Vec<Fault> {
    let mut faults = of_all(file);
    for section in file.section_table().iter() {
        let name = section_name(section);
        let flags = section.characteristics.get(LE);
        let is_discarded = flags.contains(pe::IMAGE_SCN_MEM_DISCARDABLE);
        if is_discarded && !DISCARDABLE.contains(&name.as_str()) {
            faults.push(Fault::Discarded(name.clone()));
        }
        if name == INIT && !is_discarded {
            faults.push(Fault::InitStays);
        }
        if name == INIT && flags.contains(pe::IMAGE_SCN_MEM_WRITE) {
            faults.push(Fault::WritableInit);
        }
    }
    faults
}

/// What is wrong with a section of any image: it is both writable and executable, or not all there.
pub(super) fn of_all(file: &PeFile64<'_>) -> Vec<Fault> {
    let both = pe::IMAGE_SCN_MEM_WRITE | pe::IMAGE_SCN_MEM_EXECUTE;
    let mut faults = Vec::new();
    for section in file.section_table().iter() {
        if section.characteristics.get(LE).contains(both) {
            faults.push(Fault::WritableCode(section_name(section)));
        }
        // One without contents is all zeros, and lies nowhere in the file.
        let size = section.size_of_raw_data.get(LE) as usize;
        let end = (section.pointer_to_raw_data.get(LE) as usize).saturating_add(size);
        if size > 0 && end > file.data().len() {
            faults.push(Fault::CutOff(section_name(section)));
        }
    }
    faults
}

/// A driver's entry point is called once.
pub(super) fn entry(file: &PeFile64<'_>) -> Option<Fault> {
    let entry = file
        .nt_headers()
        .optional_header
        .address_of_entry_point
        .get(LE);
    let stays = section_at(file, entry).is_some_and(|section| section_name(section) != INIT);
    (stays && is_code(file, entry)).then_some(Fault::EntryStays)
}
