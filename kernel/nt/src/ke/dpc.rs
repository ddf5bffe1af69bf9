// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deferred procedure calls: something to be done at DISPATCH_LEVEL, at once or after a time.

use super::Timeout;
use crate::bindings::{
    KDPC, KTIMER, KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeTimerEx,
    KeInsertQueueDpc, KeSetTimerEx, NotificationTimer,
};
use crate::ex::{PoolArc, PoolBox, Rundown, Tag};
use crate::status::Result;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null;
use core::sync::atomic::{AtomicBool, Ordering};

struct Inner<T> {
    dpc: UnsafeCell<KDPC>,
    timer: UnsafeCell<KTIMER>,
    /// Queued, or to be queued by the timer.
    queued: AtomicBool,
    in_flight: Rundown,
    context: PoolArc<T>,
    run: fn(&T, DpcHandle<'_, T>),
}

/// A DPC that can be queued again and again. Dropping it (IRQL: PASSIVE_LEVEL, not from the DPC)
/// waits until it does not run any more; a timer that is set is cancelled.
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
        let in_flight = Rundown::new(tag)?;
        let inner = PoolBox::new(
            tag,
            Inner {
                dpc: UnsafeCell::new(KDPC::default()),
                timer: UnsafeCell::new(KTIMER::default()),
                queued: AtomicBool::new(false),
                in_flight,
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
        // SAFETY: non-paged memory that does not move; the context lives until no DPC is in flight,
        // because drop waits for the rundown.
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
    /// Takes the right to queue it, which `dpc_entry` gives back.
    fn begin(self) -> bool {
        if self.0.queued.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.0.in_flight.acquire_for_another_thread()
    }

    /// IRQL: <= DISPATCH_LEVEL. Queues it; false if it is queued already and has not begun to run,
    /// or is being dropped.
    pub fn queue(self) -> bool {
        if !self.begin() {
            return false;
        }
        // SAFETY: initialised, and not queued (the flag was ours to set); it lives until the DPC is
        // done, because drop waits for the rundown.
        unsafe { KeInsertQueueDpc(self.0.dpc.get(), null(), null()) };
        true
    }

    /// IRQL: <= DISPATCH_LEVEL. Has a timer queue it; false as with [`DpcHandle::queue`].
    pub fn queue_after(self, timeout: Timeout) -> bool {
        if !self.begin() {
            return false;
        }
        // SAFETY: both are initialised, the timer is not set and the DPC not queued (the flag was
        // ours to set); they live as long as above.
        unsafe { KeSetTimerEx(self.0.timer.get(), timeout.raw(), 0, self.0.dpc.get()) };
        true
    }
}

unsafe extern "system" fn dpc_entry<T>(
    _dpc: *mut KDPC,
    context: *mut c_void,
    _first: *mut c_void,
    _second: *mut c_void,
) {
    // SAFETY: `new` passed the inner part, which lives until the protection that `begin` took is
    // released below.
    let inner = unsafe { &*context.cast::<Inner<T>>() };
    inner.queued.store(false, Ordering::Release);
    (inner.run)(&inner.context, DpcHandle(inner));
    // SAFETY: `begin` acquired once for this run. Last of all: after this the owner may go on to
    // free it.
    unsafe { inner.in_flight.release() };
}

impl<T: Send + Sync + 'static> Drop for Dpc<T> {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`.
        if unsafe { KeCancelTimer(self.inner.timer.get()) } {
            // SAFETY: the timer was set, and `begin` acquired for the run that will not come.
            unsafe { self.inner.in_flight.release() };
        }
        self.inner.in_flight.wait();
        // The routine may have its last instructions before it, and the driver be unloaded next.
        // SAFETY: takes nothing; PASSIVE_LEVEL, as drop demands.
        unsafe { KeFlushQueuedDpcs() };
    }
}
