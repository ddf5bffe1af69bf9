// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zw: registry keys.

mod key;

pub use key::{Key, ShortText};
