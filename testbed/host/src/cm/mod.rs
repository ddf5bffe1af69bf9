// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cm: the configuration manager's callbacks, which are told of every operation on the registry.
//!
//! Of Microsoft's documentation the pages on "Filtering Registry Calls" and those of the functions.
//! What they leave open is decided so:
//! * After an operation callbacks are called in the opposite order, the lowest altitude first.
//! * If a callback refuses, nobody is told of the operation's end: neither it, which is documented,
//!   nor those that were called before it.
//! * The path of a key that is deleted by now cannot be had: STATUS_KEY_DELETED.
//!
//! Told of are: to create and to open a key, to delete and to rename one, to set and to delete a
//! value. NT tells of reading, of handles and of hives, too.

pub(crate) mod altitude;
pub(crate) mod callbacks;
pub(crate) mod exports;
mod information;
pub(crate) mod names;
pub(crate) mod operation;
mod user;

pub use user::UserRegistry;
