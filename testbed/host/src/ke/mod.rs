// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own layer: dispatcher objects and waits, spin locks, the IRQL, time.

pub(crate) mod bug_check;
pub(crate) mod critical_region;
pub(crate) mod dispatcher;
pub(crate) mod dpc;
pub(crate) mod event;
pub(crate) mod header;
pub(crate) mod level;
pub(crate) mod mutant;
pub(crate) mod processor;
pub(crate) mod spin_lock;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod user_event;
pub(crate) mod wait;
