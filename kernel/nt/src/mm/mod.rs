// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that a driver shares with a service.
//!
//! The parts are documented functions, put together so that nothing a service does or omits
//! reaches the driver: a section backed by the paging file, which is nobody's; a view of it in the
//! system's address space, whose pages are locked by a memory descriptor list and mapped once more
//! by that, because a view as such is pageable; and a view in the service's address space, which
//! goes with its process. What this rests on, and what is unsure, is in ARCHITECTURE.md, "Shared
//! memory".

mod locked_pages;
mod section;
mod shared_memory;
mod user_view;

pub use shared_memory::SharedMemory;
pub use user_view::UserView;
