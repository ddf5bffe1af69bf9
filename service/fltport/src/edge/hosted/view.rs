// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views on the hosted edge: the hosted kernel asks for them while a command is under way, and
//! this process maps what it is given.

use crate::lock::lock;
use fltport_abi::hosted::{MapView, Mapped};
use rustix::mm::{MapFlags, ProtFlags};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Mutex;

/// STATUS_NO_MEMORY.
const NO_MEMORY: i32 = 0xC000_0017_u32 as i32;
/// As many views as a port holds that nobody has taken.
const MAX_VIEWS: usize = 256;

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
    /// Maps the beginning of a descriptor.
    fn map(descriptor: &OwnedFd, length: usize, writable: bool) -> io::Result<View> {
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: a new mapping where the system likes, so no other memory is touched. The hosted
        // kernel has sealed the file's size; what lies there is read as `View` says.
        let place = unsafe {
            rustix::mm::mmap(
                null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        let address = NonNull::new(place.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(View { address, length })
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
        // SAFETY: mapped by `map`, unmapped once; its owner has stopped reading. It cannot fail for
        // a mapping.
        let _unmapped = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.length) };
    }
}

/// The views of a port that nobody has taken, by address.
#[derive(Debug, Default)]
pub(super) struct Views(Mutex<BTreeMap<u64, View>>);

impl Views {
    /// Maps what the hosted kernel asks for; the answer.
    pub(super) fn map(&self, question: &MapView, descriptor: &OwnedFd) -> Mapped {
        let refused = Mapped {
            id: question.id,
            status: NO_MEMORY,
            reserved: 0,
            address: 0,
        };
        let Ok(length) = usize::try_from(question.length) else {
            return refused;
        };
        let mut views = lock(&self.0);
        if views.len() >= MAX_VIEWS {
            return refused;
        }
        let Ok(view) = View::map(descriptor, length, question.writable != 0) else {
            return refused;
        };
        let address = view.address().as_ptr().expose_provenance() as u64;
        views.insert(address, view);
        Mapped {
            status: 0,
            address,
            ..refused
        }
    }

    /// The view at an address, if it has this length.
    pub(super) fn take(&self, address: u64, length: usize) -> Option<View> {
        let mut views = lock(&self.0);
        views.get(&address).filter(|view| view.len() == length)?;
        views.remove(&address)
    }
}
