// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared memory as loom models it: words that it interleaves, and cells of which it says when two threads
//! use one at the same time.

use core::ptr::NonNull;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use std::collections::BTreeMap;
use std::vec::Vec;

/// As the real one, for a model.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    length: usize,
    half_word: AtomicU32,
    words: BTreeMap<usize, AtomicU64>,
    /// What lies from `cells_at` on, in pieces of eight bytes.
    cells_at: usize,
    cells: Vec<UnsafeCell<[u8; 8]>>,
}

// SAFETY: words are atomics, and loom reports cells that two threads use at the same time.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Shared {
    /// With words at these offsets, and `length` bytes of which those from `cells_at` on can be copied.
    pub(crate) fn modelled(
        length: usize,
        words: impl Iterator<Item = usize>,
        cells_at: usize,
    ) -> Self {
        let cells = (cells_at..length).step_by(8);
        Shared(Arc::new(Memory {
            length,
            half_word: AtomicU32::new(0),
            words: words.map(|at| (at, AtomicU64::new(0))).collect(),
            cells_at,
            cells: cells.map(|_| UnsafeCell::new([0; 8])).collect(),
        }))
    }

    /// Not in a model.
    ///
    /// # Safety
    /// None is needed: it does nothing.
    #[must_use]
    pub unsafe fn new(_base: NonNull<u8>, _length: usize) -> Self {
        Self::modelled(0, core::iter::empty(), 0)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0.words[&offset]
    }

    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert_eq!(offset, 0);
        &self.0.half_word
    }

    fn cells(&self, offset: usize, bytes: usize) -> &[UnsafeCell<[u8; 8]>] {
        assert!(offset.is_multiple_of(8) && bytes.is_multiple_of(8));
        let first = (offset - self.0.cells_at) / 8;
        &self.0.cells[first..first + bytes / 8]
    }

    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let cells = self.cells(offset, bytes.len());
        for (cell, bytes) in cells.iter().zip(bytes.chunks_exact(8)) {
            cell.with_mut(|cell| {
                // SAFETY: nobody else uses it at this moment. (loom says so if it is not true.)
                unsafe { cell.write(bytes.try_into().unwrap()) };
            });
        }
    }

    pub(crate) fn put<const N: usize>(&self, offset: usize, words: [u64; N]) {
        self.copy_in(offset, words.map(u64::to_ne_bytes).as_flattened());
    }

    pub(crate) fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let cells = self.cells(offset, bytes.len());
        for (cell, bytes) in cells.iter().zip(bytes.chunks_exact_mut(8)) {
            // SAFETY: nobody writes it at this moment. (loom says so if it is not true.)
            cell.with(|cell| bytes.copy_from_slice(unsafe { &*cell }));
        }
    }
}
