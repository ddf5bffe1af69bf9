// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the registry says of a filter's instances.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fltmgr::InstanceKeys;
use fltport_nt::bindings::{
    HANDLE, KEY_QUERY_VALUE, KeyValuePartialInformation, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE,
    REG_SZ, ZwClose, ZwOpenKey, ZwQueryValueKey,
};
use fltport_nt::linked::object_attributes;
use fltport_nt::rtl::UnicodeString;

/// Where services have their keys.
pub(crate) const SERVICES: &str = "\\Registry\\Machine\\System\\CurrentControlSet\\Services";

/// An open key.
struct Key(HANDLE);

impl Key {
    fn open(path: &str) -> Option<Key> {
        let path: Vec<u16> = path.encode_utf16().collect();
        let path = UnicodeString::new(&path).ok()?;
        let flags = OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE;
        let attributes = object_attributes(Some(path.raw()), flags, core::ptr::null());
        let mut handle = core::ptr::null_mut();
        // SAFETY: valid attributes that live across the call, and a valid place for the handle.
        let status = unsafe { ZwOpenKey(&raw mut handle, KEY_QUERY_VALUE, &raw const attributes) };
        (status >= 0).then_some(Key(handle))
    }

    /// A text, or what its absence makes of the registration.
    fn text(&self, name: &str) -> Result<String, InstanceKeys> {
        /// Of KEY_VALUE_PARTIAL_INFORMATION, in 32-bit words: title, type, length.
        const HEADER: usize = 3;
        let name: Vec<u16> = name.encode_utf16().collect();
        let name = UnicodeString::new(&name).map_err(|_| InstanceKeys::Missing)?;
        let mut words = vec![0_u32; 1024];
        let (buffer, size) = (words.as_mut_ptr().cast(), (words.len() * 4) as u32);
        let mut needed = 0;
        // SAFETY: an open key, and a buffer of the size that is passed.
        let status = unsafe {
            ZwQueryValueKey(
                self.0,
                name.raw(),
                KeyValuePartialInformation,
                buffer,
                size,
                &raw mut needed,
            )
        };
        if status < 0 {
            return Err(InstanceKeys::Missing);
        }
        if words[1] != REG_SZ {
            return Err(InstanceKeys::WrongType);
        }
        let bytes: Vec<u8> = words[HEADER..]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .take(words[2] as usize)
            .collect();
        let units = bytes.as_chunks::<2>().0.iter();
        let units = units.map(|pair| u16::from_le_bytes(*pair));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        Ok(String::from_utf16_lossy(&units))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: opened by this owner, closed once.
        unsafe { ZwClose(self.0) };
    }
}

/// Whether there is a service of that name.
pub(crate) fn has_service(service: &[u16]) -> bool {
    let service = String::from_utf16_lossy(service);
    Key::open(&alloc::format!("{SERVICES}\\{service}")).is_some()
}

/// Looks for the default instance and its altitude below the first root that exists.
pub(crate) fn instance_keys(service: &[u16], roots: &[&str]) -> InstanceKeys {
    find(&String::from_utf16_lossy(service), roots)
        .err()
        .unwrap_or(InstanceKeys::Found)
}

fn find(service: &str, roots: &[&str]) -> Result<(), InstanceKeys> {
    let mut paths = roots
        .iter()
        .map(|root| alloc::format!("{SERVICES}\\{service}\\{root}"));
    let (path, root) = paths
        .find_map(|path| Key::open(&path).map(|key| (path, key)))
        .ok_or(InstanceKeys::Missing)?;
    let name = root.text("DefaultInstance")?;
    let instance = Key::open(&alloc::format!("{path}\\{name}")).ok_or(InstanceKeys::Missing)?;
    instance.text("Altitude").map(drop)
}
