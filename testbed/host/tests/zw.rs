// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry as drivers see it.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::linked::KeLowerIrql;
use nt_host::Rule;
use nt_host::irql;
use nt_host::registry::Value;
use nt_host::status::{STATUS_CANNOT_DELETE, STATUS_KEY_MUST_BE_VOLATILE};
use std::ptr::{null, null_mut};
use support::*;

const SERVICES: &str = "\\Registry\\Machine\\System\\CurrentControlSet\\Services";

fn create(name: &str, root: HANDLE, options: u32) -> Result<(HANDLE, u32), NTSTATUS> {
    let attributes = attributes(name, root, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE);
    let (mut key, mut disposition) = (null_mut(), 0);
    // SAFETY: valid attributes and memory for the results.
    let status = unsafe {
        let access = KEY_ALL_ACCESS;
        let attributes = &raw const attributes;
        ZwCreateKey(
            &raw mut key,
            access,
            attributes,
            0,
            null(),
            options,
            &raw mut disposition,
        )
    };
    if status == STATUS_SUCCESS {
        Ok((key, disposition))
    } else {
        Err(status)
    }
}

fn open(name: &str, access: u32) -> Result<HANDLE, NTSTATUS> {
    let attributes = attributes(name, null_mut(), OBJ_KERNEL_HANDLE);
    let mut key = null_mut();
    // SAFETY: valid attributes and memory for the handle.
    let status = unsafe { ZwOpenKey(&raw mut key, access, &raw const attributes) };
    if status == STATUS_SUCCESS {
        Ok(key)
    } else {
        Err(status)
    }
}

fn set(key: HANDLE, name: &str, data: &[u8]) -> NTSTATUS {
    let size = data.len() as u32;
    // SAFETY: a string and `size` bytes.
    unsafe { ZwSetValueKey(key, string(name), 0, REG_BINARY, data.as_ptr().cast(), size) }
}

fn query(key: HANDLE, name: &str, class: i32, length: usize) -> (NTSTATUS, Vec<u8>, usize) {
    let mut buffer = vec![0_u64; 16];
    let mut needed = 0;
    // SAFETY: 128 bytes, of which the tests use fewer.
    let status = unsafe {
        let data = buffer.as_mut_ptr().cast();
        ZwQueryValueKey(
            key,
            string(name),
            class,
            data,
            length as u32,
            &raw mut needed,
        )
    };
    let bytes = buffer
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .take(length)
        .collect();
    (status, bytes, needed as usize)
}

fn close(key: HANDLE) {
    // SAFETY: open.
    assert_eq!(unsafe { ZwClose(key) }, STATUS_SUCCESS);
}

#[test]
fn keys_are_made_below_keys_that_exist() {
    let kernel = boot();
    let path = format!("{SERVICES}\\driver");
    assert_eq!(
        create(&format!("{path}\\Instances"), null_mut(), 0),
        Err(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    let (driver, disposition) = create(&path, null_mut(), 0).unwrap();
    assert_eq!(disposition, REG_CREATED_NEW_KEY);
    let (instances, disposition) = create("Instances", driver, 0).unwrap();
    assert_eq!(disposition, REG_CREATED_NEW_KEY);
    let (again, disposition) = create("INSTANCES", driver, 0).unwrap();
    assert_eq!(disposition, REG_OPENED_EXISTING_KEY);
    let without_root = create("Registry\\Machine\\x", null_mut(), 0);
    assert_eq!(without_root, Err(STATUS_OBJECT_PATH_SYNTAX_BAD));
    let (volatile, _) = create("Volatile", driver, REG_OPTION_VOLATILE).unwrap();
    assert_eq!(
        create("Stable", volatile, 0),
        Err(STATUS_KEY_MUST_BE_VOLATILE)
    );
    [driver, instances, again, volatile]
        .into_iter()
        .for_each(close);
    kernel.shutdown_clean();
}

#[test]
fn a_value_is_read_in_three_forms_and_buffers_are_checked() {
    let kernel = boot();
    let (key, _) = create(&format!("{SERVICES}\\driver"), null_mut(), 0).unwrap();
    assert_eq!(set(key, "Name", &[1, 2, 3, 4, 5]), STATUS_SUCCESS);
    let (status, bytes, needed) = query(key, "NAME", KeyValuePartialInformation, 64);
    assert_eq!((status, needed), (STATUS_SUCCESS, 17));
    assert_eq!(
        bytes[..17],
        [0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4, 5]
    );
    let (status, bytes, needed) = query(key, "Name", KeyValuePartialInformation, 14);
    assert_eq!((status, needed), (STATUS_BUFFER_OVERFLOW, 17));
    assert_eq!(bytes[12..], [1, 2], "what fits is copied");
    let (status, _, needed) = query(key, "Name", KeyValuePartialInformation, 11);
    assert_eq!((status, needed), (STATUS_BUFFER_TOO_SMALL, 17));
    let (status, bytes, _) = query(key, "Name", 0, 64);
    assert_eq!(status, STATUS_SUCCESS);
    assert_eq!((bytes[8], &bytes[12..16]), (8, &[b'N', 0, b'a', 0][..]));
    let (status, bytes, _) = query(key, "Name", 1, 64);
    let offset = usize::from(bytes[8]);
    assert_eq!(
        (status, &bytes[offset..offset + 5]),
        (STATUS_SUCCESS, &[1, 2, 3, 4, 5][..])
    );
    let (status, ..) = query(key, "Absent", KeyValuePartialInformation, 64);
    assert_eq!(status, STATUS_OBJECT_NAME_NOT_FOUND);
    close(key);
    kernel.shutdown_clean();
}

#[test]
fn the_access_a_key_was_opened_with_counts() {
    let kernel = boot();
    let path = format!("{SERVICES}\\driver");
    kernel
        .registry()
        .set_value(&path, "Text", Value::string("hello"))
        .unwrap();
    assert_eq!(
        open(&format!("{path}\\Absent"), KEY_READ),
        Err(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    let key = open(&path, KEY_READ).unwrap();
    assert_eq!(set(key, "Text", &[0]), STATUS_ACCESS_DENIED);
    assert_eq!(
        query(key, "Text", KeyValuePartialInformation, 64).0,
        STATUS_SUCCESS
    );
    close(key);
    let text = kernel.registry().value(&path, "text").unwrap().as_string();
    assert_eq!(text.as_deref(), Some("hello"));
    kernel.shutdown_clean();
}

#[test]
fn a_deleted_key_is_gone_and_its_handles_say_so() {
    let kernel = boot();
    let (parent, _) = create(&format!("{SERVICES}\\driver"), null_mut(), 0).unwrap();
    let (child, _) = create("Child", parent, 0).unwrap();
    assert_eq!(
        // SAFETY: open.
        unsafe { ZwDeleteKey(parent) },
        STATUS_CANNOT_DELETE,
        "it has a subkey"
    );
    // SAFETY: open.
    assert_eq!(unsafe { ZwDeleteKey(child) }, STATUS_SUCCESS);
    assert_eq!(set(child, "Late", &[0]), STATUS_KEY_DELETED);
    close(child);
    // SAFETY: open.
    assert_eq!(unsafe { ZwDeleteKey(parent) }, STATUS_SUCCESS);
    close(parent);
    assert!(
        kernel
            .registry()
            .open(&format!("{SERVICES}\\driver"))
            .is_err()
    );
    kernel.shutdown_clean();
}

#[test]
fn what_cannot_be_waited_for_by_its_handle_is_a_status() {
    let kernel = boot();
    let key = open("\\Registry\\Machine", KEY_READ).unwrap();
    let wait = |handle| {
        let soon = -MS;
        // SAFETY: a handle of whatever kind, and a time.
        unsafe { ZwWaitForSingleObject(handle, false, &raw const soon) }
    };
    assert_eq!(wait(key), STATUS_OBJECT_TYPE_MISMATCH);
    assert_eq!(wait(usize::MAX as HANDLE), STATUS_TIMEOUT, "this process");
    // SAFETY: an open handle.
    unsafe { ZwClose(key) };
    assert_eq!(wait(key), STATUS_INVALID_HANDLE);
    expect(kernel, &[Rule::HandleInvalid]);
}

#[test]
fn at_dispatch_level_a_handle_can_be_looked_at_and_not_waited_for() {
    let kernel = boot();
    let this_process = usize::MAX as HANDLE;
    let wait = |time: i64| {
        // SAFETY: a handle that is always open, and a time.
        unsafe { ZwWaitForSingleObject(this_process, false, &raw const time) }
    };
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(irql::DISPATCH_LEVEL) };
    assert_eq!(wait(0), STATUS_TIMEOUT);
    assert!(kernel.reports().is_empty(), "{:?}", kernel.reports());
    wait(-MS);
    // SAFETY: lowers to where it was.
    unsafe { KeLowerIrql(old) };
    expect(kernel, &[Rule::WaitAtDispatchLevel]);
}
