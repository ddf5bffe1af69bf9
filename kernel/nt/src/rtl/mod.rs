// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rtl: counted strings.

mod unicode;

pub use unicode::{UnicodeString, units_of, upcase};
