// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ps: who runs, system threads, and the notify routines for processes, threads and images.

mod notify;
mod process;
mod thread;

pub use notify::{
    CreateInfo, ImageInfo, ImageNotify, ImageObserver, LifetimeNotify, LifetimeObserver,
    ProcessNotify, ProcessObserver, ThreadNotify, ThreadObserver,
};
pub use process::{ImagePath, Process};
pub use thread::SystemThread;

use crate::bindings::{HANDLE, PsGetCurrentProcessId, PsGetCurrentThreadId};

/// A process or thread id as NT passes it: a handle-sized number, of which 32 bits are in use.
fn id(handle: HANDLE) -> u32 {
    handle as usize as u32
}

/// IRQL: <= DISPATCH_LEVEL. The process whose thread runs.
pub fn current_process_id() -> u32 {
    // SAFETY: takes nothing, returns a number.
    id(unsafe { PsGetCurrentProcessId() })
}

/// IRQL: <= DISPATCH_LEVEL. The thread that runs.
pub fn current_thread_id() -> u32 {
    // SAFETY: takes nothing, returns a number.
    id(unsafe { PsGetCurrentThreadId() })
}
