// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processors, and a stay at DISPATCH_LEVEL on one of them.

use crate::bindings::{
    KeGetCurrentProcessorNumberEx, KeQueryActiveProcessorCountEx, KeQueryMaximumProcessorCountEx,
    KfRaiseIrql,
};
use crate::linked::{ALL_PROCESSOR_GROUPS, DISPATCH_LEVEL, KeLowerIrql};
use core::marker::PhantomData;
use core::ptr::null_mut;

/// IRQL: any. How many processors run now, of all groups. Never less later; more where processors
/// are added while the system runs.
pub fn processor_count() -> u32 {
    // SAFETY: takes a number, returns a number.
    unsafe { KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS) }
}

/// IRQL: any. How many processors there can ever be until the system is restarted: more than every
/// processor's number.
pub fn maximum_processor_count() -> u32 {
    // SAFETY: takes a number, returns a number.
    unsafe { KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS) }
}

/// IRQL: any. The number of the processor that runs this, counted through all groups. Below
/// DISPATCH_LEVEL it can be another one by the time it is looked at; see [`AtDispatch`].
pub fn current_processor() -> u32 {
    // SAFETY: without a place for the group's number, it only returns a number.
    unsafe { KeGetCurrentProcessorNumberEx(null_mut()) }
}

/// A stay at DISPATCH_LEVEL: until it is dropped, this thread has its processor for itself. No
/// waiting and no paged memory meanwhile, and briefly. Guards must be dropped in the reverse order
/// of raising, as scopes do.
#[must_use = "the IRQL is lowered at once if the guard is not kept"]
pub struct AtDispatch {
    former: u8,
    /// The IRQL is this thread's.
    not_send: PhantomData<*const ()>,
}

impl AtDispatch {
    /// IRQL: <= DISPATCH_LEVEL. Raises to it.
    pub fn raise() -> Self {
        // SAFETY: not below the present IRQL, by the function's contract; `Drop` lowers it.
        let former = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
        AtDispatch {
            former,
            not_send: PhantomData,
        }
    }

    /// IRQL: DISPATCH_LEVEL. The number of this processor, which no other thread has meanwhile.
    pub fn processor(&self) -> u32 {
        current_processor()
    }
}

impl Drop for AtDispatch {
    fn drop(&mut self) {
        // SAFETY: what `raise` has found, in the same thread; guards are dropped in reverse order.
        unsafe { KeLowerIrql(self.former) };
    }
}
