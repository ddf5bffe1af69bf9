// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;

fn good() -> Version {
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

fn with(name: &str, value: &str) -> Version {
    let mut version = good();
    for string in &mut version.strings {
        if string.0 == name {
            string.1 = value.to_string();
        }
    }
    version
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(Version::decode(&good().encode()).unwrap(), good());
}

/// By the documented layout: length 6, key of 16 characters, padding, then the fixed part.
#[test]
fn the_fixed_part_lies_where_windows_looks_for_it() {
    let bytes = good().encode();
    assert_eq!(
        usize::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        bytes.len()
    );
    assert_eq!(bytes[2..6], [52, 0, 0, 0]);
    assert_eq!(bytes[6..12], [b'V', 0, b'S', 0, b'_', 0]);
    assert_eq!(bytes[40..44], [0xBD, 0x04, 0xEF, 0xFE]);
    // File version 1.2 in the high half, 3.0 in the low one.
    assert_eq!(bytes[48..56], [2, 0, 1, 0, 0, 0, 3, 0]);
    // File type and subtype.
    assert_eq!(bytes[76..84], [3, 0, 0, 0, 7, 0, 0, 0]);
}

#[test]
fn a_resource_file_begins_with_an_empty_resource() {
    let file = good().resource_file();
    assert_eq!(
        file[..16],
        [0, 0, 0, 0, 32, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0]
    );
    assert_eq!(file[40..48], [0xFF, 0xFF, 16, 0, 0xFF, 0xFF, 1, 0]);
    assert_eq!(file.len() % 4, 0);
}

#[test]
fn a_resource_that_is_cut_off_is_refused_wherever_it_ends() {
    let bytes = good().encode();
    for length in 0..bytes.len() {
        assert!(Version::decode(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn another_signature_is_refused() {
    let mut bytes = good().encode();
    bytes[40] ^= 1;
    assert!(Version::decode(&bytes).is_err());
}

#[test]
fn a_good_version_has_no_faults() {
    assert!(good().faults("sample.sys").is_empty());
    assert!(good().faults("SAMPLE.SYS").is_empty());
}

#[test]
fn a_version_under_another_name_is_somebody_elses() {
    let faults = good().faults("other.sys");
    assert_eq!(
        faults,
        ["OriginalFilename is `sample.sys`, the file other.sys"]
    );
}

#[test]
fn each_required_string_is_asked_for() {
    for name in REQUIRED {
        let faults = with(name, " ").faults("sample.sys");
        assert_eq!(faults.first(), Some(&format!("it has no {name}")));
    }
}

#[test]
fn the_text_of_the_version_is_the_number() {
    let faults = with("FileVersion", "1.2.4").faults("sample.sys");
    assert_eq!(faults, ["FileVersion is `1.2.4`, the number [1, 2, 3, 0]"]);
    let mut nought = with("FileVersion", "0.0.0");
    nought.number = [0; 4];
    assert!(
        nought
            .faults("sample.sys")
            .contains(&"the version is 0".to_string())
    );
}

#[test]
fn an_applications_version_is_not_a_drivers() {
    let mut application = good();
    application.is_driver = false;
    let application = Version::decode(&application.encode()).unwrap();
    let faults = application.faults("sample.sys");
    assert_eq!(faults, ["it does not say that the file is a system driver"]);
}
