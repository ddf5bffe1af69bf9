// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views on Windows: the driver has mapped them, and this process unmaps them.

use std::ptr::{NonNull, with_exposed_provenance_mut};
use windows_sys::Win32::System::Memory::{MEMORY_MAPPED_VIEW_ADDRESS, UnmapViewOfFile};

/// Memory that a driver has mapped into this process. Dropping it unmaps it.
///
/// Whoever reads it reads what another writes meanwhile: through atomics, or volatile.
#[derive(Debug)]
pub(crate) struct View {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: shared memory belongs to no thread, and nothing of it is given out by reference.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Owns a view that a driver says it has mapped, and left to this process.
    pub(super) fn of(address: u64, length: usize) -> Option<View> {
        let address = with_exposed_provenance_mut(usize::try_from(address).ok()?);
        let address = NonNull::new(address)?;
        Some(View { address, length })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let view = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.address.as_ptr().cast(),
        };
        // SAFETY: a view that the driver has left to this process; its owner has stopped reading.
        let _unmapped = unsafe { UnmapViewOfFile(view) };
    }
}
