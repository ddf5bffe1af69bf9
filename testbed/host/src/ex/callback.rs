// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callback objects: named places where drivers meet without knowing each other.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::abi::{NTSTATUS, OBJECT_ATTRIBUTES, PCALLBACK_FUNCTION, PCALLBACK_OBJECT};
use crate::driver::Driver;
use crate::entry::nt;
use crate::frame;
use crate::irql::{APC_LEVEL, DISPATCH_LEVEL};
use crate::kernel::{self, State};
use crate::object::Object;
use crate::sched::{self, Waiter};
use crate::stack::Stack;
use crate::status::{
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use crate::thread;
use crate::unicode;
use crate::verifier::attribution;
use crate::verifier::hang;
use crate::verifier::unloaded;
use crate::verifier::{Report, Rule};

const OBJ_PERMANENT: u32 = 0x10;
const OBJ_CASE_INSENSITIVE: u32 = 0x40;

type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void);

/// One driver's registration.
pub(crate) struct Registration {
    routine: Routine,
    context: usize,
    driver: Option<Arc<Driver>>,
    /// Its place in the order of all registrations.
    number: u64,
    stack: Stack,
    removed: AtomicBool,
    running: Mutex<u32>,
    idle: Waiter,
}

/// A callback object.
pub(crate) struct CallbackObject {
    name: Vec<u16>,
    multiple: bool,
    permanent: bool,
    registrations: Mutex<Vec<Arc<Registration>>>,
}

impl CallbackObject {
    pub(crate) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

/// What a registration handle stands for.
type Registered = (Arc<CallbackObject>, Arc<Registration>);

/// The callback objects of one kernel, by name.
#[derive(Default)]
pub(crate) struct CallbackTable {
    names: Mutex<BTreeMap<Vec<u16>, std::sync::Weak<CallbackObject>>>,
    permanent: Mutex<Vec<Arc<CallbackObject>>>,
    registrations: Mutex<BTreeMap<usize, Registered>>,
    registered: AtomicU64,
}

impl CallbackTable {
    fn open_or_create(
        &self,
        name: &[u16],
        ignore_case: bool,
        new: Option<CallbackObject>,
    ) -> Option<Arc<CallbackObject>> {
        let mut names = self.names.lock();
        names.retain(|_, object| object.strong_count() > 0);
        let wanted = unicode::upcased(name);
        let found = names.iter().find_map(|(known, object)| {
            let same = known == name || (ignore_case && unicode::upcased(known) == wanted);
            if same { object.upgrade() } else { None }
        });
        if found.is_some() {
            return found;
        }
        let object = Arc::new(new?);
        names.insert(name.to_vec(), Arc::downgrade(&object));
        if object.permanent {
            self.permanent.lock().push(object.clone());
        }
        Some(object)
    }

    /// Reports the registrations that `driver` left, after the calls that run have returned. They
    /// stay, so that the notification that would call one is reported, too.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let mut left: Vec<Registered> = self
            .registrations
            .lock()
            .values()
            .filter(|(_, registration)| attribution::is(registration.driver.as_ref(), driver))
            .cloned()
            .collect();
        left.sort_by_key(|(_, registration)| registration.number);
        for (object, registration) in left {
            registration.wait_until_idle();
            Report::new(Rule::CallbackLeft)
                .driver(Some(driver.name()))
                .function("ExRegisterCallback")
                .expected("ExUnregisterCallback before the driver is unloaded")
                .found(format!(
                    "a routine registered with {}",
                    unicode::decode(&object.name)
                ))
                .made_at(registration.stack.clone())
                .file();
        }
    }

    /// Takes a registration away and waits until its routine runs nowhere.
    fn remove(&self, handle: usize) -> bool {
        let Some((object, registration)) = self.registrations.lock().remove(&handle) else {
            return false;
        };
        object
            .registrations
            .lock()
            .retain(|other| !Arc::ptr_eq(other, &registration));
        registration.removed.store(true, Ordering::SeqCst);
        sched::point("a routine's removal");
        if thread::with_context(|context| context.inside.borrow().contains(&handle)) {
            Report::new(Rule::NotifyRemovedInside)
                .expected("ExUnregisterCallback from outside the routine")
                .found("the routine unregisters itself")
                .detail("the call waits until the routine has returned")
                .file();
        } else if !registration.wait_until_idle() {
            Report::new(Rule::RemovalHangs)
                .expected("the routine returns soon")
                .found("a call of it that does not return while it is unregistered")
                .detail(
                    "the routine must not wait for the thread that unregisters it, nor for a lock \
                     that this thread holds; here ExUnregisterCallback goes on",
                )
                .file();
        }
        kernel::state().objects.dereference(object.address(), None);
        true
    }
}

impl Registration {
    /// Whether its driver was unloaded and left it behind.
    fn is_stale(&self) -> bool {
        self.driver
            .as_ref()
            .is_some_and(|driver| driver.is_unloaded())
    }

    fn wait_until_idle(&self) -> bool {
        hang::wait_until(&self.idle, || *self.running.lock() == 0)
    }

    fn call(&self, first: usize, second: usize) {
        sched::point("a callback routine");
        if let Some(gone) = self.driver.as_ref().filter(|_| self.is_stale()) {
            // Reported once: on NT there is no second time.
            if !self.removed.swap(true, Ordering::SeqCst) {
                let (what, by) = ("a callback routine", "ExRegisterCallback");
                unloaded::call(what, gone, by, &self.stack).file();
            }
            return;
        }
        {
            let mut running = self.running.lock();
            if self.removed.load(Ordering::SeqCst) {
                return;
            }
            *running += 1;
        }
        let address = std::ptr::from_ref(self) as usize;
        thread::with_context(|context| context.inside.borrow_mut().push(address));
        frame::call("a callback routine", self.driver.as_ref(), || {
            // SAFETY: the driver registered the routine for these arguments, and removal waits
            // for this call.
            unsafe {
                (self.routine)(self.context as *mut _, first as *mut _, second as *mut _);
            }
        });
        thread::with_context(|context| context.inside.borrow_mut().pop());
        *self.running.lock() -= 1;
        sched::wake(&self.idle);
    }
}

/// The callback object behind a pointer that a driver passed.
fn object_at(state: &State, address: usize) -> Option<Arc<CallbackObject>> {
    match state.objects.find(address) {
        Some(Object::Callback(object)) => Some(object),
        _ => {
            Report::new(Rule::ObjectUnknown)
                .expected("a callback object from ExCreateCallback")
                .found(format!("{address:#x}"))
                .file();
            None
        }
    }
}

nt! {
    /// Opens a callback object by name, or makes it if `create` is true. The caller holds a
    /// reference and gives it back with ObfDereferenceObject.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "an object must have a name, and lies in no object directory; security descriptors \
        are ignored";
    max_irql = APC_LEVEL;
    pub unsafe fn ExCreateCallback(
        object: *mut PCALLBACK_OBJECT,
        attributes: *const OBJECT_ATTRIBUTES,
        create: bool,
        multiple: bool,
    ) -> NTSTATUS {
        if attributes.is_null() {
            return STATUS_UNSUCCESSFUL;
        }
        // SAFETY: the caller passes object attributes.
        let attributes = unsafe { attributes.read() };
        // SAFETY: object attributes hold null or a valid string.
        let name = unsafe { unicode::read(attributes.ObjectName) };
        if name.is_empty() {
            return STATUS_UNSUCCESSFUL;
        }
        let state = kernel::state();
        let new = create.then(|| CallbackObject {
            name: name.clone(),
            multiple,
            permanent: attributes.Attributes & OBJ_PERMANENT != 0,
            registrations: Mutex::new(Vec::new()),
        });
        let ignore_case = attributes.Attributes & OBJ_CASE_INSENSITIVE != 0;
        let Some(found) = state.callbacks.open_or_create(&name, ignore_case, new) else {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        };
        let address = found.address();
        state.objects.ensure(Object::Callback(found));
        if state.objects.reference(address, attribution::responsible().as_ref()).is_none() {
            return STATUS_OBJECT_TYPE_MISMATCH;
        }
        // SAFETY: the caller passes memory for the pointer.
        unsafe { object.write(address as PCALLBACK_OBJECT) };
        STATUS_SUCCESS
    }

    /// Registers a routine; returns a handle, or null if the object takes one routine only and
    /// has it.
    fails = null;
    max_irql = APC_LEVEL;
    pub unsafe fn ExRegisterCallback(
        object: PCALLBACK_OBJECT,
        routine: PCALLBACK_FUNCTION,
        context: *const c_void,
    ) -> *mut c_void {
        let state = kernel::state();
        let (Some(object), Some(routine)) = (object_at(&state, object as usize), routine) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the metadata leaves the arguments out; a callback routine has these three.
        let routine: Routine = unsafe { std::mem::transmute(routine) };
        let registration = Arc::new(Registration {
            routine,
            context: context as usize,
            driver: attribution::responsible(),
            number: state.callbacks.registered.fetch_add(1, Ordering::Relaxed),
            stack: Stack::capture(),
            removed: AtomicBool::new(false),
            running: Mutex::new(0),
            idle: Waiter::new(),
        });
        let handle = Arc::as_ptr(&registration) as usize;
        {
            let mut registrations = object.registrations.lock();
            if !object.multiple && registrations.iter().any(|other| !other.is_stale()) {
                return std::ptr::null_mut();
            }
            registrations.push(registration.clone());
        }
        // A registration references its object, so that the pointer stays good until the end.
        state.objects.reference(object.address(), None);
        state.callbacks.registrations.lock().insert(handle, (object, registration));
        handle as *mut c_void
    }

    /// Takes a registration back and waits, without limit, for calls of the routine to return.
    max_irql = APC_LEVEL;
    pub unsafe fn ExUnregisterCallback(handle: *mut c_void) {
        if !kernel::state().callbacks.remove(handle as usize) {
            Report::new(Rule::CallbackUnknown)
                .expected("a handle from ExRegisterCallback")
                .found(format!("{handle:p}"))
                .file();
        }
    }

    /// Calls all registered routines in the order of their registration, in this thread.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn ExNotifyCallback(
        object: *const c_void,
        first: *const c_void,
        second: *const c_void,
    ) {
        let state = kernel::state();
        if let Some(object) = object_at(&state, object as usize) {
            let registrations = object.registrations.lock().clone();
            for registration in registrations {
                registration.call(first as usize, second as usize);
            }
        }
    }
}
