// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configuration manager tells of an operation on the registry, before it and after it.
//!
//! From Windows 8 on, what the structures point to as input has been captured in kernel memory
//! before the callback is called; what they point to as output may be the user's own memory
//! (Microsoft's page on EX_CALLBACK_FUNCTION). So names and data are slices here, and the one output
//! that is read, whether a key is new, is copied with the fault-safe copy.

use crate::bindings::{
    CmCallbackGetKeyObjectIDEx, CmCallbackReleaseKeyObjectIDEx, NTSTATUS,
    REG_CREATE_KEY_INFORMATION_V1, REG_CREATED_NEW_KEY, REG_DELETE_KEY_INFORMATION,
    REG_DELETE_VALUE_KEY_INFORMATION, REG_NOTIFY_CLASS, REG_RENAME_KEY_INFORMATION,
    REG_SET_VALUE_KEY_INFORMATION, RegNtPreCreateKeyEx, RegNtPreDeleteKey, RegNtPreDeleteValueKey,
    RegNtPreRenameKey, RegNtPreSetValueKey, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
    UNICODE_STRING,
};
use crate::rtl::units_of;
use crate::status::{NtError, Result, check};
use crate::user_memory::UserBuffer;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{NonNull, null_mut};

/// An operation that changes the registry. Valid during the callback only.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    /// The key that it is done to; where a key is created, the one that its path counts from.
    pub key: KeyObject<'a>,
    /// What is done to it.
    pub change: Change<'a>,
}

/// What an operation does.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    /// A key is created, or opened if it is there.
    CreateKey {
        /// Its path: absolute, or relative to the operation's key.
        path: &'a [u16],
    },
    /// The key is deleted.
    DeleteKey,
    /// The key is renamed.
    RenameKey {
        /// Its new name, without a path.
        new_name: &'a [u16],
    },
    /// A value of the key is set.
    SetValue {
        /// The value's name; empty for the default value.
        name: &'a [u16],
        /// Its type, a `REG_` number.
        kind: u32,
        /// Its data.
        data: &'a [u8],
    },
    /// A value of the key is deleted.
    DeleteValue {
        /// The value's name; empty for the default value.
        name: &'a [u16],
    },
}

/// An operation that is over. Valid during the callback only.
#[derive(Clone, Copy)]
pub struct Completed<'a> {
    /// What it was.
    pub operation: Operation<'a>,
    /// What came of it.
    pub status: NTSTATUS,
    /// The number that the observer kept when it was told before.
    pub kept: usize,
    /// The key that was created or opened.
    object: Option<KeyObject<'a>>,
    /// Where it stands whether that one is new; perhaps in the user's memory.
    disposition: *mut u32,
}

impl<'a> Completed<'a> {
    /// IRQL: PASSIVE_LEVEL, in the callback's thread. The key that the operation has created; `None`
    /// if it is not of that kind, has failed, or has found the key there.
    pub fn created(&self) -> Option<KeyObject<'a>> {
        let object = self.object?;
        let mut disposition = [0; 4];
        let length = UserBuffer::new(self.disposition.cast(), 4).copy_in(&mut disposition);
        let is_new = u32::from_le_bytes(disposition) == REG_CREATED_NEW_KEY;
        (length == Ok(4) && is_new).then_some(object)
    }
}

/// A key as the configuration manager passes it to a callback.
#[derive(Clone, Copy)]
pub struct KeyObject<'a> {
    object: NonNull<c_void>,
    cookie: i64,
    callback: PhantomData<&'a c_void>,
}

impl<'a> KeyObject<'a> {
    fn new(object: *mut c_void, cookie: i64) -> Option<Self> {
        let object = NonNull::new(object)?;
        Some(KeyObject {
            object,
            cookie,
            callback: PhantomData,
        })
    }

    /// IRQL: <= APC_LEVEL. The key's full path, as `\REGISTRY\MACHINE\...`. Allocates.
    ///
    /// Errors: what CmCallbackGetKeyObjectIDEx says, and `STATUS_INVALID_PARAMETER` in a callback
    /// that was called before its registration had returned.
    pub fn path(&self) -> Result<KeyPath> {
        let missing = NtError(STATUS_INVALID_PARAMETER);
        if self.cookie == 0 {
            return Err(missing);
        }
        let mut name = null_mut();
        // SAFETY: the cookie is that of the registration whose callback runs, and the object one
        // that NT has passed to it as valid; the identifier is not wanted.
        check(unsafe {
            CmCallbackGetKeyObjectIDEx(
                &raw const self.cookie,
                self.object.as_ptr(),
                null_mut(),
                &raw mut name,
                0,
            )
        })?;
        NonNull::new(name).map(KeyPath).ok_or(missing)
    }
}

/// The path of a key, in memory of NT's that is given back when this is dropped. Drop it at
/// <= APC_LEVEL.
pub struct KeyPath(NonNull<UNICODE_STRING>);

// SAFETY: NT's memory, which any thread may read and give back.
unsafe impl Send for KeyPath {}

impl Deref for KeyPath {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        // SAFETY: NT's string stays valid and unchanged until it is given back.
        unsafe { units_of(self.0.as_ptr()) }.unwrap_or_default()
    }
}

impl Drop for KeyPath {
    fn drop(&mut self) {
        // SAFETY: CmCallbackGetKeyObjectIDEx gave this string; it is given back once.
        unsafe { CmCallbackReleaseKeyObjectIDEx(self.0.as_ptr()) };
    }
}

/// A notification before an operation, read from NT's structure.
pub(super) struct Told<'a> {
    pub(super) operation: Operation<'a>,
    /// The observer's number, in NT's structure.
    pub(super) kept: &'a mut *mut c_void,
    disposition: *mut u32,
}

impl<'a> Told<'a> {
    /// Reads the structure of a class that is told before an operation; `None` for classes that
    /// nobody here wants to be told of.
    ///
    /// # Safety
    /// `information` points to the structure of this class, as NT passes it, for `'a`, in which
    /// nobody else uses it.
    pub(super) unsafe fn read(
        class: REG_NOTIFY_CLASS,
        information: *mut c_void,
        cookie: i64,
    ) -> Option<Told<'a>> {
        let mut disposition = null_mut();
        #[allow(non_upper_case_globals, reason = "NT's names")]
        let (object, change, kept) = match class {
            RegNtPreCreateKeyEx => {
                // SAFETY: of this class, as the caller vouches; Windows 7 and later pass at least
                // these members.
                let told = unsafe { information.cast::<REG_CREATE_KEY_INFORMATION_V1>().as_mut() }?;
                disposition = told.Disposition;
                // SAFETY: null or a captured string, valid for `'a`.
                let path = unsafe { units_of(told.CompleteName) }.unwrap_or_default();
                let change = Change::CreateKey { path };
                (told.RootObject, change, &mut told.CallContext)
            }
            RegNtPreDeleteKey => {
                // SAFETY: of this class, as the caller vouches.
                let told = unsafe { information.cast::<REG_DELETE_KEY_INFORMATION>().as_mut() }?;
                (told.Object, Change::DeleteKey, &mut told.CallContext)
            }
            RegNtPreRenameKey => {
                // SAFETY: of this class, as the caller vouches.
                let told = unsafe { information.cast::<REG_RENAME_KEY_INFORMATION>().as_mut() }?;
                // SAFETY: null or a captured string, valid for `'a`.
                let new_name = unsafe { units_of(told.NewName) }.unwrap_or_default();
                let change = Change::RenameKey { new_name };
                (told.Object, change, &mut told.CallContext)
            }
            RegNtPreSetValueKey => {
                // SAFETY: of this class, as the caller vouches.
                let told = unsafe { information.cast::<REG_SET_VALUE_KEY_INFORMATION>().as_mut() }?;
                // SAFETY: null or a captured string, valid for `'a`.
                let name = unsafe { units_of(told.ValueName) }.unwrap_or_default();
                let kind = told.Type;
                // SAFETY: null or a captured buffer of this size, valid for `'a`.
                let data = unsafe { bytes_of(told.Data, told.DataSize) };
                let change = Change::SetValue { name, kind, data };
                (told.Object, change, &mut told.CallContext)
            }
            RegNtPreDeleteValueKey => {
                let told = information.cast::<REG_DELETE_VALUE_KEY_INFORMATION>();
                // SAFETY: of this class, as the caller vouches.
                let told = unsafe { told.as_mut() }?;
                // SAFETY: null or a captured string, valid for `'a`.
                let name = unsafe { units_of(told.ValueName) }.unwrap_or_default();
                let change = Change::DeleteValue { name };
                (told.Object, change, &mut told.CallContext)
            }
            _ => return None,
        };
        let key = KeyObject::new(object, cookie)?;
        Some(Told {
            operation: Operation { key, change },
            kept,
            disposition,
        })
    }

    /// The operation, now that it is over with this status. `object` is what NT names then: the key
    /// that was created or opened, and valid only with `STATUS_SUCCESS`, not with any success
    /// (Microsoft's page on invalid key object pointers).
    pub(super) fn completed(
        &self,
        status: NTSTATUS,
        object: *mut c_void,
        kept: usize,
    ) -> Completed<'a> {
        let is_create = matches!(self.operation.change, Change::CreateKey { .. });
        let object = if is_create && status == STATUS_SUCCESS {
            KeyObject::new(object, self.operation.key.cookie)
        } else {
            None
        };
        Completed {
            operation: self.operation,
            status,
            kept,
            object,
            disposition: self.disposition,
        }
    }
}

/// A buffer that NT has captured; null is an empty one.
///
/// # Safety
/// `data` is null or valid and unchanged for `size` bytes and `'a`.
unsafe fn bytes_of<'a>(data: *mut c_void, size: u32) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: as the caller vouches.
    unsafe { core::slice::from_raw_parts(data.cast(), size as usize) }
}
