// SPDX-License-Identifier: MIT OR Apache-2.0
//! System threads that are joined.

use crate::bindings::{
    HANDLE, OBJ_KERNEL_HANDLE, PsCreateSystemThread, ZwClose, ZwWaitForSingleObject,
};
use crate::ex::{PoolArc, PoolBox, Tag};
use crate::linked::{SYNCHRONIZE, object_attributes};
use crate::status::{Result, check};
use core::ffi::c_void;
use core::ptr::{NonNull, null, null_mut};

/// A thread of the system process. Dropping the owner (IRQL: PASSIVE_LEVEL) waits until the thread
/// has ended, so that no code of the driver runs when it is unloaded: tell the thread to end first.
///
/// It keeps the handle that the thread was made with. To get an object reference in its place
/// could fail, and then the thread would run without an owner who waits for it.
pub struct SystemThread {
    handle: HANDLE,
}

// SAFETY: a kernel handle, valid in every thread and process.
unsafe impl Send for SystemThread {}
// SAFETY: as above; nothing is done with it before it is dropped.
unsafe impl Sync for SystemThread {}

struct Start<T> {
    context: PoolArc<T>,
    run: fn(&T),
    tag: Tag,
}

impl SystemThread {
    /// IRQL: PASSIVE_LEVEL. Starts a thread that calls `run(&context)` at PASSIVE_LEVEL and ends
    /// when that returns.
    pub fn spawn<T: Send + Sync + 'static>(
        tag: Tag,
        context: PoolArc<T>,
        run: fn(&T),
    ) -> Result<Self> {
        type Routine = unsafe extern "system" fn(*mut c_void);
        let start = PoolBox::new(tag, Start { context, run, tag })?.into_raw();
        let routine: Routine = thread_entry::<T>;
        // SAFETY: both are function pointers of the same calling convention; the metadata declares
        // PKSTART_ROUTINE without its parameter.
        let routine =
            unsafe { core::mem::transmute::<Routine, unsafe extern "system" fn()>(routine) };
        let mut handle = null_mut();
        // A kernel handle: this may run in a process of user mode, which must not get at it.
        let attributes = object_attributes(None, OBJ_KERNEL_HANDLE, null());
        let context = start.as_ptr().cast::<c_void>();
        // SAFETY: a valid place for the handle, a routine in non-paged code, and a context that the
        // thread takes over.
        let created = check(unsafe {
            PsCreateSystemThread(
                &raw mut handle,
                SYNCHRONIZE,
                &raw const attributes,
                null_mut(),
                null_mut(),
                Some(routine),
                context,
            )
        });
        if let Err(error) = created {
            // SAFETY: no thread was made, so the context is still ours; made above with this tag.
            drop(unsafe { PoolBox::from_raw(start, tag) });
            return Err(error);
        }
        Ok(SystemThread { handle })
    }
}

unsafe extern "system" fn thread_entry<T: Send + Sync + 'static>(context: *mut c_void) {
    let Some(start) = NonNull::new(context.cast::<Start<T>>()) else {
        return;
    };
    // SAFETY: `spawn` passed a valid, initialised Start and gave it up to this thread.
    let tag = unsafe { start.as_ref() }.tag;
    // SAFETY: as above; taken over once, with the tag that it was made with.
    let start = unsafe { PoolBox::from_raw(start, tag) };
    (start.run)(&start.context);
}

impl Drop for SystemThread {
    fn drop(&mut self) {
        // SAFETY: an open handle. Without a deadline, because code must not be unloaded under a
        // thread.
        unsafe { ZwWaitForSingleObject(self.handle, false, null()) };
        // SAFETY: opened by `spawn`, closed once.
        unsafe { ZwClose(self.handle) };
    }
}
