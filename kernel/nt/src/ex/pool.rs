// SPDX-License-Identifier: MIT OR Apache-2.0
//! Non-paged pool, allocated fallibly and with a tag.

use crate::bindings::{ExAllocatePool2, ExFreePoolWithTag, STATUS_INSUFFICIENT_RESOURCES};
use crate::linked::{POOL_FLAG_NON_PAGED, POOL_FLAG_UNINITIALIZED};
use crate::status::{NtError, Result};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A pool tag: four characters by which `!poolused` and the verifier attribute memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u32);

impl Tag {
    /// A tag of four ASCII characters, as debuggers show it from left to right.
    pub const fn new(characters: &[u8; 4]) -> Self {
        Tag(u32::from_le_bytes(*characters))
    }

    /// NT's representation.
    pub const fn raw(self) -> u32 {
        self.0
    }
}

const NO_MEMORY: NtError = NtError(STATUS_INSUFFICIENT_RESOURCES);

/// Pool memory of this size; alignment is 16, what the pool gives on 64-bit systems.
#[inline(never)]
fn allocate(tag: Tag, size: usize, flags: u64) -> Result<NonNull<u8>> {
    // SAFETY: the size is not zero (callers see to it) and the flags ask for non-paged memory,
    // which any IRQL up to DISPATCH_LEVEL may.
    let memory = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED | flags, size, tag.raw()) };
    NonNull::new(memory.cast()).ok_or(NO_MEMORY)
}

/// A value in non-paged pool. It does not move; dropping it frees it.
pub struct PoolBox<T> {
    memory: NonNull<T>,
    tag: Tag,
}

// SAFETY: it owns its value alone, like `Box`; pool memory belongs to no thread.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PoolBox<T> {}

impl<T> PoolBox<T> {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`; the value is dropped
    /// then.
    pub fn new(tag: Tag, value: T) -> Result<Self> {
        Self::new_with(tag, || value)
    }

    /// As [`PoolBox::new`], with a value that is made when there is a place for it: a large one need
    /// not be on the stack.
    pub fn new_with(tag: Tag, value: impl FnOnce() -> T) -> Result<Self> {
        const { assert!(align_of::<T>() <= 16, "the pool aligns to 16 bytes") };
        let memory = allocate(tag, size_of::<T>().max(1), POOL_FLAG_UNINITIALIZED)?.cast::<T>();
        // SAFETY: fresh memory, large enough and aligned.
        unsafe { memory.write(value()) };
        Ok(PoolBox { memory, tag })
    }

    /// The value; its memory is freed.
    pub fn into_inner(self) -> T {
        let (memory, tag) = (self.memory, self.tag);
        core::mem::forget(self);
        // SAFETY: the box owned a valid value, and gives it up here.
        let value = unsafe { memory.read() };
        // SAFETY: allocated by `new` with this tag, freed once.
        unsafe { ExFreePoolWithTag(memory.as_ptr().cast(), tag.raw()) };
        value
    }

    /// Gives the value up to somebody who holds the pointer; [`PoolBox::from_raw`] takes it back.
    pub fn into_raw(self) -> NonNull<T> {
        core::mem::ManuallyDrop::new(self).memory
    }

    /// Takes back what [`PoolBox::into_raw`] gave up.
    ///
    /// # Safety
    /// `memory` came from `into_raw` of a box with this tag, and is taken back once.
    pub unsafe fn from_raw(memory: NonNull<T>, tag: Tag) -> Self {
        PoolBox { memory, tag }
    }
}

impl<T> Deref for PoolBox<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the box owns a valid value.
        unsafe { self.memory.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns a valid value and is borrowed mutably.
        unsafe { self.memory.as_mut() }
    }
}

impl<T> Drop for PoolBox<T> {
    // A driver has one for each type, and not one wherever a value may have to go.
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: the value is valid and nobody uses it after this.
        unsafe { self.memory.drop_in_place() };
        // SAFETY: allocated by `new` with this tag, freed once.
        unsafe { ExFreePoolWithTag(self.memory.as_ptr().cast(), self.tag.raw()) };
    }
}

/// A slice in non-paged pool.
pub struct PoolSlice<T> {
    memory: NonNull<T>,
    length: usize,
    tag: Tag,
}

/// Bytes in non-paged pool.
pub type PoolBytes = PoolSlice<u8>;

// SAFETY: it owns its values alone, like `Box<[T]>`.
unsafe impl<T: Send> Send for PoolSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PoolSlice<T> {}

impl<T> PoolSlice<T> {
    /// No values, and no memory.
    pub const fn empty(tag: Tag) -> Self {
        PoolSlice {
            memory: NonNull::dangling(),
            length: 0,
            tag,
        }
    }

    /// Memory for so many values; a dangling pointer if they need none.
    fn room(tag: Tag, length: usize) -> Result<NonNull<T>> {
        const { assert!(align_of::<T>() <= 16, "the pool aligns to 16 bytes") };
        let size = length.checked_mul(size_of::<T>()).ok_or(NO_MEMORY)?;
        if size == 0 {
            return Ok(NonNull::dangling());
        }
        Ok(allocate(tag, size, POOL_FLAG_UNINITIALIZED)?.cast())
    }

    /// IRQL: <= DISPATCH_LEVEL. `length` values, each made in its place: a table of any size costs
    /// no more of the stack than one of them. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn filled_with(tag: Tag, length: usize, mut value: impl FnMut() -> T) -> Result<Self> {
        let memory = Self::room(tag, length)?;
        for i in 0..length {
            // SAFETY: within the allocation.
            let place = unsafe { memory.add(i) };
            // SAFETY: fresh, aligned memory for one value.
            unsafe { place.write(value()) };
        }
        Ok(PoolSlice {
            memory,
            length,
            tag,
        })
    }
}

impl<T: Copy> PoolSlice<T> {
    /// IRQL: <= DISPATCH_LEVEL. `length` copies of `value`. Fails with
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn filled(tag: Tag, length: usize, value: T) -> Result<Self> {
        Self::filled_with(tag, length, || value)
    }

    /// IRQL: <= DISPATCH_LEVEL. A copy of `values`.
    pub fn copy_of(tag: Tag, values: &[T]) -> Result<Self> {
        let memory = Self::room(tag, values.len())?;
        // SAFETY: as many values as there is room for, in memory that nobody else has.
        unsafe { memory.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len()) };
        Ok(PoolSlice {
            memory,
            length: values.len(),
            tag,
        })
    }
}

impl PoolBytes {
    /// IRQL: <= DISPATCH_LEVEL. Zeroed bytes. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn zeroed(tag: Tag, length: usize) -> Result<Self> {
        let memory = if length == 0 {
            NonNull::dangling()
        } else {
            allocate(tag, length, 0)?
        };
        Ok(PoolBytes {
            memory,
            length,
            tag,
        })
    }
}

impl<T> Deref for PoolSlice<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `length` initialised values, or a dangling pointer with length 0.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for PoolSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_ptr(), self.length) }
    }
}

impl<T> Drop for PoolSlice<T> {
    #[inline(never)]
    fn drop(&mut self) {
        let values = NonNull::slice_from_raw_parts(self.memory, self.length);
        // SAFETY: the values are valid and nobody uses them after this.
        unsafe { values.drop_in_place() };
        if self.length != 0 && size_of::<T>() != 0 {
            // SAFETY: allocated with this tag, freed once.
            unsafe { ExFreePoolWithTag(self.memory.as_ptr().cast(), self.tag.raw()) };
        }
    }
}
