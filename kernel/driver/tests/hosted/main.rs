// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drivers on the hosted kernel, against services of every kind.
//!
//! Each test boots a kernel of its own; a broken rule of NT's is a panic at its end, and every
//! ledger that is read must balance.

/// Whether services ask for rings.
pub(crate) const RINGS: bool = false;

include!("modules.rs");
