// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deferred procedure calls, queued by a timer or by the driver itself. The thread that serves the
//! timers runs them.

use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{KDPC, KDPC_0, KDPC_0_0, PKDEFERRED_ROUTINE};
use crate::driver::Driver;
use crate::entry::nt;
use crate::frame;
use crate::irql::{self, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL};
use crate::kernel;
use crate::stack::Stack;
use crate::verifier;
use crate::verifier::attribution;
use crate::verifier::unloaded;

/// The type byte of a DPC.
const DPC_OBJECT: u8 = 19;

type DeferredRoutine = unsafe extern "system" fn(*mut KDPC, *mut c_void, *mut c_void, *mut c_void);

/// Who queued a DPC.
#[derive(Clone, Copy)]
pub(super) enum QueuedBy {
    Timer,
    Driver,
}

impl QueuedBy {
    pub(super) fn function(self) -> &'static str {
        match self {
            QueuedBy::Timer => "KeSetTimerEx",
            QueuedBy::Driver => "KeInsertQueueDpc",
        }
    }

    /// What a driver does before it goes.
    pub(super) fn expected(self) -> &'static str {
        match self {
            QueuedBy::Timer => {
                "KeCancelTimer, then KeFlushQueuedDpcs, before the driver is unloaded"
            }
            QueuedBy::Driver => "KeFlushQueuedDpcs before the driver is unloaded",
        }
    }

    /// Why that is not obvious.
    pub(super) fn detail(self) -> &'static str {
        match self {
            QueuedBy::Timer => "a cancelled timer may have queued its DPC a moment before",
            QueuedBy::Driver => {
                "a DPC that was queued has not run yet when KeInsertQueueDpc returns"
            }
        }
    }
}

/// A DPC that is queued. What it consists of is copied: NT takes it off its queue before it calls
/// the routine, which may free it.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) dpc: usize,
    pub(super) driver: Option<Arc<Driver>>,
    pub(super) by: QueuedBy,
    /// Where it was queued, or the timer set.
    pub(super) stack: Arc<Stack>,
    routine: DeferredRoutine,
    context: usize,
    arguments: [usize; 2],
}

impl Due {
    /// The DPC as it is now; `None` if it has no routine.
    ///
    /// # Safety
    /// There is a DPC that was initialised.
    pub(super) unsafe fn new(
        dpc: *const KDPC,
        by: QueuedBy,
        driver: Option<Arc<Driver>>,
        stack: Arc<Stack>,
    ) -> Option<Self> {
        // SAFETY: as the caller vouches.
        let content = unsafe { dpc.read() };
        let routine = content.DeferredRoutine?;
        // SAFETY: the metadata leaves the arguments out; a deferred routine has these four.
        let routine: DeferredRoutine = unsafe { std::mem::transmute(routine) };
        Some(Due {
            dpc: dpc as usize,
            driver,
            by,
            stack,
            routine,
            context: content.DeferredContext as usize,
            arguments: [
                content.SystemArgument1 as usize,
                content.SystemArgument2 as usize,
            ],
        })
    }

    /// The same with these arguments.
    pub(super) fn with(self, arguments: [usize; 2]) -> Self {
        Due { arguments, ..self }
    }

    /// Runs it, in a thread of the system.
    pub(super) fn run(&self) {
        let what = "a deferred procedure call";
        let (driver, function) = (self.driver.as_ref(), self.by.function());
        if !unloaded::may_call(what, driver, function, &self.stack) {
            return;
        }
        let [first, second] = self.arguments.map(|argument| argument as *mut c_void);
        let former = irql::set(DISPATCH_LEVEL);
        frame::call(what, driver, || {
            // SAFETY: the driver initialised the DPC with this routine and context.
            unsafe {
                (self.routine)(
                    self.dpc as *mut KDPC,
                    self.context as *mut c_void,
                    first,
                    second,
                )
            };
        });
        irql::set(former);
    }
}

nt! {
    /// Initialises a DPC.
    simplified = "importance and processor have no effect";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeInitializeDpc(
        dpc: *mut KDPC,
        routine: PKDEFERRED_ROUTINE,
        context: *const c_void,
    ) {
        let content = KDPC {
            Anonymous: KDPC_0 {
                Anonymous: KDPC_0_0 { Type: DPC_OBJECT, Importance: 1, Number: 0 },
            },
            DeferredRoutine: routine,
            DeferredContext: context.cast_mut(),
            ..Default::default()
        };
        // SAFETY: the caller passes memory for a DPC.
        unsafe { dpc.write(content) };
    }

    /// Queues a DPC, with two arguments for its routine; false if it is queued already, which keeps
    /// its arguments.
    simplified = "one queue for all processors; the DPC runs when its turn comes in the thread of \
        the timers, also while the caller stays at DISPATCH_LEVEL";
    max_irql = HIGH_LEVEL;
    pub unsafe fn KeInsertQueueDpc(
        dpc: *mut KDPC,
        first: *const c_void,
        second: *const c_void,
    ) -> bool {
        // Without the verifier nobody asks whose it is, and a stack costs more than the rest.
        let (stack, driver) = if verifier::is_off() {
            (Stack::default(), None)
        } else {
            (Stack::capture(), attribution::responsible())
        };
        let stack = Arc::new(stack);
        // SAFETY: the caller passes a DPC that it has initialised and keeps until it has run.
        let due = unsafe { Due::new(dpc, QueuedBy::Driver, driver, stack) };
        let state = kernel::state();
        due.is_some_and(|due| {
            let due = due.with([first as usize, second as usize]);
            state.timers.queue(&state, due)
        })
    }

    /// Waits until all DPCs that are queued have run; not for those that are queued meanwhile.
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn KeFlushQueuedDpcs() {
        kernel::state().timers.flush();
    }
}
