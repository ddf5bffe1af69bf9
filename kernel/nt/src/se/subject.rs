// SPDX-License-Identifier: MIT OR Apache-2.0
//! On whose behalf a thread acts, and what a security descriptor grants him.

use super::descriptor::SecurityDescriptor;
use crate::bindings::{
    GENERIC_MAPPING, IoGetCurrentProcess, MAXIMUM_ALLOWED, SECURITY_SUBJECT_CONTEXT, SeAccessCheck,
    SeCaptureSubjectContext, SeCaptureSubjectContextEx, SeReleaseSubjectContext, UserMode,
};
use core::ptr::null_mut;

/// Which of an object's rights are for looking at it, and which for changing it. NT lets processes
/// of low integrity only look.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Rights to look.
    pub read: u32,
    /// Rights to change.
    pub write: u32,
}

/// A captured security context.
pub struct Subject(SECURITY_SUBJECT_CONTEXT);

impl Subject {
    /// IRQL: PASSIVE_LEVEL. The process of the calling thread, whoever that impersonates.
    pub fn of_process() -> Self {
        let mut context = SECURITY_SUBJECT_CONTEXT::default();
        // SAFETY: takes nothing; the process lives at least as long as this thread of it runs.
        let process = unsafe { IoGetCurrentProcess() };
        // SAFETY: no thread, the current process, and memory for the context.
        unsafe { SeCaptureSubjectContextEx(0, process, &raw mut context) };
        Subject(context)
    }

    /// IRQL: PASSIVE_LEVEL. The calling thread: whom it impersonates, or else its process.
    pub fn of_thread() -> Self {
        let mut context = SECURITY_SUBJECT_CONTEXT::default();
        // SAFETY: memory for the context.
        unsafe { SeCaptureSubjectContext(&raw mut context) };
        Subject(context)
    }

    /// IRQL: PASSIVE_LEVEL. All access that the descriptor grants this subject, as to a caller from
    /// user mode; 0 for none.
    pub fn granted(&self, descriptor: &SecurityDescriptor, mapping: Mapping) -> u32 {
        let mapping = GENERIC_MAPPING {
            GenericRead: mapping.read,
            GenericWrite: mapping.write,
            GenericExecute: 0,
            GenericAll: mapping.read | mapping.write,
        };
        let (mut granted, mut status) = (0, 0);
        // SAFETY: a valid descriptor, a captured context that is not locked, no interest in
        // privileges, and memory for both results.
        let may = unsafe {
            SeAccessCheck(
                descriptor.raw(),
                &raw const self.0,
                false,
                MAXIMUM_ALLOWED,
                0,
                null_mut(),
                &raw const mapping,
                UserMode as i8,
                &raw mut granted,
                &raw mut status,
            )
        };
        if may { granted } else { 0 }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // SAFETY: captured by this owner, released once.
        unsafe { SeReleaseSubjectContext(&raw mut self.0) };
    }
}
