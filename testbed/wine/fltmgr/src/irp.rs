// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of user mode, as the I/O manager hands them over.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use fltmgr::{GetOutcome, Status};
use fltport_nt::bindings::{DRIVER_CANCEL, IRP, NTSTATUS};

use crate::nt::{
    IoAcquireCancelSpinLock, IoReleaseCancelSpinLock, IofCompleteRequest, SL_PENDING_RETURNED,
    StackLocation,
};

/// A request that this driver has and has not completed.
#[derive(Clone, Copy)]
pub(crate) struct Irp(*mut IRP);

// SAFETY: a request belongs to the driver that has it, in whatever thread, until it is completed.
unsafe impl Send for Irp {}

/// Where a METHOD_NEITHER request has its data. Under Wine they are copies in this process.
pub(crate) struct UserBuffers {
    pub(crate) input: *const u8,
    pub(crate) input_length: u32,
    pub(crate) output: *mut u8,
    pub(crate) output_length: u32,
}

impl Irp {
    /// # Safety
    /// `irp` is a request that was passed to a dispatch routine of this driver and is not yet
    /// completed.
    pub(crate) unsafe fn new(irp: *mut IRP) -> Irp {
        Irp(irp)
    }

    fn location(self) -> *mut StackLocation {
        // SAFETY: a valid request.
        let tail = unsafe { &(*self.0).Tail };
        // SAFETY: while a driver has a request, this member of the union is in use.
        let overlay = unsafe { &tail.Overlay };
        // SAFETY: likewise; this one is its stack location.
        unsafe { overlay.Anonymous2.Anonymous.CurrentStackLocation }.cast()
    }

    /// The control code, the place of the file object's context, and the buffers' lengths.
    pub(crate) fn code(self) -> u32 {
        // SAFETY: a request has a current stack location.
        unsafe { (*self.location()).code }
    }

    /// The context that this driver keeps with the file.
    pub(crate) fn file_context(self) -> *mut *mut core::ffi::c_void {
        // SAFETY: a request has a current stack location.
        let file = unsafe { (*self.location()).file };
        // SAFETY: every request that this driver gets is for an open file.
        unsafe { &raw mut (*file).FsContext }
    }

    /// The input of a buffered request.
    pub(crate) fn system_buffer<'a>(self) -> &'a [u8] {
        // SAFETY: a valid request.
        let associated = unsafe { &(*self.0).AssociatedIrp };
        // SAFETY: that member of the union is in use in a buffered device control.
        let buffer = unsafe { associated.SystemBuffer };
        // SAFETY: a request has a current stack location.
        let length = unsafe { (*self.location()).input_length } as usize;
        if buffer.is_null() {
            return &[];
        }
        // SAFETY: the I/O manager's copy of the input has that length and lives until completion.
        unsafe { core::slice::from_raw_parts(buffer.cast(), length) }
    }

    /// The buffers of a METHOD_NEITHER request.
    pub(crate) fn user_buffers(self) -> UserBuffers {
        // SAFETY: a request has a current stack location.
        let location = unsafe { &*self.location() };
        // SAFETY: a valid request.
        let output = unsafe { (*self.0).UserBuffer };
        UserBuffers {
            input: location.type3_input,
            input_length: if location.type3_input.is_null() {
                0
            } else {
                location.input_length
            },
            output: output.cast(),
            output_length: if output.is_null() {
                0
            } else {
                location.output_length
            },
        }
    }

    /// The room for a METHOD_NEITHER request's output.
    pub(crate) fn output_length(self) -> usize {
        self.user_buffers().output_length as usize
    }

    /// A METHOD_NEITHER request's input.
    pub(crate) fn input<'a>(self) -> &'a [u8] {
        let buffers = self.user_buffers();
        if buffers.input.is_null() {
            return &[];
        }
        // SAFETY: under Wine a copy in this process, of that length, until completion.
        unsafe { core::slice::from_raw_parts(buffers.input, buffers.input_length as usize) }
    }

    /// Says that the request is completed later. The dispatch routine returns STATUS_PENDING then.
    pub(crate) fn mark_pending(self) {
        // SAFETY: a request has a current stack location.
        unsafe { (*self.location()).control |= SL_PENDING_RETURNED };
    }

    /// Completes the request: it is no longer this driver's.
    pub(crate) fn complete(self, status: Status, information: usize) -> NTSTATUS {
        // SAFETY: a valid request that is ours until the call below.
        let result = unsafe { &mut (*self.0).IoStatus };
        result.Anonymous.Status = status.0;
        result.Information = information;
        // SAFETY: completed once; `self` is not used after it.
        unsafe { IofCompleteRequest(self.0, 0) };
        status.0
    }

    fn cancel_routine(&self) -> &AtomicPtr<()> {
        // SAFETY: a valid request.
        let place = unsafe { &raw mut (*self.0).CancelRoutine };
        // SAFETY: an aligned field, which everybody changes atomically (IoSetCancelRoutine).
        unsafe { AtomicPtr::from_ptr(place.cast()) }
    }

    /// A number that a cancel routine recognises the request by.
    pub(crate) fn address(self) -> usize {
        self.0 as usize
    }
}

/// A FilterGetMessage that waits.
pub(crate) struct PendedIrp(Irp);

impl PendedIrp {
    /// Pends the request with a cancel routine. `None` if it is cancelled already: then it has been
    /// taken back, to be completed as cancelled.
    pub(crate) fn pend(irp: Irp, cancel: DRIVER_CANCEL) -> Option<PendedIrp> {
        irp.mark_pending();
        let routine = cancel.map_or(null_mut(), |cancel| cancel as *mut ());
        irp.cancel_routine().swap(routine, Ordering::AcqRel);
        // SAFETY: a valid request, ours.
        let mark = unsafe { &raw const (*irp.0).Cancel };
        // SAFETY: a field of it, which the I/O manager sets at any moment.
        let cancelled = unsafe { mark.read_volatile() };
        if cancelled
            && !irp
                .cancel_routine()
                .swap(null_mut(), Ordering::AcqRel)
                .is_null()
        {
            return None;
        }
        Some(PendedIrp(irp))
    }

    pub(crate) fn address(&self) -> usize {
        self.0.address()
    }

    /// Completes the get as the machine says. Its cancel routine may be on its way: it finds that
    /// the get is over, and does nothing.
    pub(crate) fn complete_get(self, outcome: &GetOutcome) {
        self.0.cancel_routine().swap(null_mut(), Ordering::AcqRel);
        // A cancel routine that has been taken for the call runs under the cancel lock; once that
        // has been ours, it does not look at the request any more.
        cancel_lock_passed();
        let mut information = outcome.information();
        match outcome {
            GetOutcome::Message(bytes) => {
                let output = self.0.user_buffers();
                information = bytes.len().min(output.output_length as usize);
                // SAFETY: the request's output holds that many bytes.
                unsafe { output.output.copy_from(bytes.as_ptr(), information) };
            }
            // There is nothing to copy back, and Wine copies as many bytes as Information says.
            _ => self.0.forget_output(),
        }
        self.0.complete(outcome.status(), information);
    }
}

impl Irp {
    fn forget_output(self) {
        // SAFETY: a valid request, ours.
        unsafe { (*self.0).UserBuffer = null_mut() };
    }
}

/// Waits until nobody holds the cancel lock, once.
fn cancel_lock_passed() {
    let mut irql = 0;
    // SAFETY: not held by this thread.
    unsafe { IoAcquireCancelSpinLock(&raw mut irql) };
    // SAFETY: acquired above.
    unsafe { IoReleaseCancelSpinLock(irql) };
}
