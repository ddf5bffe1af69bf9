// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a driver can still panic, and from where.
//!
//! The linker removes what nothing refers to. If the panic handler is gone from the map, no path
//! leads to it. If it is there, the direct calls in the code are followed back from it, through
//! Rust's own libraries, to the first functions that are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::LittleEndian as LE;
use object::pe;
use object::read::pe::PeFile64;

/// The compiler's name for the function marked `#[panic_handler]`.
const HANDLER: &str = "rust_begin_unwind";
/// Crates whose functions only pass a panic on; who called them is the one to name.
const LIBRARIES: [&str; 4] = ["core", "alloc", "compiler_builtins", "__rustc"];

/// The functions and data of an image, by address.
#[derive(Debug, Default)]
pub(crate) struct Map {
    names: BTreeMap<u64, String>,
}

impl Map {
    /// Reads the file that the linker's /MAP wrote.
    pub(crate) fn read(path: &Path) -> Result<Map> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Map::parse(&text))
    }

    /// A symbol's line is `section:offset  name  address  object`; other lines are passed over.
    fn parse(text: &str) -> Map {
        let mut names = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(place), Some(name), Some(address)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let is_symbol = place
                .split_once(':')
                .is_some_and(|(section, _)| section != "0000");
            let Ok(address) = u64::from_str_radix(address, 16) else {
                continue;
            };
            if is_symbol && address != 0 {
                // The public name comes first; names folded into the same address do not replace
                // it.
                names.entry(address).or_insert_with(|| name.to_string());
            }
        }
        Map { names }
    }

    /// The symbol that starts at an address.
    pub(crate) fn name_at(&self, address: u64) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }

    /// The start of the function that an address is in.
    fn function_of(&self, address: u64) -> Option<u64> {
        self.names
            .range(..=address)
            .next_back()
            .map(|(start, _)| *start)
    }

    fn handler(&self) -> Option<u64> {
        self.names
            .iter()
            .find(|(_, name)| name.contains(HANDLER))
            .map(|(start, _)| *start)
    }

    /// As in source code, without the hash.
    fn readable(&self, address: u64) -> String {
        let name = self.name_at(address).unwrap_or("?");
        format!("{:#}", rustc_demangle::demangle(name))
    }
}

/// The functions of ours from which a panic can be reached, as in source code; none when the
/// handler is gone.
pub(crate) fn culprits(image: &[u8], map: &Map) -> Result<Vec<String>> {
    let Some(handler) = map.handler() else {
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

    const MAP: &str = "\
 hello

  Address         Publics by Value              Rva+Base               Lib:Object

 0000:00000000       _fltused                   0000000140000000     <linker-defined>
 0001:00000000       DriverEntry                0000000140001000     hello:hello.o
 0001:00000000       Folded                     0000000140001000     hello:hello.o

 entry point at         0001:00000000

 Static symbols

 0001:00000020       _RNvNtCs87IRza36Yn2_4core6option13unwrap_failed 0000000140001020 hello.o
 0001:00000040       _RNvCsfgHYwM92fyn_7___rustc17rust_begin_unwind 0000000140001040 hello.o
";

    #[test]
    fn a_map_gives_names_by_address() {
        let map = Map::parse(MAP);
        assert_eq!(map.name_at(0x1_4000_1000), Some("DriverEntry"));
        assert_eq!(map.name_at(0x1_4000_0000), None);
        assert_eq!(map.function_of(0x1_4000_1030), Some(0x1_4000_1020));
        assert_eq!(map.handler(), Some(0x1_4000_1040));
    }

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
