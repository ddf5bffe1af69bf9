// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sections: memory that is not yet anywhere.

use std::sync::Arc;

use super::shared_memory::SharedMemory;
use crate::abi::{HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, PAGE_READONLY, PAGE_READWRITE, SEC_COMMIT};
use crate::entry::nt;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel;
use crate::ob;
use crate::object::Object;
use crate::pages;
use crate::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PAGE_PROTECTION, STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};

/// A section object: its address is the pointer that drivers see.
#[derive(Debug)]
pub(crate) struct Section {
    pub(super) memory: SharedMemory,
    /// The protection that it was made with is what a view may have at most.
    pub(super) writable: bool,
}

nt! {
    /// Makes a section.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "backed by the paging file, committed and without a name only";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn ZwCreateSection(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        size: *const i64,
        protection: u32,
        allocation: u32,
        file: HANDLE,
    ) -> NTSTATUS {
        // SAFETY: the caller passes null or object attributes.
        let is_named = unsafe { attributes.as_ref() }.is_some_and(|it| !it.ObjectName.is_null());
        if !file.is_null() || allocation != SEC_COMMIT || is_named {
            return STATUS_NOT_SUPPORTED;
        }
        let writable = match protection {
            PAGE_READONLY => false,
            PAGE_READWRITE => true,
            _ => return STATUS_INVALID_PAGE_PROTECTION,
        };
        // SAFETY: the caller passes null or a size.
        let size = unsafe { size.as_ref() }.copied().unwrap_or(0);
        let size = usize::try_from(size).ok().filter(|size| *size > 0);
        let Some(size) = size.and_then(pages::whole_pages) else {
            return STATUS_INVALID_PARAMETER;
        };
        let Ok(memory) = SharedMemory::new(size) else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        let section = Object::Section(Arc::new(Section { memory, writable }));
        // SAFETY: the caller passes null or object attributes.
        let flags = unsafe { ob::flags(attributes) };
        let opened = ob::open_with(&kernel::state(), section, flags, access);
        // SAFETY: the caller passes memory for a handle.
        unsafe { handle.write(opened) };
        STATUS_SUCCESS
    }
}
