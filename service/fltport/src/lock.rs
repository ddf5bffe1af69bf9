// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mutex whose holder panicked is still a mutex: what it guards here is valid after every
//! statement.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whether or not an earlier holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
