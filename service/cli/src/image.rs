// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a driver's file is, as far as it decides whether Windows loads it.

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};

/// The publisher's name in the certificates of what Microsoft has signed for others: drivers that
/// went through the Hardware Dev Center.
const DEV_CENTER: &[u8] = b"Microsoft Windows Hardware Compatibility Publisher";

/// The signature in the file itself. One in a catalog is not seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    None,
    /// Signed by somebody other than the Hardware Dev Center: a test signature, in all likelihood.
    Other,
    /// Names the publisher of the Hardware Dev Center. Whether it is true, Windows decides.
    DevCenter,
}

/// A driver's file.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// `IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY`
    pub(crate) force_integrity: bool,
    pub(crate) signature: Signature,
    /// Modules, each with the functions that are imported by name.
    pub(crate) imports: Vec<(String, Vec<String>)>,
}

impl Image {
    /// Reads a file that should be a driver for this machine; why it is none.
    pub(crate) fn read(bytes: &[u8]) -> Result<Image, String> {
        let damaged = |_| "it is no 64-bit program file of Windows".to_owned();
        let file = PeFile64::parse(bytes).map_err(damaged)?;
        let headers = file.nt_headers();
        let machine = headers.file_header().machine.get(LE);
        if machine != pe::IMAGE_FILE_MACHINE_AMD64 {
            return Err(format!(
                "it was built for another machine ({:#06x}), not for x64",
                machine.0
            ));
        }
        let optional = headers.optional_header();
        if optional.subsystem() != pe::IMAGE_SUBSYSTEM_NATIVE {
            return Err("it is a program and no driver: its subsystem is not native".into());
        }
        let characteristics = optional.dll_characteristics();
        Ok(Image {
            force_integrity: characteristics.0 & pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY.0
                != 0,
            signature: signature(&file, bytes),
            imports: imports(&file).map_err(|_| "its import table is damaged".to_owned())?,
        })
    }

    /// Whether it imports this function, whoever exports it.
    pub(crate) fn uses(&self, function: &str) -> bool {
        let mut all = self.imports.iter().flat_map(|(_, functions)| functions);
        all.any(|name| name == function)
    }

    /// Whether it registers with the Filter Manager, and so needs instances.
    pub(crate) fn is_filter(&self) -> bool {
        self.uses("FltRegisterFilter")
    }

    /// Whether it calls what NT allows only to images marked FORCE_INTEGRITY.
    pub(crate) fn needs_force_integrity(&self) -> bool {
        [
            "PsSetCreateProcessNotifyRoutineEx",
            "PsSetCreateProcessNotifyRoutineEx2",
            "ObRegisterCallbacks",
        ]
        .into_iter()
        .any(|function| self.uses(function))
    }
}

fn signature(file: &PeFile64<'_>, bytes: &[u8]) -> Signature {
    let Some(directory) = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_SECURITY) else {
        return Signature::None;
    };
    // The one directory whose address is an offset in the file.
    let begin = directory.virtual_address.get(LE) as usize;
    let end = begin.saturating_add(directory.size.get(LE) as usize);
    match bytes.get(begin..end) {
        None | Some([]) => Signature::None,
        Some(table) if table.windows(DEV_CENTER.len()).any(|w| w == DEV_CENTER) => {
            Signature::DevCenter
        }
        Some(_) => Signature::Other,
    }
}

fn imports(file: &PeFile64<'_>) -> object::Result<Vec<(String, Vec<String>)>> {
    let mut modules = Vec::new();
    let Some(table) = file.import_table()? else {
        return Ok(modules);
    };
    let mut descriptors = table.descriptors()?;
    while let Some(descriptor) = descriptors.next()? {
        let name = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).into_owned();
        let mut functions = Vec::new();
        // Some linkers write one table only, the one that the loader overwrites.
        let names = match descriptor.original_first_thunk.get(LE) {
            0 => descriptor.first_thunk.get(LE),
            names => names,
        };
        let mut thunks = table.thunks(names)?;
        while let Some(thunk) = thunks.next::<pe::ImageNtHeaders64>()? {
            if let object::read::pe::Import::Name(_, name) =
                table.import::<pe::ImageNtHeaders64>(thunk)?
            {
                functions.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        modules.push((name, functions));
    }
    Ok(modules)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A driver's file as small as it can be. `what` tells one from another.
    pub(crate) fn driver(what: &str) -> Vec<u8> {
        Sample::default().bytes(what)
    }

    /// The headers of an image.
    pub(crate) struct Sample {
        pub(crate) machine: u16,
        pub(crate) subsystem: u16,
        pub(crate) characteristics: u16,
        pub(crate) certificate: Vec<u8>,
        pub(crate) imports: Vec<(&'static str, &'static str)>,
    }

    impl Default for Sample {
        fn default() -> Self {
            Sample {
                machine: pe::IMAGE_FILE_MACHINE_AMD64.0,
                subsystem: pe::IMAGE_SUBSYSTEM_NATIVE.0,
                characteristics: 0,
                certificate: b"somebody".to_vec(),
                imports: Vec::new(),
            }
        }
    }

    impl Sample {
        /// One page of headers, one section that is the import table, then the certificate.
        pub(crate) fn bytes(&self, what: &str) -> Vec<u8> {
            const SECTION: usize = 0x1000;
            let mut file = vec![0_u8; SECTION];
            let mut put =
                |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
            put(0, b"MZ");
            put(0x3c, &64_u32.to_le_bytes());
            put(64, b"PE\0\0");
            put(68, &self.machine.to_le_bytes());
            put(70, &1_u16.to_le_bytes());
            put(84, &240_u16.to_le_bytes());
            let optional = 88;
            put(optional, &0x20b_u16.to_le_bytes());
            put(optional + 32, &0x1000_u32.to_le_bytes());
            put(optional + 36, &0x200_u32.to_le_bytes());
            put(optional + 68, &self.subsystem.to_le_bytes());
            put(optional + 70, &self.characteristics.to_le_bytes());
            put(optional + 108, &16_u32.to_le_bytes());
            let section = import_section(&self.imports);
            if !self.imports.is_empty() {
                put(optional + 112 + 8, &(SECTION as u32).to_le_bytes());
                put(optional + 112 + 12, &(section.len() as u32).to_le_bytes());
            }
            if !self.certificate.is_empty() {
                let at = (SECTION + section.len()) as u32;
                put(optional + 112 + 32, &at.to_le_bytes());
                put(
                    optional + 112 + 36,
                    &(self.certificate.len() as u32).to_le_bytes(),
                );
            }
            let header = optional + 240;
            put(header, b".idata");
            for (at, value) in [
                (8, section.len()),
                (12, SECTION),
                (16, section.len()),
                (20, SECTION),
            ] {
                put(header + at, &(value as u32).to_le_bytes());
            }
            file.extend(section);
            file.extend(&self.certificate);
            file.extend(what.as_bytes());
            file
        }
    }

    /// One descriptor a module with one function; everything at address 0x1000 and up.
    fn import_section(imports: &[(&str, &str)]) -> Vec<u8> {
        let descriptors = (imports.len() + 1) * 20;
        let mut section = vec![0_u8; descriptors];
        for (index, (module, function)) in imports.iter().enumerate() {
            let at = |section: &Vec<u8>| (0x1000 + section.len()) as u32;
            let name = at(&section);
            section.extend(module.as_bytes());
            section.push(0);
            let hint = at(&section);
            section.extend([0, 0]);
            section.extend(function.as_bytes());
            section.push(0);
            let thunks = at(&section);
            section.extend(u64::from(hint).to_le_bytes());
            section.extend([0; 8]);
            for (offset, value) in [(0, thunks), (12, name), (16, thunks)] {
                let place = index * 20 + offset;
                section[place..place + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        section
    }

    #[test]
    fn a_driver_is_read() {
        let sample = Sample {
            characteristics: pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY.0,
            imports: vec![
                ("ntoskrnl.exe", "PsSetCreateProcessNotifyRoutineEx"),
                ("fltmgr.sys", "FltRegisterFilter"),
            ],
            ..Sample::default()
        };
        let image = Image::read(&sample.bytes("")).unwrap();
        assert!(image.force_integrity && image.is_filter() && image.needs_force_integrity());
        assert_eq!(image.signature, Signature::Other);
        assert_eq!(image.imports[1].0, "fltmgr.sys");
        let certificate = [b"..", DEV_CENTER].concat();
        let release = Sample {
            certificate,
            ..Sample::default()
        };
        let image = Image::read(&release.bytes("")).unwrap();
        assert_eq!(image.signature, Signature::DevCenter);
        assert!(!image.is_filter() && !image.needs_force_integrity());
        let unsigned = Sample {
            certificate: Vec::new(),
            ..Sample::default()
        };
        assert_eq!(
            Image::read(&unsigned.bytes("")).unwrap().signature,
            Signature::None
        );
    }

    #[test]
    fn imports_without_a_table_of_their_own_are_read() {
        let imports = vec![("fltmgr.sys", "FltRegisterFilter")];
        let mut bytes = Sample {
            imports,
            ..Sample::default()
        }
        .bytes("");
        // OriginalFirstThunk of the first descriptor.
        bytes[0x1000..0x1004].fill(0);
        assert!(Image::read(&bytes).unwrap().is_filter());
    }

    #[test]
    fn what_is_no_driver_is_refused() {
        let refused = |bytes: &[u8]| Image::read(bytes).unwrap_err();
        assert!(refused(b"hello").contains("no 64-bit"));
        let arm = Sample {
            machine: pe::IMAGE_FILE_MACHINE_ARM64.0,
            ..Sample::default()
        };
        assert!(refused(&arm.bytes("")).contains("0xaa64"));
        let program = Sample {
            subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI.0,
            ..Sample::default()
        };
        assert!(refused(&program.bytes("")).contains("no driver"));
    }

    #[test]
    fn no_damaged_file_is_read_beyond_its_end() {
        let imports = vec![("ntoskrnl.exe", "ExAllocatePool2")];
        let whole = Sample {
            imports,
            ..Sample::default()
        }
        .bytes("x");
        for length in 0..whole.len() {
            let _read_or_refused = Image::read(&whole[..length]);
        }
        for at in 0..400 {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            let _read_or_refused = Image::read(&broken);
        }
    }
}
