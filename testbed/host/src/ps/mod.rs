// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process manager: processes and threads as drivers see them, and the notify routines.

pub(crate) mod events;
mod linux;
pub(crate) mod notify;
pub(crate) mod process;
pub(crate) mod thread;
