// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kind of routine that the kernel calls gives the thread back as it got it: IRQL, critical
//! regions, locks.

use fltport_nt::bindings::*;
use fltport_nt::linked::*;
use nt_host::flt::UserPort;
use nt_host::irql::DISPATCH_LEVEL;
use nt_host::{DriverImage, ImageLoaded, Kernel, ProcessCreated, Rule, Unload, UserSlice};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicUsize, Ordering};

use crate::support::thread::{join, start_thread};
use crate::support::*;

/// The routines of the driver, by the name that a report gives them.
const ROUTINES: [&str; 15] = [
    "DriverEntry",
    "DriverUnload",
    "FilterUnloadCallback",
    "InstanceSetupCallback",
    "ConnectNotify",
    "MessageNotify",
    "DisconnectNotify",
    "a process notify routine",
    "a thread notify routine",
    "an image notify routine",
    "a callback routine",
    "a reinitialisation routine",
    "a work item's routine",
    "a deferred procedure call",
    "a system thread",
];

const PORT: &str = "\\Verifier";

/// What a routine does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    Irql,
    Region,
    Lock,
}

/// The routine that makes the mistake now.
static NOW: Mutex<(&str, Mistake)> = Mutex::new(("", Mistake::None));
/// The routines that ran.
static RAN: Mutex<Vec<&str>> = Mutex::new(Vec::new());

static FILTER: AtomicIsize = AtomicIsize::new(0);
static SERVER: AtomicIsize = AtomicIsize::new(0);
static CLIENT: AtomicIsize = AtomicIsize::new(0);
static CALLBACK: AtomicIsize = AtomicIsize::new(0);
static REGISTRATION: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static MUTEX: AtomicUsize = AtomicUsize::new(0);

/// Called by every routine with its name.
fn routine(name: &'static str) {
    RAN.lock().unwrap().push(name);
    let (wrong, mistake) = *NOW.lock().unwrap();
    if wrong != name {
        return;
    }
    let mutex = MUTEX.load(Ordering::SeqCst) as *const c_void;
    match mistake {
        Mistake::None => {}
        Mistake::Irql if name == "a deferred procedure call" => {
            // SAFETY: lowers from DISPATCH_LEVEL.
            unsafe { KeLowerIrql(0) };
        }
        Mistake::Irql => {
            // SAFETY: raises, and does not lower, which is the mistake.
            unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
        }
        // SAFETY: takes nothing; that it is not left is the mistake.
        Mistake::Region => unsafe { KeEnterCriticalRegion() },
        Mistake::Lock => assert_eq!(wait(mutex, Some(0)), STATUS_SUCCESS),
    }
}

unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
    routine("DriverUnload");
}

unsafe extern "system" fn filter_unload(_: u32) -> NTSTATUS {
    // SAFETY: what the entry point registered.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(on_process), true) };
    // SAFETY: as above.
    unsafe { PsRemoveCreateThreadNotifyRoutine(Some(on_thread)) };
    // SAFETY: as above.
    unsafe { PsRemoveLoadImageNotifyRoutine(Some(on_image)) };
    // SAFETY: as above.
    unsafe { ExUnregisterCallback(REGISTRATION.load(Ordering::SeqCst)) };
    // SAFETY: referenced by the entry point.
    unsafe { ObfDereferenceObject(CALLBACK.load(Ordering::SeqCst) as *const c_void) };
    // SAFETY: created by the entry point.
    unsafe { FltCloseCommunicationPort(SERVER.load(Ordering::SeqCst)) };
    // SAFETY: registered by the entry point.
    unsafe { FltUnregisterFilter(FILTER.load(Ordering::SeqCst)) };
    routine("FilterUnloadCallback");
    STATUS_SUCCESS
}

unsafe extern "system" fn setup(
    _: *const FLT_RELATED_OBJECTS,
    _: u32,
    _: u32,
    _: FLT_FILESYSTEM_TYPE,
) -> NTSTATUS {
    routine("InstanceSetupCallback");
    STATUS_FLT_DO_NOT_ATTACH
}

unsafe extern "system" fn connect(
    port: PFLT_PORT,
    _: *const c_void,
    _: *const c_void,
    _: u32,
    _: *mut *mut c_void,
) -> NTSTATUS {
    CLIENT.store(port, Ordering::SeqCst);
    routine("ConnectNotify");
    STATUS_SUCCESS
}

unsafe extern "system" fn disconnect(_: *const c_void) {
    let port = CLIENT.as_ptr();
    // SAFETY: the driver's variable for its only client port.
    unsafe { FltCloseClientPort(FILTER.load(Ordering::SeqCst), port) };
    routine("DisconnectNotify");
}

unsafe extern "system" fn message(
    _: *const c_void,
    _: *const c_void,
    _: u32,
    _: *mut c_void,
    _: u32,
    returned: *mut u32,
) -> NTSTATUS {
    // SAFETY: the Filter Manager passes a variable.
    unsafe { returned.write(0) };
    routine("MessageNotify");
    STATUS_SUCCESS
}

unsafe extern "system" fn on_process(_: HANDLE, _: HANDLE, create: bool) {
    if create {
        routine("a process notify routine");
    }
}

unsafe extern "system" fn on_thread(_: HANDLE, _: HANDLE, create: bool) {
    if create {
        routine("a thread notify routine");
    }
}

unsafe extern "system" fn on_image(_: *const UNICODE_STRING, _: HANDLE, _: *const IMAGE_INFO) {
    routine("an image notify routine");
}

unsafe extern "system" fn on_callback(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    routine("a callback routine");
}

unsafe extern "system" fn reinitialize(_: *const DRIVER_OBJECT, _: *const c_void, _: u32) {
    routine("a reinitialisation routine");
}

unsafe extern "system" fn on_work(_: *mut c_void, done: *mut c_void, item: PIO_WORKITEM) {
    // SAFETY: allocated by `queue_work`, not queued any more.
    unsafe { IoFreeWorkItem(item) };
    routine("a work item's routine");
    // SAFETY: the event of `queue_work`, which lives until it is signalled.
    unsafe { KeSetEvent(done.cast(), 0, false) };
}

unsafe extern "system" fn on_dpc(_: *mut KDPC, done: *mut c_void, _: *mut c_void, _: *mut c_void) {
    routine("a deferred procedure call");
    // SAFETY: the event of `set_timer`, which lives until it is signalled.
    unsafe { KeSetEvent(done.cast(), 0, false) };
}

unsafe extern "system" fn on_start(_: *mut c_void) {
    routine("a system thread");
}

unsafe extern "system" fn entry(object: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    // SAFETY: routines of the right kinds, removed by `filter_unload`.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(on_process), false) };
    // SAFETY: as above.
    unsafe { PsSetCreateThreadNotifyRoutine(Some(on_thread)) };
    // SAFETY: as above.
    unsafe { PsSetLoadImageNotifyRoutine(Some(on_image)) };
    // SAFETY: the driver's own object and a routine.
    unsafe { IoRegisterDriverReinitialization(object, Some(reinitialize), null()) };
    let name = attributes("\\Callback\\Verifier", null_mut(), 0);
    let mut callback = 0;
    // SAFETY: valid attributes and memory for the pointer.
    unsafe { ExCreateCallback(&raw mut callback, &raw const name, true, true) };
    CALLBACK.store(callback, Ordering::SeqCst);
    // SAFETY: a referenced callback object and a routine.
    let registration =
        unsafe { ExRegisterCallback(callback, untyped(on_callback as *const ()), null()) };
    REGISTRATION.store(registration, Ordering::SeqCst);
    listen(object);
    routine("DriverEntry");
    STATUS_SUCCESS
}

fn listen(object: *mut DRIVER_OBJECT) {
    let filter = filter::register(object, Some(filter_unload), Some(setup));
    FILTER.store(filter, Ordering::SeqCst);
    let server = filter::listen(
        filter,
        PORT,
        Some(connect),
        Some(disconnect),
        Some(message),
        1,
    );
    SERVER.store(server, Ordering::SeqCst);
    // SAFETY: a registered filter.
    assert_eq!(unsafe { FltStartFiltering(filter) }, STATUS_SUCCESS);
}

const IMAGE: DriverImage = DriverImage {
    name: "routines",
    entry,
    force_integrity: false,
};

/// The part that the driver does at work, from outside for simplicity.
fn queue_work(object: *mut c_void) {
    let done = event(false, false);
    // SAFETY: the driver's object.
    let item = unsafe { IoAllocateWorkItem(object.cast()) };
    let routine = untyped(on_work as *const ());
    // SAFETY: an item that is not queued; the event lives until the routine has signalled it.
    unsafe { IoQueueWorkItemEx(item, routine, DelayedWorkQueue, address(&*done)) };
    assert_eq!(wait(address(&*done), Some(-20_000 * MS)), STATUS_SUCCESS);
}

fn set_timer() {
    let done = event(false, false);
    let mut dpc = Box::new(KDPC::default());
    let routine = untyped(on_dpc as *const ());
    // SAFETY: boxed memory that stays where it is.
    unsafe { KeInitializeDpc(&raw mut *dpc, routine, address(&*done)) };
    let mut timer = Box::new(KTIMER::default());
    // SAFETY: as above.
    unsafe { KeInitializeTimerEx(&raw mut *timer, NotificationTimer) };
    // SAFETY: an initialised timer and DPC, which live until the DPC has run.
    unsafe { KeSetTimerEx(&raw mut *timer, -1, 0, &raw const *dpc) };
    assert_eq!(wait(address(&*done), Some(-20_000 * MS)), STATUS_SUCCESS);
    // SAFETY: takes nothing.
    unsafe { KeFlushQueuedDpcs() };
}

/// Lets every routine run once.
fn drive(kernel: &Kernel) {
    filter::install(kernel, IMAGE.name, "365000.5");
    kernel.load(&IMAGE).unwrap();
    kernel.process_created(&ProcessCreated {
        pid: 100,
        creator_pid: 4,
        ..Default::default()
    });
    kernel.thread_created(100, 101);
    kernel.image_loaded(&ImageLoaded {
        pid: 100,
        ..Default::default()
    });
    let callback = CALLBACK.load(Ordering::SeqCst) as *const c_void;
    // SAFETY: the driver's callback object, which it references.
    unsafe { ExNotifyCallback(callback, null(), null()) };
    let service = kernel.peer(200, 0);
    let port = UserPort::connect(&service, &wide(PORT), &[]).unwrap();
    let input = [0_u8; 4];
    let input = UserSlice {
        address: input.as_ptr() as u64,
        length: 4,
    };
    let nothing = UserSlice {
        address: 0,
        length: 0,
    };
    assert_eq!(port.send(&service, input, nothing).0, STATUS_SUCCESS);
    port.close();
    join(start_thread(on_start, null()));
    set_timer();
    queue_work(null_mut());
    kernel.unload(IMAGE.name, Unload::Stop).unwrap();
}

/// Drives a driver of which one routine makes a mistake; the rules and what was expected.
fn drive_with(wrong: &'static str, mistake: Mistake) -> Vec<(Rule, String)> {
    let kernel = boot();
    // SAFETY: a leaked mutex, which a test can afford.
    let mutex = Box::leak(Box::new(KMUTANT::default()));
    // SAFETY: memory that stays where it is.
    unsafe { KeInitializeMutex(mutex, 0) };
    MUTEX.store(std::ptr::from_mut(mutex) as usize, Ordering::SeqCst);
    *NOW.lock().unwrap() = (wrong, mistake);
    RAN.lock().unwrap().clear();
    drive(&kernel);
    // The next kernel may belong to another test.
    let ran = RAN.lock().unwrap().clone();
    let reports = kernel.shutdown();
    for routine in ROUTINES {
        assert!(ran.contains(&routine), "{routine} did not run: {ran:?}");
    }
    reports
        .into_iter()
        .map(|report| (report.rule, report.expected))
        .collect()
}

#[test]
fn a_driver_that_restores_everything_is_silent() {
    assert_eq!(drive_with("", Mistake::None), []);
}

#[test]
fn each_routine_must_return_at_its_irql() {
    for routine in ROUTINES {
        let found = drive_with(routine, Mistake::Irql);
        assert_eq!(found.len(), 1, "{routine}: {found:?}");
        assert_eq!(found[0].0, Rule::IrqlNotRestored, "{routine}: {found:?}");
        assert!(found[0].1.starts_with(routine), "{routine}: {found:?}");
    }
}

#[test]
fn each_routine_must_leave_the_regions_that_it_enters() {
    // A DPC runs at DISPATCH_LEVEL, where critical regions cannot be entered.
    for routine in ROUTINES.into_iter().filter(|it| !it.contains("deferred")) {
        let found = drive_with(routine, Mistake::Region);
        assert_eq!(found.len(), 1, "{routine}: {found:?}");
        let (rule, expected) = &found[0];
        assert_eq!(*rule, Rule::CriticalRegionUnbalanced, "{routine}");
        assert!(expected.starts_with(routine), "{routine}: {found:?}");
    }
}

#[test]
fn each_routine_must_release_its_locks() {
    for routine in ROUTINES {
        let found = drive_with(routine, Mistake::Lock);
        assert_eq!(found.len(), 1, "{routine}: {found:?}");
        assert_eq!(found[0].0, Rule::LockLeft, "{routine}: {found:?}");
        assert!(found[0].1.starts_with(routine), "{routine}: {found:?}");
    }
}
