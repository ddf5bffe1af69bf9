// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of the host system that several processes can map: a memfd.
//!
//! What another process gets of it is a descriptor. One that is to be read only is sealed first, so
//! that nobody can write to the file or map it writable any more, whatever he opens it with; the
//! mappings that exist stay. So new mappings of this process are copies of its first one, which a
//! seal does not stop.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use parking_lot::Mutex;

/// A mapping in this process. Dropping it unmaps it.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// Where it begins.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    fn made(place: *mut libc::c_void, length: usize) -> io::Result<Mapping> {
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = place as usize;
        Ok(Mapping { address, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this type, and given back once. Who still uses it has been told not to
        // by NT's rules.
        unsafe { libc::munmap(self.address as *mut _, self.length) };
    }
}

/// How other processes may have it. Decided by the first who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    Nobody,
    Writable,
    ReadOnly,
}

/// The memory. It holds zeros at first.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    descriptor: OwnedFd,
    first: Mapping,
    length: usize,
    shared: Mutex<Shared>,
}

impl SharedMemory {
    /// Makes `length` bytes, whole pages.
    pub(crate) fn new(length: usize) -> io::Result<SharedMemory> {
        // SAFETY: a valid name.
        let made = unsafe {
            libc::memfd_create(
                c"nt-host-section".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            )
        };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: made above, and nobody else's.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(made) });
        file.set_len(length as u64)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let wish = std::ptr::null_mut();
        // SAFETY: a new mapping where the host system likes.
        let place = unsafe {
            let descriptor = file.as_raw_fd();
            libc::mmap(wish, length, protection, libc::MAP_SHARED, descriptor, 0)
        };
        Ok(SharedMemory {
            first: Mapping::made(place, length)?,
            descriptor: file.into(),
            length,
            shared: Mutex::new(Shared::Nobody),
        })
    }

    /// Bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// What tells the file from others, for a test.
    #[cfg(test)]
    pub(crate) fn inode(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let path = format!("/proc/self/fd/{}", self.descriptor.as_raw_fd());
        std::fs::metadata(path).expect("an open file").ino()
    }

    /// Maps it once more into this process.
    pub(crate) fn map(&self, writable: bool) -> io::Result<Mapping> {
        let from = self.first.address as *mut libc::c_void;
        // SAFETY: an old size of zero leaves the old mapping, which is shared, and makes another
        // one where the host system likes.
        let place = unsafe { libc::mremap(from, 0, self.length, libc::MREMAP_MAYMOVE) };
        let mapping = Mapping::made(place, self.length)?;
        if !writable {
            // SAFETY: the mapping that was made above and that nobody knows yet.
            let done = unsafe { libc::mprotect(place, self.length, libc::PROT_READ) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(mapping)
    }

    /// A descriptor for another process, who can do no more with it than it says. Unsupported if the
    /// memory was given out otherwise before: what is writable for one cannot be kept from others.
    pub(crate) fn descriptor(&self, writable: bool) -> io::Result<OwnedFd> {
        let wanted = if writable {
            Shared::Writable
        } else {
            Shared::ReadOnly
        };
        let mut shared = self.shared.lock();
        if *shared == Shared::Nobody {
            self.seal(wanted)?;
            *shared = wanted;
        }
        if *shared != wanted {
            return Err(io::ErrorKind::Unsupported.into());
        }
        drop(shared);
        if writable {
            return self.descriptor.try_clone();
        }
        // Another open file, not another descriptor of this one, which is open for writing.
        let path = format!("/proc/self/fd/{}", self.descriptor.as_raw_fd());
        File::open(path).map(OwnedFd::from)
    }

    /// Nobody changes the size any more, under which this process would fault; and whoever is to
    /// read only does not write.
    fn seal(&self, wanted: Shared) -> io::Result<()> {
        let mut seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        if wanted == Shared::ReadOnly {
            seals |= libc::F_SEAL_FUTURE_WRITE;
        }
        // SAFETY: an open descriptor and a number.
        let done = unsafe { libc::fcntl(self.descriptor.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::BorrowedFd;

    fn map(descriptor: BorrowedFd<'_>, writable: bool) -> io::Result<Mapping> {
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let descriptor = descriptor.as_raw_fd();
        let wish = std::ptr::null_mut();
        // SAFETY: a new mapping where the host system likes.
        let place = unsafe { libc::mmap(wish, 4096, protection, libc::MAP_SHARED, descriptor, 0) };
        Mapping::made(place, 4096)
    }

    fn first(mapping: &Mapping) -> *mut u32 {
        mapping.address as *mut u32
    }

    /// What a hostile process may try that got this descriptor.
    fn can_write(descriptor: &OwnedFd) -> bool {
        use std::os::fd::AsFd;
        let again = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        let reopened = File::options().read(true).write(true).open(again);
        let through = |file: &File| {
            let written = std::os::unix::fs::FileExt::write_at(file, &[1], 0);
            map(file.as_fd(), true).is_ok() || written.is_ok() || file.set_len(0).is_ok()
        };
        let raised = map(descriptor.as_fd(), false).is_ok_and(|mapping| {
            let (at, protection) = (
                mapping.address as *mut _,
                libc::PROT_READ | libc::PROT_WRITE,
            );
            // SAFETY: a mapping of this test's.
            unsafe { libc::mprotect(at, 4096, protection) == 0 }
        });
        raised || map(descriptor.as_fd(), true).is_ok() || reopened.is_ok_and(|file| through(&file))
    }

    #[test]
    fn all_mappings_are_of_the_same_memory() {
        let memory = SharedMemory::new(8192).unwrap();
        let (one, other) = (memory.map(true).unwrap(), memory.map(false).unwrap());
        // SAFETY: mapped, and as long as that.
        unsafe { first(&one).write(7) };
        // SAFETY: as above.
        assert_eq!(unsafe { first(&other).read() }, 7);
        let descriptor = memory.descriptor(false).unwrap();
        use std::os::fd::AsFd;
        let theirs = map(descriptor.as_fd(), false).unwrap();
        // A seal does not stop the kernel.
        let later = memory.map(true).unwrap();
        // SAFETY: as above.
        unsafe { first(&later).write(9) };
        // SAFETY: as above.
        assert_eq!(unsafe { first(&theirs).read() }, 9);
    }

    #[test]
    fn who_may_read_cannot_write_in_any_way() {
        let memory = SharedMemory::new(4096).unwrap();
        let descriptor = memory.descriptor(false).unwrap();
        assert!(!can_write(&descriptor));
        let otherwise = memory.descriptor(true).unwrap_err();
        assert_eq!(otherwise.kind(), io::ErrorKind::Unsupported);
        let writable = SharedMemory::new(4096).unwrap();
        assert!(can_write(&writable.descriptor(true).unwrap()));
        assert!(writable.descriptor(false).is_err());
    }

    #[test]
    fn who_may_write_cannot_change_the_size() {
        let memory = SharedMemory::new(4096).unwrap();
        let file = File::from(memory.descriptor(true).unwrap());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(8192).is_err());
    }
}
