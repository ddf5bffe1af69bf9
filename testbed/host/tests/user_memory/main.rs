// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a driver that treats user memory as its own, and of one that does not.

mod crashes;
mod driver;
mod fetches;
mod lifetime;
mod processes;
#[path = "../support/mod.rs"]
mod support;
mod touches;
