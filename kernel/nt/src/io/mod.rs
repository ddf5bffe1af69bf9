// SPDX-License-Identifier: MIT OR Apache-2.0
//! Io: the driver object, work items, reinitialisation.

mod driver;
mod work_item;

pub use driver::{DriverObject, Reinitialize};
pub use work_item::WorkItem;
