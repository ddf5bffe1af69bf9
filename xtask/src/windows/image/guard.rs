// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether an image's control flow guard is whole: pointers that work where nobody replaces them,
//! and a table of the functions that may be called through a pointer.

use object::LittleEndian as LE;
use object::pe::{self, ImageLoadConfigDirectory64};
use object::read::pe::PeFile64;

use super::{Fault, is_code, section_at};

/// `IMAGE_GUARD_CF_INSTRUMENTED`: calls through pointers are checked.
const INSTRUMENTED: u32 = 0x100;
/// `IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT`
const TABLE_PRESENT: u32 = 0x400;
/// `IMAGE_GUARD_CF_FUNCTION_TABLE_SIZE_SHIFT`: so many bytes of each entry follow the address.
const EXTRA_SHIFT: u32 = 28;
/// Up to and with `GuardFlags`.
const NEEDED: u32 = 0x94;

/// How many functions may be called through a pointer.
///
/// # Errors
/// The load configuration is missing, or wrong in anything that enforcing it would meet.
pub(super) fn functions(file: &PeFile64<'_>) -> Result<u64, Fault> {
    let fault = |cause: &str| Fault::Guard(cause.to_string());
    let directory = load_configuration(file)
        .ok_or_else(|| fault("there is no load configuration directory that is long enough"))?;
    let flags = directory.guard_flags.get(LE).0;
    if flags & INSTRUMENTED == 0 {
        return Err(fault(
            "the load configuration does not say that calls are checked",
        ));
    }
    for (name, pointer) in [
        ("check", directory.guard_cf_check_function_pointer.get(LE)),
        (
            "dispatch",
            directory.guard_cf_dispatch_function_pointer.get(LE),
        ),
    ] {
        pointer_fault(file, pointer)
            .map_err(|cause| fault(&format!("the {name} pointer {cause}")))?;
    }
    let count = directory.guard_cf_function_count.get(LE);
    if flags & TABLE_PRESENT == 0 || count == 0 {
        return Err(fault("there is no table of functions"));
    }
    let width = 4 + (flags >> EXTRA_SHIFT) as usize;
    let table = bytes_at(file, directory.guard_cf_function_table.get(LE))
        .and_then(|bytes| bytes.get(..width.checked_mul(usize::try_from(count).ok()?)?))
        .ok_or_else(|| fault("the table of functions is cut off"))?;
    let addresses: Vec<u32> = table
        .chunks_exact(width)
        .filter_map(|entry| Some(u32::from_le_bytes(*entry.first_chunk()?)))
        .collect();
    if !addresses.is_sorted_by(|one, next| one < next) {
        return Err(fault("the table of functions is not sorted"));
    }
    if !addresses.iter().all(|address| is_code(file, *address)) {
        return Err(fault("the table of functions names what is no code"));
    }
    let entry = file
        .nt_headers()
        .optional_header
        .address_of_entry_point
        .get(LE);
    if !addresses.contains(&entry) {
        return Err(fault("the table of functions lacks the entry point"));
    }
    Ok(count)
}

/// The directory, if it reaches as far as is needed. What lies beyond its own size is not read.
fn load_configuration<'data>(file: &PeFile64<'data>) -> Option<&'data ImageLoadConfigDirectory64> {
    let place = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG)?;
    let bytes = file
        .section_table()
        .pe_data_at(file.data(), place.virtual_address.get(LE))?;
    let (directory, _) = object::pod::from_bytes::<ImageLoadConfigDirectory64>(bytes).ok()?;
    (directory.size.get(LE) >= NEEDED).then_some(directory)
}

/// Each pointer lies in read-only memory and points to code: a default that can be called.
fn pointer_fault(file: &PeFile64<'_>, pointer: u64) -> Result<(), &'static str> {
    let address = relative(file, pointer).ok_or("is missing")?;
    let section = section_at(file, address).ok_or("lies in no section")?;
    let flags = section.characteristics.get(LE);
    if flags.contains(pe::IMAGE_SCN_MEM_WRITE) {
        return Err("can be overwritten");
    }
    let target = bytes_at(file, pointer)
        .and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)))
        .ok_or("is cut off")?;
    match relative(file, target) {
        Some(target) if is_code(file, target) => Ok(()),
        _ => Err("points to no function"),
    }
}

fn bytes_at<'data>(file: &PeFile64<'data>, address: u64) -> Option<&'data [u8]> {
    let address = relative(file, address)?;
    file.section_table().pe_data_at(file.data(), address)
}

/// An address relative to the base of the image.
fn relative(file: &PeFile64<'_>, address: u64) -> Option<u32> {
    let base = file.nt_headers().optional_header.image_base.get(LE);
    u32::try_from(address.checked_sub(base)?).ok()
}
