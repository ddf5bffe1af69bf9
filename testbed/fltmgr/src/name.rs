// SPDX-License-Identifier: MIT OR Apache-2.0
//! Port names: absolute paths in the object manager's name space.

use alloc::vec::Vec;

use crate::status::Status;

const SEPARATOR: u16 = b'\\' as u16;

/// Directories of the name space in which a port may be created besides the root.
const DIRECTORIES: &[&str] = &[
    "BaseNamedObjects",
    "Callback",
    "Device",
    "Driver",
    "FileSystem",
    "KernelObjects",
    "RPC Control",
];

/// A port's name and how it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    units: Vec<u16>,
    case_insensitive: bool,
}

impl PortName {
    /// Checks a name as the object manager does on creation.
    ///
    /// # Errors
    /// STATUS_OBJECT_PATH_SYNTAX_BAD without a leading backslash, STATUS_OBJECT_NAME_INVALID for
    /// an empty component, STATUS_OBJECT_PATH_NOT_FOUND for a directory that does not exist.
    pub fn new(units: Vec<u16>, case_insensitive: bool) -> Result<PortName, Status> {
        let mut components = units.split(|unit| *unit == SEPARATOR);
        if units.is_empty() || components.next().is_some_and(|first| !first.is_empty()) {
            return Err(Status::OBJECT_PATH_SYNTAX_BAD);
        }
        let components: Vec<&[u16]> = components.collect();
        if components.iter().any(|component| component.is_empty()) {
            return Err(Status::OBJECT_NAME_INVALID);
        }
        match components.as_slice() {
            [_] => {}
            [directory, _] if is_directory(directory) => {}
            _ => return Err(Status::OBJECT_PATH_NOT_FOUND),
        }
        Ok(PortName {
            units,
            case_insensitive,
        })
    }

    /// Whether a connect to `name` means this port.
    pub fn matches(&self, name: &[u16]) -> bool {
        self.units == name || self.case_insensitive && folded_eq(&self.units, name)
    }

    /// Whether two ports with these names cannot exist side by side. Two names that differ in case
    /// only collide as soon as one of the ports ignores case.
    pub fn collides(&self, other: &PortName) -> bool {
        self.matches(&other.units) || other.matches(&self.units)
    }

    /// The UTF-16 units, without a terminator.
    pub fn units(&self) -> &[u16] {
        &self.units
    }
}

fn is_directory(component: &[u16]) -> bool {
    DIRECTORIES.iter().any(|known| {
        known
            .encode_utf16()
            .map(fold)
            .eq(component.iter().copied().map(fold))
    })
}

fn folded_eq(a: &[u16], b: &[u16]) -> bool {
    a.iter().copied().map(fold).eq(b.iter().copied().map(fold))
}

/// Upper case of one unit, where it is one unit again (as RtlUpcaseUnicodeChar).
fn fold(unit: u16) -> u16 {
    let Some(character) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => u16::try_from(u32::from(single)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, case_insensitive: bool) -> Result<PortName, Status> {
        PortName::new(text.encode_utf16().collect(), case_insensitive)
    }

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn a_port_name_is_an_absolute_path() {
        assert!(name("\\MyPort", false).is_ok());
        assert!(name("\\device\\MyPort", false).is_ok());
        assert_eq!(name("MyPort", false), Err(Status::OBJECT_PATH_SYNTAX_BAD));
        assert_eq!(name("", false), Err(Status::OBJECT_PATH_SYNTAX_BAD));
        assert_eq!(name("\\", false), Err(Status::OBJECT_NAME_INVALID));
        assert_eq!(name("\\MyPort\\", false), Err(Status::OBJECT_NAME_INVALID));
        assert_eq!(
            name("\\Nowhere\\MyPort", false),
            Err(Status::OBJECT_PATH_NOT_FOUND)
        );
    }

    #[test]
    fn names_match_by_case_unless_the_port_ignores_it() {
        assert!(!name("\\MyPort", false).unwrap().matches(&units("\\myport")));
        assert!(name("\\MyPort", true).unwrap().matches(&units("\\myport")));
        assert!(name("\\Ä", true).unwrap().matches(&units("\\ä")));
        assert!(!name("\\MyPort", true).unwrap().matches(&units("\\myport2")));
    }

    #[test]
    fn case_variants_collide_only_if_one_ignores_case() {
        let exact = name("\\MyPort", false).unwrap();
        let other = name("\\MYPORT", false).unwrap();
        let loose = name("\\myport", true).unwrap();
        assert!(!exact.collides(&other));
        assert!(exact.collides(&loose));
        assert!(loose.collides(&exact));
    }

    #[test]
    fn a_unit_without_a_single_upper_case_stays() {
        assert_eq!(fold(0xD800), 0xD800, "lone surrogate");
        assert_eq!(
            fold(0x00DF),
            0x00DF,
            "sharp s has two letters in upper case"
        );
    }
}
