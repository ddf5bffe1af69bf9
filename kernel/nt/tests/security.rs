// SPDX-License-Identifier: MIT OR Apache-2.0
//! What access control is made of, on the hosted kernel: the registry's entries, security
//! descriptors, subjects, processes.

use fltport_nt::bindings::{
    REG_MULTI_SZ, STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH,
};
use fltport_nt::ex::Tag;
use fltport_nt::ps::Process;
use fltport_nt::se::{Mapping, SecurityDescriptor, Subject};
use fltport_nt::zw::{Entries, Entry, Key};
use fltport_nt::{NtError, utf16};
use nt_host::faults::sweep;
use nt_host::registry::Value;
use nt_host::{Config, Kernel};

const TAG: Tag = Tag::new(b"Test");

fn boot() -> Kernel {
    Kernel::boot(Config::default())
}

/// A key with these values, opened to be read.
fn key_with(kernel: &Kernel, name: &str, values: &[(&str, Value)]) -> Key {
    let path = format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{name}");
    for (name, value) in values {
        let registry = kernel.registry();
        registry.set_value(&path, name, value.clone()).unwrap();
    }
    let units: Vec<u16> = path.encode_utf16().collect();
    Key::open_to_read(&units).unwrap()
}

#[test]
fn what_lies_below_a_key_is_read_one_after_the_other() {
    let kernel = boot();
    let long = "x".repeat(300);
    let values = [
        ("a", Value::dword(0x8123_4567)),
        ("odd", Value::dword(7)),
        ("text", Value::string("7")),
        (long.as_str(), Value::dword(1)),
        ("", Value::dword(2)),
    ];
    let key = key_with(&kernel, "entries", &values);
    for name in ["first", "second"] {
        key_with(
            &kernel,
            &format!("entries\\{name}"),
            &[("v", Value::dword(1))],
        );
    }
    let mut entries = Entries::new(TAG).unwrap();
    let expected = [
        Entry::Named(utf16!("a"), Some(0x8123_4567)),
        Entry::Named(utf16!("odd"), Some(7)),
        Entry::Named(utf16!("text"), None),
        Entry::TooLong,
        Entry::Named(&[], Some(2)),
        Entry::End,
        Entry::End,
    ];
    for (index, expected) in (0..).zip(expected) {
        assert_eq!(entries.value(&key, index), Ok(expected), "{index}");
    }
    let names = [utf16!("first").as_slice(), utf16!("second")];
    for (index, name) in (0..).zip(names) {
        assert_eq!(entries.subkey(&key, index), Ok(Entry::Named(name, None)));
        assert!(key.below(name).unwrap().is_some());
    }
    assert_eq!(entries.subkey(&key, 2), Ok(Entry::End));
    assert!(key.below(utf16!("third")).unwrap().is_none());
    let access_denied = NtError(STATUS_ACCESS_DENIED);
    assert_eq!(
        key.set_u32(utf16!("a"), 1),
        Err(access_denied),
        "to be read"
    );
    drop((key, entries));
    kernel.shutdown_clean();
}

#[test]
fn texts_come_whole_or_not_at_all() {
    let kernel = boot();
    let values = [
        ("Texts", Value::strings(&["ab", "", "c"])),
        ("Empty", Value::strings(&[])),
        ("Text", Value::string("ab")),
        (
            "Odd",
            Value {
                kind: REG_MULTI_SZ,
                data: vec![b'x', 0, 0],
            },
        ),
    ];
    let key = key_with(&kernel, "texts", &values);
    let get = |name, most| {
        let found = key.get_texts(TAG, name, most);
        found.map(|texts| texts.map(|texts| texts.to_vec()))
    };
    let whole: Vec<u16> = "ab\0\0c\0\0".encode_utf16().collect();
    assert_eq!(get(utf16!("Texts"), 7), Ok(Some(whole.clone())));
    assert_eq!(get(utf16!("Texts"), 1000), Ok(Some(whole)));
    assert_eq!(
        get(utf16!("Texts"), 4).err(),
        Some(NtError(STATUS_BUFFER_OVERFLOW))
    );
    assert_eq!(
        get(utf16!("Texts"), 0).err(),
        Some(NtError(STATUS_BUFFER_OVERFLOW))
    );
    assert_eq!(get(utf16!("Empty"), 7), Ok(Some(vec![0])));
    assert_eq!(get(utf16!("None"), 7), Ok(None));
    let other = Some(NtError(STATUS_OBJECT_TYPE_MISMATCH));
    assert_eq!(get(utf16!("Text"), 7).err(), other);
    assert_eq!(get(utf16!("Odd"), 7).err(), other);
    drop(key);
    kernel.shutdown_clean();
}

const SYSTEM: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
const EVERYONE: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
const MAPPING: Mapping = Mapping { read: 1, write: 6 };

#[test]
fn a_subject_is_granted_the_sum_of_what_his_sids_are_allowed() {
    let kernel = boot();
    let mut list = SecurityDescriptor::new(TAG, &SYSTEM, 2).unwrap();
    let (root, user) = (kernel.peer(50, 0), kernel.peer(51, 1000));
    let of_process = |list: &SecurityDescriptor| Subject::of_process().granted(list, MAPPING);
    let of_thread = |list: &SecurityDescriptor| Subject::of_thread().granted(list, MAPPING);
    assert_eq!(
        root.attach(|| of_process(&list)),
        0,
        "an empty list lets nobody in"
    );
    list.allow(TAG, &SYSTEM, 6).unwrap();
    list.allow(TAG, &EVERYONE, 1).unwrap();
    assert_eq!(root.attach(|| of_process(&list)), 7);
    assert_eq!(user.attach(|| of_process(&list)), 1);
    user.attach(|| {
        root.impersonated(|| {
            assert_eq!(of_process(&list), 1, "whoever is impersonated");
            assert_eq!(of_thread(&list), 7);
        });
        assert_eq!(of_thread(&list), 1);
    });
    let full = list
        .allow(TAG, &EVERYONE, 2)
        .and(list.allow(TAG, &EVERYONE, 2));
    assert!(
        full.is_ok(),
        "there is room for two SIDs of the longest kind"
    );
    let invalid = Some(NtError(STATUS_INVALID_PARAMETER));
    for sid in [
        &SYSTEM[..11],
        &SYSTEM[..8],
        &SYSTEM[..1],
        &[],
        &[0; 12],
        &[1; 72],
    ] {
        assert_eq!(list.allow(TAG, sid, 1).err(), invalid, "{sid:?}");
        assert_eq!(SecurityDescriptor::new(TAG, sid, 2).err(), invalid);
    }
    assert_eq!(SecurityDescriptor::new(TAG, &SYSTEM, 1000).err(), invalid);
    drop(list);
    kernel.shutdown_clean();
}

#[test]
fn a_process_is_known_by_itself_and_by_its_program() {
    let kernel = boot();
    let own = kernel.peer(std::process::id(), 1000);
    let process = own.attach(Process::current);
    assert!(own.attach(|| process.is_current()));
    assert!(!process.is_current(), "this is System");
    assert!(!kernel.peer(51, 1000).attach(|| process.is_current()));
    let program = std::env::current_exe().unwrap();
    let units: Vec<u16> = program.to_str().unwrap().encode_utf16().collect();
    assert_eq!(process.image().unwrap().units(), units);
    let nobody = kernel.peer(u32::MAX, 1000).attach(Process::current);
    assert_eq!(nobody.image().err(), Some(NtError(STATUS_NOT_FOUND)));
    drop((process, nobody));
    kernel.shutdown_clean();
}

#[test]
fn whatever_fails_an_access_check_leaves_nothing_behind() {
    let swept = sweep(|config| {
        let kernel = boot();
        let values = [("Texts", Value::strings(&["x"]))];
        let key = key_with(&kernel, "faults", &values);
        let own = kernel.peer(std::process::id(), 0);
        kernel.set_faults(config.faults);
        let check = || -> fltport_nt::Result<u32> {
            let mut list = SecurityDescriptor::new(TAG, &SYSTEM, 1)?;
            list.allow(TAG, &SYSTEM, 3)?;
            let mut entries = Entries::new(TAG)?;
            entries.value(&key, 0)?;
            entries.subkey(&key, 0)?;
            key.get_texts(TAG, utf16!("Texts"), 10)?;
            key.below(utf16!("below"))?;
            Process::current().image()?;
            Ok(Subject::of_process().granted(&list, MAPPING))
        };
        match own.attach(check) {
            Ok(granted) => assert_eq!(granted, 3),
            Err(error) => assert_eq!(error, NtError(STATUS_INSUFFICIENT_RESOURCES)),
        }
        drop(key);
        assert!(kernel.pool_usage().is_empty());
        kernel.shutdown_clean();
    });
    assert!(swept.injected().len() >= 10, "{swept}");
}
