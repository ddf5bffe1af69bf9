// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Windows' ntoskrnl.exe has and Wine's has not, or only as a stub that stops the process.
//!
//! The functions are written here and grafted onto Wine's ntoskrnl.exe in memory: its export
//! directory is replaced by a larger one. Images that are loaded later find them where Windows has
//! them, so the drivers under test are the very files that Windows gets.

#[cfg(windows)]
mod callback_object;
#[cfg(windows)]
mod dpc;
pub mod export_directory;
#[cfg(windows)]
mod free_irp;
#[cfg(windows)]
mod graft;
#[cfg(windows)]
mod irql;
#[cfg(windows)]
mod pool;
#[cfg(windows)]
mod process;
#[cfg(windows)]
mod registry_callback;
#[cfg(windows)]
mod rundown;
#[cfg(windows)]
mod section;
#[cfg(windows)]
mod security;
#[cfg(windows)]
pub(crate) mod teb;
#[cfg(windows)]
pub(crate) mod time;
#[cfg(windows)]
mod timer;
#[cfg(windows)]
mod work_item;

#[cfg(windows)]
pub(crate) use graft::graft;
