// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callback objects: names, registrations, notifications, and the end of a registration.

mod support;

use fltport_nt::bindings::*;
use fltport_nt::linked::KeLowerIrql;
use nt_host::Rule;
use nt_host::irql::{self, DISPATCH_LEVEL, PASSIVE_LEVEL};
use std::ffi::c_void;
use std::ptr::null;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use support::*;

type Routine = unsafe extern "system" fn(*mut c_void, *mut c_void, *mut c_void);

static NOTIFIED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn notified(context: *mut c_void, first: *mut c_void, second: *mut c_void) {
    let sum = context as usize + first as usize + second as usize;
    NOTIFIED.fetch_add(sum, Ordering::SeqCst);
}

fn create_callback(name: &str, create: bool, multiple: bool) -> Result<PCALLBACK_OBJECT, NTSTATUS> {
    let attributes = attributes(name, std::ptr::null_mut(), OBJ_CASE_INSENSITIVE);
    let mut object = 0;
    // SAFETY: valid attributes and memory for the pointer.
    match unsafe { ExCreateCallback(&raw mut object, &raw const attributes, create, multiple) } {
        STATUS_SUCCESS => Ok(object),
        error => Err(error),
    }
}

fn register(object: PCALLBACK_OBJECT, context: usize) -> *mut c_void {
    register_routine(object, notified, context)
}

fn register_routine(object: PCALLBACK_OBJECT, routine: Routine, context: usize) -> *mut c_void {
    let routine = untyped(routine as *const ());
    // SAFETY: a callback object and its routine.
    unsafe { ExRegisterCallback(object, routine, context as *const c_void) }
}

fn notify(object: PCALLBACK_OBJECT) {
    // SAFETY: a referenced object, or one that a registration keeps.
    unsafe { ExNotifyCallback(object as *const c_void, null(), null()) };
}

fn unregister(handle: *mut c_void) {
    // SAFETY: a registration, unless that is the test's intent, and found.
    unsafe { ExUnregisterCallback(handle) };
}

fn dereference(object: PCALLBACK_OBJECT) {
    // SAFETY: referenced by `create_callback`.
    unsafe { ObfDereferenceObject(object as *const c_void) };
}

#[test]
fn callback_objects_are_found_by_name_and_notify_all() {
    let kernel = boot();
    let missing = create_callback("\\Callback\\Test", false, true);
    assert_eq!(missing, Err(STATUS_OBJECT_NAME_NOT_FOUND));
    let object = create_callback("\\Callback\\Test", true, true).unwrap();
    assert_eq!(
        create_callback("\\CALLBACK\\test", false, false),
        Ok(object)
    );
    let (first, second) = (register(object, 1), register(object, 10));
    let notify = || {
        // SAFETY: a referenced object.
        unsafe { ExNotifyCallback(object as *const c_void, 100 as _, 1000 as _) };
        NOTIFIED.swap(0, Ordering::SeqCst)
    };
    assert_eq!(notify(), 2211);
    // SAFETY: a registration.
    unsafe { ExUnregisterCallback(first) };
    assert_eq!(notify(), 1110);
    for _ in 0..2 {
        // SAFETY: referenced twice above. The registration keeps the object.
        unsafe { ObfDereferenceObject(object as *const c_void) };
    }
    assert_eq!(notify(), 1110);
    // SAFETY: a registration.
    unsafe { ExUnregisterCallback(second) };
    let gone = create_callback("\\Callback\\Test", false, true);
    assert_eq!(gone, Err(STATUS_OBJECT_NAME_NOT_FOUND));
    kernel.shutdown_clean();
}

#[test]
fn an_exclusive_callback_object_takes_one_routine() {
    let kernel = boot();
    let object = create_callback("\\Callback\\One", true, false).unwrap();
    let handle = register(object, 0);
    assert!(!handle.is_null());
    assert!(register(object, 0).is_null());
    // SAFETY: a registration.
    unsafe { ExUnregisterCallback(handle) };
    // SAFETY: not registered any more, which is the mistake.
    unsafe { ExUnregisterCallback(handle) };
    // SAFETY: referenced above.
    unsafe { ObfDereferenceObject(object as *const c_void) };
    expect(kernel, &[Rule::CallbackUnknown]);
}

#[test]
fn a_callback_object_needs_a_name_and_a_permanent_one_needs_no_user() {
    let kernel = boot();
    assert_eq!(create_callback("", true, true), Err(STATUS_UNSUCCESSFUL));
    let permanent = OBJ_CASE_INSENSITIVE | OBJ_PERMANENT;
    let attributes = attributes("\\Callback\\Lasting", std::ptr::null_mut(), permanent);
    let mut object = 0;
    // SAFETY: valid attributes and memory for the pointer.
    let made = unsafe { ExCreateCallback(&raw mut object, &raw const attributes, true, true) };
    assert_eq!(made, STATUS_SUCCESS);
    dereference(object);
    assert_eq!(
        create_callback("\\Callback\\Lasting", false, true),
        Ok(object)
    );
    dereference(object);
    kernel.shutdown_clean();
}

/// What [`ordered`] was registered with, and the level it was called at.
static CALLS: Mutex<Vec<(usize, u8)>> = Mutex::new(Vec::new());

unsafe extern "system" fn ordered(context: *mut c_void, _: *mut c_void, _: *mut c_void) {
    let call = (context as usize, irql::current());
    CALLS.lock().unwrap().push(call);
}

#[test]
fn routines_are_called_in_the_order_of_registration_at_the_callers_irql() {
    let kernel = boot();
    let object = create_callback("\\Callback\\Order", true, true).unwrap();
    let handles = [3, 1, 2].map(|context| register_routine(object, ordered, context));
    notify(object);
    // SAFETY: raises from PASSIVE_LEVEL.
    let old = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    notify(object);
    // SAFETY: back to where it was.
    unsafe { KeLowerIrql(old) };
    let (low, high) = (PASSIVE_LEVEL, DISPATCH_LEVEL);
    let expected = [
        (3, low),
        (1, low),
        (2, low),
        (3, high),
        (1, high),
        (2, high),
    ];
    assert_eq!(*CALLS.lock().unwrap(), expected);
    handles.into_iter().for_each(unregister);
    dereference(object);
    kernel.shutdown_clean();
}

static GATE: AtomicUsize = AtomicUsize::new(0);
static ENTERED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "system" fn slow(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    if ENTERED.fetch_add(1, Ordering::SeqCst) == 0 {
        let gate = GATE.load(Ordering::SeqCst) as *const c_void;
        assert_eq!(wait(gate, Some(-10_000 * MS)), STATUS_SUCCESS);
    }
}

#[test]
fn unregistering_waits_for_a_call_in_flight_and_lets_no_other_begin() {
    let kernel = boot();
    let gate = event(false, false);
    GATE.store(address(&*gate) as usize, Ordering::SeqCst);
    let object = create_callback("\\Callback\\Slow", true, true).unwrap();
    let handle = register_routine(object, slow, 0) as usize;
    let unregistered = AtomicBool::new(false);
    let shared = Shared::of(&*gate);
    std::thread::scope(|scope| {
        scope.spawn(|| notify(object));
        while ENTERED.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        scope.spawn(|| {
            unregister(handle as *mut c_void);
            unregistered.store(true, Ordering::SeqCst);
        });
        // The removal has begun when a notification does not reach the routine any more.
        let reaches = || {
            let before = ENTERED.load(Ordering::SeqCst);
            notify(object);
            ENTERED.load(Ordering::SeqCst) > before
        };
        while reaches() {
            std::thread::yield_now();
        }
        assert!(!unregistered.load(Ordering::SeqCst), "the call still runs");
        // SAFETY: an initialised event.
        unsafe { KeSetEvent(shared.pointer(), 0, false) };
    });
    assert!(unregistered.load(Ordering::SeqCst));
    dereference(object);
    kernel.shutdown_clean();
}

static OWN: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "system" fn ends_itself(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    unregister(OWN.load(Ordering::SeqCst));
}

#[test]
fn a_routine_that_unregisters_itself_is_reported() {
    let kernel = boot();
    let object = create_callback("\\Callback\\Itself", true, true).unwrap();
    OWN.store(register_routine(object, ends_itself, 0), Ordering::SeqCst);
    notify(object);
    dereference(object);
    expect(kernel, &[Rule::NotifyRemovedInside]);
}
