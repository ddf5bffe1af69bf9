// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registry keys and values.

use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{
    HANDLE, KEY_VALUE_INFORMATION_CLASS, NTSTATUS, OBJECT_ATTRIBUTES, UNICODE_STRING,
};
use crate::cm::operation::{self, Change, Open, Operation};
use crate::entry::nt;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel::{self, State};
use crate::object::Object;
use crate::registry::{Disposition, Key, Registry, Value};
use crate::status::{
    STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_HANDLE,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
    is_success,
};
use crate::unicode;

const KEY_QUERY_VALUE: u32 = 0x1;
const KEY_SET_VALUE: u32 = 0x2;
const DELETE: u32 = 0x1_0000;
const REG_OPTION_VOLATILE: u32 = 1;

/// What the generic rights and MAXIMUM_ALLOWED mean for keys.
fn map_access(access: u32) -> u32 {
    const GENERIC: [(u32, u32); 4] = [
        (0x8000_0000, 0x2_0019),
        (0x4000_0000, 0x2_0006),
        (0x2000_0000, 0x2_0019),
        (0x1200_0000, 0xF_003F),
    ];
    GENERIC.iter().fold(access, |sum, (generic, rights)| {
        if access & generic != 0 {
            sum | rights
        } else {
            sum
        }
    })
}

/// The key that a handle stands for, if it was opened with `access`.
pub(super) fn by_handle(state: &State, handle: HANDLE, access: u32) -> Result<Arc<Key>, NTSTATUS> {
    let Some((object, granted)) = state.objects.by_handle_with_access(handle as usize) else {
        crate::ob::report_bad_handle(handle);
        return Err(STATUS_INVALID_HANDLE);
    };
    match object {
        Object::Key(_) if granted & access != access => Err(STATUS_ACCESS_DENIED),
        Object::Key(key) => Ok(key),
        _ => Err(STATUS_OBJECT_TYPE_MISMATCH),
    }
}

/// Finds the key from which a name counts, and the name relative to it.
fn resolve(
    state: &State,
    attributes: &OBJECT_ATTRIBUTES,
) -> Result<(Arc<Key>, Vec<u16>), NTSTATUS> {
    // SAFETY: object attributes hold null or a valid string.
    let name = unsafe { unicode::read(attributes.ObjectName) };
    if !attributes.RootDirectory.is_null() {
        return Ok((by_handle(state, attributes.RootDirectory, 0)?, name));
    }
    let relative = Registry::relative(&name)?.to_vec();
    Ok((state.registry.root().clone(), relative))
}

/// Opens a key, and a handle to it; with the options of ZwCreateKey makes it if it is not there.
///
/// # Safety
/// `attributes` is null or points to object attributes, `handle` points to memory for a handle.
unsafe fn with_attributes(
    handle: *mut HANDLE,
    access: u32,
    attributes: *const OBJECT_ATTRIBUTES,
    creates: Option<u32>,
) -> Result<Disposition, NTSTATUS> {
    if attributes.is_null() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    // SAFETY: not null, and object attributes by contract.
    let attributes = unsafe { attributes.read() };
    let state = kernel::state();
    let (start, path) = resolve(&state, &attributes)?;
    // SAFETY: object attributes hold null or a valid string.
    let name = unsafe { unicode::read(attributes.ObjectName) };
    let options = creates.unwrap_or(0);
    let open = Open {
        creates: creates.is_some(),
        path: &name,
        remaining: &path,
        access,
        options,
        attributes: attributes.Attributes,
    };
    let done = operation::open(&state, &start, open, options & REG_OPTION_VOLATILE != 0);
    if !is_success(done.status) {
        return Err(done.status);
    }
    // A callback may have opened the key in the registry's place; which, it does not say here.
    let (key, disposition) = done.opened.ok_or(STATUS_NOT_SUPPORTED)?;
    let access = map_access(access);
    let opened = crate::ob::open_with(&state, Object::Key(key), attributes.Attributes, access);
    // SAFETY: memory for a handle by contract.
    unsafe { handle.write(opened) };
    Ok(disposition)
}

/// Changes a key by way of the registry callbacks.
fn change_key(
    key: &Arc<Key>,
    change: Change<'_>,
    body: impl FnOnce(&Arc<Key>) -> Result<(), NTSTATUS>,
) -> NTSTATUS {
    let operation = Operation { key, change };
    operation::run(&kernel::state(), &operation, || body(key).into()).status
}

/// The three forms in which a value can be read. Each has a fixed part, then the name (in two of
/// them), then the data.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Basic,
    Full,
    Partial,
}

impl Form {
    pub(super) fn of(class: KEY_VALUE_INFORMATION_CLASS) -> Option<Form> {
        match class {
            0 => Some(Form::Basic),
            1 => Some(Form::Full),
            2 => Some(Form::Partial),
            _ => None,
        }
    }

    /// The bytes of the structure, and how many of them are its fixed part.
    pub(super) fn encode(self, name: &[u16], value: &Value) -> (Vec<u8>, usize) {
        let name: Vec<u8> = name.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let fixed: Vec<u32> = match self {
            Form::Basic => vec![0, value.kind, length(&name)],
            Form::Partial => vec![0, value.kind, length(&value.data)],
            Form::Full => {
                let offset = (20 + length(&name)).next_multiple_of(8);
                vec![0, value.kind, offset, length(&value.data), length(&name)]
            }
        };
        let mut bytes: Vec<u8> = fixed.iter().flat_map(|word| word.to_le_bytes()).collect();
        let fixed = bytes.len();
        if !matches!(self, Form::Partial) {
            bytes.extend(&name);
        }
        if let Form::Full = self {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        if !matches!(self, Form::Basic) {
            bytes.extend(&value.data);
        }
        (bytes, fixed)
    }
}

/// Copies as much as fits.
///
/// # Safety
/// `buffer` points to `length` writable bytes, `needed` to memory for a length.
pub(super) unsafe fn give(
    bytes: &[u8],
    fixed: usize,
    buffer: *mut c_void,
    length: u32,
    needed: *mut u32,
) -> NTSTATUS {
    // SAFETY: memory for a length by contract.
    unsafe { needed.write(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) };
    let length = length as usize;
    if length < fixed {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let copied = bytes.len().min(length);
    // SAFETY: the buffer holds `length` bytes by contract, and is not ours.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), copied) };
    if copied < bytes.len() {
        STATUS_BUFFER_OVERFLOW
    } else {
        STATUS_SUCCESS
    }
}

nt! {
    /// Opens a key, or makes it below a key that exists.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "no security and no links; class and title are ignored";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwCreateKey(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        _title: u32,
        _class: *const UNICODE_STRING,
        options: u32,
        disposition: *mut u32,
    ) -> NTSTATUS {
        // SAFETY: the caller passes object attributes and memory for a handle.
        let result = unsafe { with_attributes(handle, access, attributes, Some(options)) };
        match result {
            Ok(done) => {
                if !disposition.is_null() {
                    // SAFETY: the caller passes null or memory for it.
                    unsafe { disposition.write(operation::number_of(done)) };
                }
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    }

    /// Opens a key.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "no security and no links: the access that is asked for is granted";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwOpenKey(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS {
        // SAFETY: the caller passes object attributes and memory for a handle.
        let result = unsafe { with_attributes(handle, access, attributes, None) };
        result.map_or_else(|status| status, |_| STATUS_SUCCESS)
    }

    /// Writes a value. The key must be open for KEY_SET_VALUE.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwSetValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        _title: u32,
        kind: u32,
        data: *const c_void,
        size: u32,
    ) -> NTSTATUS {
        let key = match by_handle(&kernel::state(), key, KEY_SET_VALUE) {
            Ok(key) => key,
            Err(status) => return status,
        };
        // SAFETY: the caller passes a string.
        let name = unsafe { unicode::read(name) };
        let data = if data.is_null() || size == 0 {
            Vec::new()
        } else {
            // SAFETY: the caller passes `size` bytes.
            unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size as usize) }.to_vec()
        };
        let value = Value { kind, data };
        let change = Change::SetValue { name: &name, value: &value };
        change_key(&key, change, |key| key.set_value(&name, value.clone()))
    }

    /// Deletes a value. The key must be open for KEY_SET_VALUE.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwDeleteValueKey(key: HANDLE, name: *const UNICODE_STRING) -> NTSTATUS {
        let key = match by_handle(&kernel::state(), key, KEY_SET_VALUE) {
            Ok(key) => key,
            Err(status) => return status,
        };
        // SAFETY: the caller passes a string.
        let name = unsafe { unicode::read(name) };
        change_key(&key, Change::DeleteValue { name: &name }, |key| key.delete_value(&name))
    }

    /// Reads a value in one of the forms KeyValueBasicInformation, Full and Partial. The key must
    /// be open for KEY_QUERY_VALUE.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "KeyValueBasicInformation, KeyValueFullInformation and KeyValuePartialInformation";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwQueryValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        class: KEY_VALUE_INFORMATION_CLASS,
        buffer: *mut c_void,
        length: u32,
        needed: *mut u32,
    ) -> NTSTATUS {
        let key = match by_handle(&kernel::state(), key, KEY_QUERY_VALUE) {
            Ok(key) => key,
            Err(status) => return status,
        };
        // SAFETY: the caller passes a string.
        let name = unsafe { unicode::read(name) };
        let value = match key.value(&name) {
            Ok(value) => value,
            Err(status) => return status,
        };
        let Some(form) = Form::of(class) else {
            return STATUS_INVALID_PARAMETER;
        };
        let (bytes, fixed) = form.encode(&name, &value);
        // SAFETY: the caller passes a buffer of `length` bytes and memory for a length.
        unsafe { give(&bytes, fixed, buffer, length, needed) }
    }

    /// Deletes a key without subkeys. It must be open for DELETE.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwDeleteKey(key: HANDLE) -> NTSTATUS {
        match by_handle(&kernel::state(), key, DELETE) {
            Ok(key) => change_key(&key, Change::DeleteKey, |key| key.delete()),
            Err(status) => status,
        }
    }
}
