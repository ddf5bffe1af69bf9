// SPDX-License-Identifier: MIT OR Apache-2.0

use object::write::pe::{NtHeaders, Writer};

use super::*;

/// An image with one section of code and one of imports, right in everything until a test spoils
/// it.
struct Sample {
    machine: pe::Machine,
    marks: pe::FileFlags,
    subsystem: pe::Subsystem,
    flags: pe::DllFlags,
    entry: u32,
    checksum: u32,
    imports: Vec<(&'static str, Vec<&'static str>)>,
}

const HEADERS: usize = 16;
const CODE: u32 = 0x1000;

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            machine: pe::IMAGE_FILE_MACHINE_AMD64,
            marks: pe::IMAGE_FILE_EXECUTABLE_IMAGE,
            subsystem: pe::IMAGE_SUBSYSTEM_NATIVE,
            flags: pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE,
            entry: CODE,
            checksum: 1,
            imports: vec![
                ("ntoskrnl.exe", vec!["ZwClose", "KeSetEvent"]),
                ("FLTMGR.SYS", vec!["FltSendMessage"]),
            ],
        }
    }
}

impl Sample {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(true, 0x1000, 0x200, &mut bytes);
        writer.reserve_dos_header();
        writer.reserve_nt_headers(HEADERS);
        writer.reserve_section_headers(2);
        let code = writer.reserve_text_section(1);
        // The section's address is known before its size: it is the next one.
        let idata = self.idata(writer.virtual_len());
        let size = u32::try_from(idata.len()).unwrap();
        let section = writer.reserve_idata_section(size);
        assert_eq!(code.virtual_address, CODE);

        writer.write_empty_dos_header().unwrap();
        writer.write_nt_headers(self.headers());
        writer.write_section_headers();
        writer.write_section(code.file_offset, &[0xC3]);
        writer.write_section(section.file_offset, &idata);
        self.put_checksum(&mut bytes);
        bytes
    }

    fn headers(&self) -> NtHeaders {
        NtHeaders {
            machine: self.machine,
            time_date_stamp: 0,
            characteristics: self.marks,
            major_linker_version: 0,
            minor_linker_version: 0,
            address_of_entry_point: self.entry,
            image_base: 0x1_4000_0000,
            major_operating_system_version: 10,
            minor_operating_system_version: 0,
            major_image_version: 0,
            minor_image_version: 0,
            major_subsystem_version: 10,
            minor_subsystem_version: 0,
            subsystem: self.subsystem,
            dll_characteristics: self.flags,
            size_of_stack_reserve: 0,
            size_of_stack_commit: 0,
            size_of_heap_reserve: 0,
            size_of_heap_commit: 0,
        }
    }

    /// The writer leaves the checksum at 0: 64 bytes after the DOS header begin the headers, 24
    /// bytes later the optional header, and 64 bytes into that the checksum.
    fn put_checksum(&self, bytes: &mut [u8]) {
        bytes[64 + 24 + 64..][..4].copy_from_slice(&self.checksum.to_le_bytes());
    }

    /// Descriptors, then per library its thunks, then the names.
    fn idata(&self, address: u32) -> Vec<u8> {
        let thunks_at = 20 * (self.imports.len() + 1);
        let thunks_size: usize = self
            .imports
            .iter()
            .map(|(_, each)| 8 * (each.len() + 1))
            .sum();
        let mut descriptors = Vec::new();
        let mut thunks = Vec::new();
        let mut names = Vec::new();
        let place = |offset: usize| address + u32::try_from(offset).unwrap();
        for (library, functions) in &self.imports {
            let first_thunk = place(thunks_at + thunks.len());
            for function in functions {
                thunks
                    .extend(u64::from(place(thunks_at + thunks_size + names.len())).to_le_bytes());
                names.extend([0, 0]);
                names.extend(function.bytes().chain([0]));
            }
            thunks.extend([0; 8]);
            let name = place(thunks_at + thunks_size + names.len());
            names.extend(library.bytes().chain([0]));
            for field in [first_thunk, 0, 0, name, first_thunk] {
                descriptors.extend(field.to_le_bytes());
            }
        }
        descriptors.extend([0; 20]);
        [descriptors, thunks, names].concat()
    }

    fn faults(&self) -> Vec<Fault> {
        inspect(
            &self.bytes(),
            Expectation {
                force_integrity: false,
            },
        )
        .unwrap_err()
    }
}

#[test]
fn a_driver_passes_and_its_imports_are_counted() {
    let image = inspect(
        &Sample::default().bytes(),
        Expectation {
            force_integrity: false,
        },
    )
    .unwrap();
    assert_eq!(image.entry, 0x1_4000_1000);
    assert_eq!(image.imports["ntoskrnl.exe"], ["ZwClose", "KeSetEvent"]);
    assert_eq!(image.imports["FLTMGR.SYS"], ["FltSendMessage"]);
}

#[test]
fn an_import_of_kernel32_is_named_with_its_functions() {
    let mut sample = Sample::default();
    sample
        .imports
        .push(("KERNEL32.dll", vec!["Sleep", "ExitProcess"]));
    let faults = sample.faults();
    let functions = vec!["Sleep".to_string(), "ExitProcess".to_string()];
    assert_eq!(
        faults,
        [Fault::ForeignImport {
            library: "KERNEL32.dll".to_string(),
            functions
        }]
    );
    assert!(
        faults[0]
            .to_string()
            .contains("Sleep, ExitProcess from KERNEL32.dll")
    );
}

#[test]
fn ntdll_is_no_library_of_drivers() {
    let sample = Sample {
        imports: vec![("ntdll.dll", vec!["ZwClose"])],
        ..Sample::default()
    };
    let faults = sample.faults();
    let [Fault::ForeignImport { library, .. }] = &faults[..] else {
        panic!("{faults:?}");
    };
    assert_eq!(library, "ntdll.dll");
}

#[test]
fn a_program_for_user_mode_has_every_fault_reported() {
    let sample = Sample {
        marks: pe::IMAGE_FILE_EXECUTABLE_IMAGE
            | pe::IMAGE_FILE_DLL
            | pe::IMAGE_FILE_RELOCS_STRIPPED,
        subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI,
        entry: 0,
        checksum: 0,
        ..Sample::default()
    };
    let expected = [
        Fault::Subsystem(3),
        Fault::Dll,
        Fault::NotRelocatable,
        Fault::NoEntry,
        Fault::NoChecksum,
    ];
    assert_eq!(sample.faults(), expected);
}

#[test]
fn an_entry_point_in_data_is_none() {
    let sample = Sample {
        entry: 0x2000,
        ..Sample::default()
    };
    assert_eq!(sample.faults(), [Fault::NoEntry]);
}

#[test]
fn another_machine_is_refused() {
    let sample = Sample {
        machine: pe::IMAGE_FILE_MACHINE_ARM64,
        ..Sample::default()
    };
    assert_eq!(sample.faults(), [Fault::Machine(0xAA64)]);
}

#[test]
fn integrity_is_asked_only_of_those_who_need_it() {
    let bytes = Sample::default().bytes();
    let faults = inspect(
        &bytes,
        Expectation {
            force_integrity: true,
        },
    )
    .unwrap_err();
    assert_eq!(faults, [Fault::NoForceIntegrity]);

    let flags =
        pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE | pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY;
    let bytes = Sample {
        flags,
        ..Sample::default()
    }
    .bytes();
    assert!(
        inspect(
            &bytes,
            Expectation {
                force_integrity: true
            }
        )
        .is_ok()
    );
}

#[test]
fn half_an_image_is_unreadable() {
    let mut bytes = Sample::default().bytes();
    bytes.truncate(100);
    let faults = inspect(
        &bytes,
        Expectation {
            force_integrity: false,
        },
    )
    .unwrap_err();
    assert!(matches!(&faults[..], [Fault::Unreadable(_)]), "{faults:?}");
}
