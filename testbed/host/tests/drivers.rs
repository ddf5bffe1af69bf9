// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading and unloading, reinitialisation, work items, and what drivers leave behind.

mod support;

use fltport_nt::bindings::*;
use nt_host::{Config, DebugPrint, DriverImage, Kernel, Report, Rule, Unload, irql};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::*;

const SERVICES: &str = "\\Registry\\Machine\\System\\CurrentControlSet\\Services";

fn image(
    name: &'static str,
    entry: unsafe extern "system" fn(*mut DRIVER_OBJECT, *const UNICODE_STRING) -> NTSTATUS,
) -> DriverImage {
    DriverImage {
        name,
        entry,
        force_integrity: false,
    }
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(text: impl Into<String>) {
    LOG.lock().unwrap().push(text.into());
}

fn logged() -> Vec<String> {
    std::mem::take(&mut *LOG.lock().unwrap())
}

fn text(string: &UNICODE_STRING) -> String {
    let units =
        // SAFETY: the hosted kernel's strings are valid.
        unsafe { std::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) };
    String::from_utf16_lossy(units)
}

unsafe extern "system" fn unload(object: *const DRIVER_OBJECT) {
    // SAFETY: the driver's own object.
    let name = unsafe { &(*object).DriverName };
    log(format!("unload {}", text(name)));
}

unsafe extern "system" fn tidy(
    object: *mut DRIVER_OBJECT,
    path: *const UNICODE_STRING,
) -> NTSTATUS {
    assert_eq!(irql::current(), irql::PASSIVE_LEVEL);
    // SAFETY: the driver's own object.
    let object = unsafe { &mut *object };
    // SAFETY: as above.
    let extension = unsafe { &*object.DriverExtension };
    assert_eq!(extension.DriverObject, &raw mut *object);
    // SAFETY: valid during the call.
    let path = unsafe { &*path };
    log(format!(
        "entry {} {}",
        text(&extension.ServiceKeyName),
        text(path)
    ));
    object.DriverUnload = Some(unload);
    STATUS_SUCCESS
}

#[test]
fn a_driver_is_loaded_with_its_service_key_and_unloaded() {
    let kernel = boot();
    kernel.load(&image("tidy", tidy)).unwrap();
    assert_eq!(
        kernel.load(&image("tidy", tidy)),
        Err(STATUS_IMAGE_ALREADY_LOADED)
    );
    let start = kernel
        .registry()
        .value(&format!("{SERVICES}\\tidy"), "Start")
        .unwrap();
    assert_eq!(start.as_dword(), Some(3));
    assert_eq!(
        kernel.unload("absent", Unload::Stop),
        Err(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    kernel.unload("tidy", Unload::Stop).unwrap();
    kernel.load(&image("tidy", tidy)).unwrap();
    kernel.shutdown_clean();
    let entry = format!("entry tidy {SERVICES}\\tidy");
    // Another test's driver may have logged since.
    let own: Vec<String> = logged()
        .into_iter()
        .filter(|line| line.contains("tidy"))
        .collect();
    assert_eq!(
        own,
        [
            &entry,
            "unload \\Driver\\tidy",
            &entry,
            "unload \\Driver\\tidy"
        ]
    );
}

unsafe extern "system" fn fails(_: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: asks for memory and leaves it behind, which is the mistake.
    unsafe { ExAllocatePool2(NON_PAGED, 10, TAG) };
    STATUS_UNSUCCESSFUL
}

#[test]
fn a_failed_entry_is_not_loaded_and_what_it_left_is_reported() {
    let kernel = boot();
    assert_eq!(
        kernel.load(&image("fails", fails)),
        Err(STATUS_UNSUCCESSFUL)
    );
    assert_eq!(
        kernel.unload("fails", Unload::Stop),
        Err(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    let reports = kernel.shutdown();
    assert_eq!(rules(&reports), [Rule::PoolLeak]);
    assert_eq!(reports[0].driver.as_deref(), Some("fails"));
    assert!(
        reports[0]
            .found
            .contains("1 allocation, 10 bytes, tag 'Test'"),
        "{}",
        reports[0]
    );
    assert!(
        reports[0].to_string().contains("drivers::fails"),
        "{}",
        reports[0]
    );
}

unsafe extern "system" fn nothing() {}
unsafe extern "system" fn process(_parent: HANDLE, _pid: HANDLE, _create: bool) {}
unsafe extern "system" fn sleeps(gate: *mut c_void) {
    // SAFETY: the test leaks the event.
    unsafe { KeSetEvent(STARTED.load(Ordering::SeqCst) as *mut _, 0, false) };
    assert_eq!(wait(gate, None), STATUS_SUCCESS);
    // SAFETY: the test leaks the event.
    unsafe { KeSetEvent(gate.cast(), 0, false) };
}

static GATE: AtomicUsize = AtomicUsize::new(0);
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Leaves one thing of each kind behind.
unsafe extern "system" fn messy(object: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(process), false) };
    let attributes = attributes("\\Callback\\Messy", null_mut(), 0);
    let mut callback = 0;
    // SAFETY: valid attributes and memory for the pointer.
    unsafe { ExCreateCallback(&raw mut callback, &raw const attributes, true, true) };
    // SAFETY: a referenced callback object.
    unsafe { ExRegisterCallback(callback, Some(nothing), null()) };
    let timer = Box::leak(Box::new(KTIMER::default()));
    // SAFETY: memory that stays where it is.
    unsafe { KeInitializeTimerEx(timer, NotificationTimer) };
    // SAFETY: an initialised timer.
    unsafe { KeSetTimerEx(timer, -60_000 * MS, 0, null()) };
    // SAFETY: a driver object is an I/O object as well.
    unsafe { IoAllocateWorkItem(object.cast()) };
    let mut handle = null_mut();
    let routine = untyped(sleeps as *const ());
    let gate = GATE.load(Ordering::SeqCst) as *const c_void;
    // SAFETY: memory for the handle, a routine and its context.
    let status = unsafe {
        PsCreateSystemThread(
            &raw mut handle,
            0,
            null(),
            null_mut(),
            null_mut(),
            routine,
            gate,
        )
    };
    let started = STARTED.load(Ordering::SeqCst) as *const c_void;
    assert_eq!(wait(started, Some(-10_000 * MS)), STATUS_SUCCESS);
    status
}

#[test]
fn everything_left_behind_is_reported_by_kind() {
    let kernel = boot();
    let gate = Box::leak(event(true, false));
    GATE.store(address(gate) as usize, Ordering::SeqCst);
    let started = Box::leak(event(true, false));
    STARTED.store(address(started) as usize, Ordering::SeqCst);
    kernel.load(&image("messy", messy)).unwrap();
    kernel.unload("messy", Unload::Stop).unwrap();
    // The thread calls the kernel after its driver has gone: now, or when it is let go.
    let call = |report: &Report| report.rule == Rule::CallIntoUnloadedDriver;
    let mut reports = kernel.reports();
    reports.retain(|report| !call(report));
    let text: String = reports.iter().map(|report| format!("{report}\n")).collect();
    let expected = [
        Rule::NotifyRoutineLeft,
        Rule::CallbackLeft,
        Rule::TimerLeft,
        Rule::ThreadLeft,
        Rule::WorkItemLeft,
        Rule::HandleLeft,
        Rule::ReferenceLeft,
    ];
    assert_eq!(rules(&reports), expected, "{text}");
    assert!(
        reports
            .iter()
            .all(|report| report.driver.as_deref() == Some("messy")),
        "{text}"
    );
    // Lets the thread go, and waits until it has signalled back.
    // SAFETY: an initialised event.
    unsafe { KeSetEvent(gate, 0, false) };
    assert_eq!(wait(address(gate), Some(-10_000 * MS)), STATUS_SUCCESS);
    let reports = kernel.shutdown();
    assert_eq!(reports.iter().filter(|report| call(report)).count(), 1);
    assert_eq!(reports.len(), expected.len() + 1);
}

static COUNTS: Mutex<Vec<(&str, u32)>> = Mutex::new(Vec::new());

unsafe extern "system" fn again(object: *const DRIVER_OBJECT, context: *const c_void, count: u32) {
    COUNTS.lock().unwrap().push(("plain", count));
    if count < 3 {
        // SAFETY: the driver's own object and this routine.
        unsafe { IoRegisterDriverReinitialization(object, Some(again), context) };
    }
}

unsafe extern "system" fn booted(_: *const DRIVER_OBJECT, _: *const c_void, count: u32) {
    COUNTS.lock().unwrap().push(("boot", count));
}

static OBJECT: AtomicPtr<DRIVER_OBJECT> = AtomicPtr::new(null_mut());

unsafe extern "system" fn patient(
    object: *mut DRIVER_OBJECT,
    _: *const UNICODE_STRING,
) -> NTSTATUS {
    OBJECT.store(object, Ordering::SeqCst);
    // SAFETY: the driver's own object and a routine.
    unsafe { IoRegisterDriverReinitialization(object, Some(again), null()) };
    // SAFETY: as above.
    unsafe { IoRegisterBootDriverReinitialization(object, Some(booted), null()) };
    STATUS_SUCCESS
}

#[test]
fn reinitialisation_runs_after_entry_and_boot_reinitialisation_later() {
    let kernel = boot();
    kernel.load(&image("patient", patient)).unwrap();
    assert_eq!(
        *COUNTS.lock().unwrap(),
        [("plain", 1), ("plain", 2), ("plain", 3)]
    );
    kernel.boot_drivers_initialized();
    kernel.boot_drivers_initialized();
    assert_eq!(COUNTS.lock().unwrap()[3..], [("boot", 4)]);
    // SAFETY: the driver's object; that it is not in its entry point is the mistake.
    unsafe {
        let object = OBJECT.load(Ordering::SeqCst);
        IoRegisterDriverReinitialization(object, Some(again), null());
    }
    expect(kernel, &[Rule::ReinitializeMisuse]);
}

static ITEM: AtomicIsize = AtomicIsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);
static RUNS: AtomicU32 = AtomicU32::new(0);

unsafe extern "system" fn work(object: *mut c_void, context: *mut c_void, item: PIO_WORKITEM) {
    assert_eq!(irql::current(), irql::PASSIVE_LEVEL);
    assert_eq!(object, OBJECT.load(Ordering::SeqCst).cast());
    assert_eq!(item, ITEM.load(Ordering::SeqCst));
    if RUNS.fetch_add(1, Ordering::SeqCst) + 1 < context as u32 {
        queue(item, context as usize);
    } else {
        // SAFETY: allocated by `busy`, not queued.
        unsafe { IoFreeWorkItem(item) };
        // SAFETY: the test's event.
        unsafe { KeSetEvent(DONE.load(Ordering::SeqCst) as *mut KEVENT, 0, false) };
    }
}

fn queue(item: PIO_WORKITEM, runs: usize) {
    let routine = untyped(work as *const ());
    // SAFETY: an initialised item that is not queued, unless that is tested.
    unsafe { IoQueueWorkItemEx(item, routine, DelayedWorkQueue, runs as *const c_void) };
}

unsafe extern "system" fn busy(object: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    OBJECT.store(object, Ordering::SeqCst);
    // SAFETY: the driver's own object.
    unsafe { (*object).DriverUnload = Some(unload) };
    // SAFETY: as above.
    let item = unsafe { IoAllocateWorkItem(object.cast()) };
    ITEM.store(item, Ordering::SeqCst);
    queue(item, 5);
    STATUS_SUCCESS
}

#[test]
fn a_work_item_runs_requeues_and_frees_itself() {
    let kernel = boot();
    let done = event(false, false);
    DONE.store(address(&*done) as usize, Ordering::SeqCst);
    kernel.load(&image("busy", busy)).unwrap();
    assert_eq!(wait(address(&*done), Some(-10_000 * MS)), STATUS_SUCCESS);
    assert_eq!(RUNS.load(Ordering::SeqCst), 5);
    queue(ITEM.load(Ordering::SeqCst), 5);
    kernel.unload("busy", Unload::Stop).unwrap();
    expect(kernel, &[Rule::WorkItemUnknown]);
}

#[test]
fn debug_output_goes_where_it_is_configured() {
    unsafe extern "C" {
        fn DbgPrintEx(component: u32, level: u32, format: *const u8, argument: *const u8) -> u32;
    }
    let lines = Arc::new(Mutex::new(Vec::new()));
    let inner = lines.clone();
    let sink = Arc::new(move |line: &str| inner.lock().unwrap().push(line.to_owned()));
    let kernel = Kernel::boot(Config {
        debug_print: DebugPrint::Sink(sink),
        ..Default::default()
    });
    // SAFETY: strings that end with a zero.
    unsafe { DbgPrintEx(77, 0, c"plain\n".as_ptr().cast(), null()) };
    // SAFETY: as above.
    unsafe { DbgPrintEx(77, 0, c"<%s>\n".as_ptr().cast(), c"inside".as_ptr().cast()) };
    assert_eq!(*lines.lock().unwrap(), ["plain\n", "<inside>\n"]);
    kernel.shutdown_clean();
}

#[test]
fn exported_routines_are_found_by_name() {
    let kernel = boot();
    let find = |name| {
        // SAFETY: a valid string.
        unsafe { MmGetSystemRoutineAddress(string(name)) }
    };
    assert_eq!(
        find("KeSetEvent") as usize,
        KeSetEvent as *const () as usize
    );
    assert!(find("KeMakeCoffee").is_null());
    kernel.shutdown_clean();
}
