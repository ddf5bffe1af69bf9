// SPDX-License-Identifier: MIT OR Apache-2.0
//! System threads that are joined.

use crate::bindings::{
    Executive, KeWaitForSingleObject, KernelMode, OBJ_KERNEL_HANDLE, ObReferenceObjectByHandle,
    ObfDereferenceObject, PsCreateSystemThread, ZwClose,
};
use crate::ex::{PoolArc, PoolBox, Tag};
use crate::linked::{SYNCHRONIZE, object_attributes};
use crate::status::{Result, check};
use core::ffi::c_void;
use core::ptr::{NonNull, null, null_mut};

/// A thread of the system process. Dropping the owner waits until the thread has ended, so that no
/// code of the driver runs when it is unloaded: tell the thread to end first.
pub struct SystemThread {
    object: *mut c_void,
}

// SAFETY: an object reference, usable from any thread.
unsafe impl Send for SystemThread {}
// SAFETY: as above.
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
        let mut object = null_mut();
        // SAFETY: the handle is valid; without an object type because kernel mode needs no check of
        // it.
        let referenced = unsafe {
            ObReferenceObjectByHandle(
                handle,
                SYNCHRONIZE,
                0,
                KernelMode as i8,
                &raw mut object,
                null_mut(),
            )
        };
        // SAFETY: closed once; the thread goes on without it.
        unsafe { ZwClose(handle) };
        // A valid handle of ours with the access asked for cannot fail to be referenced; if it did,
        // the thread would run on unowned.
        check(referenced)?;
        Ok(SystemThread { object })
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
        // SAFETY: a referenced thread object; kernel-mode wait. Without a deadline, because code
        // must not be unloaded under a thread.
        unsafe { KeWaitForSingleObject(self.object, Executive, KernelMode as i8, false, null()) };
        // SAFETY: referenced by `spawn`, given back once.
        unsafe { ObfDereferenceObject(self.object) };
    }
}
