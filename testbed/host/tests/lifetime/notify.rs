// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notify routines and callback objects: registered twice, removed from inside, left behind.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use fltport_nt::bindings::*;
use nt_host::{ImageLoaded, Kernel, ProcessCreated, Report, Rule};

use crate::driver::*;
use crate::support;

/// The kinds of notify routines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Process,
    ProcessEx,
    ProcessEx2,
    Thread,
    ThreadEx,
    Image,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Process,
    Kind::ProcessEx,
    Kind::ProcessEx2,
    Kind::Thread,
    Kind::ThreadEx,
    Kind::Image,
];

pub(crate) static CALLS: AtomicU32 = AtomicU32::new(0);
/// What a routine does when it is called.
static INSIDE: Mutex<Option<fn()>> = Mutex::new(None);

fn called() {
    CALLS.fetch_add(1, Ordering::SeqCst);
    let inside = *INSIDE.lock().unwrap();
    if let Some(inside) = inside {
        inside();
    }
}

unsafe extern "system" fn process(_parent: HANDLE, _pid: HANDLE, _create: bool) {
    called();
}

unsafe extern "system" fn extended(
    _process: PEPROCESS,
    _pid: HANDLE,
    _info: *mut PS_CREATE_NOTIFY_INFO,
) {
    called();
}

unsafe extern "system" fn thread(_pid: HANDLE, _tid: HANDLE, _create: bool) {
    called();
}

unsafe extern "system" fn image(_: *const UNICODE_STRING, _pid: HANDLE, _info: *const IMAGE_INFO) {
    called();
}

impl Kind {
    pub(crate) fn add(self) -> NTSTATUS {
        match self {
            // SAFETY: the routines are of the right kinds, in all arms.
            Kind::Thread => unsafe { PsSetCreateThreadNotifyRoutine(Some(thread)) },
            Kind::ThreadEx => {
                let all = PsCreateThreadNotifySubsystems;
                // SAFETY: as above.
                unsafe { PsSetCreateThreadNotifyRoutineEx(all, thread as *const c_void) }
            }
            // SAFETY: as above.
            Kind::Image => unsafe { PsSetLoadImageNotifyRoutine(Some(image)) },
            process => process.set(false),
        }
    }

    pub(crate) fn remove(self) -> NTSTATUS {
        match self {
            Kind::Thread | Kind::ThreadEx => {
                // SAFETY: the routine that `add` registers.
                unsafe { PsRemoveCreateThreadNotifyRoutine(Some(thread)) }
            }
            // SAFETY: as above.
            Kind::Image => unsafe { PsRemoveLoadImageNotifyRoutine(Some(image)) },
            process => process.set(true),
        }
    }

    /// Registers or removes a process routine.
    fn set(self, remove: bool) -> NTSTATUS {
        match self {
            // SAFETY: the routines are of the right kinds, in all arms.
            Kind::Process => unsafe { PsSetCreateProcessNotifyRoutine(Some(process), remove) },
            Kind::ProcessEx => {
                // SAFETY: as above.
                unsafe { PsSetCreateProcessNotifyRoutineEx(Some(extended), remove) }
            }
            _ => {
                let (all, routine) = (PsCreateProcessNotifySubsystems, extended as *const c_void);
                // SAFETY: as above.
                unsafe { PsSetCreateProcessNotifyRoutineEx2(all, routine, remove) }
            }
        }
    }

    /// The function that registers it.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Kind::Process => "PsSetCreateProcessNotifyRoutine",
            Kind::ProcessEx => "PsSetCreateProcessNotifyRoutineEx",
            Kind::ProcessEx2 => "PsSetCreateProcessNotifyRoutineEx2",
            Kind::Thread => "PsSetCreateThreadNotifyRoutine",
            Kind::ThreadEx => "PsSetCreateThreadNotifyRoutineEx",
            Kind::Image => "PsSetLoadImageNotifyRoutine",
        }
    }

    fn remover(self) -> &'static str {
        match self {
            Kind::Thread | Kind::ThreadEx => "PsRemoveCreateThreadNotifyRoutine",
            Kind::Image => "PsRemoveLoadImageNotifyRoutine",
            process => process.function(),
        }
    }
}

/// One event of each kind that routines are called for.
pub(crate) fn events(kernel: &Kernel, pid: u64) {
    let created = ProcessCreated {
        pid,
        creator_pid: 4,
        ..Default::default()
    };
    kernel.process_created(&created);
    kernel.thread_created(pid, pid + 1);
    kernel.image_loaded(&ImageLoaded {
        pid,
        ..Default::default()
    });
}

fn with_routine(kind: Kind, removed: bool) -> Vec<Report> {
    let entry = move |_: *mut DRIVER_OBJECT| assert_eq!(kind.add(), STATUS_SUCCESS);
    let unload = move |_: *mut DRIVER_OBJECT| {
        if removed {
            assert_eq!(kind.remove(), STATUS_SUCCESS);
        }
    };
    life(entry, unload)
}

#[test]
fn a_routine_left_behind_is_reported_with_its_origin() {
    for kind in KINDS {
        let reports = with_routine(kind, false);
        let report = assert_one(&reports, Rule::NotifyRoutineLeft, kind.function());
        assert_shows_driver(&report.stack.to_string());
        assert_broken(&with_routine(kind, true), &[]);
    }
}

#[test]
fn a_routine_registered_twice_is_reported() {
    for kind in KINDS {
        let twice = move |_: *mut DRIVER_OBJECT| {
            assert_eq!(kind.add(), STATUS_SUCCESS);
            let again = kind.add();
            let process = [Kind::Process, Kind::ProcessEx, Kind::ProcessEx2].contains(&kind);
            assert_eq!(again == STATUS_SUCCESS, !process, "{kind:?}");
        };
        let remove_all = move |_: *mut DRIVER_OBJECT| while kind.remove() == STATUS_SUCCESS {};
        let reports = life(twice, remove_all);
        let report = assert_one(&reports, Rule::NotifyRegisteredTwice, kind.function());
        assert_shows_driver(&report.related[0].stack.to_string());
    }
}

#[test]
fn registering_again_after_the_removal_is_right() {
    for kind in KINDS {
        let again = move |_: *mut DRIVER_OBJECT| {
            for _ in 0..2 {
                assert_eq!(kind.add(), STATUS_SUCCESS);
                assert_eq!(kind.remove(), STATUS_SUCCESS);
            }
        };
        assert_broken(&life(again, |_| {}), &[]);
    }
}

static INSIDE_KIND: AtomicUsize = AtomicUsize::new(0);

fn remove_inside() {
    let kind = KINDS[INSIDE_KIND.load(Ordering::SeqCst)];
    assert_eq!(kind.remove(), STATUS_SUCCESS);
}

#[test]
fn a_routine_that_removes_itself_is_a_report_and_not_a_deadlock() {
    for (index, kind) in KINDS.into_iter().enumerate() {
        let kernel = boot();
        INSIDE_KIND.store(index, Ordering::SeqCst);
        *INSIDE.lock().unwrap() = Some(remove_inside);
        load(
            &kernel,
            move |_| assert_eq!(kind.add(), STATUS_SUCCESS),
            |_| {},
        );
        events(&kernel, 100);
        *INSIDE.lock().unwrap() = None;
        unload_it(&kernel);
        let reports = kernel.shutdown();
        assert_one(&reports, Rule::NotifyRemovedInside, kind.remover());
    }
}

static GATE: AtomicUsize = AtomicUsize::new(0);
static ENTERED: AtomicUsize = AtomicUsize::new(0);

fn wait_inside() {
    set(support::Shared(ENTERED.load(Ordering::SeqCst)));
    wait_for(support::Shared(GATE.load(Ordering::SeqCst)));
}

/// Removes a routine that is being called and waits for what is set before or after the removal.
fn removing_while_it_waits(set_before: bool) -> Vec<Report> {
    let kernel = boot();
    let (gate, entered) = (lasting_event(), lasting_event());
    GATE.store(gate.0, Ordering::SeqCst);
    ENTERED.store(entered.0, Ordering::SeqCst);
    *INSIDE.lock().unwrap() = Some(wait_inside);
    let remove = move |_: *mut DRIVER_OBJECT| {
        if set_before {
            set(gate);
        }
        assert_eq!(Kind::Process.remove(), STATUS_SUCCESS);
        set(gate);
    };
    load(
        &kernel,
        |_| assert_eq!(Kind::Process.add(), STATUS_SUCCESS),
        remove,
    );
    std::thread::scope(|scope| {
        scope.spawn(|| events(&kernel, 100));
        wait_for(entered);
        unload_it(&kernel);
    });
    *INSIDE.lock().unwrap() = None;
    kernel.shutdown()
}

#[test]
fn a_removal_that_waits_for_ever_is_a_report_and_not_a_hang() {
    let function = "PsSetCreateProcessNotifyRoutine";
    assert_one(
        &removing_while_it_waits(false),
        Rule::RemovalHangs,
        function,
    );
    assert_broken(&removing_while_it_waits(true), &[]);
}

unsafe extern "system" fn callback(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    called();
}

/// Makes a callback object and registers a routine: the object and the registration.
pub(crate) fn register_callback(name: &str) -> (PCALLBACK_OBJECT, *mut c_void) {
    let attributes = support::attributes(name, null_mut(), OBJ_CASE_INSENSITIVE);
    let mut object = 0;
    // SAFETY: valid attributes and memory for the pointer.
    let status = unsafe { ExCreateCallback(&raw mut object, &raw const attributes, true, false) };
    assert_eq!(status, STATUS_SUCCESS);
    let routine = untyped(callback as *const ());
    // SAFETY: a callback object and its routine.
    let handle = unsafe { ExRegisterCallback(object, routine, null()) };
    assert!(!handle.is_null());
    (object, handle)
}

pub(crate) fn notify_callback(object: PCALLBACK_OBJECT) {
    // SAFETY: an object that is referenced, or that a registration keeps.
    unsafe { ExNotifyCallback(object as *const c_void, null(), null()) };
}

pub(crate) fn unregister_callback(handle: *mut c_void) {
    // SAFETY: a registration, unless a test means another.
    unsafe { ExUnregisterCallback(handle) };
}

#[test]
fn a_callback_registration_and_its_object_left_behind_are_reported() {
    let reports = life(
        |_| {
            register_callback("\\Callback\\Left");
        },
        |_| {},
    );
    assert_broken(&reports, &[Rule::CallbackLeft, Rule::ReferenceLeft]);
    assert!(reports[1].found.contains("Callback"), "{}", reports[1]);
    for report in &reports {
        assert_made_in(report, "register_callback");
    }
}

#[test]
fn a_callback_registration_and_its_object_given_back_are_right() {
    let reports = life(
        |_| {
            let (object, handle) = register_callback("\\Callback\\Back");
            unregister_callback(handle);
            dereference(object as *const c_void);
        },
        |_| {},
    );
    assert_broken(&reports, &[]);
}

#[test]
fn unregistering_a_callback_twice_is_reported() {
    let reports = life(
        |_| {
            let (object, handle) = register_callback("\\Callback\\Twice");
            unregister_callback(handle);
            unregister_callback(handle);
            dereference(object as *const c_void);
        },
        |_| {},
    );
    assert_one(&reports, Rule::CallbackUnknown, "ExUnregisterCallback");
}

static HANDLE_INSIDE: AtomicUsize = AtomicUsize::new(0);

fn unregister_inside() {
    unregister_callback(HANDLE_INSIDE.load(Ordering::SeqCst) as *mut c_void);
}

#[test]
fn a_callback_that_unregisters_itself_is_a_report_and_not_a_deadlock() {
    let kernel = boot();
    *INSIDE.lock().unwrap() = Some(unregister_inside);
    load(
        &kernel,
        |_| {
            let (object, handle) = register_callback("\\Callback\\Inside");
            HANDLE_INSIDE.store(handle as usize, Ordering::SeqCst);
            notify_callback(object);
            dereference(object as *const c_void);
        },
        |_| {},
    );
    *INSIDE.lock().unwrap() = None;
    unload_it(&kernel);
    let reports = kernel.shutdown();
    assert_one(&reports, Rule::NotifyRemovedInside, "ExUnregisterCallback");
}
