// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ex: pool, fast mutexes, rundown protection, callback objects, and who has called.

mod cache_aware_rundown;
mod callback;
mod fast_mutex;
mod owners;
mod pool;
mod rundown;
mod shared;

pub use cache_aware_rundown::{CacheAwareRundown, CacheAwareRundownGuard};
pub use callback::{CallbackObject, CallbackRegistration, Listener};
pub use fast_mutex::{FastMutex, FastMutexGuard};
pub use pool::{PoolBox, PoolBytes, PoolSlice, Tag};
pub use rundown::{Rundown, RundownGuard};
pub use shared::{Global, PoolArc};

use crate::bindings::ExGetPreviousMode;

/// IRQL: <= DISPATCH_LEVEL. Whether the thread runs in the kernel on behalf of a program, and not of
/// a driver that has called a system service itself.
pub fn is_called_by_user_mode() -> bool {
    const USER_MODE: i8 = 1;
    // SAFETY: takes nothing, returns a number.
    unsafe { ExGetPreviousMode() == USER_MODE }
}
