// SPDX-License-Identifier: MIT OR Apache-2.0
//! A closure as the completion routine of an asynchronous request.

use super::{bytes, outcome};
use core::ffi::c_void;
use core::ptr::NonNull;
use fltport_abi::account::Outcome;
use fltport_abi::interface::{Completion, CompletionRoutine};
use fltport_nt::Result;
use fltport_nt::ex::{PoolBox, Tag};

/// A closure that is called once with the bytes of a reply, or dropped.
pub(crate) struct Completer {
    pub(super) routine: CompletionRoutine,
    /// The closure, in pool memory.
    pub(super) context: *mut c_void,
    discard: unsafe fn(*mut c_void),
}

// SAFETY: the closure may be sent, which `new` demands, and this owns it.
unsafe impl Send for Completer {}

/// A closure and what it takes to free it.
struct Boxed<F> {
    tag: Tag,
    then: F,
}

impl Completer {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn new<F: FnOnce(&[u8], Outcome) + Send + 'static>(
        tag: Tag,
        then: F,
    ) -> Result<Self> {
        let boxed = PoolBox::new(tag, Boxed { tag, then })?;
        Ok(Completer {
            routine: on_completion::<F>,
            context: boxed.into_raw().as_ptr().cast(),
            discard: discard::<F>,
        })
    }

    /// IRQL: PASSIVE_LEVEL. Calls it, as the common driver would.
    pub(crate) fn call(self, reply: &[u8], outcome: Outcome) {
        let (routine, context) = (self.routine, self.context);
        core::mem::forget(self);
        let completion = Completion {
            size: size_of::<Completion>() as u32,
            message: 0,
            reserved: 0,
            outcome: outcome as u32,
            waited_us: 0,
            reply: reply.as_ptr(),
            reply_length: reply.len() as u32,
            reserved2: 0,
        };
        // SAFETY: this owned the context, and gives it up to the one call.
        unsafe { routine(context, &raw const completion) };
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        // SAFETY: this owns the context, which nobody was given.
        unsafe { (self.discard)(self.context) };
    }
}

/// Takes the closure back.
///
/// # Safety
/// `context` is that of a [`Completer`] of an `F`, whose owner gives it up.
unsafe fn unbox<F>(context: *mut c_void) -> Option<PoolBox<Boxed<F>>> {
    let memory = NonNull::new(context.cast::<Boxed<F>>())?;
    // SAFETY: a valid closure, as the caller vouches.
    let tag = unsafe { memory.as_ref() }.tag;
    // SAFETY: made with this tag, and taken back once, as the caller vouches.
    Some(unsafe { PoolBox::from_raw(memory, tag) })
}

/// # Safety
/// As [`unbox`].
unsafe fn discard<F>(context: *mut c_void) {
    // SAFETY: as the caller vouches.
    drop(unsafe { unbox::<F>(context) });
}

unsafe extern "system" fn on_completion<F: FnOnce(&[u8], Outcome) + Send + 'static>(
    context: *mut c_void,
    completion: *const Completion,
) {
    // SAFETY: `request_async` or `call` gave the context up to this one call.
    let boxed = unsafe { unbox::<F>(context) };
    // SAFETY: whoever calls passes a valid completion.
    let completion = unsafe { completion.as_ref() };
    let (Some(boxed), Some(completion)) = (boxed, completion) else {
        return;
    };
    // SAFETY: the reply is valid for its length during the call.
    let reply = unsafe { bytes(completion.reply, completion.reply_length) };
    let outcome = outcome(completion.outcome);
    (boxed.into_inner().then)(reply, outcome.unwrap_or(Outcome::Failed));
}
