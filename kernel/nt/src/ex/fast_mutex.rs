// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fast mutexes that own their data.

use super::pool::{PoolBox, Tag};
use crate::bindings::{
    ExAcquireFastMutex, ExReleaseFastMutex, FAST_MUTEX, KeInitializeEvent, SynchronizationEvent,
};
use crate::status::Result;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// A fast mutex and what it protects. Holding it means APC_LEVEL; it must not be acquired twice by
/// one thread.
pub struct FastMutex<T> {
    // In pool of its own, because NT links waiters into it.
    mutex: PoolBox<UnsafeCell<FAST_MUTEX>>,
    data: UnsafeCell<T>,
}

/// NT's part of a mutex, initialised.
#[inline(never)]
fn free_mutex(tag: Tag) -> Result<PoolBox<UnsafeCell<FAST_MUTEX>>> {
    // What ExInitializeFastMutex, an inline function of the header, sets: a count of 1 is free.
    let mutex = PoolBox::new(
        tag,
        UnsafeCell::new(FAST_MUTEX {
            Count: 1,
            ..FAST_MUTEX::default()
        }),
    )?;
    // SAFETY: projects to a field of memory that is valid and not yet shared.
    let event = unsafe { &raw mut (*mutex.get()).Event };
    // SAFETY: non-paged, not yet shared, and it will not move.
    unsafe { KeInitializeEvent(event, SynchronizationEvent, false) };
    Ok(mutex)
}

// SAFETY: the mutex gives one thread at a time access to the data.
unsafe impl<T: Send> Send for FastMutex<T> {}
// SAFETY: as above; `&FastMutex` gives access to the data only through the mutex.
unsafe impl<T: Send> Sync for FastMutex<T> {}

impl<T> FastMutex<T> {
    /// IRQL: <= DISPATCH_LEVEL. A free mutex. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn new(tag: Tag, data: T) -> Result<Self> {
        Ok(FastMutex {
            mutex: free_mutex(tag)?,
            data: UnsafeCell::new(data),
        })
    }

    /// IRQL: <= APC_LEVEL. Waits until it is free: as long as its holders take, so they must not
    /// wait for anything slow.
    pub fn lock(&self) -> FastMutexGuard<'_, T> {
        // SAFETY: initialised by `new`.
        unsafe { ExAcquireFastMutex(self.mutex.get()) };
        FastMutexGuard {
            owner: self,
            not_send: PhantomData,
        }
    }
}

/// Access to the data of a locked [`FastMutex`].
#[must_use = "the mutex is released at once if the guard is not kept"]
pub struct FastMutexGuard<'a, T> {
    owner: &'a FastMutex<T>,
    not_send: PhantomData<*const ()>,
}

impl<T> Deref for FastMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard exists, so the mutex is held and nobody else has access.
        unsafe { &*self.owner.data.get() }
    }
}

impl<T> DerefMut for FastMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard exists, so the mutex is held and nobody else has access.
        unsafe { &mut *self.owner.data.get() }
    }
}

impl<T> Drop for FastMutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: acquired by this thread, which the guard cannot leave.
        unsafe { ExReleaseFastMutex(self.owner.mutex.get()) };
    }
}
