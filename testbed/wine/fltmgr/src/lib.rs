// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Filter Manager for Wine: `fltmgr.sys`, a real driver that Wine's loader loads, with
//! communication ports and nothing else of the Filter Manager.
//!
//! The behaviour is that of the state machine in `testbed/fltmgr`, the same that the hosted kernel
//! has; here it stands behind real IRPs of a message device. A program reaches it through the
//! stand-in `fltlib.dll` with Windows' own control codes; only the connect differs, because an open
//! under Wine carries no extended attributes (`fltmgr::device`).
//!
//! What drivers import from ntoskrnl.exe and Wine does not have is grafted onto Wine's
//! ntoskrnl.exe when this driver starts ([`ntoskrnl`]). So it must be started before the drivers
//! that need it, which is the order of Windows as well: there the Filter Manager is always first.
//!
//! What it does not have: volumes and instances (no instance-setup callback is ever called), access
//! checks (everybody may connect), and an unload of its own.
//!
//! For Wine only, and for tests: it may panic, and it allocates infallibly.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(windows)]
mod callback;
#[cfg(windows)]
mod device;
#[cfg(windows)]
mod effects;
#[cfg(windows)]
mod entry;
#[cfg(windows)]
mod event;
#[cfg(windows)]
mod exports;
#[cfg(windows)]
mod handle;
#[cfg(windows)]
mod identity;
#[cfg(windows)]
mod irp;
#[cfg(windows)]
mod memory;
#[cfg(windows)]
mod nt;
pub mod ntoskrnl;
#[cfg(windows)]
mod port;
#[cfg(windows)]
mod registration;
#[cfg(windows)]
mod registry;
#[cfg(windows)]
mod request;
#[cfg(windows)]
mod send;
#[cfg(windows)]
mod table;
#[cfg(windows)]
mod unload;
#[cfg(windows)]
mod work;
