// SPDX-License-Identifier: MIT OR Apache-2.0
//! IoFreeIrp, which keeps the memory of requests for a while.
//!
//! When a process dies, Wine has its pending requests cancelled one after the other. A driver that
//! completes one of them meanwhile, in another thread, has done nothing wrong; but Wine 8 still calls
//! IoCancelIrp for it, with memory that it has freed. In what is kept here IoCancelIrp finds no cancel
//! routine, because whoever completes a request has taken that away, and does nothing.

use core::ffi::c_void;
use core::ptr::null_mut;

use fltport_nt::bindings::{ExFreePoolWithTag, IRP, MDL};
use fltport_nt::ke::SpinLock;

use crate::nt::IoFreeMdl;

/// Many more than can complete while the cancellations of one process are on their way.
const KEPT: usize = 4096;

struct Kept {
    requests: [usize; KEPT],
    /// Where the next one goes, in place of the oldest.
    next: usize,
}

static FREED: SpinLock<Kept> = SpinLock::new(Kept {
    requests: [0; KEPT],
    next: 0,
});

impl Kept {
    /// Keeps a request; the one that has been kept for the longest time, or null.
    fn exchange(&mut self, request: *mut IRP) -> *mut IRP {
        let place = self.requests.get_mut(self.next);
        self.next = (self.next + 1) % KEPT;
        place.map_or(request, |place| {
            core::mem::replace(place, request as usize) as *mut IRP
        })
    }
}

/// IRQL: <= DISPATCH_LEVEL.
pub(super) unsafe extern "system" fn free(request: *mut IRP) {
    // SAFETY: the caller frees a request that it owns; nobody else changes it.
    let mut mdl: *mut MDL = unsafe { (*request).MdlAddress };
    while !mdl.is_null() {
        // SAFETY: one of the request's.
        let next = unsafe { (*mdl).Next };
        // SAFETY: as above, and not used any more.
        unsafe { IoFreeMdl(mdl) };
        mdl = next;
    }
    // SAFETY: as above.
    unsafe { (*request).MdlAddress = null_mut() };
    // SAFETY: as above. A cancellation finds nobody to call.
    unsafe { (*request).CancelRoutine = None };
    let oldest = FREED.lock().exchange(request);
    if !oldest.is_null() {
        // SAFETY: allocated from the pool by IoAllocateIrp, and freed once: it was kept instead.
        unsafe { ExFreePoolWithTag(oldest.cast::<c_void>(), 0) };
    }
}
