// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies below a registry key, one after the other.

use std::ffi::c_void;

use super::key::{Form, by_handle, give};
use crate::abi::{HANDLE, KEY_INFORMATION_CLASS, KEY_VALUE_INFORMATION_CLASS, NTSTATUS};
use crate::entry::nt;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel;
use crate::status::{STATUS_INVALID_PARAMETER, STATUS_NO_MORE_ENTRIES};

const KEY_QUERY_VALUE: u32 = 0x1;
const KEY_ENUMERATE_SUB_KEYS: u32 = 0x8;
const KEY_BASIC_INFORMATION: KEY_INFORMATION_CLASS = 0;

/// KEY_BASIC_INFORMATION: when it was written last, a title index, the name's length, the name.
fn encode_basic(name: &[u16]) -> (Vec<u8>, usize) {
    let name: Vec<u8> = name.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![0; 12];
    bytes.extend(length.to_le_bytes());
    let fixed = bytes.len();
    bytes.extend(&name);
    (bytes, fixed)
}

nt! {
    /// Reads the name of the subkey with this index. The key must be open for
    /// KEY_ENUMERATE_SUB_KEYS.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "KeyBasicInformation; subkeys come in the order in which they were made, and the \
        time is 0";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwEnumerateKey(
        key: HANDLE,
        index: u32,
        class: KEY_INFORMATION_CLASS,
        buffer: *mut c_void,
        length: u32,
        needed: *mut u32,
    ) -> NTSTATUS {
        let key = match by_handle(&kernel::state(), key, KEY_ENUMERATE_SUB_KEYS) {
            Ok(key) => key,
            Err(status) => return status,
        };
        if class != KEY_BASIC_INFORMATION {
            return STATUS_INVALID_PARAMETER;
        }
        let name = match key.subkey_name(index as usize) {
            Ok(Some(name)) => name,
            Ok(None) => return STATUS_NO_MORE_ENTRIES,
            Err(status) => return status,
        };
        let (bytes, fixed) = encode_basic(&name);
        // SAFETY: the caller passes a buffer of `length` bytes and memory for a length.
        unsafe { give(&bytes, fixed, buffer, length, needed) }
    }

    /// Reads the value with this index, in one of the forms of ZwQueryValueKey. The key must be
    /// open for KEY_QUERY_VALUE.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "KeyValueBasicInformation, KeyValueFullInformation and KeyValuePartialInformation";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwEnumerateValueKey(
        key: HANDLE,
        index: u32,
        class: KEY_VALUE_INFORMATION_CLASS,
        buffer: *mut c_void,
        length: u32,
        needed: *mut u32,
    ) -> NTSTATUS {
        let key = match by_handle(&kernel::state(), key, KEY_QUERY_VALUE) {
            Ok(key) => key,
            Err(status) => return status,
        };
        let Some(form) = Form::of(class) else {
            return STATUS_INVALID_PARAMETER;
        };
        let (name, value) = match key.value_at(index as usize) {
            Ok(Some(found)) => found,
            Ok(None) => return STATUS_NO_MORE_ENTRIES,
            Err(status) => return status,
        };
        let (bytes, fixed) = form.encode(&name, &value);
        // SAFETY: the caller passes a buffer of `length` bytes and memory for a length.
        unsafe { give(&bytes, fixed, buffer, length, needed) }
    }
}
