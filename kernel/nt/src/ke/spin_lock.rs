// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spin locks that own their data.

use crate::linked::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// A spin lock and what it protects. Holding it means DISPATCH_LEVEL: no waiting, no paged memory,
/// and briefly.
///
/// Its memory must be non-paged: a static or a [`PoolBox`](crate::ex::PoolBox).
pub struct SpinLock<T: ?Sized> {
    lock: UnsafeCell<usize>,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives one thread at a time access to the data, wherever it was made.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}
// SAFETY: as above; `&SpinLock` gives access to the data only through the lock.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// IRQL: any. A free lock. (A KSPIN_LOCK is free when it is zero, which is all that
    /// KeInitializeSpinLock sets.)
    pub const fn new(data: T) -> Self {
        SpinLock {
            lock: UnsafeCell::new(0),
            data: UnsafeCell::new(data),
        }
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// IRQL: <= DISPATCH_LEVEL. Spins until the lock is free; the guard's drop goes back to the
    /// present IRQL.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        // SAFETY: the lock word is initialised, non-paged, and used by these functions only.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        SpinLockGuard {
            owner: self,
            irql,
            not_send: PhantomData,
        }
    }
}

/// Access to the data of a locked [`SpinLock`]. Guards must be dropped in the reverse order of
/// locking, as scopes do.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinLockGuard<'a, T: ?Sized> {
    owner: &'a SpinLock<T>,
    irql: u8,
    not_send: PhantomData<*const ()>,
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard exists, so the lock is held and nobody else has access.
        unsafe { &*self.owner.data.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard exists, so the lock is held and nobody else has access.
        unsafe { &mut *self.owner.data.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread acquired the lock and got this IRQL for it; the guard cannot leave
        // the thread.
        unsafe { KeReleaseSpinLock(self.owner.lock.get(), self.irql) };
    }
}
