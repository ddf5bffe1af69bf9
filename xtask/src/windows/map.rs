// SPDX-License-Identifier: MIT OR Apache-2.0

//! The linker's map: which function lies where in an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

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
    pub(crate) fn function_of(&self, address: u64) -> Option<u64> {
        self.names
            .range(..=address)
            .next_back()
            .map(|(start, _)| *start)
    }

    /// Where the first symbol begins that has this in its name.
    pub(crate) fn find(&self, part: &str) -> Option<u64> {
        self.names
            .iter()
            .find(|(_, name)| name.contains(part))
            .map(|(start, _)| *start)
    }

    /// As in source code, without the hash.
    pub(crate) fn readable(&self, address: u64) -> String {
        let name = self.name_at(address).unwrap_or("?");
        format!("{:#}", rustc_demangle::demangle(name))
    }
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
        assert_eq!(map.find("rust_begin_unwind"), Some(0x1_4000_1040));
        assert_eq!(map.readable(0x1_4000_1020), "core::option::unwrap_failed");
    }
}
