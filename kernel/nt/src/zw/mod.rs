// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zw: registry keys.

mod entries;
mod key;

pub use entries::{Entries, Entry};
pub use key::{Key, ShortText};
