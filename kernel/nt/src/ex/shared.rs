// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared ownership in non-paged pool, and the one place where a driver keeps its state between
//! callbacks.

use super::owners::Owners;
use super::pool::{PoolBox, Tag};
use crate::ke::SpinLock;
use crate::status::Result;
use core::ops::Deref;
use core::ptr::NonNull;

struct Counted<T> {
    owners: Owners,
    value: T,
}

/// A counted reference to a value in non-paged pool. The last owner drops the value, at its own
/// IRQL: see to it that this is low enough for what the value holds.
pub struct PoolArc<T> {
    memory: NonNull<Counted<T>>,
    tag: Tag,
}

// SAFETY: like `Arc`: owners in several threads share `&T`, and the last one drops `T`.
unsafe impl<T: Send + Sync> Send for PoolArc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PoolArc<T> {}

impl<T> PoolArc<T> {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`; the value is dropped
    /// then.
    pub fn new(tag: Tag, value: T) -> Result<Self> {
        Self::new_with(tag, || value)
    }

    /// As [`PoolArc::new`], with a value that is made when there is a place for it: a large one need
    /// not be on the stack.
    pub fn new_with(tag: Tag, value: impl FnOnce() -> T) -> Result<Self> {
        let counted = PoolBox::new_with(tag, || Counted {
            owners: Owners::one(),
            value: value(),
        })?;
        Ok(PoolArc {
            memory: counted.into_raw(),
            tag,
        })
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: this owner keeps the value alive.
        unsafe { self.memory.as_ref() }
    }

    /// Whether both are the same value.
    pub fn is(&self, other: &Self) -> bool {
        self.memory == other.memory
    }
}

impl<T> Clone for PoolArc<T> {
    fn clone(&self) -> Self {
        self.counted().owners.add();
        PoolArc {
            memory: self.memory,
            tag: self.tag,
        }
    }
}

impl<T> Deref for PoolArc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for PoolArc<T> {
    #[inline(never)]
    fn drop(&mut self) {
        if self.counted().owners.remove() {
            // SAFETY: this was the last owner; the memory came from `into_raw` of a box with this
            // tag.
            drop(unsafe { PoolBox::from_raw(self.memory, self.tag) });
        }
    }
}

/// A driver's state, for callbacks to which NT passes no context. Empty before the driver has set
/// it and after it has taken it out. Or a part of it that is replaced as a whole: who reads it has
/// what was there when he asked, and holds no lock meanwhile.
pub struct Global<T>(SpinLock<Option<PoolArc<T>>>);

impl<T: Send + Sync> Global<T> {
    /// An empty place.
    pub const fn empty() -> Self {
        Global(SpinLock::new(None))
    }

    /// IRQL: <= DISPATCH_LEVEL. The state, kept alive by what is returned.
    pub fn get(&self) -> Option<PoolArc<T>> {
        self.0.lock().clone()
    }

    /// IRQL: <= DISPATCH_LEVEL. Puts the state there; returns what was there.
    pub fn replace(&self, state: Option<PoolArc<T>>) -> Option<PoolArc<T>> {
        core::mem::replace(&mut *self.0.lock(), state)
    }
}
