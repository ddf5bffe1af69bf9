// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory of two processes, and what shared-memory rings are made of.

pub(crate) mod bell;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod rings;

use memory::Shareable;
use std::sync::atomic::AtomicU64;

/// Its value has cache lines of its own: two, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> std::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// How much was ever written to a ring of one producer, and how much was ever read.
#[repr(C)]
pub(crate) struct Indices {
    pub(crate) tail: Line<AtomicU64>,
    pub(crate) head: Line<AtomicU64>,
}

// SAFETY: atomics and padding.
unsafe impl Shareable for Indices {}
