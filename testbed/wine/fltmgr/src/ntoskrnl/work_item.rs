// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work items in the driver's own memory. Unlike NT, nothing keeps the driver loaded while one is
//! queued.

use core::ffi::c_void;

use fltport_nt::bindings::PIO_WORKITEM;

use crate::work;

/// What a driver keeps for us.
#[repr(C)]
struct Item {
    object: *mut c_void,
}

pub(super) unsafe extern "system" fn size() -> u32 {
    size_of::<Item>() as u32
}

pub(super) unsafe extern "system" fn initialize(object: *mut c_void, item: PIO_WORKITEM) {
    // SAFETY: the caller passes memory of the size that it was told.
    unsafe { (item as *mut Item).write(Item { object }) };
}

pub(super) unsafe extern "system" fn uninitialize(_item: PIO_WORKITEM) {}

type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void, PIO_WORKITEM);

/// The arguments of a routine, for another thread.
struct Call {
    routine: Routine,
    object: *mut c_void,
    context: *mut c_void,
    item: PIO_WORKITEM,
}

// SAFETY: what a driver passes to another thread by queueing.
unsafe impl Send for Call {}

impl Call {
    fn run(self) {
        // SAFETY: the driver queued this routine with this context.
        unsafe { (self.routine)(self.object, self.context, self.item) };
    }
}

pub(super) unsafe extern "system" fn queue(
    item: PIO_WORKITEM,
    routine: Routine,
    _queue: i32,
    context: *mut c_void,
) {
    // SAFETY: initialised by `initialize`.
    let object = unsafe { (*(item as *const Item)).object };
    let call = Call {
        routine,
        object,
        context,
        item,
    };
    work::queue(move || call.run());
}
