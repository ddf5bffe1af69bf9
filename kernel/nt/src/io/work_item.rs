// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work items: something to be done soon, at PASSIVE_LEVEL, in a system thread.

use super::DriverObject;
use crate::bindings::{
    DelayedWorkQueue, IoInitializeWorkItem, IoQueueWorkItemEx, IoSizeofWorkItem,
    IoUninitializeWorkItem, PIO_WORKITEM,
};
use crate::ex::{PoolArc, PoolBox, PoolBytes, Rundown, Tag};
use crate::status::Result;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

struct Inner<T> {
    /// Points to `_memory`, which is never looked at as Rust's: NT changes it whenever it likes.
    item: PIO_WORKITEM,
    _memory: PoolBytes,
    queued: AtomicBool,
    in_flight: Rundown,
    context: PoolArc<T>,
    run: fn(&T),
}

/// One piece of work that can be queued again and again. Dropping it waits until it does not run
/// any more.
pub struct WorkItem<T: Send + Sync + 'static> {
    inner: PoolBox<Inner<T>>,
}

impl<T: Send + Sync + 'static> WorkItem<T> {
    /// IRQL: <= DISPATCH_LEVEL. Work that calls `run(&context)`.
    pub fn new(driver: DriverObject, tag: Tag, context: PoolArc<T>, run: fn(&T)) -> Result<Self> {
        // SAFETY: takes nothing, returns a number.
        let size = unsafe { IoSizeofWorkItem() };
        let mut memory = PoolBytes::zeroed(tag, size as usize)?;
        let item = memory.as_mut_ptr() as PIO_WORKITEM;
        let in_flight = Rundown::new(tag)?;
        let inner = PoolBox::new(
            tag,
            Inner {
                item,
                _memory: memory,
                queued: AtomicBool::new(false),
                in_flight,
                context,
                run,
            },
        )?;
        // SAFETY: non-paged memory of the size asked for, and this driver's object.
        unsafe { IoInitializeWorkItem(driver.as_ptr().cast(), inner.item) };
        Ok(WorkItem { inner })
    }

    /// IRQL: <= DISPATCH_LEVEL. Queues it; false if it is queued already and has not begun to run.
    /// Queued again while it runs, it may run twice at a time.
    pub fn queue(&self) -> bool {
        type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void, PIO_WORKITEM);
        if self.inner.queued.swap(true, Ordering::AcqRel) {
            return false;
        }
        // Released at the end of `work_entry`.
        if !self.inner.in_flight.acquire_for_another_thread() {
            return false;
        }
        let routine: Routine = work_entry::<T>;
        // SAFETY: both are function pointers of the same calling convention; the metadata declares
        // PIO_WORKITEM_ROUTINE_EX without its parameters.
        let routine =
            unsafe { core::mem::transmute::<Routine, unsafe extern "system" fn()>(routine) };
        let context: *const Inner<T> = &*self.inner;
        // SAFETY: initialised and not queued (the flag was ours to set); the context lives until
        // the work is done, because drop waits for the rundown.
        unsafe {
            IoQueueWorkItemEx(
                self.inner.item,
                Some(routine),
                DelayedWorkQueue,
                context.cast(),
            )
        };
        true
    }
}

unsafe extern "system" fn work_entry<T>(
    _object: *mut c_void,
    context: *mut c_void,
    _item: PIO_WORKITEM,
) {
    // SAFETY: `queue` passed the inner part, which lives until the protection that `queue` took is
    // released below.
    let inner = unsafe { &*context.cast::<Inner<T>>() };
    inner.queued.store(false, Ordering::Release);
    (inner.run)(&inner.context);
    // SAFETY: `queue` acquired once for this run. Last of all: after this the
    // owner may free it.
    unsafe { inner.in_flight.release() };
}

impl<T: Send + Sync + 'static> Drop for WorkItem<T> {
    fn drop(&mut self) {
        self.inner.in_flight.wait();
        // SAFETY: initialised, not queued, and it will not be queued again.
        unsafe { IoUninitializeWorkItem(self.inner.item) };
    }
}
