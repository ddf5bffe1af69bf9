// SPDX-License-Identifier: MIT OR Apache-2.0
//! What notify routines are given, where they run, and how many there may be.

mod support;

use fltport_nt::bindings::*;
use nt_host::{ImageLoaded, ProcessCreated, irql};
use std::sync::Mutex;
use support::*;

/// As many routines of one kind as the system takes.
const MOST: usize = 64;

/// A routine's address that is never called.
fn never_called<F: Copy>(number: usize) -> F {
    let address = 0x1_0000 + number;
    assert_eq!(size_of::<F>(), size_of::<usize>());
    // SAFETY: `F` is a function pointer of this size; any address but zero is one, and no event
    // happens while it is registered, so it is not called.
    unsafe { std::mem::transmute_copy(&address) }
}

type Process = unsafe extern "system" fn(HANDLE, HANDLE, bool);
type Thread = unsafe extern "system" fn(HANDLE, HANDLE, bool);

#[test]
fn sixty_four_process_routines_are_the_most() {
    let kernel = boot();
    let set = |number, remove| {
        let routine = never_called::<Process>(number);
        // SAFETY: a routine of the right kind, which no event calls.
        unsafe { PsSetCreateProcessNotifyRoutine(Some(routine), remove) }
    };
    for number in 0..MOST {
        assert_eq!(set(number, false), STATUS_SUCCESS, "{number}");
    }
    assert_eq!(set(MOST, false), STATUS_INVALID_PARAMETER);
    assert_eq!(set(0, true), STATUS_SUCCESS);
    assert_eq!(set(MOST, false), STATUS_SUCCESS, "there is room again");
    for number in 1..=MOST {
        assert_eq!(set(number, true), STATUS_SUCCESS);
    }
    kernel.shutdown_clean();
}

#[test]
fn sixty_four_thread_routines_are_the_most() {
    let kernel = boot();
    let set = |number| {
        let routine = never_called::<Thread>(number);
        // SAFETY: a routine of the right kind, which no event calls.
        unsafe { PsSetCreateThreadNotifyRoutine(Some(routine)) }
    };
    for number in 0..MOST {
        assert_eq!(set(number), STATUS_SUCCESS, "{number}");
    }
    assert_eq!(set(MOST), STATUS_INSUFFICIENT_RESOURCES);
    for number in 0..MOST {
        let routine = never_called::<Thread>(number);
        // SAFETY: registered above.
        let removed = unsafe { PsRemoveCreateThreadNotifyRoutine(Some(routine)) };
        assert_eq!(removed, STATUS_SUCCESS);
    }
    kernel.shutdown_clean();
}

/// What the routines found.
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn found() -> Vec<String> {
    std::mem::take(&mut *FOUND.lock().unwrap())
}

fn note(what: &str) {
    // SAFETY: takes nothing. Outside of a critical region the hosted kernel reports it, and the
    // shutdown would not be clean.
    unsafe { KeLeaveCriticalRegion() };
    // SAFETY: takes nothing; as many regions as before.
    unsafe { KeEnterCriticalRegion() };
    let level = irql::name(irql::current());
    FOUND.lock().unwrap().push(format!("{what} at {level}"));
}

unsafe extern "system" fn process(_parent: HANDLE, _pid: HANDLE, create: bool) {
    note(if create { "create" } else { "exit" });
}

unsafe extern "system" fn image(name: *const UNICODE_STRING, pid: HANDLE, info: *const IMAGE_INFO) {
    // SAFETY: valid during the call.
    let info = unsafe { info.read() };
    // SAFETY: both ways to read the flags are numbers.
    let properties = unsafe { info.Anonymous.Properties };
    let named = !name.is_null();
    note(&format!(
        "image of {} named {named} {properties:#x}",
        pid as usize
    ));
}

#[test]
fn process_and_image_routines_run_at_passive_level_in_a_critical_region() {
    let kernel = boot();
    // SAFETY: a routine of the right kind.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(process), false) };
    // SAFETY: as above.
    unsafe { PsSetLoadImageNotifyRoutine(Some(image)) };
    let new = ProcessCreated {
        pid: 100,
        parent_pid: 4,
        creator_pid: 4,
        ..Default::default()
    };
    assert_eq!(kernel.process_created(&new), STATUS_SUCCESS);
    kernel.image_loaded(&ImageLoaded {
        pid: 100,
        ..Default::default()
    });
    let name = Some(wide("driver.sys"));
    kernel.image_loaded(&ImageLoaded {
        pid: 0,
        name,
        system_mode: true,
        ..Default::default()
    });
    kernel.process_exited(100, 0);
    let expected = [
        "create at PASSIVE_LEVEL",
        "image of 100 named false 0x0 at PASSIVE_LEVEL",
        "image of 0 named true 0x100 at PASSIVE_LEVEL",
        "exit at PASSIVE_LEVEL",
    ];
    assert_eq!(found(), expected);
    // SAFETY: registered above.
    unsafe { PsSetCreateProcessNotifyRoutine(Some(process), true) };
    // SAFETY: as above.
    unsafe { PsRemoveLoadImageNotifyRoutine(Some(image)) };
    kernel.shutdown_clean();
}

unsafe extern "system" fn extended(
    _process: PEPROCESS,
    pid: HANDLE,
    info: *mut PS_CREATE_NOTIFY_INFO,
) {
    if info.is_null() {
        return FOUND.lock().unwrap().push(format!("exit {}", pid as usize));
    }
    // SAFETY: valid during the call.
    let info = unsafe { &*info };
    // SAFETY: both ways to read the flags are numbers.
    let flags = unsafe { info.Anonymous.Flags };
    FOUND.lock().unwrap().push(format!(
        "create flags {flags} image {} command line {} file {} status {:#x}",
        !info.ImageFileName.is_null(),
        !info.CommandLine.is_null(),
        !info.FileObject.is_null(),
        info.CreationStatus
    ));
}

#[test]
fn a_creation_says_what_is_known_and_null_for_what_is_not() {
    let kernel = boot();
    // SAFETY: a routine of the right kind; this thread runs as no driver, so its image is not
    // asked for force-integrity.
    unsafe { PsSetCreateProcessNotifyRoutineEx2(0, extended as *const _, false) };
    let known = ProcessCreated {
        pid: 100,
        creator_pid: 4,
        image: Some(wide("/bin/true")),
        command_line: Some(wide("true")),
        ..Default::default()
    };
    kernel.process_created(&known);
    let bare = ProcessCreated {
        pid: 101,
        creator_pid: 4,
        ..Default::default()
    };
    kernel.process_created(&bare);
    // A process that ran before anybody looked: its end is told all the same.
    assert_eq!(kernel.peer(102, 0).pid(), 102);
    kernel.process_exited(102, 0);
    assert_eq!(
        found(),
        [
            "create flags 1 image true command line true file false status 0x0",
            "create flags 0 image false command line false file false status 0x0",
            "exit 102",
        ]
    );
    // SAFETY: registered above.
    unsafe { PsSetCreateProcessNotifyRoutineEx2(0, extended as *const _, true) };
    kernel.shutdown_clean();
}

unsafe extern "system" fn on_which_process(pid: HANDLE, _tid: HANDLE, create: bool) {
    // SAFETY: takes nothing.
    let current = unsafe { PsGetCurrentProcessId() };
    let inside = current == pid;
    FOUND
        .lock()
        .unwrap()
        .push(format!("create {create} in its process {inside}"));
}

#[test]
fn thread_routines_of_both_types_run_in_the_threads_process() {
    let kernel = boot();
    kernel.process_created(&ProcessCreated {
        pid: 100,
        creator_pid: 4,
        ..Default::default()
    });
    for kind in [0, 1] {
        // SAFETY: a routine of the right kind.
        let set = unsafe { PsSetCreateThreadNotifyRoutineEx(kind, on_which_process as *const _) };
        assert_eq!(set, STATUS_SUCCESS);
        kernel.thread_created(100, 5);
        kernel.thread_exited(100, 5);
        assert_eq!(
            found(),
            [
                "create true in its process true",
                "create false in its process true"
            ]
        );
        // SAFETY: registered above.
        let removed = unsafe { PsRemoveCreateThreadNotifyRoutine(Some(on_which_process)) };
        assert_eq!(removed, STATUS_SUCCESS);
    }
    // SAFETY: a wrong type.
    let wrong = unsafe { PsSetCreateThreadNotifyRoutineEx(2, on_which_process as *const _) };
    assert_eq!(wrong, STATUS_INVALID_PARAMETER);
    kernel.shutdown_clean();
}
