// SPDX-License-Identifier: MIT OR Apache-2.0
//! On whose behalf a thread runs. The thread in which a request arrives is, for the driver, one of
//! the process that made it; Wine sees to that. When the work is done in another thread, this does.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicUsize, Ordering};

use fltport_nt::bindings::{
    IoGetCurrentProcess, ObfDereferenceObject, ObfReferenceObject, PEPROCESS, PsGetProcessId,
};
use fltport_nt::ke::SpinLock;

use crate::ntoskrnl::teb;

/// A process, referenced.
pub(crate) struct Identity {
    process: PEPROCESS,
}

// SAFETY: a referenced object, valid in every thread.
unsafe impl Send for Identity {}

/// Threads that run on behalf of another process, by their environment block.
static ATTACHED: SpinLock<BTreeMap<usize, PEPROCESS>> = SpinLock::new(BTreeMap::new());
/// How many there are, so that all others need not look.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Identity {
    /// That of the calling thread.
    pub(crate) fn current() -> Identity {
        // SAFETY: takes nothing; the process lives at least as long as the request that is being
        // dispatched.
        let process = unsafe { IoGetCurrentProcess() };
        // SAFETY: a valid object.
        unsafe { ObfReferenceObject(process as *const _) };
        Identity { process }
    }

    /// Runs `call` as a thread of that process.
    pub(crate) fn run<R>(&self, call: impl FnOnce() -> R) -> R {
        let thread = teb::address();
        COUNT.fetch_add(1, Ordering::AcqRel);
        let former = ATTACHED.lock().insert(thread, self.process);
        let result = call();
        match former {
            Some(former) => ATTACHED.lock().insert(thread, former),
            None => ATTACHED.lock().remove(&thread),
        };
        COUNT.fetch_sub(1, Ordering::AcqRel);
        result
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // SAFETY: referenced by `current`.
        unsafe { ObfDereferenceObject(self.process as *const _) };
    }
}

/// The process on whose behalf the calling thread runs, if it is not its own.
pub(crate) fn attached() -> Option<PEPROCESS> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    ATTACHED.lock().get(&teb::address()).copied()
}

/// Its number.
pub(crate) fn attached_id() -> Option<usize> {
    // SAFETY: referenced as long as a thread is attached to it, which the calling one is.
    attached().map(|process| unsafe { PsGetProcessId(process) } as usize)
}
