// SPDX-License-Identifier: MIT OR Apache-2.0

//! An image that is right in everything, then spoilt in one thing a test.

use object::pe::SectionFlags;
use object::write::pe::{NtHeaders, Writer};

use super::*;

mod imports;

const BASE: u64 = 0x1_4000_0000;
const HEADERS: usize = 16;
/// Where the sections come to lie, each in a page of its own.
const TEXT: u32 = 0x1000;
const INIT: u32 = 0x2000;
const RDATA: u32 = 0x3000;
const NAMES: [&[u8; 8]; 5] = [
    b".text\0\0\0",
    b"INIT\0\0\0\0",
    b".rdata\0\0",
    b".idata\0\0",
    b".rsrc\0\0\0",
];
/// In .rdata: two pointers, a table of two functions, the load configuration.
const TABLE: u32 = RDATA + 16;
const CONFIGURATION: u32 = RDATA + 32;
const CONFIGURATION_SIZE: u32 = 0xC0;
/// Behind it there is room.
const SPARE: u32 = RDATA + 0x100;

/// Two functions and what unwinds them, the first chained to the second.
const FUNCTIONS: u32 = RDATA + 0x200;
const UNWIND: u32 = FUNCTIONS + 24;

const READ: SectionFlags = pe::IMAGE_SCN_MEM_READ;

struct Sample {
    machine: pe::Machine,
    marks: pe::FileFlags,
    subsystem: pe::Subsystem,
    flags: pe::DllFlags,
    alignment: u32,
    entry: u32,
    sections: [SectionFlags; 5],
    imports: Vec<(&'static str, Vec<&'static str>)>,
    version: Option<Version>,
    exports: Vec<&'static str>,
    limit: usize,
    static_client: bool,
    frame_limit: u32,
}

impl Default for Sample {
    fn default() -> Sample {
        let code = pe::IMAGE_SCN_CNT_CODE | READ | pe::IMAGE_SCN_MEM_EXECUTE;
        let data = pe::IMAGE_SCN_CNT_INITIALIZED_DATA | READ;
        Sample {
            machine: pe::IMAGE_FILE_MACHINE_AMD64,
            marks: pe::IMAGE_FILE_EXECUTABLE_IMAGE,
            subsystem: pe::IMAGE_SUBSYSTEM_NATIVE,
            flags: pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
                | pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA
                | pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT
                | pe::IMAGE_DLLCHARACTERISTICS_GUARD_CF,
            alignment: 0x1000,
            entry: INIT,
            sections: [code, code | pe::IMAGE_SCN_MEM_DISCARDABLE, data, data, data],
            imports: vec![
                ("ntoskrnl.exe", vec!["ZwClose", "KeSetEvent"]),
                ("FLTMGR.SYS", vec!["FltSendMessage"]),
            ],
            version: Some(version()),
            exports: Vec::new(),
            limit: 1 << 20,
            static_client: false,
            frame_limit: 64,
        }
    }
}

fn version() -> Version {
    let strings = [
        ("CompanyName", "somebody"),
        ("FileDescription", "A driver"),
        ("FileVersion", "1.2.3"),
        ("InternalName", "sample"),
        ("OriginalFilename", "sample.sys"),
        ("ProductName", "Samples"),
        ("ProductVersion", "1.2.3"),
    ];
    Version {
        number: [1, 2, 3, 0],
        is_driver: true,
        strings: strings
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .to_vec(),
    }
}

impl Sample {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(true, self.alignment, 0x200, &mut bytes);
        writer.reserve_dos_header();
        writer.reserve_nt_headers(HEADERS);
        writer.reserve_section_headers(NAMES.len() as u16);
        let mut places = Vec::new();
        for (index, name) in NAMES.iter().enumerate() {
            // A section's address is known before its contents: it is the next one.
            let data = self.section(index, writer.virtual_len());
            let size = data.len() as u32;
            let range = writer.reserve_section(**name, self.sections[index], size, size);
            places.push((range, data));
        }
        let imports = places[3].0;
        writer.set_data_directory(1, imports.virtual_address, imports.virtual_size);
        let resources = places[4].0;
        if self.version.is_some() {
            writer.set_data_directory(2, resources.virtual_address, resources.virtual_size);
        }
        writer.set_data_directory(3, FUNCTIONS, 24);
        writer.set_data_directory(10, CONFIGURATION, CONFIGURATION_SIZE);

        writer.write_empty_dos_header().unwrap();
        writer.write_nt_headers(self.headers());
        writer.write_section_headers();
        for (range, data) in &places {
            writer.write_section(range.file_offset, data);
        }
        put_checksum(&mut bytes);
        bytes
    }

    fn section(&self, index: usize, address: u32) -> Vec<u8> {
        match index {
            0 | 1 => vec![0xC3; 0x20],
            2 => guard(),
            3 => self.idata(address),
            _ => resources(self.version.as_ref(), address),
        }
    }

    fn headers(&self) -> NtHeaders {
        NtHeaders {
            machine: self.machine,
            time_date_stamp: 0,
            characteristics: self.marks,
            major_linker_version: 0,
            minor_linker_version: 0,
            address_of_entry_point: self.entry,
            image_base: BASE,
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

    fn inspect(&self, bytes: &[u8]) -> Result<Image, Vec<Fault>> {
        let known = Known::of(&[
            "ZwClose",
            "KeSetEvent",
            "FltSendMessage",
            "PsSetCreateProcessNotifyRoutineEx2",
        ]);
        driver(
            bytes,
            &Expectation {
                name: "sample.sys",
                known: &known,
                static_client: self.static_client,
                exports: Some(&self.exports),
                limit: self.limit,
                frame_limit: self.frame_limit,
                map: None,
            },
        )
    }

    fn faults(&self) -> Vec<Fault> {
        self.inspect(&self.bytes()).unwrap_err()
    }
}

/// The default pointers, the table, and the load configuration that points to them.
fn guard() -> Vec<u8> {
    let absolute = |address: u32| (BASE + u64::from(address)).to_le_bytes();
    let mut bytes = Vec::new();
    bytes.extend(absolute(TEXT));
    bytes.extend(absolute(TEXT + 1));
    bytes.extend((TEXT + 2).to_le_bytes());
    bytes.extend(INIT.to_le_bytes());
    bytes.resize(32, 0);
    let mut configuration = vec![0; CONFIGURATION_SIZE as usize];
    let mut put =
        |at: usize, field: &[u8]| configuration[at..at + field.len()].copy_from_slice(field);
    put(0, &CONFIGURATION_SIZE.to_le_bytes());
    put(0x70, &absolute(RDATA));
    put(0x78, &absolute(RDATA + 8));
    put(0x80, &absolute(TABLE));
    put(0x88, &2u64.to_le_bytes());
    put(0x90, &0x500u32.to_le_bytes());
    bytes.extend(configuration);
    // The checks may look at the fields of later versions.
    bytes.resize(0x200, 0);
    bytes.extend(unwinding());
    bytes
}

/// In .text a function that takes 40 bytes, and the entry point, chained to it, that takes 24 more.
fn unwinding() -> Vec<u8> {
    let chained = UNWIND + 8;
    let mut bytes = Vec::new();
    for field in [TEXT, TEXT + 8, UNWIND, INIT, INIT + 0x20, chained] {
        bytes.extend(field.to_le_bytes());
    }
    // push rbx; sub rsp, 32
    bytes.extend([1, 5, 2, 0, 5, 0x32, 1, 0x30]);
    // sub rsp, 24; one code for the padding; the other function
    bytes.extend([1 | 4 << 3, 4, 1, 0, 4, 0x22, 0, 0]);
    for field in [TEXT, TEXT + 8, UNWIND] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

/// Three levels with one entry each, the place of the data, the data.
fn resources(version: Option<&Version>, address: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let subdirectory = 0x8000_0000u32;
    for (id, below) in [(16, subdirectory | 24), (1, subdirectory | 48), (0x409, 72)] {
        bytes.extend([0; 14]);
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(u32::to_le_bytes(id));
        bytes.extend(u32::to_le_bytes(below));
    }
    let file = version.map(Version::resource_file).unwrap_or_default();
    // Behind the two headers of the file.
    let data = file.get(64..).unwrap_or_default();
    for field in [address + 88, data.len() as u32, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(data);
    bytes
}

/// The headers begin 64 bytes into the file, the optional header 24 bytes later.
fn put_checksum(bytes: &mut [u8]) {
    let checksum = checksum::of(bytes, 64 + 24);
    bytes[64 + 24 + 64..][..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Overwrites what lies at an address of an image, and makes its checksum right again.
fn patched(address: u32, with: &[u8]) -> Vec<u8> {
    let mut bytes = Sample::default().bytes();
    let file = PeFile64::parse(&*bytes).unwrap();
    let section = section_at(&file, address).unwrap();
    let at = section.pointer_to_raw_data.get(LE) + address - section.virtual_address.get(LE);
    bytes[at as usize..][..with.len()].copy_from_slice(with);
    put_checksum(&mut bytes);
    bytes
}

fn guard_fault(bytes: &[u8]) -> String {
    let faults = Sample::default().inspect(bytes).unwrap_err();
    let [Fault::Guard(cause)] = &faults[..] else {
        panic!("{faults:?}");
    };
    cause.clone()
}

#[test]
fn a_driver_passes_and_its_imports_are_counted() {
    let sample = Sample::default();
    let image = sample.inspect(&sample.bytes()).unwrap();
    assert_eq!(image.entry, BASE + u64::from(INIT));
    assert_eq!(image.imports["ntoskrnl.exe"], ["ZwClose", "KeSetEvent"]);
    assert_eq!(image.imports["FLTMGR.SYS"], ["FltSendMessage"]);
    assert_eq!(image.guarded, 2);
    assert_eq!(image.deepest, 64);
}

#[test]
fn a_program_for_user_mode_has_every_fault_reported() {
    let sample = Sample {
        marks: pe::IMAGE_FILE_EXECUTABLE_IMAGE
            | pe::IMAGE_FILE_DLL
            | pe::IMAGE_FILE_RELOCS_STRIPPED,
        subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI,
        flags: pe::DllFlags(0),
        entry: 0,
        ..Sample::default()
    };
    let expected = [
        Fault::Subsystem {
            found: 3,
            wanted: 1,
        },
        Fault::Dll,
        Fault::NotRelocatable,
        Fault::LowEntropy,
        Fault::ExecutableData,
        Fault::NoEntry,
        Fault::Unguarded,
        Fault::Guard("the table of functions lacks the entry point".to_string()),
        Fault::Unwind("the table of functions lacks the entry point"),
    ];
    assert_eq!(sample.faults(), expected);
}

#[test]
fn an_entry_point_in_data_is_none() {
    let sample = Sample {
        entry: RDATA,
        ..Sample::default()
    };
    let faults = sample.faults();
    assert!(faults.contains(&Fault::NoEntry), "{faults:?}");
}

#[test]
fn an_entry_point_that_is_never_freed_is_a_fault() {
    let sample = Sample {
        // In the table of functions.
        entry: TEXT + 2,
        ..Sample::default()
    };
    assert_eq!(sample.faults(), [Fault::EntryStays]);
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
fn a_byte_that_changed_after_the_link_is_seen() {
    let sample = Sample::default();
    let mut bytes = sample.bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x10;
    let faults = sample.inspect(&bytes).unwrap_err();
    assert!(
        matches!(&faults[..], [Fault::Checksum { found, right }] if found != right),
        "{faults:?}"
    );
}

#[test]
fn sections_are_whole_pages() {
    let sample = Sample {
        alignment: 0x800,
        ..Sample::default()
    };
    assert!(sample.faults().contains(&Fault::Alignment(0x800)));
}

#[test]
fn code_is_never_writable() {
    let mut sample = Sample::default();
    sample.sections[0] |= pe::IMAGE_SCN_MEM_WRITE;
    assert_eq!(sample.faults(), [Fault::WritableCode(".text".to_string())]);
    sample.sections[1] |= pe::IMAGE_SCN_MEM_WRITE;
    assert_eq!(
        sample.faults(),
        [
            Fault::WritableCode(".text".to_string()),
            Fault::WritableCode("INIT".to_string()),
            Fault::WritableInit
        ]
    );
}

#[test]
fn init_is_discarded_and_code_and_data_are_not() {
    let mut sample = Sample::default();
    sample.sections[1] = sample.sections[0];
    sample.sections[2] |= pe::IMAGE_SCN_MEM_DISCARDABLE;
    assert_eq!(
        sample.faults(),
        [Fault::InitStays, Fault::Discarded(".rdata".to_string())]
    );
}

#[test]
fn a_guard_without_load_configuration_is_none() {
    // Too short for the flags.
    let fault = guard_fault(&patched(CONFIGURATION, &0x70u32.to_le_bytes()));
    assert!(fault.contains("no load configuration"), "{fault}");
}

#[test]
fn a_guard_that_nobody_asks_is_none() {
    let fault = guard_fault(&patched(CONFIGURATION + 0x90, &0x400u32.to_le_bytes()));
    assert!(
        fault.contains("does not say that calls are checked"),
        "{fault}"
    );
}

#[test]
fn a_guard_has_defaults_that_can_be_called() {
    let data = (BASE + u64::from(RDATA)).to_le_bytes();
    assert_eq!(
        guard_fault(&patched(RDATA + 8, &data)),
        "the dispatch pointer points to no function"
    );
    assert_eq!(
        guard_fault(&patched(CONFIGURATION + 0x70, &[0; 8])),
        "the check pointer is missing"
    );
}

#[test]
fn the_guards_pointers_cannot_be_overwritten() {
    let mut sample = Sample::default();
    sample.sections[2] |= pe::IMAGE_SCN_MEM_WRITE;
    assert_eq!(
        sample.faults(),
        [Fault::Guard(
            "the check pointer can be overwritten".to_string()
        )]
    );
}

#[test]
fn the_guards_table_is_whole_sorted_and_of_code() {
    for (address, with, words) in [
        (CONFIGURATION + 0x88, 0, "there is no table"),
        (CONFIGURATION + 0x88, 4000, "is cut off"),
        (TABLE, INIT + 1, "is not sorted"),
        (TABLE + 4, RDATA, "names what is no code"),
        (TABLE + 4, INIT + 1, "lacks the entry point"),
    ] {
        let fault = guard_fault(&patched(address, &with.to_le_bytes()));
        assert!(fault.contains(words), "{fault}");
    }
}

#[test]
fn a_driver_has_a_version_of_its_own() {
    let mut sample = Sample {
        version: None,
        ..Sample::default()
    };
    let none = Fault::Version("there is none".to_string());
    assert_eq!(sample.faults(), [none]);

    let mut other = version();
    other.is_driver = false;
    sample.version = Some(other);
    let faults = sample.faults();
    assert!(matches!(&faults[..], [Fault::Version(_)]), "{faults:?}");
}

#[test]
fn a_function_that_takes_too_much_of_the_stack_is_named() {
    let sample = Sample {
        frame_limit: 63,
        ..Sample::default()
    };
    let function = format!("the function at {:#x}", BASE + u64::from(INIT));
    let fault = Fault::Frame {
        function,
        bytes: 64,
        limit: 63,
    };
    assert_eq!(sample.faults(), [fault]);
}

#[test]
fn what_unwinds_the_stack_is_whole() {
    for (address, with, words) in [
        // The entry point's own row.
        (FUNCTIONS + 16, INIT, "lacks the entry point"),
        (FUNCTIONS + 8, 0x70_0000, "cut off"),
        // A later version; a chain that leads to itself.
        (UNWIND, 3, "version"),
        (UNWIND + 8 + 16, UNWIND + 8, "no end"),
    ] {
        let faults = Sample::default()
            .inspect(&patched(address, &with.to_le_bytes()))
            .unwrap_err();
        let [Fault::Unwind(cause)] = &faults[..] else {
            panic!("{faults:?}");
        };
        assert!(cause.contains(words), "{cause}");
    }
}

#[test]
fn an_image_that_has_grown_is_refused() {
    let mut sample = Sample::default();
    let size = sample.bytes().len();
    sample.limit = size;
    assert_eq!(sample.faults(), [Fault::TooLarge { size, limit: size }]);
}

#[test]
fn a_program_that_changed_or_was_cut_off_is_seen() {
    let sample = Sample {
        subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI,
        imports: vec![("KERNEL32.dll", vec!["Sleep"])],
        ..Sample::default()
    };
    let mut bytes = sample.bytes();
    assert!(program(&bytes).is_ok());
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let faults = program(&bytes).unwrap_err();
    assert!(
        matches!(&faults[..], [Fault::Checksum { .. }]),
        "{faults:?}"
    );

    // Without a checksum, as some linkers leave it.
    bytes[64 + 24 + 64..][..4].fill(0);
    assert!(program(&bytes).is_ok());
    bytes.pop();
    assert_eq!(
        program(&bytes).unwrap_err(),
        [Fault::CutOff(".rsrc".to_string())]
    );
}

#[test]
fn half_an_image_is_unreadable() {
    let sample = Sample::default();
    let mut bytes = sample.bytes();
    bytes.truncate(100);
    let faults = sample.inspect(&bytes).unwrap_err();
    assert!(matches!(&faults[..], [Fault::Unreadable(_)]), "{faults:?}");
}

#[test]
fn a_driver_is_no_program() {
    let faults = program(&Sample::default().bytes()).unwrap_err();
    let wrong = Fault::Subsystem {
        found: 1,
        wanted: 3,
    };
    assert_eq!(faults.first(), Some(&wrong));
}
