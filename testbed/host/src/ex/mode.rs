// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mode in which the caller of a system service ran.

use crate::entry::nt;
use crate::irql::DISPATCH_LEVEL;
use crate::process::SYSTEM_PROCESS_ID;
use crate::thread;

/// The value of KernelMode.
pub(crate) const KERNEL_MODE: i8 = 0;
/// The value of UserMode.
pub(crate) const USER_MODE: i8 = 1;

/// UserMode while the thread is attached to a process other than System.
pub(crate) fn previous() -> i8 {
    if thread::current_process().pid() == SYSTEM_PROCESS_ID {
        KERNEL_MODE
    } else {
        USER_MODE
    }
}

nt! {
    /// KernelMode in a thread of System, UserMode in a callback that runs in another process.
    simplified = "told by the process: KernelMode in System, UserMode in every other";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExGetPreviousMode() -> i8 {
        previous()
    }
}
