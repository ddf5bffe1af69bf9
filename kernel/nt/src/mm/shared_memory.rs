// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that processes can be given a view of.

use super::locked_pages::LockedPages;
use super::section::{self, KernelHandle, SystemView};
use super::user_view::UserView;
use crate::bindings::STATUS_INVALID_PARAMETER;
use crate::status::{NtError, Result};
use core::ptr::NonNull;

/// What the size is rounded up to.
const PAGE: usize = 4096;
/// More than any memory descriptor list describes, whatever the version of Windows.
const MAX: usize = 1 << 30;

/// Memory of the driver's, locked, that can be mapped into the processes of services.
///
/// A process that has a view keeps the memory alive by that, so what a service still looks at is never
/// given to anybody else. It reads what the driver writes when the driver writes it: who shares
/// memory takes everything that a service could write there for an allegation.
pub struct SharedMemory {
    // Dropped in this order.
    pages: LockedPages,
    _view: SystemView,
    section: KernelHandle,
    length: usize,
}

impl SharedMemory {
    /// IRQL: PASSIVE_LEVEL, to make and to drop. That many bytes, in whole pages, all zero.
    ///
    /// Errors: `STATUS_INVALID_PARAMETER` for none or more than a GiB, `STATUS_NOT_SUPPORTED` where
    /// memory cannot be shared at all, or whatever NT lacks.
    pub fn new(bytes: usize) -> Result<Self> {
        let length = bytes
            .checked_next_multiple_of(PAGE)
            .filter(|length| (1..=MAX).contains(length))
            .ok_or(NtError(STATUS_INVALID_PARAMETER))?;
        let size = u32::try_from(length).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?;
        let section = section::create(size)?;
        let view = SystemView::new(&section, size)?;
        // SAFETY: the view is dropped after the pages.
        let pages = unsafe { LockedPages::new(view.base(), size) }?;
        Ok(SharedMemory {
            pages,
            _view: view,
            section,
            length,
        })
    }

    /// IRQL: any. Where the driver has it: may be touched at DISPATCH_LEVEL.
    pub fn base(&self) -> NonNull<u8> {
        self.pages.base()
    }

    /// IRQL: any. Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// IRQL: any. Never.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// IRQL: PASSIVE_LEVEL, in the thread of the process. Maps all of it into the process that the
    /// thread runs in, writable or read only.
    ///
    /// Errors: `STATUS_PROCESS_IS_TERMINATING`, `STATUS_NOT_SUPPORTED` where this caller cannot be
    /// given a view, or whatever NT or the process lacks.
    pub fn map_into_current_process(&self, writable: bool) -> Result<UserView> {
        UserView::new(&self.section, self.length, writable)
    }
}
