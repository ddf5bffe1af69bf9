// SPDX-License-Identifier: MIT OR Apache-2.0
//! The security context of the calling thread, and its privileges.

use crate::abi::{LUID, SECURITY_SUBJECT_CONTEXT};
use crate::entry::nt;
use crate::ex::mode::KERNEL_MODE;
use crate::irql::PASSIVE_LEVEL;
use crate::kernel;
use crate::object::Object;
use crate::thread;
use crate::verifier::attribution;

nt! {
    /// Takes the tokens of the calling thread's process; SeReleaseSubjectContext gives them back.
    simplified = "the token of the process; there is no impersonation";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeCaptureSubjectContext(context: *mut SECURITY_SUBJECT_CONTEXT) {
        let process = thread::current_process();
        let token = process.token().clone();
        let state = kernel::state();
        let address = token.address();
        state.objects.ensure(Object::Token(token));
        state.objects.reference(address, attribution::responsible().as_ref());
        let captured = SECURITY_SUBJECT_CONTEXT {
            PrimaryToken: address as *mut _,
            ..Default::default()
        };
        // SAFETY: the caller passes memory for a context.
        unsafe { context.write(captured) };
    }

    /// Gives the tokens back.
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeReleaseSubjectContext(context: *mut SECURITY_SUBJECT_CONTEXT) {
        // SAFETY: the caller passes a captured context.
        let token = unsafe { (*context).PrimaryToken };
        crate::ob::dereference(token as usize);
        // SAFETY: as above.
        unsafe { (*context).PrimaryToken = std::ptr::null_mut() };
    }

    /// Whether the calling thread has a privilege: always in kernel mode, otherwise where its
    /// process has the administrators' rights.
    simplified = "privileges are not told apart: an elevated process has them all";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn SeSinglePrivilegeCheck(_privilege: LUID, mode: i8) -> bool {
        mode == KERNEL_MODE || thread::current_process().token().is_elevated()
    }
}
