// SPDX-License-Identifier: MIT OR Apache-2.0
//! The executive's support routines: pool, fast mutexes, rundown protection, callback objects.

pub(crate) mod callback;
pub(crate) mod fast_mutex;
pub(crate) mod mode;
pub(crate) mod pool;
pub(crate) mod rundown;
pub(crate) mod special_pool;
