// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of IRQL, locks and pool, one small driver for each: it breaks the rule, which must be
//! reported, and its good twin does the same thing right, which must stay silent.

#[path = "../support/mod.rs"]
mod support;

mod bad;
mod callbacks;
mod irql;
mod lock_order;
mod locks;
mod locks_left;
mod pool;
mod text;
