// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zw: registry keys, and the processes that run.

mod entries;
mod key;
mod processes;

pub use entries::{Entries, Entry};
pub use key::{Key, ShortText};
pub use processes::{ProcessList, Running};
