// SPDX-License-Identifier: MIT OR Apache-2.0
//! The structures that registry callbacks are given: what an operation brings, captured once.

use std::ffi::c_void;
use std::sync::Arc;

use super::operation::{Change, Operation};
use crate::abi::{
    REG_CREATE_KEY_INFORMATION_V1, REG_DELETE_KEY_INFORMATION, REG_DELETE_VALUE_KEY_INFORMATION,
    REG_NOTIFY_CLASS, REG_RENAME_KEY_INFORMATION, REG_SET_VALUE_KEY_INFORMATION,
    RegNtPostCreateKeyEx, RegNtPostDeleteKey, RegNtPostDeleteValueKey, RegNtPostOpenKeyEx,
    RegNtPostRenameKey, RegNtPostSetValueKey, RegNtPreCreateKeyEx, RegNtPreDeleteKey,
    RegNtPreDeleteValueKey, RegNtPreOpenKeyEx, RegNtPreRenameKey, RegNtPreSetValueKey,
    UNICODE_STRING,
};
use crate::ex::mode;
use crate::unicode::OwnedUnicodeString;

/// The structure of a class, in memory that stays where it is.
enum Structure {
    Create(Box<REG_CREATE_KEY_INFORMATION_V1>),
    Delete(Box<REG_DELETE_KEY_INFORMATION>),
    Rename(Box<REG_RENAME_KEY_INFORMATION>),
    Set(Box<REG_SET_VALUE_KEY_INFORMATION>),
    DeleteValue(Box<REG_DELETE_VALUE_KEY_INFORMATION>),
}

/// A text and the descriptor of it that drivers see.
struct Captured {
    _text: OwnedUnicodeString,
    descriptor: Box<UNICODE_STRING>,
}

impl Captured {
    fn new(units: &[u16]) -> Captured {
        let text = OwnedUnicodeString::new(units);
        let descriptor = Box::new(text.descriptor());
        Captured {
            _text: text,
            descriptor,
        }
    }

    fn pointer(&mut self) -> *mut UNICODE_STRING {
        &raw mut *self.descriptor
    }
}

/// What callbacks are given before an operation, and again behind what they are given after it.
pub(super) struct Information {
    structure: Structure,
    /// The classes before and after.
    pub(super) before: REG_NOTIFY_CLASS,
    pub(super) after: REG_NOTIFY_CLASS,
    // What the structure points to.
    _texts: [Captured; 2],
    _data: Vec<u8>,
}

impl Information {
    pub(super) fn new(operation: &Operation<'_>) -> Information {
        let object = Arc::as_ptr(operation.key).cast_mut().cast::<c_void>();
        let (text, second) = operation.texts();
        let mut texts = [Captured::new(text), Captured::new(second)];
        let mut data = operation.data().to_vec();
        let name = texts[0].pointer();
        let (structure, before, after) = match &operation.change {
            Change::Open(open) => {
                let created = REG_CREATE_KEY_INFORMATION_V1 {
                    CompleteName: name,
                    RootObject: object,
                    Options: open.options,
                    DesiredAccess: open.access,
                    Version: 1,
                    RemainingName: texts[1].pointer(),
                    Attributes: open.attributes,
                    CheckAccessMode: mode::previous(),
                    ..Default::default()
                };
                let classes = if open.creates {
                    (RegNtPreCreateKeyEx, RegNtPostCreateKeyEx)
                } else {
                    (RegNtPreOpenKeyEx, RegNtPostOpenKeyEx)
                };
                (Structure::Create(Box::new(created)), classes.0, classes.1)
            }
            Change::DeleteKey => {
                let deleted = REG_DELETE_KEY_INFORMATION {
                    Object: object,
                    ..Default::default()
                };
                let structure = Structure::Delete(Box::new(deleted));
                (structure, RegNtPreDeleteKey, RegNtPostDeleteKey)
            }
            Change::RenameKey { .. } => {
                let renamed = REG_RENAME_KEY_INFORMATION {
                    Object: object,
                    NewName: name,
                    ..Default::default()
                };
                let structure = Structure::Rename(Box::new(renamed));
                (structure, RegNtPreRenameKey, RegNtPostRenameKey)
            }
            Change::SetValue { value, .. } => {
                let set = REG_SET_VALUE_KEY_INFORMATION {
                    Object: object,
                    ValueName: name,
                    Type: value.kind,
                    Data: data.as_mut_ptr().cast(),
                    DataSize: u32::try_from(data.len()).unwrap_or(u32::MAX),
                    ..Default::default()
                };
                let structure = Structure::Set(Box::new(set));
                (structure, RegNtPreSetValueKey, RegNtPostSetValueKey)
            }
            Change::DeleteValue { .. } => {
                let deleted = REG_DELETE_VALUE_KEY_INFORMATION {
                    Object: object,
                    ValueName: name,
                    ..Default::default()
                };
                let structure = Structure::DeleteValue(Box::new(deleted));
                (structure, RegNtPreDeleteValueKey, RegNtPostDeleteValueKey)
            }
        };
        Information {
            structure,
            before,
            after,
            _texts: texts,
            _data: data,
        }
    }

    /// The structure's address.
    pub(super) fn pointer(&mut self) -> *mut c_void {
        match &mut self.structure {
            Structure::Create(it) => (&raw mut **it).cast(),
            Structure::Delete(it) => (&raw mut **it).cast(),
            Structure::Rename(it) => (&raw mut **it).cast(),
            Structure::Set(it) => (&raw mut **it).cast(),
            Structure::DeleteValue(it) => (&raw mut **it).cast(),
        }
    }

    /// The member in which a driver keeps what it likes from before the operation to after it.
    pub(super) fn call_context(&mut self) -> &mut *mut c_void {
        match &mut self.structure {
            Structure::Create(it) => &mut it.CallContext,
            Structure::Delete(it) => &mut it.CallContext,
            Structure::Rename(it) => &mut it.CallContext,
            Structure::Set(it) => &mut it.CallContext,
            Structure::DeleteValue(it) => &mut it.CallContext,
        }
    }

    /// Where it stands whether a key is new, if the operation may create one.
    pub(super) fn disposition(&mut self) -> Option<&mut *mut u32> {
        match &mut self.structure {
            Structure::Create(it) => Some(&mut it.Disposition),
            _ => None,
        }
    }
}
