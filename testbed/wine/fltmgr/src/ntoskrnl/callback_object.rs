// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callback objects: named lists of routines that any driver may call. Wine's functions of these
//! names succeed and do nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use fltmgr::Status;
use fltport_nt::bindings::{
    NTSTATUS, OBJ_CASE_INSENSITIVE, OBJ_PERMANENT, OBJECT_ATTRIBUTES, ObfDereferenceObject,
    ObfReferenceObject,
};
use fltport_nt::ke::SpinLock;
use fltport_nt::rtl::{units_of, upcase};

use crate::event::Event;

type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void);

struct CallbackObject {
    name: Vec<u16>,
    allow_multiple: bool,
    /// References of drivers, and one if it is permanent. A registration is one as well.
    references: isize,
    registrations: Vec<Arc<Registration>>,
}

struct Registration {
    object: usize,
    routine: Routine,
    context: usize,
    state: SpinLock<Calls>,
    /// Set when the last call of a removed registration has returned.
    idle: Event,
}

#[derive(Default)]
struct Calls {
    running: u32,
    removed: bool,
}

/// All there are, by the address that drivers have.
static OBJECTS: SpinLock<Vec<(usize, CallbackObject)>> = SpinLock::new(Vec::new());

/// The address of the next object: what was one is never one again.
static NEXT_ADDRESS: AtomicUsize = AtomicUsize::new(0xFFFF_E600_0000_0000);

fn find(objects: &mut [(usize, CallbackObject)], address: usize) -> Option<&mut CallbackObject> {
    let mut known = objects.iter_mut();
    known
        .find(|(known, _)| *known == address)
        .map(|(_, object)| object)
}

/// A number that looks like an address and is used once.
fn new_address() -> usize {
    const SIZE: usize = 0x20;
    NEXT_ADDRESS.fetch_add(SIZE, Ordering::Relaxed)
}

pub(super) unsafe extern "system" fn create(
    object: *mut *mut c_void,
    attributes: *const OBJECT_ATTRIBUTES,
    create: u8,
    allow_multiple: u8,
) -> NTSTATUS {
    // SAFETY: the caller passes object attributes or NULL.
    let attributes = unsafe { attributes.as_ref() };
    // SAFETY: the name in valid object attributes is valid or NULL.
    let name = attributes.and_then(|attributes| unsafe { units_of(attributes.ObjectName) });
    let (Some(attributes), Some(name)) = (attributes, name) else {
        // Documented for objects without a name.
        return Status(0xC000_0001_u32 as i32).0;
    };
    let same: fn(&[u16], &[u16]) -> bool = if attributes.Attributes & OBJ_CASE_INSENSITIVE != 0 {
        |one, other| {
            one.iter()
                .map(|u| upcase(*u))
                .eq(other.iter().map(|u| upcase(*u)))
        }
    } else {
        |one, other| one == other
    };
    let mut objects = OBJECTS.lock();
    let known = objects
        .iter_mut()
        .find(|(_, known)| same(&known.name, name));
    let address = match known {
        Some((address, known)) => {
            known.references += 1;
            *address
        }
        None if create == 0 => return Status::OBJECT_NAME_NOT_FOUND.0,
        None => {
            let address = new_address();
            let permanent = attributes.Attributes & OBJ_PERMANENT != 0;
            let made = CallbackObject {
                name: name.to_vec(),
                allow_multiple: allow_multiple != 0,
                references: 1 + isize::from(permanent),
                registrations: Vec::new(),
            };
            objects.push((address, made));
            address
        }
    };
    drop(objects);
    // SAFETY: the caller passes a place for the result.
    unsafe { object.write(address as *mut c_void) };
    Status::SUCCESS.0
}

pub(super) unsafe extern "system" fn register(
    object: *mut c_void,
    routine: Routine,
    context: *mut c_void,
) -> *mut c_void {
    let address = object as usize;
    let registration = Arc::new(Registration {
        object: address,
        routine,
        context: context as usize,
        state: SpinLock::new(Calls::default()),
        idle: Event::new(),
    });
    let mut objects = OBJECTS.lock();
    let Some(object) = find(&mut objects, address) else {
        return null_mut();
    };
    if !object.allow_multiple && !object.registrations.is_empty() {
        return null_mut();
    }
    object.references += 1;
    object.registrations.push(registration.clone());
    drop(objects);
    Arc::into_raw(registration).cast_mut().cast()
}

pub(super) unsafe extern "system" fn unregister(registration: *mut c_void) {
    // SAFETY: what `register` returned, given back once.
    let registration = unsafe { Arc::from_raw(registration.cast::<Registration>()) };
    let mut objects = OBJECTS.lock();
    if let Some(object) = find(&mut objects, registration.object) {
        object
            .registrations
            .retain(|each| !Arc::ptr_eq(each, &registration));
    }
    drop(objects);
    let mut calls = registration.state.lock();
    calls.removed = true;
    let running = calls.running > 0;
    drop(calls);
    if running {
        registration.idle.wait(None);
    }
    release(registration.object);
}

pub(super) unsafe extern "system" fn notify(
    object: *mut c_void,
    argument1: *mut c_void,
    argument2: *mut c_void,
) {
    let mut objects = OBJECTS.lock();
    let Some(object) = find(&mut objects, object as usize) else {
        return;
    };
    let registrations = object.registrations.clone();
    drop(objects);
    for registration in registrations {
        // Not before its turn: a routine may unregister one that comes after it.
        let mut calls = registration.state.lock();
        if calls.removed {
            continue;
        }
        calls.running += 1;
        drop(calls);
        let context = registration.context as *mut c_void;
        // SAFETY: the routine that the driver registered; it was not removed, and its removal waits
        // for this call.
        unsafe { (registration.routine)(context, argument1, argument2) };
        let mut calls = registration.state.lock();
        calls.running -= 1;
        let last = calls.removed && calls.running == 0;
        drop(calls);
        if last {
            registration.idle.set();
        }
    }
}

/// One reference less; false if that is no callback object.
fn release(address: usize) -> bool {
    change(address, -1).is_some()
}

fn change(address: usize, by: isize) -> Option<isize> {
    let mut objects = OBJECTS.lock();
    let object = find(&mut objects, address)?;
    object.references += by;
    let left = object.references;
    if left <= 0 {
        objects.retain(|(known, _)| *known != address);
    }
    Some(left)
}

/// ObfReferenceObject, for these objects and Wine's.
pub(super) unsafe extern "system" fn reference_object(object: *mut c_void) -> isize {
    // SAFETY: the caller passes an object; if it is none of these, it is one of Wine's.
    change(object as usize, 1).unwrap_or_else(|| unsafe { ObfReferenceObject(object) })
}

/// ObfDereferenceObject, for these objects and Wine's.
pub(super) unsafe extern "system" fn dereference_object(object: *mut c_void) -> isize {
    // SAFETY: the caller passes an object; if it is none of these, it is one of Wine's.
    change(object as usize, -1).unwrap_or_else(|| unsafe { ObfDereferenceObject(object) })
}
