// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work for another thread. All requests of user mode arrive in one thread under Wine; a driver's
//! callback may wait for one of them, so it must not run there.

use alloc::boxed::Box;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

use fltport_nt::bindings::{
    DEVICE_OBJECT, DelayedWorkQueue, IoAllocateWorkItem, IoFreeWorkItem, IoQueueWorkItem,
    PIO_WORKITEM,
};

/// The device that work items belong to.
static DEVICE: AtomicPtr<DEVICE_OBJECT> = AtomicPtr::new(core::ptr::null_mut());

/// Says which device; before the first call of [`queue`].
pub(crate) fn set_device(device: *mut DEVICE_OBJECT) {
    DEVICE.store(device, Ordering::Release);
}

struct Work {
    item: PIO_WORKITEM,
    run: Box<dyn FnOnce() + Send>,
}

/// Runs `run` in another thread, soon.
pub(crate) fn queue(run: impl FnOnce() + Send + 'static) {
    type Routine = unsafe extern "system" fn(*mut DEVICE_OBJECT, *mut c_void);
    // SAFETY: this driver's device.
    let item = unsafe { IoAllocateWorkItem(DEVICE.load(Ordering::Acquire)) };
    let work = Box::into_raw(Box::new(Work {
        item,
        run: Box::new(run),
    }));
    let routine: Routine = begin;
    // SAFETY: both are function pointers of the same calling convention; the metadata declares
    // PIO_WORKITEM_ROUTINE without its parameters.
    let routine = unsafe { core::mem::transmute::<Routine, unsafe extern "system" fn()>(routine) };
    // SAFETY: allocated above and queued once; the routine takes the context over.
    unsafe { IoQueueWorkItem(item, Some(routine), DelayedWorkQueue, work.cast()) };
}

unsafe extern "system" fn begin(_: *mut DEVICE_OBJECT, context: *mut c_void) {
    // SAFETY: `queue` gave the box up to this call.
    let work = unsafe { Box::from_raw(context.cast::<Work>()) };
    (work.run)();
    // SAFETY: allocated by `queue`, not queued any more.
    unsafe { IoFreeWorkItem(work.item) };
}
