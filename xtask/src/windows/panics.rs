// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a driver can still panic, and from where.
//!
//! The linker removes what nothing refers to. If the panic handler is gone from the map, no path
//! leads to it. If it is there, the direct calls in the code are followed back from it, through
//! Rust's own libraries, to the first functions that are ours.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

use super::map::Map;

/// The compiler's name for the function marked `#[panic_handler]`.
const HANDLER: &str = "rust_begin_unwind";
/// Crates whose functions only pass a panic on; who called them is the one to name.
const LIBRARIES: [&str; 4] = ["core", "alloc", "compiler_builtins", "__rustc"];

/// The functions of ours from which a panic can be reached, as in source code; none when the
/// handler is gone.
pub(crate) fn culprits(image: &[u8], map: &Map) -> Result<Vec<String>> {
    let Some(handler) = map.find(HANDLER) else {
        return Ok(Vec::new());
    };
    let callers = callers(image, map)?;
    let mut seen = BTreeSet::from([handler]);
    let mut pending = vec![handler];
    let mut culprits = BTreeSet::new();
    while let Some(function) = pending.pop() {
        for caller in callers.get(&function).into_iter().flatten() {
            let name = map.readable(*caller);
            if !is_of_library(&name) {
                culprits.insert(format!("{name} calls {}", map.readable(function)));
            } else if seen.insert(*caller) {
                pending.push(*caller);
            }
        }
    }
    if culprits.is_empty() {
        culprits.insert("a function that is only called through a pointer".to_string());
    }
    Ok(culprits.into_iter().collect())
}

/// For each function, the functions that call it or jump to it.
fn callers(image: &[u8], map: &Map) -> Result<BTreeMap<u64, BTreeSet<u64>>> {
    let file = PeFile64::parse(image).context("the image that was just linked cannot be read")?;
    let base = file.nt_headers().optional_header.image_base.get(LE);
    let mut callers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for section in file.section_table().iter() {
        if !section
            .characteristics
            .get(LE)
            .contains(pe::IMAGE_SCN_MEM_EXECUTE)
        {
            continue;
        }
        let code = section
            .pe_data(image)
            .context("a section of code is not in the file")?;
        let start = base + u64::from(section.virtual_address.get(LE));
        for (from, to) in branches(code, start) {
            if map.name_at(to).is_none() {
                continue;
            }
            if let Some(caller) = map.function_of(from) {
                callers.entry(to).or_default().insert(caller);
            }
        }
    }
    Ok(callers)
}

/// Every place that reads as a near call or jump, with its target. Bytes inside other instructions
/// can look so as well; that their target is the very start of a function is unlikely enough.
fn branches(code: &[u8], start: u64) -> impl Iterator<Item = (u64, u64)> {
    code.windows(6)
        .enumerate()
        .filter_map(move |(offset, bytes)| {
            let from = start + offset as u64;
            let (length, distance) = match *bytes {
                [0xE8 | 0xE9, a, b, c, d, _] => (5, i32::from_le_bytes([a, b, c, d])),
                [0x0F, 0x80..=0x8F, a, b, c, d] => (6, i32::from_le_bytes([a, b, c, d])),
                _ => return None,
            };
            Some((
                from,
                from.wrapping_add(length)
                    .wrapping_add_signed(i64::from(distance)),
            ))
        })
}

/// `core::option::unwrap_failed`, `<core::fmt::Formatter>::pad`, `<alloc::vec::Vec<T> as …>::…`.
fn is_of_library(name: &str) -> bool {
    let name = name.trim_start_matches(['<', '&']);
    let crate_name = name.split("::").next().unwrap_or(name);
    LIBRARIES.contains(&crate_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_jumps_are_found_with_their_targets() {
        // call +0x10; jne -6; padding
        let code = [
            0xE8, 0x10, 0, 0, 0, 0x0F, 0x85, 0xFA, 0xFF, 0xFF, 0xFF, 0x90,
        ];
        let found: Vec<_> = branches(&code, 0x1000).collect();
        assert_eq!(found, [(0x1000, 0x1015), (0x1005, 0x1005)]);
    }

    #[test]
    fn rusts_own_libraries_are_told_from_ours() {
        assert!(is_of_library("core::option::unwrap_failed"));
        assert!(is_of_library("<core::fmt::Formatter>::pad"));
        assert!(is_of_library(
            "<alloc::vec::Vec<u8> as core::clone::Clone>::clone"
        ));
        assert!(!is_of_library("fltport_driver::entry::start"));
        assert!(!is_of_library(
            "<fltport_driver::Ledger as core::fmt::Debug>::fmt"
        ));
        assert!(!is_of_library("DriverEntry"));
    }

    #[test]
    fn without_a_handler_there_is_no_panic() {
        assert!(culprits(&[], &Map::default()).unwrap().is_empty());
    }
}
