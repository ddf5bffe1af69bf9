// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callback objects: drivers that do not know each other meet at a name.

use super::pool::Tag;
use super::shared::PoolArc;
use crate::bindings::{
    ExCreateCallback, ExNotifyCallback, ExRegisterCallback, ExUnregisterCallback,
    OBJ_CASE_INSENSITIVE, ObfDereferenceObject, PCALLBACK_OBJECT, STATUS_INSUFFICIENT_RESOURCES,
};
use crate::linked::object_attributes;
use crate::rtl::UnicodeString;
use crate::status::{NtError, Result, check};
use core::ffi::c_void;

/// A reference to a named callback object. It exists while anybody holds a reference.
pub struct CallbackObject(PCALLBACK_OBJECT);

// SAFETY: an object reference, usable from any thread.
unsafe impl Send for CallbackObject {}
// SAFETY: as above.
unsafe impl Sync for CallbackObject {}

impl CallbackObject {
    /// IRQL: PASSIVE_LEVEL. Opens the object of this name, or creates it for several callbacks.
    pub fn open_or_create(name: &[u16]) -> Result<Self> {
        let name = UnicodeString::new(name)?;
        let attributes =
            object_attributes(Some(name.raw()), OBJ_CASE_INSENSITIVE, core::ptr::null());
        let mut object = 0;
        // SAFETY: valid attributes that live across the call, and a valid place for the result.
        check(unsafe { ExCreateCallback(&raw mut object, &raw const attributes, true, true) })?;
        Ok(CallbackObject(object))
    }

    /// IRQL: <= DISPATCH_LEVEL. Calls all who are registered, in this thread. What the arguments
    /// mean is their agreement.
    pub fn notify(&self, argument1: usize, argument2: usize) {
        // SAFETY: a referenced object; the arguments are only passed on.
        unsafe {
            ExNotifyCallback(
                self.0 as *const c_void,
                argument1 as *const c_void,
                argument2 as *const c_void,
            )
        };
    }
}

impl Drop for CallbackObject {
    fn drop(&mut self) {
        // SAFETY: ExCreateCallback gave this reference; it is given back once.
        unsafe { ObfDereferenceObject(self.0 as *const c_void) };
    }
}

/// What is called when a callback object is notified.
pub trait Listener: Send + Sync + 'static {
    /// IRQL: the notifier's, <= DISPATCH_LEVEL.
    fn notified(&self, argument1: usize, argument2: usize);
}

/// A registration with a callback object; dropping it ends it.
pub struct CallbackRegistration<T: Listener> {
    handle: *mut c_void,
    // Behind the handle: NT holds a pointer to this until the registration has ended.
    _listener: PoolArc<Registered<T>>,
}

struct Registered<T>(PoolArc<T>);

// SAFETY: the handle may be used from any thread, and the listener is shared.
unsafe impl<T: Listener> Send for CallbackRegistration<T> {}
// SAFETY: as above.
unsafe impl<T: Listener> Sync for CallbackRegistration<T> {}

impl<T: Listener> CallbackRegistration<T> {
    /// IRQL: <= APC_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn new(object: &CallbackObject, tag: Tag, listener: PoolArc<T>) -> Result<Self> {
        type Routine<T> = unsafe extern "system" fn(*mut Registered<T>, *mut c_void, *mut c_void);
        let listener = PoolArc::new(tag, Registered(listener))?;
        let routine: Routine<T> = trampoline::<T>;
        // SAFETY: both are function pointers of the same calling convention; the metadata declares
        // PCALLBACK_FUNCTION without its three parameters.
        let routine =
            unsafe { core::mem::transmute::<Routine<T>, unsafe extern "system" fn()>(routine) };
        let context: *const Registered<T> = &*listener;
        // SAFETY: a referenced object, a routine in non-paged code, and a context that outlives the
        // registration.
        let handle = unsafe { ExRegisterCallback(object.0, Some(routine), context.cast()) };
        if handle.is_null() {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        Ok(CallbackRegistration {
            handle,
            _listener: listener,
        })
    }
}

unsafe extern "system" fn trampoline<T: Listener>(
    context: *mut Registered<T>,
    argument1: *mut c_void,
    argument2: *mut c_void,
) {
    // SAFETY: `context` is what the registration passed and keeps alive until it has ended.
    let listener = unsafe { &*context };
    listener.0.notified(argument1 as usize, argument2 as usize);
}

impl<T: Listener> Drop for CallbackRegistration<T> {
    fn drop(&mut self) {
        // SAFETY: ExRegisterCallback gave this handle; it is ended once.
        unsafe { ExUnregisterCallback(self.handle) };
    }
}
