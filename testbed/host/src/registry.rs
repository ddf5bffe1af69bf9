// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry: a tree of keys in memory. What is done to it here, no registry callback is told of:
//! it is what was there before, and what a test looks at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::abi::NTSTATUS;
use crate::status::{
    STATUS_ACCESS_DENIED, STATUS_CANNOT_DELETE, STATUS_KEY_DELETED, STATUS_KEY_MUST_BE_VOLATILE,
    STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_SYNTAX_BAD,
};
use crate::unicode;

/// The type of a string value, UTF-16 with a zero at the end.
pub const REG_SZ: u32 = 1;
/// The type of a 32-bit number, little-endian.
pub const REG_DWORD: u32 = 4;
/// The type of several strings, each with a zero at the end, and one more behind the last.
pub const REG_MULTI_SZ: u32 = 7;

const BACKSLASH: u16 = b'\\' as u16;

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The REG_ type.
    pub kind: u32,
    /// The data as it is stored.
    pub data: Vec<u8>,
}

impl Value {
    /// A REG_SZ.
    #[must_use]
    pub fn string(text: &str) -> Value {
        let units = text.encode_utf16().chain([0]);
        Value {
            kind: REG_SZ,
            data: units.flat_map(u16::to_le_bytes).collect(),
        }
    }

    /// A REG_DWORD.
    #[must_use]
    pub fn dword(number: u32) -> Value {
        Value {
            kind: REG_DWORD,
            data: number.to_le_bytes().to_vec(),
        }
    }

    /// A REG_MULTI_SZ.
    #[must_use]
    pub fn strings(texts: &[&str]) -> Value {
        let units = texts.iter().flat_map(|text| text.encode_utf16().chain([0]));
        Value {
            kind: REG_MULTI_SZ,
            data: units.chain([0]).flat_map(u16::to_le_bytes).collect(),
        }
    }

    /// The text of a REG_SZ, up to the zero.
    #[must_use]
    pub fn as_string(&self) -> Option<String> {
        if self.kind != REG_SZ {
            return None;
        }
        let units: Vec<u16> = self
            .data
            .as_chunks()
            .0
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect();
        let end = units
            .iter()
            .position(|unit| *unit == 0)
            .unwrap_or(units.len());
        units.get(..end).map(unicode::decode)
    }

    /// The number of a REG_DWORD.
    #[must_use]
    pub fn as_dword(&self) -> Option<u32> {
        let bytes = self.data.as_slice().try_into().ok()?;
        (self.kind == REG_DWORD).then(|| u32::from_le_bytes(bytes))
    }
}

#[derive(Default)]
struct Content {
    values: Vec<(Vec<u16>, Value)>,
    subkeys: Vec<Arc<Key>>,
    deleted: bool,
}

/// A key.
pub struct Key {
    /// What tells it from every other key, also when its name changes.
    number: u64,
    name: Mutex<Vec<u16>>,
    parent: Weak<Key>,
    volatile: bool,
    content: Mutex<Content>,
}

/// Whether a key was there, or was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// REG_CREATED_NEW_KEY.
    Created,
    /// REG_OPENED_EXISTING_KEY.
    Opened,
}

impl Key {
    fn new(name: Vec<u16>, parent: Weak<Key>, volatile: bool) -> Arc<Key> {
        static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);
        Arc::new(Key {
            number: LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1,
            name: Mutex::new(name),
            parent,
            volatile,
            content: Mutex::new(Content::default()),
        })
    }

    fn subkey(&self, name: &[u16]) -> Option<Arc<Key>> {
        let wanted = unicode::upcased(name);
        let content = self.content.lock();
        content
            .subkeys
            .iter()
            .find(|key| unicode::upcased(&key.name.lock()) == wanted)
            .cloned()
    }

    /// Opens or makes one key below this one.
    fn create_one(
        self: &Arc<Key>,
        name: &[u16],
        volatile: bool,
    ) -> Result<(Arc<Key>, Disposition), NTSTATUS> {
        if let Some(known) = self.subkey(name) {
            return Ok((known, Disposition::Opened));
        }
        if self.volatile && !volatile {
            return Err(STATUS_KEY_MUST_BE_VOLATILE);
        }
        let key = Key::new(name.to_vec(), Arc::downgrade(self), volatile);
        let mut content = self.content.lock();
        if content.deleted {
            return Err(STATUS_KEY_DELETED);
        }
        content.subkeys.push(key.clone());
        Ok((key, Disposition::Created))
    }

    /// What tells the key from every other one of this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The absolute path of the key.
    #[must_use]
    pub fn path(&self) -> Vec<u16> {
        let mut path = match self.parent.upgrade() {
            Some(parent) => parent.path(),
            None => return Vec::new(),
        };
        path.push(BACKSLASH);
        path.extend_from_slice(&self.name.lock());
        path
    }

    /// Whether the key was deleted and lives on because somebody has it open.
    pub(crate) fn is_deleted(&self) -> bool {
        self.content.lock().deleted
    }

    /// Opens a key below this one. An empty path is the key itself.
    pub fn open(self: &Arc<Key>, path: &[u16]) -> Result<Arc<Key>, NTSTATUS> {
        let mut key = self.clone();
        for name in components(path)? {
            key = key.subkey(name).ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?;
        }
        Ok(key)
    }

    /// Opens a key below this one, or makes it; only its last component may be missing.
    pub fn create(
        self: &Arc<Key>,
        path: &[u16],
        volatile: bool,
    ) -> Result<(Arc<Key>, Disposition), NTSTATUS> {
        let mut names = components(path)?;
        let Some(last) = names.pop() else {
            return Ok((self.clone(), Disposition::Opened));
        };
        let mut key = self.clone();
        for name in names {
            key = key.subkey(name).ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?;
        }
        key.create_one(last, volatile)
    }

    /// A value of the key; the empty name is the default value.
    pub fn value(&self, name: &[u16]) -> Result<Value, NTSTATUS> {
        let wanted = unicode::upcased(name);
        let content = self.content.lock();
        if content.deleted {
            return Err(STATUS_KEY_DELETED);
        }
        let found = content
            .values
            .iter()
            .find(|(known, _)| unicode::upcased(known) == wanted);
        found
            .map(|(_, value)| value.clone())
            .ok_or(STATUS_OBJECT_NAME_NOT_FOUND)
    }

    /// The name of the subkey with this index; none behind the last one.
    pub fn subkey_name(&self, index: usize) -> Result<Option<Vec<u16>>, NTSTATUS> {
        let content = self.content.lock();
        if content.deleted {
            return Err(STATUS_KEY_DELETED);
        }
        Ok(content
            .subkeys
            .get(index)
            .map(|key| key.name.lock().clone()))
    }

    /// The value with this index, and its name; none behind the last one.
    pub fn value_at(&self, index: usize) -> Result<Option<(Vec<u16>, Value)>, NTSTATUS> {
        let content = self.content.lock();
        if content.deleted {
            return Err(STATUS_KEY_DELETED);
        }
        Ok(content.values.get(index).cloned())
    }

    /// Sets a value of the key.
    pub fn set_value(&self, name: &[u16], value: Value) -> Result<(), NTSTATUS> {
        let wanted = unicode::upcased(name);
        let mut content = self.content.lock();
        if content.deleted {
            return Err(STATUS_KEY_DELETED);
        }
        let known = content
            .values
            .iter_mut()
            .find(|(known, _)| unicode::upcased(known) == wanted);
        match known {
            Some((_, old)) => *old = value,
            None => content.values.push((name.to_vec(), value)),
        }
        Ok(())
    }

    /// Deletes a value of the key.
    pub fn delete_value(&self, name: &[u16]) -> Result<(), NTSTATUS> {
        let wanted = unicode::upcased(name);
        let mut content = self.content.lock();
        if content.deleted {
            return Err(STATUS_KEY_DELETED);
        }
        let before = content.values.len();
        content
            .values
            .retain(|(known, _)| unicode::upcased(known) != wanted);
        if content.values.len() == before {
            return Err(STATUS_OBJECT_NAME_NOT_FOUND);
        }
        Ok(())
    }

    /// Gives the key another name, which no other key beside it has.
    pub fn rename(self: &Arc<Key>, name: &[u16]) -> Result<(), NTSTATUS> {
        if name.is_empty() || name.contains(&BACKSLASH) {
            return Err(STATUS_OBJECT_NAME_INVALID);
        }
        let parent = self.parent.upgrade().ok_or(STATUS_ACCESS_DENIED)?;
        if self.is_deleted() {
            return Err(STATUS_KEY_DELETED);
        }
        let wanted = unicode::upcased(name);
        // Held, so that no other key takes the name meanwhile.
        let siblings = parent.content.lock();
        let taken = |other: &&Arc<Key>| {
            !Arc::ptr_eq(other, self) && unicode::upcased(&other.name.lock()) == wanted
        };
        if siblings.subkeys.iter().any(|other| taken(&other)) {
            return Err(STATUS_OBJECT_NAME_COLLISION);
        }
        *self.name.lock() = name.to_vec();
        Ok(())
    }

    /// Deletes the key, which must have no subkeys. Open handles see STATUS_KEY_DELETED.
    pub fn delete(self: &Arc<Key>) -> Result<(), NTSTATUS> {
        let Some(parent) = self.parent.upgrade() else {
            return Err(STATUS_CANNOT_DELETE);
        };
        {
            let mut content = self.content.lock();
            if !content.subkeys.is_empty() {
                return Err(STATUS_CANNOT_DELETE);
            }
            content.deleted = true;
        }
        parent
            .content
            .lock()
            .subkeys
            .retain(|key| !Arc::ptr_eq(key, self));
        Ok(())
    }
}

/// Splits a relative path.
fn components(path: &[u16]) -> Result<Vec<&[u16]>, NTSTATUS> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&[u16]> = path.split(|unit| *unit == BACKSLASH).collect();
    // One backslash at the end is tolerated, as the registry does.
    let names = match names.split_last() {
        Some(([], rest)) => rest.to_vec(),
        _ => names,
    };
    if names.iter().any(|name| name.is_empty()) {
        return Err(STATUS_OBJECT_NAME_INVALID);
    }
    Ok(names)
}

/// The whole tree, from `\Registry` down.
pub struct Registry {
    root: Arc<Key>,
}

impl Default for Registry {
    fn default() -> Self {
        let registry = Registry {
            root: Key::new(Vec::new(), Weak::new(), false),
        };
        registry.create_path("\\Registry\\Machine\\System\\CurrentControlSet\\Services");
        registry
    }
}

impl Registry {
    /// The part of an absolute path below the root.
    pub(crate) fn relative(path: &[u16]) -> Result<&[u16], NTSTATUS> {
        match path.split_first() {
            Some((&BACKSLASH, rest)) => Ok(rest),
            _ => Err(STATUS_OBJECT_PATH_SYNTAX_BAD),
        }
    }

    pub(crate) fn root(&self) -> &Arc<Key> {
        &self.root
    }

    /// Makes a key and all keys above it; what is there stays as it is.
    pub fn create_path(&self, path: &str) -> Arc<Key> {
        let mut key = self.root.clone();
        for name in path.split('\\').filter(|name| !name.is_empty()) {
            // Stable keys below stable keys: nothing here can fail.
            if let Ok((next, _)) = key.create_one(&unicode::encode(name), false) {
                key = next;
            }
        }
        key
    }

    /// Opens a key by its absolute path.
    pub fn open(&self, path: &str) -> Result<Arc<Key>, NTSTATUS> {
        let path = unicode::encode(path);
        self.root.open(Registry::relative(&path)?)
    }

    /// Reads a value by the absolute path of its key.
    pub fn value(&self, path: &str, name: &str) -> Result<Value, NTSTATUS> {
        self.open(path)?.value(&unicode::encode(name))
    }

    /// Writes a value; makes its key and all keys above it.
    pub fn set_value(&self, path: &str, name: &str, value: Value) -> Result<(), NTSTATUS> {
        self.create_path(path)
            .set_value(&unicode::encode(name), value)
    }
}
