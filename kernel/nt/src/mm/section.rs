// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sections, and their view in the system's address space.

use crate::bindings::{
    HANDLE, KernelMode, MmMapViewInSystemSpace, MmUnmapViewInSystemSpace, OBJ_KERNEL_HANDLE,
    ObReferenceObjectByHandle, ObfDereferenceObject, SEC_COMMIT, SECTION_ALL_ACCESS,
    STATUS_INSUFFICIENT_RESOURCES, ZwClose, ZwCreateSection,
};
use crate::linked::{PAGE_READWRITE, object_attributes};
use crate::status::{NtError, Result, check};
use core::ffi::c_void;
use core::ptr::{NonNull, null, null_mut};

/// A handle that only the kernel can use. Dropping it closes it.
pub(super) struct KernelHandle(HANDLE);

// SAFETY: kernel handles are valid in every thread.
unsafe impl Send for KernelHandle {}
// SAFETY: as above; NT synchronises what is done with one.
unsafe impl Sync for KernelHandle {}

impl KernelHandle {
    /// Owns a handle that was just opened with `OBJ_KERNEL_HANDLE`.
    ///
    /// # Safety
    /// It is open, and nobody else closes it.
    pub(super) unsafe fn own(handle: HANDLE) -> Self {
        KernelHandle(handle)
    }

    pub(super) fn raw(&self) -> HANDLE {
        self.0
    }
}

impl Drop for KernelHandle {
    fn drop(&mut self) {
        // SAFETY: open, and owned by this.
        unsafe { ZwClose(self.0) };
    }
}

/// IRQL: PASSIVE_LEVEL. A section of that many bytes, backed by the paging file, zeroed.
#[inline(never)]
pub(super) fn create(bytes: u32) -> Result<KernelHandle> {
    let attributes = object_attributes(None, OBJ_KERNEL_HANDLE, null());
    let size = i64::from(bytes);
    let mut handle = null_mut();
    // SAFETY: attributes and size live across the call; without a file it is the paging file's.
    check(unsafe {
        ZwCreateSection(
            &raw mut handle,
            SECTION_ALL_ACCESS,
            &raw const attributes,
            &raw const size,
            PAGE_READWRITE,
            SEC_COMMIT,
            null_mut(),
        )
    })?;
    // SAFETY: opened above, for this alone.
    Ok(unsafe { KernelHandle::own(handle) })
}

/// A referenced section object.
struct Reference(NonNull<c_void>);

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: referenced by `SystemView::new`.
        unsafe { ObfDereferenceObject(self.0.as_ptr()) };
    }
}

/// A whole section in the system's address space. What lies there is pageable.
pub(super) struct SystemView {
    base: NonNull<c_void>,
    /// Given back last. (That a view keeps its section by itself is not documented.)
    _section: Reference,
}

// SAFETY: an address that is valid in every process and thread, and a reference that is no thread's.
unsafe impl Send for SystemView {}
// SAFETY: as above; what lies there is not given out by reference.
unsafe impl Sync for SystemView {}

impl SystemView {
    /// IRQL: PASSIVE_LEVEL. Maps all of a section, of that many bytes.
    #[inline(never)]
    pub(super) fn new(section: &KernelHandle, bytes: u32) -> Result<SystemView> {
        let mut object = null_mut();
        // SAFETY: an open handle of ours, for which a caller in kernel mode need not say the type.
        check(unsafe {
            ObReferenceObjectByHandle(
                section.raw(),
                SECTION_ALL_ACCESS,
                0,
                KernelMode as i8,
                &raw mut object,
                null_mut(),
            )
        })?;
        let object = NonNull::new(object).ok_or(NtError(STATUS_INSUFFICIENT_RESOURCES))?;
        let section = Reference(object);
        let (mut base, mut size) = (null_mut(), bytes as usize);
        // SAFETY: a referenced section; both results are variables of ours.
        check(unsafe { MmMapViewInSystemSpace(section.0.as_ptr(), &raw mut base, &raw mut size) })?;
        let base = NonNull::new(base).ok_or(NtError(STATUS_INSUFFICIENT_RESOURCES))?;
        Ok(SystemView {
            base,
            _section: section,
        })
    }

    /// IRQL: any. Where it is mapped.
    pub(super) fn base(&self) -> NonNull<c_void> {
        self.base
    }
}

impl Drop for SystemView {
    fn drop(&mut self) {
        // SAFETY: mapped there by `new`; what uses it has been dropped. It cannot fail for a view.
        unsafe { MmUnmapViewInSystemSpace(self.base.as_ptr()) };
    }
}
