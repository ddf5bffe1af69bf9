// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that somebody else reads or writes at the same time, and the only unsafe code of this crate.

#[cfg(loom)]
mod modelled;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use modelled::Shared;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
mod mapped {
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU32, AtomicU64};

    /// A piece of memory that another process has mapped as well. A copy is the same memory.
    #[derive(Clone, Debug)]
    pub struct Shared {
        base: NonNull<u8>,
        length: usize,
    }

    // SAFETY: whoever made it vouches that the memory is there for all of its users; words of it are used
    // as atomics, and the rest is copied.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}

    impl Shared {
        /// IRQL: any. The memory of `length` bytes at `base`.
        ///
        /// # Safety
        /// It is mapped, for reading and, if what is made of it writes, for writing, at an address that is a multiple of 8, as long as this or a
        /// copy of it exists. Within this program nobody uses it otherwise. What others may do to it is as [the crate](crate)
        /// says.
        #[must_use]
        pub unsafe fn new(base: NonNull<u8>, length: usize) -> Self {
            debug_assert!(base.addr().get().is_multiple_of(8));
            Shared { base, length }
        }

        /// IRQL: any. Its length in bytes.
        #[must_use]
        pub fn length(&self) -> usize {
            self.length
        }

        /// Where `bytes` bytes lie that begin at `offset`; none if they are not within it, which is a mistake of this
        /// crate's.
        #[inline]
        fn within(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
            let within = offset <= self.length && bytes <= self.length - offset;
            debug_assert!(within, "{bytes} bytes at {offset} of {}", self.length);
            // SAFETY: within the memory.
            within.then(|| unsafe { self.base.add(offset) })
        }

        /// As [`Shared::within`]; the start, where there always is a word, if they are not.
        #[inline]
        fn at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
            self.within(offset, bytes).unwrap_or(self.base)
        }

        /// The word at `offset`.
        #[inline]
        pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
            let place = self.at(offset, 8).cast();
            debug_assert!(place.is_aligned());
            // SAFETY: mapped as long as this exists; aligned, because the offsets of words are multiples of 8;
            // and everybody within this program uses it as an atomic.
            unsafe { AtomicU64::from_ptr(place.as_ptr()) }
        }

        /// The half of a word at `offset`.
        #[inline]
        pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
            let place = self.at(offset, 4).cast();
            debug_assert!(place.is_aligned());
            // SAFETY: as in `word`.
            unsafe { AtomicU32::from_ptr(place.as_ptr()) }
        }

        /// Copies `bytes` to `offset`. Nobody reads there: it is the caller's until it is published.
        ///
        /// Of `bytes` either all are copied or none: so the length that the compiler may know is the one that is
        /// copied, and what is short takes no call.
        #[inline]
        pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) {
            if let Some(place) = self.within(offset, bytes.len()) {
                // SAFETY: within the memory; and not in `bytes`, for nobody refers to shared memory.
                unsafe {
                    place
                        .as_ptr()
                        .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
            }
        }

        /// Stores words at `offset`, each from a register. Nobody reads there, as with [`Shared::copy_in`].
        #[inline]
        pub(crate) fn put<const N: usize>(&self, offset: usize, words: [u64; N]) {
            if let Some(place) = self.within(offset, size_of::<[u64; N]>()) {
                // SAFETY: within the memory, and nobody refers to shared memory.
                unsafe { place.cast::<[u64; N]>().write_unaligned(words) };
            }
        }

        /// Copies what lies at `offset`. Nobody writes there while the caller may read it, or whoever does is
        /// broken; then anything is copied, and the caller checks what it got.
        #[inline]
        pub(crate) fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
            if let Some(place) = self.within(offset, bytes.len()) {
                // SAFETY: within the memory; and not in `bytes`, for nobody refers to shared memory.
                unsafe {
                    place
                        .as_ptr()
                        .copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len());
                }
            }
        }
    }
}
#[cfg(not(loom))]
pub use mapped::Shared;
