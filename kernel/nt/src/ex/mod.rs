// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ex: pool, fast mutexes, rundown protection, callback objects.

mod callback;
mod fast_mutex;
mod owners;
mod pool;
mod rundown;
mod shared;

pub use callback::{CallbackObject, CallbackRegistration, Listener};
pub use fast_mutex::{FastMutex, FastMutexGuard};
pub use pool::{PoolBox, PoolBytes, PoolSlice, Tag};
pub use rundown::{Rundown, RundownGuard};
pub use shared::{Global, PoolArc};
