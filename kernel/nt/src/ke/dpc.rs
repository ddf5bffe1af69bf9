// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deferred procedure calls: something to be done at DISPATCH_LEVEL, at once or again and again.

use crate::bindings::{
    KDPC, KTIMER, KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeTimerEx,
    KeInsertQueueDpc, KeSetTimerEx, NotificationTimer,
};
use crate::ex::{PoolArc, PoolBox, Rundown, Tag};
use crate::status::Result;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null;

struct Inner<T> {
    dpc: UnsafeCell<KDPC>,
    timer: UnsafeCell<KTIMER>,
    /// Held while it is queued and while it runs, so that neither begins when it is dropped.
    in_use: Rundown,
    context: PoolArc<T>,
    run: fn(&T, DpcHandle<'_, T>),
}

/// A DPC that can be queued again and again, also from itself. Dropping it (IRQL: PASSIVE_LEVEL, not
/// from the DPC) waits until it does not run any more; it need not have run since it was queued.
pub struct Dpc<T: Send + Sync + 'static> {
    inner: PoolBox<Inner<T>>,
}

// SAFETY: NT synchronises all access to the DPC and the timer; the context may be shared.
unsafe impl<T: Send + Sync + 'static> Send for Dpc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static> Sync for Dpc<T> {}

/// What queues a [`Dpc`]; the DPC itself has one, too.
pub struct DpcHandle<'a, T>(&'a Inner<T>);

impl<T> Clone for DpcHandle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DpcHandle<'_, T> {}

impl<T: Send + Sync + 'static> Dpc<T> {
    /// IRQL: <= APC_LEVEL. A DPC that calls `run` with the context, at DISPATCH_LEVEL.
    pub fn new(tag: Tag, context: PoolArc<T>, run: fn(&T, DpcHandle<'_, T>)) -> Result<Self> {
        type Routine = unsafe extern "system" fn(*mut KDPC, *mut c_void, *mut c_void, *mut c_void);
        let in_use = Rundown::new(tag)?;
        let inner = PoolBox::new(
            tag,
            Inner {
                dpc: UnsafeCell::new(KDPC::default()),
                timer: UnsafeCell::new(KTIMER::default()),
                in_use,
                context,
                run,
            },
        )?;
        let routine: Routine = dpc_entry::<T>;
        // SAFETY: both are function pointers of the same calling convention; the metadata declares
        // PKDEFERRED_ROUTINE without its parameters.
        let routine =
            unsafe { core::mem::transmute::<Routine, unsafe extern "system" fn()>(routine) };
        let place: *const Inner<T> = &*inner;
        // SAFETY: non-paged memory that does not move, and that is freed when the DPC is neither
        // queued nor runs, because drop waits for that.
        unsafe { KeInitializeDpc(inner.dpc.get(), Some(routine), place.cast()) };
        // SAFETY: non-paged memory that does not move, and a timer that is not set.
        unsafe { KeInitializeTimerEx(inner.timer.get(), NotificationTimer) };
        Ok(Dpc { inner })
    }

    /// IRQL: any. What queues it.
    pub fn handle(&self) -> DpcHandle<'_, T> {
        DpcHandle(&self.inner)
    }
}

impl<T> DpcHandle<'_, T> {
    /// IRQL: <= DISPATCH_LEVEL. Queues it; false if it is queued already and has not begun to run,
    /// or is being dropped.
    pub fn queue(self) -> bool {
        let Some(_in_use) = self.0.in_use.acquire() else {
            return false;
        };
        // SAFETY: initialised; drop takes it off the queue before the memory goes.
        unsafe { KeInsertQueueDpc(self.0.dpc.get(), null(), null()) }
    }

    /// IRQL: <= DISPATCH_LEVEL. Has a timer queue it now, and then every so many milliseconds (at
    /// least 1) until it is dropped; false if it is being dropped.
    pub fn queue_every(self, milliseconds: u16) -> bool {
        let Some(_in_use) = self.0.in_use.acquire() else {
            return false;
        };
        let (now, period) = (0, i32::from(milliseconds.max(1)));
        // SAFETY: both are initialised; drop cancels the timer before the memory goes.
        unsafe { KeSetTimerEx(self.0.timer.get(), now, period, self.0.dpc.get()) };
        true
    }
}

unsafe extern "system" fn dpc_entry<T>(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: *mut c_void,
    _second: *mut c_void,
) {
    // SAFETY: `new` passed the inner part, and drop waits for all DPCs that were queued.
    let inner = unsafe { &*context.cast::<Inner<T>>() };
    if let Some(_in_use) = inner.in_use.acquire() {
        (inner.run)(&inner.context, DpcHandle(inner));
    }
}

impl<T: Send + Sync + 'static> Drop for Dpc<T> {
    fn drop(&mut self) {
        // From here on nobody queues it, sets the timer or gets as far as the context.
        self.inner.in_use.wait();
        // SAFETY: initialised by `new`. Whether it was set does not matter.
        unsafe { KeCancelTimer(self.inner.timer.get()) };
        // What is queued runs, and finds nothing to do.
        // SAFETY: takes nothing; PASSIVE_LEVEL, as drop demands.
        unsafe { KeFlushQueuedDpcs() };
    }
}
