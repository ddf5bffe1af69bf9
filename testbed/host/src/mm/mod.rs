// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory manager: sections and views of them, memory descriptor lists, and finding routines by
//! name.

pub(crate) mod caller;
pub(crate) mod mdl;
pub(crate) mod routine;
pub(crate) mod section;
pub(crate) mod shared_memory;
pub(crate) mod view;

pub use caller::MapViews;
