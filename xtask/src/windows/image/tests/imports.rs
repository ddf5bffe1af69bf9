// SPDX-License-Identifier: MIT OR Apache-2.0

//! Images that import or export what they should not.

use super::*;

/// An image with a data directory, of what has been put into .rdata behind the load configuration.
fn with_directory(index: usize, content: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = content.iter().flat_map(|each| each.to_le_bytes()).collect();
    let mut image = patched(SPARE, &bytes);
    // The directories follow 112 bytes of the optional header.
    let at = 64 + 24 + 112 + 8 * index;
    image[at..at + 4].copy_from_slice(&SPARE.to_le_bytes());
    image[at + 4..at + 8].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    put_checksum(&mut image);
    image
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
fn only_a_static_client_imports_the_common_driver() {
    let mut sample = Sample {
        imports: vec![("fltport.sys", vec!["FltPortRegister"])],
        ..Sample::default()
    };
    let faults = sample.faults();
    assert!(
        matches!(&faults[..], [Fault::ForeignImport { .. }]),
        "{faults:?}"
    );
    sample.static_client = true;
    assert!(sample.inspect(&sample.bytes()).is_ok());
}

#[test]
fn a_function_that_nobody_documents_is_named() {
    let sample = Sample {
        imports: vec![("ntoskrnl.exe", vec!["ZwClose", "PspDoNotTouch"])],
        ..Sample::default()
    };
    assert_eq!(
        sample.faults(),
        [Fault::UnknownImport {
            library: "ntoskrnl.exe".to_string(),
            function: "PspDoNotTouch".to_string()
        }]
    );
}

#[test]
fn an_export_that_should_be_there_is_missed() {
    let sample = Sample {
        exports: vec!["DllInitialize"],
        ..Sample::default()
    };
    assert_eq!(
        sample.faults(),
        [Fault::Exports {
            found: Vec::new(),
            wanted: vec!["DllInitialize".to_string()]
        }]
    );
}

#[test]
fn integrity_is_asked_of_those_who_register_for_processes() {
    let mut sample = Sample {
        imports: vec![("ntoskrnl.exe", vec!["PsSetCreateProcessNotifyRoutineEx2"])],
        ..Sample::default()
    };
    let function = "PsSetCreateProcessNotifyRoutineEx2".to_string();
    assert_eq!(sample.faults(), [Fault::NoForceIntegrity(function)]);
    sample.flags |= pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY;
    assert!(sample.inspect(&sample.bytes()).is_ok());
}

#[test]
fn an_export_without_a_name_is_one() {
    // Ordinals from 5; one address, behind the directory, and no names.
    let mut directory = [0; 11];
    directory[4..6].copy_from_slice(&[5, 1]);
    directory[7] = SPARE + 40;
    directory[10] = TEXT;
    let faults = Sample::default().inspect(&with_directory(0, &directory));
    let found = vec!["#5".to_string()];
    let wanted = Vec::new();
    assert_eq!(faults.unwrap_err(), [Fault::Exports { found, wanted }]);
}

#[test]
fn imports_that_come_later_are_imports() {
    let image = with_directory(13, &[0; 16]);
    let faults = Sample::default().inspect(&image).unwrap_err();
    assert_eq!(faults, [Fault::DelayedImports]);
    assert!(program(&image).unwrap_err().contains(&faults[0]));
}

#[test]
fn imported_addresses_are_data() {
    let mut sample = Sample::default();
    sample.sections[3] |= pe::IMAGE_SCN_MEM_EXECUTE;
    let fault = |library: &str| Fault::ImportsInCode(library.to_string());
    assert_eq!(
        sample.faults(),
        [fault("ntoskrnl.exe"), fault("FLTMGR.SYS")]
    );
}

#[test]
fn a_program_imports_what_every_windows_has() {
    let mut sample = Sample {
        subsystem: pe::IMAGE_SUBSYSTEM_WINDOWS_CUI,
        imports: vec![
            ("KERNEL32.dll", vec!["Sleep"]),
            ("api-ms-win-core-synch-l1-2-0.dll", vec!["WaitOnAddress"]),
        ],
        ..Sample::default()
    };
    assert!(program(&sample.bytes()).is_ok());
    sample
        .imports
        .push(("libgcc_s_seh-1.dll", vec!["_Unwind_Resume"]));
    let faults = program(&sample.bytes()).unwrap_err();
    assert!(
        matches!(&faults[..], [Fault::ForeignImport { library, .. }] if library == "libgcc_s_seh-1.dll"),
        "{faults:?}"
    );
}
