// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes, as drivers ask about them.

use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{HANDLE, NTSTATUS, PEPROCESS};
use crate::entry::nt;
use crate::irql::{APC_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL};
use crate::kernel;
use crate::object::Object;
use crate::process::Process;
use crate::status::{STATUS_INVALID_CID, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use crate::thread;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// The process behind a pointer that a driver passed; a report if there is none.
pub(crate) fn at(address: PEPROCESS) -> Option<Arc<Process>> {
    match kernel::state().objects.find(address as usize) {
        Some(Object::Process(process)) => Some(process),
        _ => {
            Report::new(Rule::ObjectUnknown)
                .expected("a process object that is referenced or whose process runs")
                .found(format!("{address:#x}"))
                .detail("keep a reference (PsLookupProcessByProcessId, ObfReferenceObject)")
                .file();
            None
        }
    }
}

nt! {
    /// The process that the calling thread is attached to. No reference is added.
    max_irql = HIGH_LEVEL;
    pub unsafe fn IoGetCurrentProcess() -> PEPROCESS {
        thread::current_process().address() as PEPROCESS
    }

    /// The id of the process that the calling thread is attached to.
    max_irql = HIGH_LEVEL;
    pub unsafe fn PsGetCurrentProcessId() -> HANDLE {
        thread::current_process().pid() as HANDLE
    }

    /// The id of a process.
    max_irql = HIGH_LEVEL;
    pub unsafe fn PsGetProcessId(process: PEPROCESS) -> HANDLE {
        at(process).map_or(std::ptr::null_mut(), |process| process.pid() as HANDLE)
    }

    /// The exit status of a process, STATUS_PENDING while it runs.
    max_irql = APC_LEVEL;
    pub unsafe fn PsGetProcessExitStatus(process: PEPROCESS) -> NTSTATUS {
        at(process).map_or(STATUS_UNSUCCESSFUL, |process| process.exit_status())
    }

    /// When a process was made, as a FILETIME.
    max_irql = HIGH_LEVEL;
    pub unsafe fn PsGetProcessCreateTimeQuadPart(process: PEPROCESS) -> i64 {
        at(process).map_or(0, |process| process.create_time())
    }

    /// Finds a process and references it.
    fails = STATUS_INVALID_CID;
    simplified = "knows the processes that it was told of or that have connected, not all of the \
        host's";
    max_irql = APC_LEVEL;
    pub unsafe fn PsLookupProcessByProcessId(id: HANDLE, process: *mut PEPROCESS) -> NTSTATUS {
        let state = kernel::state();
        let Some(found) = state.processes.find(id as u64) else {
            return STATUS_INVALID_CID;
        };
        let driver = attribution::responsible();
        if state.objects.reference(found.address(), driver.as_ref()).is_none() {
            return STATUS_INVALID_CID;
        }
        // SAFETY: the caller passes memory for the pointer.
        unsafe { process.write(found.address() as PEPROCESS) };
        STATUS_SUCCESS
    }

    /// The primary token of a process, referenced; PsDereferencePrimaryToken gives it back.
    simplified = "a token has a user, groups and elevation, and nothing else";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsReferencePrimaryToken(process: PEPROCESS) -> *mut c_void {
        let Some(process) = at(process) else {
            return std::ptr::null_mut();
        };
        let token = process.token();
        let state = kernel::state();
        state.objects.ensure(Object::Token(token.clone()));
        state.objects.reference(token.address(), attribution::responsible().as_ref());
        token.address() as *mut c_void
    }

    /// Gives a token back.
    max_irql = APC_LEVEL;
    pub unsafe fn PsDereferencePrimaryToken(token: *const c_void) {
        crate::ob::dereference(token as usize);
    }
}
