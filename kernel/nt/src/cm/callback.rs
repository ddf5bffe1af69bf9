// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registry callbacks: who is told of operations on the registry, and may refuse them.

use super::operation::{Completed, Operation, Told};
use crate::bindings::{
    CmRegisterCallbackEx, CmUnRegisterCallback, NTSTATUS, REG_NOTIFY_CLASS,
    REG_POST_OPERATION_INFORMATION, RegNtPostCreateKeyEx, RegNtPostDeleteKey,
    RegNtPostDeleteValueKey, RegNtPostRenameKey, RegNtPostSetValueKey, RegNtPreCreateKeyEx,
    RegNtPreDeleteKey, RegNtPreDeleteValueKey, RegNtPreRenameKey, RegNtPreSetValueKey,
    STATUS_SUCCESS,
};
use crate::ex::{PoolArc, Tag};
use crate::io::DriverObject;
use crate::rtl::UnicodeString;
use crate::status::{Result, check};
use core::ffi::c_void;
use core::ptr::null;
use core::sync::atomic::{AtomicI64, Ordering};

/// Who is told of the operations that change the registry, whoever does them: programs, and drivers,
/// this one included. An operation within one of these routines is told of as well, from inside.
pub trait RegistryObserver: Send + Sync + 'static {
    /// IRQL: PASSIVE_LEVEL, in the thread that does it. An operation is to be done. An error refuses
    /// it: the thread gets that status, and this observer is not told of it again. The number is
    /// kept for [`RegistryObserver::after`].
    ///
    /// Whether an operation that was let pass here and that a driver of a lower altitude refuses is
    /// told of again is not documented: rely on neither.
    fn before(&self, operation: &Operation<'_>) -> Result<usize>;

    /// IRQL: PASSIVE_LEVEL, in the thread that has done it. An operation is over.
    fn after(&self, completed: &Completed<'_>);
}

/// A registered [`RegistryObserver`]. Dropping it waits for callbacks in flight, so that must not
/// happen inside one, nor while one of them is blocked on whoever drops.
pub struct RegistryCallback<T: RegistryObserver> {
    registered: PoolArc<Registered<T>>,
}

struct Registered<T> {
    /// 0 until NT has told it: callbacks may come first.
    cookie: AtomicI64,
    observer: T,
}

impl<T: RegistryObserver> RegistryCallback<T> {
    /// IRQL: PASSIVE_LEVEL. `altitude` is a decimal number as a text: who has a higher one is told
    /// before others, and after them when the operation is over.
    ///
    /// Errors: `STATUS_FLT_INSTANCE_ALTITUDE_COLLISION` if somebody has that altitude, this driver
    /// included, `STATUS_INSUFFICIENT_RESOURCES`.
    pub fn register(driver: DriverObject, tag: Tag, altitude: &[u16], observer: T) -> Result<Self> {
        type Routine<T> =
            unsafe extern "system" fn(*mut Registered<T>, *mut c_void, *mut c_void) -> NTSTATUS;
        let altitude = UnicodeString::new(altitude)?;
        let registered = Registered {
            cookie: AtomicI64::new(0),
            observer,
        };
        let registered = PoolArc::new(tag, registered)?;
        let routine: Routine<T> = routine::<T>;
        // SAFETY: both are function pointers of the same calling convention; the metadata declares
        // PEX_CALLBACK_FUNCTION without its three parameters.
        let routine = unsafe {
            core::mem::transmute::<Routine<T>, unsafe extern "system" fn() -> NTSTATUS>(routine)
        };
        let context: *const Registered<T> = &*registered;
        // SAFETY: a routine in non-paged code, valid strings and places, and a context that outlives
        // the registration, which `Drop` ends. The cookie may be written while callbacks read it.
        check(unsafe {
            CmRegisterCallbackEx(
                Some(routine),
                altitude.raw(),
                driver.as_ptr().cast(),
                context.cast(),
                registered.cookie.as_ptr(),
                null(),
            )
        })?;
        Ok(RegistryCallback { registered })
    }

    /// IRQL: any. The observer.
    pub fn observer(&self) -> &T {
        &self.registered.observer
    }
}

impl<T: RegistryObserver> Drop for RegistryCallback<T> {
    fn drop(&mut self) {
        let cookie = self.registered.cookie.load(Ordering::Relaxed);
        // SAFETY: the cookie of this registration, ended once; waits for callbacks in flight.
        unsafe { CmUnRegisterCallback(cookie) };
    }
}

unsafe extern "system" fn routine<T: RegistryObserver>(
    context: *mut Registered<T>,
    class: *mut c_void,
    information: *mut c_void,
) -> NTSTATUS {
    // SAFETY: what the registration passed and keeps alive until it has ended.
    let registered = unsafe { &*context };
    let class = class as usize as REG_NOTIFY_CLASS;
    match before(class) {
        // SAFETY: NT passes the structure that goes with this class, for the time of the call.
        Some(before) => unsafe { told_after(registered, before, information) },
        // SAFETY: as above.
        None => unsafe { told_before(registered, class, information) },
    }
}

/// The class that was told before an operation, from the one that is told after it.
fn before(class: REG_NOTIFY_CLASS) -> Option<REG_NOTIFY_CLASS> {
    #[allow(non_upper_case_globals, reason = "NT's names")]
    Some(match class {
        RegNtPostCreateKeyEx => RegNtPreCreateKeyEx,
        RegNtPostDeleteKey => RegNtPreDeleteKey,
        RegNtPostRenameKey => RegNtPreRenameKey,
        RegNtPostSetValueKey => RegNtPreSetValueKey,
        RegNtPostDeleteValueKey => RegNtPreDeleteValueKey,
        _ => return None,
    })
}

/// # Safety
/// `information` is NT's structure of this class, in a call of it.
unsafe fn told_before<T: RegistryObserver>(
    registered: &Registered<T>,
    class: REG_NOTIFY_CLASS,
    information: *mut c_void,
) -> NTSTATUS {
    let cookie = registered.cookie.load(Ordering::Relaxed);
    // SAFETY: as the caller vouches.
    let Some(told) = (unsafe { Told::read(class, information, cookie) }) else {
        return STATUS_SUCCESS;
    };
    match registered.observer.before(&told.operation) {
        Ok(kept) => {
            *told.kept = kept as *mut c_void;
            STATUS_SUCCESS
        }
        Err(refusal) => refusal.status(),
    }
}

/// # Safety
/// `information` is NT's structure of a class that is told after an operation, in a call of it;
/// `class` is the one that was told before.
unsafe fn told_after<T: RegistryObserver>(
    registered: &Registered<T>,
    class: REG_NOTIFY_CLASS,
    information: *mut c_void,
) -> NTSTATUS {
    let information = information.cast::<REG_POST_OPERATION_INFORMATION>();
    // SAFETY: as the caller vouches.
    let Some(over) = (unsafe { information.as_ref() }) else {
        return STATUS_SUCCESS;
    };
    let cookie = registered.cookie.load(Ordering::Relaxed);
    // SAFETY: NT names the structure of the class before, which is still valid.
    if let Some(told) = unsafe { Told::read(class, over.PreInformation, cookie) } {
        let kept = over.CallContext as usize;
        let completed = told.completed(over.Status, over.Object, kept);
        registered.observer.after(&completed);
    }
    STATUS_SUCCESS
}
