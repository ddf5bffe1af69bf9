// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registry keys, for what a driver keeps in its service key.

use crate::bindings::{
    HANDLE, KEY_CREATE_SUB_KEY, KEY_ENUMERATE_SUB_KEYS, KEY_QUERY_VALUE, KEY_SET_VALUE,
    KEY_VALUE_PARTIAL_INFORMATION, KeyValuePartialInformation, OBJ_CASE_INSENSITIVE,
    OBJ_KERNEL_HANDLE, REG_DWORD, REG_MULTI_SZ, REG_OPTION_NON_VOLATILE, REG_SZ,
    STATUS_BUFFER_OVERFLOW, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_TYPE_MISMATCH, UNICODE_STRING, ZwClose, ZwCreateKey, ZwOpenKey, ZwQueryValueKey,
    ZwSetValueKey,
};
use crate::ex::{PoolSlice, Tag};
use crate::linked::object_attributes;
use crate::rtl::UnicodeString;
use crate::status::{NtError, Result, check};
use core::mem::offset_of;
use core::ops::Deref;
use core::ptr::{null, null_mut};

/// An open registry key.
pub struct Key(HANDLE);

// SAFETY: a kernel handle, valid in every thread and process.
unsafe impl Send for Key {}

impl Key {
    /// IRQL: PASSIVE_LEVEL. Opens the key that NT passed by path to DriverEntry.
    ///
    /// # Safety
    /// `path` points to a valid UNICODE_STRING.
    pub unsafe fn open(path: *const UNICODE_STRING) -> Result<Self> {
        // SAFETY: as the caller vouches.
        let Some(path) = (unsafe { path.as_ref() }) else {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        };
        let attributes =
            object_attributes(Some(path), OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, null());
        let mut handle = null_mut();
        let access = KEY_QUERY_VALUE | KEY_SET_VALUE | KEY_CREATE_SUB_KEY;
        // SAFETY: valid attributes that live across the call and a valid place for the handle.
        check(unsafe { ZwOpenKey(&raw mut handle, access, &raw const attributes) })?;
        Ok(Key(handle))
    }

    /// IRQL: PASSIVE_LEVEL. Opens a key by its absolute path, to be read.
    pub fn open_to_read(path: &[u16]) -> Result<Self> {
        Self::open_relative(null_mut(), path)
    }

    /// IRQL: PASSIVE_LEVEL. Opens the key of this name below this one, to be read; `None` if there
    /// is none.
    pub fn below(&self, name: &[u16]) -> Result<Option<Self>> {
        match Self::open_relative(self.0, name) {
            Ok(key) => Ok(Some(key)),
            Err(NtError(STATUS_OBJECT_NAME_NOT_FOUND)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_relative(root: HANDLE, name: &[u16]) -> Result<Self> {
        let name = UnicodeString::new(name)?;
        let mut attributes = object_attributes(
            Some(name.raw()),
            OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE,
            null(),
        );
        attributes.RootDirectory = root;
        let mut handle = null_mut();
        let access = KEY_QUERY_VALUE | KEY_ENUMERATE_SUB_KEYS;
        // SAFETY: as in `open`.
        check(unsafe { ZwOpenKey(&raw mut handle, access, &raw const attributes) })?;
        Ok(Key(handle))
    }

    /// IRQL: PASSIVE_LEVEL. Opens the key of this name below this one, or creates it.
    pub fn create(&self, name: &[u16]) -> Result<Self> {
        let name = UnicodeString::new(name)?;
        let mut attributes = object_attributes(
            Some(name.raw()),
            OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE,
            null(),
        );
        attributes.RootDirectory = self.0;
        let mut handle = null_mut();
        let access = KEY_QUERY_VALUE | KEY_SET_VALUE | KEY_CREATE_SUB_KEY;
        // SAFETY: as in `open`; no class and no interest in the disposition.
        check(unsafe {
            ZwCreateKey(
                &raw mut handle,
                access,
                &raw const attributes,
                0,
                null(),
                REG_OPTION_NON_VOLATILE,
                null_mut(),
            )
        })?;
        Ok(Key(handle))
    }

    /// IRQL: PASSIVE_LEVEL. Sets a text; `text` ends with its NUL, as REG_SZ demands.
    pub fn set_text(&self, name: &[u16], text: &[u16]) -> Result<()> {
        self.set(name, REG_SZ, text.as_ptr().cast(), text.len() * 2)
    }

    /// IRQL: PASSIVE_LEVEL. Sets a number.
    pub fn set_u32(&self, name: &[u16], value: u32) -> Result<()> {
        self.set(name, REG_DWORD, (&raw const value).cast(), 4)
    }

    fn set(
        &self,
        name: &[u16],
        kind: u32,
        data: *const core::ffi::c_void,
        length: usize,
    ) -> Result<()> {
        let name = UnicodeString::new(name)?;
        let length = u32::try_from(length).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        // SAFETY: an open key; `data` is valid for `length` bytes, as both callers see to.
        check(unsafe { ZwSetValueKey(self.0, name.raw(), 0, kind, data, length) })
    }

    /// IRQL: PASSIVE_LEVEL. Whether a value of this name exists, whatever its type.
    pub fn has_value(&self, name: &[u16]) -> bool {
        let mut found = Partial::<[u8; 4]>::default();
        match self.query(name, &mut found) {
            Ok(()) => true,
            Err(error) => error.status() == STATUS_BUFFER_OVERFLOW,
        }
    }

    /// IRQL: PASSIVE_LEVEL. A number. `STATUS_OBJECT_NAME_NOT_FOUND` if there is none of this name,
    /// `STATUS_OBJECT_TYPE_MISMATCH` if it is something else.
    pub fn get_u32(&self, name: &[u16]) -> Result<u32> {
        let mut found = Partial::default();
        self.query::<[u8; 4]>(name, &mut found)?;
        if found.kind == REG_DWORD && found.length == 4 {
            Ok(u32::from_le_bytes(found.data))
        } else {
            Err(NtError(STATUS_OBJECT_TYPE_MISMATCH))
        }
    }

    /// IRQL: PASSIVE_LEVEL. A short text, up to its NUL. `STATUS_OBJECT_NAME_NOT_FOUND` if there is
    /// none of this name, `STATUS_OBJECT_TYPE_MISMATCH` if it is something else,
    /// `STATUS_BUFFER_OVERFLOW` if it is longer than [`ShortText`] can be.
    pub fn get_text(&self, name: &[u16]) -> Result<ShortText> {
        let mut found = Partial::default();
        self.query(name, &mut found)?;
        if found.kind != REG_SZ {
            return Err(NtError(STATUS_OBJECT_TYPE_MISMATCH));
        }
        Ok(ShortText {
            units: found.data,
            length: found.length as usize / 2,
        })
    }

    /// IRQL: PASSIVE_LEVEL. The texts of a REG_MULTI_SZ, as UTF-16 units with a NUL behind each;
    /// `None` if there is no value of this name.
    ///
    /// Errors: `STATUS_OBJECT_TYPE_MISMATCH` if it is something else, `STATUS_BUFFER_OVERFLOW` if it
    /// has more than `most` units, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn get_texts(&self, tag: Tag, name: &[u16], most: usize) -> Result<Option<PoolSlice<u16>>> {
        const HEAD: usize = offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data);
        let mut memory = PoolSlice::filled(tag, (HEAD / 2 + most).div_ceil(2), 0_u32)?;
        let name = UnicodeString::new(name)?;
        let size = memory.len() as u32 * 4;
        let mut needed = 0;
        // SAFETY: an open key, and a buffer of the size that is passed, aligned to 4.
        let queried = check(unsafe {
            ZwQueryValueKey(
                self.0,
                name.raw(),
                KeyValuePartialInformation,
                memory.as_mut_ptr().cast(),
                size,
                &raw mut needed,
            )
        });
        match queried {
            Ok(()) => {}
            Err(NtError(STATUS_OBJECT_NAME_NOT_FOUND)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let [_, kind, bytes, data @ ..] = &*memory else {
            return Err(NtError(STATUS_BUFFER_OVERFLOW));
        };
        let count = *bytes as usize / 2;
        if *kind != REG_MULTI_SZ || bytes % 2 != 0 {
            return Err(NtError(STATUS_OBJECT_TYPE_MISMATCH));
        }
        let mut texts = PoolSlice::filled(tag, count, 0_u16)?;
        let halves = data
            .iter()
            .flat_map(|word| [*word as u16, (*word >> 16) as u16]);
        texts
            .iter_mut()
            .zip(halves)
            .for_each(|(to, from)| *to = from);
        Ok(Some(texts))
    }

    pub(super) fn raw(&self) -> HANDLE {
        self.0
    }

    fn query<T: Copy>(&self, name: &[u16], into: &mut Partial<T>) -> Result<()> {
        let name = UnicodeString::new(name)?;
        let mut needed = 0;
        // SAFETY: an open key, and a buffer of the size that is passed, laid out as
        // KEY_VALUE_PARTIAL_INFORMATION; any bytes are a `T`, which is plain numbers.
        check(unsafe {
            ZwQueryValueKey(
                self.0,
                name.raw(),
                KeyValuePartialInformation,
                (&raw mut *into).cast(),
                size_of::<Partial<T>>() as u32,
                &raw mut needed,
            )
        })
    }
}

/// A text of at most 32 UTF-16 units.
#[derive(Clone, Copy)]
pub struct ShortText {
    units: [u16; 32],
    length: usize,
}

impl Deref for ShortText {
    type Target = [u16];

    /// Up to the NUL, which programs write and the registry does not ask for.
    fn deref(&self) -> &[u16] {
        let units = self.units.get(..self.length).unwrap_or(&self.units);
        units.split(|unit| *unit == 0).next().unwrap_or_default()
    }
}

/// KEY_VALUE_PARTIAL_INFORMATION with room for plain numbers.
#[repr(C)]
#[derive(Default)]
struct Partial<T> {
    title: u32,
    kind: u32,
    length: u32,
    data: T,
}

const _: () =
    assert!(offset_of!(Partial<[u8; 4]>, data) == offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data));
const _: () = assert!(
    offset_of!(Partial<[u16; 32]>, data) == offset_of!(KEY_VALUE_PARTIAL_INFORMATION, Data)
);

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: opened by this owner, closed once.
        unsafe { ZwClose(self.0) };
    }
}
