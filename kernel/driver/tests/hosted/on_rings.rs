// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same tests as in `main.rs`, with services that have rings.

/// Whether services ask for rings.
pub(crate) const RINGS: bool = true;

include!("modules.rs");
