// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes, notify routines, threads, objects and handles.

mod support;

use fltport_nt::bindings::*;
use nt_host::{DriverImage, ImageLoaded, Kernel, ProcessCreated, Rule, Unload};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use support::*;

/// What notify routines saw, in order. Kernels take turns, so tests do, too.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(text: String) {
    SEEN.lock().unwrap().push(text);
}

fn seen() -> Vec<String> {
    std::mem::take(&mut *SEEN.lock().unwrap())
}

fn current_pid() -> usize {
    // SAFETY: takes nothing.
    unsafe { PsGetCurrentProcessId() as usize }
}

unsafe extern "system" fn plain(parent: HANDLE, pid: HANDLE, create: bool) {
    note(format!(
        "plain {} {} {create} in {}",
        parent as usize,
        pid as usize,
        current_pid()
    ));
}

fn text(string: *const UNICODE_STRING) -> String {
    if string.is_null() {
        return "-".to_owned();
    }
    // SAFETY: valid during the callback.
    let string = unsafe { string.read() };
    let units =
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) };
    String::from_utf16_lossy(units)
}

static VETO: AtomicBool = AtomicBool::new(false);

unsafe extern "system" fn extended(
    process: PEPROCESS,
    pid: HANDLE,
    info: *mut PS_CREATE_NOTIFY_INFO,
) {
    // SAFETY: a process object that lives during the callback.
    assert_eq!(unsafe { PsGetProcessId(process) }, pid);
    if info.is_null() {
        // SAFETY: as above.
        let status = unsafe { PsGetProcessExitStatus(process) };
        return note(format!(
            "exit {} {status:#x} in {}",
            pid as usize,
            current_pid()
        ));
    }
    // SAFETY: valid during the callback.
    let info = unsafe { &mut *info };
    assert_eq!(info.Size, size_of::<PS_CREATE_NOTIFY_INFO>());
    note(format!(
        "create {} parent {} by {}.{} '{}' '{}' in {}",
        pid as usize,
        info.ParentProcessId as usize,
        info.CreatingThreadId.UniqueProcess as usize,
        info.CreatingThreadId.UniqueThread as usize,
        text(info.ImageFileName),
        text(info.CommandLine),
        current_pid(),
    ));
    if VETO.load(Ordering::SeqCst) {
        info.CreationStatus = STATUS_ACCESS_DENIED;
    }
}

fn created(pid: u64) -> ProcessCreated {
    ProcessCreated {
        pid,
        parent_pid: 10,
        creator_pid: 20,
        creator_tid: 21,
        image: Some(wide("/bin/true")),
        command_line: Some(wide("true --now")),
        uid: Some(1000),
    }
}

#[test]
fn process_routines_run_in_order_attached_to_the_creator_and_the_dying() {
    let kernel = boot();
    assert_eq!(
        // SAFETY: routines of the right kinds.
        unsafe { PsSetCreateProcessNotifyRoutine(Some(plain), false) },
        0
    );
    assert_eq!(
        // SAFETY: as above. This thread runs as no driver, so force-integrity does not matter.
        unsafe { PsSetCreateProcessNotifyRoutineEx(Some(extended), false) },
        0
    );
    assert_eq!(kernel.process_created(&created(100)), STATUS_SUCCESS);
    kernel.process_exited(100, 7);
    kernel.process_exited(100, 7);
    assert_eq!(
        seen(),
        [
            "plain 10 100 true in 20",
            "create 100 parent 10 by 20.21 '/bin/true' 'true --now' in 20",
            "plain 10 100 false in 100",
            "exit 100 0x7 in 100",
        ]
    );
    assert_eq!(
        // SAFETY: registered above.
        unsafe { PsSetCreateProcessNotifyRoutine(Some(plain), true) },
        0
    );
    assert_eq!(
        // SAFETY: as above.
        unsafe { PsSetCreateProcessNotifyRoutineEx(Some(extended), true) },
        0
    );
    kernel.process_created(&created(101));
    assert!(seen().is_empty());
    kernel.shutdown_clean();
}

#[test]
fn a_refused_process_is_gone_and_its_end_is_told() {
    let kernel = boot();
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateProcessNotifyRoutineEx(Some(extended), false) };
    VETO.store(true, Ordering::SeqCst);
    assert_eq!(kernel.process_created(&created(100)), STATUS_ACCESS_DENIED);
    VETO.store(false, Ordering::SeqCst);
    assert!(kernel.process(100).is_none());
    let seen = seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[1].starts_with("exit 100"), "{seen:?}");
    // SAFETY: registered above.
    unsafe { PsSetCreateProcessNotifyRoutineEx(Some(extended), true) };
    kernel.shutdown_clean();
}

#[test]
fn registration_has_the_documented_statuses() {
    let kernel = boot();
    let plain: PCREATE_PROCESS_NOTIFY_ROUTINE = Some(plain);
    let image: PLOAD_IMAGE_NOTIFY_ROUTINE = Some(image);
    let thread: PCREATE_THREAD_NOTIFY_ROUTINE = Some(thread);
    assert_eq!(
        // SAFETY: routines of the right kinds, here and below.
        unsafe { PsSetCreateProcessNotifyRoutine(plain, true) },
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(
        // SAFETY: see above.
        unsafe { PsSetCreateProcessNotifyRoutine(plain, false) },
        STATUS_SUCCESS
    );
    assert_eq!(
        // SAFETY: see above.
        unsafe { PsSetCreateProcessNotifyRoutine(plain, false) },
        STATUS_INVALID_PARAMETER
    );
    assert_eq!(
        // SAFETY: see above.
        unsafe { PsSetCreateProcessNotifyRoutine(plain, true) },
        STATUS_SUCCESS
    );
    // SAFETY: a wrong type.
    let wrong = unsafe { PsSetCreateProcessNotifyRoutineEx2(1, extended as *const c_void, false) };
    assert_eq!(wrong, STATUS_INVALID_PARAMETER);
    assert_eq!(
        // SAFETY: see above.
        unsafe { PsRemoveLoadImageNotifyRoutine(image) },
        STATUS_PROCEDURE_NOT_FOUND
    );
    assert_eq!(
        // SAFETY: see above.
        unsafe { PsRemoveCreateThreadNotifyRoutine(thread) },
        STATUS_PROCEDURE_NOT_FOUND
    );
    for _ in 0..64 {
        assert_eq!(
            // SAFETY: see above.
            unsafe { PsSetLoadImageNotifyRoutine(image) },
            STATUS_SUCCESS
        );
    }
    assert_eq!(
        // SAFETY: see above.
        unsafe { PsSetLoadImageNotifyRoutine(image) },
        STATUS_INSUFFICIENT_RESOURCES
    );
    let reports = kernel.shutdown();
    // The process routine, and all images but the first: allowed, and still a mistake.
    assert_eq!(rules(&reports), [Rule::NotifyRegisteredTwice; 64]);
}

unsafe extern "system" fn thread(pid: HANDLE, tid: HANDLE, create: bool) {
    note(format!("thread {} {} {create}", pid as usize, tid as usize));
}

unsafe extern "system" fn image(name: *const UNICODE_STRING, pid: HANDLE, info: *const IMAGE_INFO) {
    // SAFETY: valid during the callback.
    let size = unsafe { (*info).ImageSize };
    note(format!("image {} '{}' {size}", pid as usize, text(name)));
}

#[test]
fn thread_and_image_routines_are_called() {
    let kernel = boot();
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateThreadNotifyRoutine(Some(thread)) };
    // SAFETY: as above.
    unsafe { PsSetLoadImageNotifyRoutine(Some(image)) };
    kernel.thread_created(5, 6);
    kernel.thread_exited(5, 6);
    let loaded = ImageLoaded {
        pid: 5,
        name: Some(wide("lib.so")),
        size: 42,
        ..Default::default()
    };
    kernel.image_loaded(&loaded);
    assert_eq!(
        seen(),
        ["thread 5 6 true", "thread 5 6 false", "image 5 'lib.so' 42"]
    );
    assert_eq!(
        // SAFETY: registered above.
        unsafe { PsRemoveCreateThreadNotifyRoutine(Some(thread)) },
        0
    );
    // SAFETY: as above.
    assert_eq!(unsafe { PsRemoveLoadImageNotifyRoutine(Some(image)) }, 0);
    kernel.shutdown_clean();
}

static GATE: AtomicUsize = AtomicUsize::new(0);
static ENTERED: AtomicBool = AtomicBool::new(false);

unsafe extern "system" fn slow(_parent: HANDLE, _pid: HANDLE, _create: bool) {
    ENTERED.store(true, Ordering::SeqCst);
    assert_eq!(
        wait(GATE.load(Ordering::SeqCst) as *const c_void, None),
        STATUS_SUCCESS
    );
}

/// As many routines of one kind as the system takes.
const MOST: usize = 64;

/// Registers or removes a process routine that no event calls.
fn set_process(number: usize, remove: bool) -> NTSTATUS {
    let address = 0x1_0000 + number;
    // SAFETY: any address but zero is a function pointer, and it is not called.
    let routine = unsafe {
        std::mem::transmute::<usize, unsafe extern "system" fn(HANDLE, HANDLE, bool)>(address)
    };
    // SAFETY: a routine of the right kind, which no event calls.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(routine), remove) }
}

#[test]
fn removal_waits_for_a_call_in_flight() {
    let kernel = boot();
    let gate = event(false, false);
    GATE.store(address(&*gate) as usize, Ordering::SeqCst);
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(slow), false) };
    let removed = AtomicBool::new(false);
    let shared = Shared::of(&*gate);
    std::thread::scope(|scope| {
        scope.spawn(|| kernel.process_created(&created(100)));
        while !ENTERED.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        for number in 1..MOST {
            assert_eq!(set_process(number, false), STATUS_SUCCESS);
        }
        scope.spawn(|| {
            assert_eq!(
                // SAFETY: registered above.
                unsafe { PsSetCreateProcessNotifyRoutine(Some(slow), true) },
                0
            );
            removed.store(true, Ordering::SeqCst);
        });
        // Once the removal has begun, there is room for another one.
        while set_process(MOST, false) != STATUS_SUCCESS {
            std::thread::yield_now();
        }
        assert!(!removed.load(Ordering::SeqCst), "the first call still runs");
        for number in 1..=MOST {
            assert_eq!(set_process(number, true), STATUS_SUCCESS);
        }
        // SAFETY: an initialised event.
        unsafe { KeSetEvent(shared.pointer(), 0, false) };
    });
    assert!(removed.load(Ordering::SeqCst));
    kernel.shutdown_clean();
}

unsafe extern "system" fn removes_itself(_parent: HANDLE, _pid: HANDLE, create: bool) {
    if create {
        // SAFETY: registered; that it runs is the mistake.
        unsafe { PsSetCreateProcessNotifyRoutine(Some(removes_itself), true) };
    }
}

#[test]
fn a_routine_that_removes_itself_is_reported() {
    let kernel = boot();
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(removes_itself), false) };
    kernel.process_created(&created(100));
    expect(kernel, &[Rule::NotifyRemovedInside]);
}

unsafe extern "system" fn wants_ex(_: *mut DRIVER_OBJECT, _: *const UNICODE_STRING) -> NTSTATUS {
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateProcessNotifyRoutineEx(Some(extended), false) }
}

#[test]
fn the_extended_form_needs_force_integrity() {
    let kernel = boot();
    let mut image = DriverImage {
        name: "wants-ex",
        entry: wants_ex,
        force_integrity: false,
    };
    assert_eq!(kernel.load(&image), Err(STATUS_ACCESS_DENIED));
    image.force_integrity = true;
    assert_eq!(kernel.load(&image), Ok(()));
    let unload = kernel.unload("wants-ex", Unload::Stop);
    assert_eq!(
        unload,
        Err(STATUS_INVALID_DEVICE_REQUEST),
        "it has no unload routine"
    );
    kernel.shutdown_clean();
}

#[test]
fn processes_are_found_and_counted() {
    let kernel = boot();
    kernel.process_created(&created(100));
    let mut process = 0;
    // SAFETY: memory for the pointer.
    let missing = unsafe { PsLookupProcessByProcessId(99 as HANDLE, &raw mut process) };
    assert_eq!(missing, STATUS_INVALID_CID);
    assert_eq!(
        // SAFETY: as above.
        unsafe { PsLookupProcessByProcessId(100 as HANDLE, &raw mut process) },
        0
    );
    kernel.process_exited(100, 3);
    // SAFETY: referenced above, though ended.
    assert_eq!(unsafe { PsGetProcessExitStatus(process) }, 3);
    assert_eq!(
        wait(process as *const c_void, Some(0)),
        STATUS_SUCCESS,
        "an end is a signal"
    );
    // SAFETY: as above.
    assert!(unsafe { PsGetProcessCreateTimeQuadPart(process) } > 0);
    // SAFETY: referenced above.
    assert_eq!(unsafe { ObfDereferenceObject(process as *const c_void) }, 0);
    // SAFETY: gone, which is the mistake.
    unsafe { ObfDereferenceObject(process as *const c_void) };
    // SAFETY: as above.
    assert!(unsafe { PsGetProcessId(process) }.is_null());
    expect(kernel, &[Rule::ReferenceUnderflow, Rule::ObjectUnknown]);
}

static RAN: AtomicU32 = AtomicU32::new(0);

unsafe extern "system" fn body(context: *mut c_void) {
    assert_eq!(current_pid(), 4, "system threads run in System");
    RAN.fetch_add(context as u32, Ordering::SeqCst);
}

unsafe extern "system" fn terminates(_context: *mut c_void) {
    // SAFETY: a system thread.
    unsafe { PsTerminateSystemThread(0) };
    unreachable!("the thread has ended");
}

fn start(routine: unsafe extern "system" fn(*mut c_void), context: usize) -> (HANDLE, CLIENT_ID) {
    let (mut handle, mut id) = (null_mut(), CLIENT_ID::default());
    let routine = untyped(routine as *const ());
    // SAFETY: memory for the results, a routine and its context.
    let status = unsafe {
        let context = context as *const c_void;
        let id = &raw mut id;
        PsCreateSystemThread(&raw mut handle, 0, null(), null_mut(), id, routine, context)
    };
    assert_eq!(status, STATUS_SUCCESS);
    (handle, id)
}

fn join(handle: HANDLE) {
    let mut object = null_mut();
    // SAFETY: an open handle and memory for the pointer.
    let status = unsafe { ObReferenceObjectByHandle(handle, 0, 0, 0, &raw mut object, null_mut()) };
    assert_eq!(status, STATUS_SUCCESS);
    // SAFETY: open.
    assert_eq!(unsafe { ZwClose(handle) }, STATUS_SUCCESS);
    assert_eq!(wait(object, Some(-10_000 * MS)), STATUS_SUCCESS);
    // SAFETY: referenced above.
    unsafe { ObfDereferenceObject(object) };
}

#[test]
fn system_threads_run_and_can_be_waited_for() {
    let kernel = boot();
    let (handle, id) = start(body, 3);
    assert_eq!(id.UniqueProcess as usize, 4);
    assert_ne!(id.UniqueThread as usize, 0);
    join(handle);
    assert_eq!(RAN.load(Ordering::SeqCst), 3);
    let (handle, _) = start(terminates, 0);
    join(handle);
    // SAFETY: closed, which is the mistake.
    assert_eq!(unsafe { ZwClose(handle) }, STATUS_INVALID_HANDLE);
    assert_eq!(
        // SAFETY: not a system thread.
        unsafe { PsTerminateSystemThread(0) },
        STATUS_INVALID_PARAMETER
    );
    expect(kernel, &[Rule::HandleInvalid]);
}

unsafe extern "system" fn careless(lock: *mut c_void) {
    // SAFETY: a lock.
    unsafe { fltport_nt::linked::KeAcquireSpinLockRaiseToDpc(lock.cast()) };
    // SAFETY: takes nothing. The IRQL is a mistake, too.
    unsafe { KeEnterCriticalRegion() };
}

#[test]
fn a_thread_that_ends_with_a_lock_a_region_and_a_raised_irql_is_reported() {
    let kernel = boot();
    let mut lock = 0_usize;
    let (handle, _) = start(careless, &raw mut lock as usize);
    join(handle);
    let too_high = Rule::IrqlTooHigh;
    let left = [
        Rule::IrqlNotRestored,
        Rule::CriticalRegionUnbalanced,
        Rule::LockLeft,
    ];
    expect(kernel, &[&[too_high], &left[..]].concat());
}

fn open_thread_handle(kernel: &Kernel, pid: u64, flags: u32) -> HANDLE {
    let mut handle = null_mut();
    let process = kernel.process(pid).unwrap();
    process.attach(|| {
        // SAFETY: takes nothing.
        let own = unsafe { IoGetCurrentProcess() };
        // SAFETY: a live process and memory for the handle.
        let status = unsafe {
            ObOpenObjectByPointer(
                own as *const c_void,
                flags,
                null(),
                0,
                0,
                0,
                &raw mut handle,
            )
        };
        assert_eq!(status, STATUS_SUCCESS);
    });
    handle
}

#[test]
fn a_handle_that_user_mode_can_reach_is_reported() {
    let kernel = boot();
    kernel.process_created(&created(100));
    for flags in [OBJ_KERNEL_HANDLE, 0] {
        let handle = open_thread_handle(&kernel, 100, flags);
        // SAFETY: opened above.
        unsafe { ZwClose(handle) };
    }
    expect(kernel, &[Rule::HandleNotKernel]);
}

#[test]
fn an_object_of_another_type_is_not_referenced() {
    unsafe extern "C" {
        static PsProcessType: *const POBJECT_TYPE;
        static PsThreadType: *const POBJECT_TYPE;
    }
    let kernel = boot();
    let (handle, _) = start(body, 0);
    let mut object = null_mut();
    // SAFETY: a variable of the hosted kernel that never changes.
    let process_type = unsafe { *PsProcessType };
    // SAFETY: as above.
    let thread_type = unsafe { *PsThreadType };
    let mut reference = |kind| {
        // SAFETY: an open handle and memory for the pointer.
        unsafe { ObReferenceObjectByHandle(handle, 0, kind, 0, &raw mut object, null_mut()) }
    };
    assert_eq!(reference(process_type), STATUS_OBJECT_TYPE_MISMATCH);
    assert_eq!(reference(thread_type), STATUS_SUCCESS);
    // SAFETY: referenced once.
    unsafe { ObfDereferenceObject(object) };
    join(handle);
    kernel.shutdown_clean();
}
