// SPDX-License-Identifier: MIT OR Apache-2.0
//! The I/O manager: work items and reinitialisation. Driver objects are in [`crate::driver`].

pub(crate) mod irp;
pub(crate) mod reinitialize;
pub(crate) mod work_item;
pub(crate) mod work_queue;
