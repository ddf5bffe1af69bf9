// SPDX-License-Identifier: MIT OR Apache-2.0
//! The export directory of a loaded image: read, extended, written anew.
//!
//! Layout as in Microsoft's "PE Format", the .edata section. Addresses are relative to the image's
//! base (RVA). An export whose address lies inside the directory is a forward: a text.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Size of the directory's own fields.
const HEADER: usize = 40;

/// What an export leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// A number without an export.
    None,
    /// Code or data at this RVA.
    At(u32),
    /// The export of another image: `DLL.Name`, without a terminator.
    Forward(Vec<u8>),
}

/// An export directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportDirectory {
    /// The image's own name.
    pub image: Vec<u8>,
    /// The number of the first export.
    pub base: u32,
    /// By number, from `base`.
    pub exports: Vec<Export>,
    /// Indices into `exports`. In the order of the bytes, as loaders expect.
    pub names: BTreeMap<Vec<u8>, u16>,
}

impl ExportDirectory {
    /// Reads the directory of `size` bytes at `rva` in an image as it lies in memory; `None` if it
    /// leads out of the image.
    pub fn read(image: &[u8], rva: u32, size: u32) -> Option<ExportDirectory> {
        let field = |at: usize| u32_at(image, (rva as usize).checked_add(at)?);
        let (functions, names) = (field(20)?, field(24)?);
        let inside = rva..rva.checked_add(size)?;
        let export = |index: u32| {
            let at = u32_at(image, element(field(28)?, index, 4)?)?;
            Some(match at {
                0 => Export::None,
                at if inside.contains(&at) => Export::Forward(text(image, at)?),
                at => Export::At(at),
            })
        };
        let name = |index: u32| {
            let name = text(image, u32_at(image, element(field(32)?, index, 4)?)?)?;
            let at = element(field(36)?, index, 2)?;
            let number = image.get(at..)?.first_chunk::<2>()?;
            Some((name, u16::from_le_bytes(*number)))
        };
        Some(ExportDirectory {
            image: text(image, field(12)?)?,
            base: field(16)?,
            exports: (0..functions).map(export).collect::<Option<_>>()?,
            names: (0..names).map(name).collect::<Option<_>>()?,
        })
    }

    /// Has `name` lead to `rva`, whether it is there already or not. False if there is no number
    /// left for it.
    pub fn set(&mut self, name: &str, rva: u32) -> bool {
        let known = self.names.get(name.as_bytes()).copied();
        if let Some(place) = known.and_then(|at| self.exports.get_mut(usize::from(at))) {
            *place = Export::At(rva);
            return true;
        }
        let Ok(index) = u16::try_from(self.exports.len()) else {
            return false;
        };
        self.exports.push(Export::At(rva));
        self.names.insert(name.as_bytes().to_vec(), index);
        true
    }

    /// The directory as it is to lie at `rva`, forwards and names included.
    pub fn write(&self, rva: u32) -> Vec<u8> {
        let (exports, names) = (self.exports.len(), self.names.len());
        let addresses = HEADER;
        let name_pointers = addresses + exports * 4;
        let numbers = name_pointers + names * 4;
        let texts = numbers + names * 2;
        let at = |offset: usize| rva + offset as u32;
        let mut text = Vec::new();
        let mut store = |bytes: &[u8]| {
            let place = at(texts + text.len());
            text.extend_from_slice(bytes);
            text.push(0);
            place
        };

        let mut out = Vec::new();
        let mut put = |value: u32| out.extend_from_slice(&value.to_le_bytes());
        // Characteristics, time, version.
        (0..3).for_each(|_| put(0));
        put(store(&self.image));
        put(self.base);
        put(exports as u32);
        put(names as u32);
        put(at(addresses));
        put(at(name_pointers));
        put(at(numbers));
        for export in &self.exports {
            put(match export {
                Export::None => 0,
                Export::At(rva) => *rva,
                Export::Forward(to) => store(to),
            });
        }
        for name in self.names.keys() {
            put(store(name));
        }
        for index in self.names.values() {
            out.extend_from_slice(&index.to_le_bytes());
        }
        out.extend_from_slice(&text);
        out
    }
}

fn element(table: u32, index: u32, size: usize) -> Option<usize> {
    (index as usize)
        .checked_mul(size)?
        .checked_add(table as usize)
}

fn u32_at(image: &[u8], at: usize) -> Option<u32> {
    let bytes = image.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn text(image: &[u8], at: u32) -> Option<Vec<u8>> {
    let rest = image.get(at as usize..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(rest.get(..end)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn directory() -> impl Strategy<Value = ExportDirectory> {
        let export = prop_oneof![
            Just(Export::None),
            // Not inside of the directory, which the tests put behind these.
            (1_u32..0x1000).prop_map(Export::At),
            "[A-Z]{1,8}[.][a-zA-Z]{1,20}".prop_map(|text| Export::Forward(text.into_bytes())),
        ];
        let exports = prop::collection::vec(export, 1..40);
        let names = prop::collection::btree_map("[A-Za-z_]{1,30}", any::<u16>(), 0..40);
        ("[a-z]{1,8}[.]exe", 1_u32..10, exports, names).prop_map(|(image, base, exports, names)| {
            let index = |number: u16| number % exports.len() as u16;
            let names = names
                .into_iter()
                .map(|(name, number)| (name.into_bytes(), index(number)))
                .collect();
            ExportDirectory {
                image: image.into_bytes(),
                base,
                exports,
                names,
            }
        })
    }

    /// An image with nothing but the directory at `rva`.
    fn image_with(directory: &ExportDirectory, rva: u32) -> (Vec<u8>, u32) {
        let bytes = directory.write(rva);
        let size = bytes.len() as u32;
        let mut image = vec![0; rva as usize];
        image.extend(bytes);
        (image, size)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(directory in directory(), page in 1_u32..16) {
            let rva = page * 0x1000;
            let (image, size) = image_with(&directory, rva);
            prop_assert_eq!(ExportDirectory::read(&image, rva, size), Some(directory));
        }

        #[test]
        fn a_name_that_is_set_leads_there_and_nothing_else_changes(
            directory in directory(),
            name in "[A-Za-z_]{1,30}",
        ) {
            let mut extended = directory.clone();
            prop_assert!(extended.set(&name, 0x123));
            let (image, size) = image_with(&extended, 0x1000);
            let read = ExportDirectory::read(&image, 0x1000, size).unwrap();
            let index = read.names[name.as_bytes()];
            prop_assert_eq!(&read.exports[usize::from(index)], &Export::At(0x123));
            for (other, at) in &directory.names {
                if other != name.as_bytes() && *at != index {
                    let at = usize::from(*at);
                    prop_assert_eq!(&read.exports[at], &directory.exports[at]);
                }
            }
        }

        #[test]
        fn a_directory_that_leads_out_of_the_image_is_none(
            directory in directory(),
            cut in 1_usize..2000,
        ) {
            let (mut image, size) = image_with(&directory, 0x1000);
            image.truncate(image.len().saturating_sub(cut));
            prop_assert_eq!(ExportDirectory::read(&image, 0x1000, size), None);
        }

        #[test]
        fn no_bytes_make_it_panic(image in prop::collection::vec(any::<u8>(), 0..400), rva: u32) {
            let _read = ExportDirectory::read(&image, rva % 400, 400);
        }
    }

    #[test]
    fn there_is_an_end_to_numbers() {
        let mut full = ExportDirectory {
            image: Vec::new(),
            base: 1,
            exports: vec![Export::None; 0x1_0000],
            names: BTreeMap::new(),
        };
        assert!(!full.set("OneMore", 1));
    }
}
