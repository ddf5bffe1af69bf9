// SPDX-License-Identifier: MIT OR Apache-2.0
//! The security context of the calling thread, and its privileges.

use std::ffi::c_void;
use std::sync::Arc;

use super::token::Token;
use crate::abi::{LUID, PEPROCESS, PETHREAD, SECURITY_SUBJECT_CONTEXT};
use crate::entry::nt;
use crate::ex::mode::KERNEL_MODE;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel;
use crate::object::Object;
use crate::process::Process;
use crate::ps;
use crate::thread;
use crate::verifier::attribution;

/// SecurityImpersonation.
const IMPERSONATION: i32 = 2;

/// References a token for the driver that asks.
fn reference(token: &Arc<Token>) -> *mut c_void {
    let state = kernel::state();
    state.objects.ensure(Object::Token(token.clone()));
    state
        .objects
        .reference(token.address(), attribution::responsible().as_ref());
    token.address() as *mut c_void
}

fn capture(process: &Process, client: Option<Arc<Token>>) -> SECURITY_SUBJECT_CONTEXT {
    SECURITY_SUBJECT_CONTEXT {
        ClientToken: client.as_ref().map_or(std::ptr::null_mut(), reference),
        ImpersonationLevel: if client.is_some() { IMPERSONATION } else { 0 },
        PrimaryToken: reference(process.token()),
        ..Default::default()
    }
}

nt! {
    /// Takes the tokens of the calling thread, that of whom it impersonates and that of its process;
    /// SeReleaseSubjectContext gives them back.
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeCaptureSubjectContext(context: *mut SECURITY_SUBJECT_CONTEXT) {
        let captured = capture(&thread::current_process(), thread::client_token());
        // SAFETY: the caller passes memory for a context.
        unsafe { context.write(captured) };
    }

    /// Takes the tokens of a thread and of a process; without a thread that of the process alone.
    simplified = "of threads the calling one is known to impersonate, and no other";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeCaptureSubjectContextEx(
        of_thread: PETHREAD,
        process: PEPROCESS,
        context: *mut SECURITY_SUBJECT_CONTEXT,
    ) {
        let calls = of_thread != 0 && thread::current_thread().address() == of_thread as usize;
        let client = thread::client_token().filter(|_| calls);
        let captured = match ps::process::at(process) {
            Some(process) => capture(&process, client),
            None => SECURITY_SUBJECT_CONTEXT::default(),
        };
        // SAFETY: the caller passes memory for a context.
        unsafe { context.write(captured) };
    }

    /// Gives the tokens back.
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeReleaseSubjectContext(context: *mut SECURITY_SUBJECT_CONTEXT) {
        // SAFETY: the caller passes a captured context.
        let captured = unsafe { context.read() };
        if !captured.ClientToken.is_null() {
            crate::ob::dereference(captured.ClientToken as usize);
        }
        crate::ob::dereference(captured.PrimaryToken as usize);
        // SAFETY: as above.
        unsafe { context.write(SECURITY_SUBJECT_CONTEXT::default()) };
    }

    /// Whether the calling thread has a privilege: always in kernel mode, otherwise where its
    /// process has the administrators' rights.
    simplified = "privileges are not told apart: an elevated process has them all";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeSinglePrivilegeCheck(_privilege: LUID, mode: i8) -> bool {
        mode == KERNEL_MODE || thread::current_process().token().is_elevated()
    }
}
