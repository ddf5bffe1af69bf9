// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared memory: a memfd that is mapped before the processes part, so that both have it at the
//! same address. Indices in it are atomics, behind [`Shared`]; records are plain bytes, behind
//! [`Data`], and belong to one side at a time as the ring's indices say.

use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::Line;
use crate::record::Message;

/// A mapping, unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process and not to a thread, and this type itself reads and
// writes nothing in it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// New memory, zeroed and present.
    pub(crate) fn new(len: usize) -> Result<Mapping> {
        let file = memfd_create("bench", MemfdFlags::CLOEXEC).context("cannot make a memfd")?;
        ftruncate(&file, len as u64).context("cannot make a memfd larger")?;
        let both = ProtFlags::READ | ProtFlags::WRITE;
        Mapping::of(std::os::fd::AsFd::as_fd(&file), 0, len, both)
    }

    /// A part of what a descriptor stands for.
    pub(crate) fn of(
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        protection: ProtFlags,
    ) -> Result<Mapping> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: no address is asked for, so the mapping replaces nothing.
        let base = unsafe { mmap(ptr::null_mut(), len, protection, flags, file, offset) };
        let base = base.with_context(|| format!("cannot map {len} bytes"))?;
        let base = NonNull::new(base.cast()).context("a mapping at address 0")?;
        Ok(Mapping { base, len })
    }

    /// Where `len` bytes at `offset` are.
    ///
    /// # Panics
    /// They are not all in the mapping.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "outside");
        // SAFETY: the offset is within the mapping, which is one allocation.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of a mapping that this value alone stands for.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// What may lie in memory that another process writes.
///
/// # Safety
/// All of it is atomics and padding, so that zeroes are a value of it, and so is whatever another
/// process stores.
pub(crate) unsafe trait Shareable {}

// SAFETY: an atomic.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: an atomic.
unsafe impl Shareable for AtomicU64 {}
// SAFETY: what is shareable, and padding.
unsafe impl<T: Shareable> Shareable for Line<T> {}
// SAFETY: nothing but what is shareable.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// A value in memory of its own that all processes have.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    mapping: Mapping,
    value: PhantomData<T>,
}

// SAFETY: what is in there is atomics.
unsafe impl<T: Shareable> Sync for Shared<T> {}

impl<T: Shareable> Shared<T> {
    /// The value that is all zeroes.
    pub(crate) fn new() -> Result<Shared<T>> {
        let mapping = Mapping::new(size_of::<T>().next_multiple_of(4096))?;
        Ok(Shared {
            mapping,
            value: PhantomData,
        })
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a page-aligned mapping, as large as a T, which lives as long as this borrow;
        // any bytes are a T, and all of it is atomics, so other processes may store meanwhile.
        unsafe { self.mapping.base.cast().as_ref() }
    }
}

/// The bytes of a ring.
#[derive(Debug)]
pub(crate) struct Data {
    mapping: Mapping,
}

// SAFETY: who reads and writes what is the contract of the unsafe functions.
unsafe impl Sync for Data {}

impl Data {
    pub(crate) fn new(len: usize) -> Result<Data> {
        Ok(Data {
            mapping: Mapping::new(len)?,
        })
    }

    pub(crate) fn of(mapping: Mapping) -> Data {
        Data { mapping }
    }

    /// Where its first `len` bytes are, for others who know what to do with them.
    pub(crate) fn start(&self, len: usize) -> *mut u8 {
        self.mapping.at(0, len)
    }

    /// Fills in a message of `N` bytes.
    ///
    /// # Safety
    /// These bytes are the caller's alone: reserved, and not yet published.
    #[inline]
    pub(crate) unsafe fn fill<const N: usize>(&self, offset: usize, message: Message) {
        let place = self.mapping.at(offset, N).cast::<[u8; N]>();
        // SAFETY: within the mapping, of alignment 1, and nobody else's, as the caller says.
        message.fill(unsafe { &mut *place });
    }

    /// The `N` bytes of a message.
    ///
    /// # Safety
    /// These bytes were published, and nobody writes them before the caller has given them back,
    /// which is after the borrow.
    #[inline]
    pub(crate) unsafe fn record<const N: usize>(&self, offset: usize) -> &[u8; N] {
        let place = self.mapping.at(offset, N).cast::<[u8; N]>();
        // SAFETY: within the mapping, of alignment 1, and written by nobody, as the caller says.
        unsafe { &*place }
    }

    /// Copies bytes in.
    ///
    /// # Safety
    /// As [`Data::fill`].
    #[inline]
    pub(crate) unsafe fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let place = self.mapping.at(offset, bytes.len());
        // SAFETY: within the mapping and nobody else's; a slice of ours does not overlap it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }

    /// Copies bytes out.
    ///
    /// # Safety
    /// As [`Data::record`].
    #[inline]
    pub(crate) unsafe fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let place = self.mapping.at(offset, bytes.len());
        // SAFETY: within the mapping and written by nobody; a slice of ours does not overlap it.
        unsafe { ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), bytes.len()) };
    }

    /// A word of a header.
    ///
    /// # Safety
    /// While it is borrowed it is no part of what anybody fills, copies or has as a record.
    ///
    /// # Panics
    /// It does not lie at a multiple of four.
    #[inline]
    pub(crate) unsafe fn word(&self, offset: usize) -> &AtomicU32 {
        let place = self.mapping.at(offset, 4).cast::<AtomicU32>();
        assert!(place.is_aligned(), "a word of a header at {offset}");
        // SAFETY: within the mapping, aligned, and used as an atomic only, as the caller says.
        unsafe { &*place }
    }

    /// A word of 64 bits.
    ///
    /// # Safety
    /// As [`Data::word`].
    ///
    /// # Panics
    /// It does not lie at a multiple of eight.
    #[inline]
    pub(crate) unsafe fn long(&self, offset: usize) -> &AtomicU64 {
        let place = self.mapping.at(offset, 8).cast::<AtomicU64>();
        assert!(place.is_aligned(), "a word of 64 bits at {offset}");
        // SAFETY: within the mapping, aligned, and used as an atomic only, as the caller says.
        unsafe { &*place }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_filled_in_is_read() {
        let data = Data::new(4096).unwrap();
        let message = Message::counted(1, 7);
        // SAFETY: nobody else has this memory.
        unsafe { data.fill::<64>(100, message) };
        // SAFETY: nobody else has this memory.
        assert_eq!(unsafe { data.record::<64>(100) }, &message.bytes::<64>());
        let mut copy = [0; 64];
        // SAFETY: nobody else has this memory.
        unsafe { data.copy_in(200, &message.bytes::<64>()) };
        // SAFETY: nobody else has this memory.
        unsafe { data.copy_out(200, &mut copy) };
        assert_eq!(copy, message.bytes::<64>());
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn nothing_is_outside() {
        let data = Data::new(4096).unwrap();
        // SAFETY: nobody else has this memory.
        unsafe { data.record::<64>(4096 - 63) };
    }

    #[test]
    fn shared_values_begin_as_zero() {
        let shared = Shared::<Line<AtomicU64>>::new().unwrap();
        assert_eq!(shared.fetch_add(3, Ordering::Relaxed), 0);
        assert_eq!(shared.load(Ordering::Relaxed), 3);
    }
}
