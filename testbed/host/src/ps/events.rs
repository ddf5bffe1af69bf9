// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes, threads and images come and go: the calls of the notify routines.

use std::sync::Arc;

use super::notify::{Kind, Registration};
use crate::abi::{
    CLIENT_ID, HANDLE, IMAGE_INFO, IMAGE_INFO_0, NTSTATUS, PEPROCESS, PS_CREATE_NOTIFY_INFO,
    PS_CREATE_NOTIFY_INFO_0, UNICODE_STRING,
};
use crate::ke::critical_region;
use crate::kernel::State;
use crate::process::Process;
use crate::se::token::Token;
use crate::status::{STATUS_SUCCESS, is_success};
use crate::unicode::OwnedUnicodeString;

const PROCESS_KINDS: [Kind; 3] = [Kind::Process, Kind::ProcessEx, Kind::ProcessEx2];
const FILE_OPEN_NAME_AVAILABLE: u32 = 1;

type ProcessRoutine = unsafe extern "system" fn(HANDLE, HANDLE, bool);
type ProcessRoutineEx = unsafe extern "system" fn(PEPROCESS, HANDLE, *mut PS_CREATE_NOTIFY_INFO);
type ThreadRoutine = unsafe extern "system" fn(HANDLE, HANDLE, bool);
type ImageRoutine = unsafe extern "system" fn(*const UNICODE_STRING, HANDLE, *const IMAGE_INFO);

/// A process that is being made.
#[derive(Clone, Debug, Default)]
pub struct ProcessCreated {
    /// The id of the new process.
    pub pid: u64,
    /// The process it inherits from.
    pub parent_pid: u64,
    /// The process that makes it, which need not be the parent.
    pub creator_pid: u64,
    /// The thread that makes it.
    pub creator_tid: u64,
    /// The path of the program, UTF-16.
    pub image: Option<Vec<u16>>,
    /// The command line, UTF-16.
    pub command_line: Option<Vec<u16>>,
    /// The user it runs as; the creator's where it is not known.
    pub uid: Option<u32>,
}

/// An image that was mapped into a process.
#[derive(Clone, Debug, Default)]
pub struct ImageLoaded {
    /// The process; 0 for a driver.
    pub pid: u64,
    /// The full name, UTF-16.
    pub name: Option<Vec<u16>>,
    /// Where it is mapped.
    pub base: u64,
    /// Its size in bytes.
    pub size: usize,
    /// Whether it is a driver.
    pub system_mode: bool,
}

/// Makes a process known that ran before anybody looked. No routine is called.
pub(crate) fn process_running(state: &State, event: &ProcessCreated) {
    let token = Token::of_user(event.uid.unwrap_or(0));
    let image = event.image.clone().unwrap_or_default();
    state
        .processes
        .create(state, event.pid, event.parent_pid, token, image);
}

/// Calls the create routines, in this thread attached to the creator; the creation status.
pub(crate) fn process_created(state: &State, event: &ProcessCreated) -> NTSTATUS {
    let creator = creator_of(state, event);
    let token = match event.uid {
        Some(uid) => Token::of_user(uid),
        None => creator.token().duplicate(),
    };
    let image = event.image.clone().unwrap_or_default();
    let process = state
        .processes
        .create(state, event.pid, event.parent_pid, token, image);
    let image = event.image.as_deref().map(OwnedUnicodeString::new);
    let command_line = event.command_line.as_deref().map(OwnedUnicodeString::new);
    let mut image_descriptor = image.as_ref().map(OwnedUnicodeString::descriptor);
    let mut command_descriptor = command_line.as_ref().map(OwnedUnicodeString::descriptor);
    let mut info = PS_CREATE_NOTIFY_INFO {
        Size: size_of::<PS_CREATE_NOTIFY_INFO>(),
        Anonymous: PS_CREATE_NOTIFY_INFO_0 {
            Flags: if image.is_some() {
                FILE_OPEN_NAME_AVAILABLE
            } else {
                0
            },
        },
        ParentProcessId: event.parent_pid as HANDLE,
        CreatingThreadId: CLIENT_ID {
            UniqueProcess: event.creator_pid as HANDLE,
            UniqueThread: event.creator_tid as HANDLE,
        },
        FileObject: std::ptr::null_mut(),
        ImageFileName: pointer_to(&mut image_descriptor),
        CommandLine: pointer_to(&mut command_descriptor),
        CreationStatus: STATUS_SUCCESS,
    };
    creator.attach(|| {
        critical_region::inside(|| {
            for registration in state.notify.of(&PROCESS_KINDS) {
                call_process(&registration, &process, Some(&mut info));
            }
        });
    });
    if !is_success(info.CreationStatus) {
        // The process never runs; the routines that saw it come see it go.
        process_exited(state, event.pid, info.CreationStatus);
    }
    info.CreationStatus
}

fn creator_of(state: &State, event: &ProcessCreated) -> Arc<Process> {
    match state.processes.find(event.creator_pid) {
        Some(known) => known,
        // The creator ran before anybody looked.
        None => state
            .processes
            .open(state, event.creator_pid, event.uid.unwrap_or(0)),
    }
}

fn pointer_to(descriptor: &mut Option<UNICODE_STRING>) -> *mut UNICODE_STRING {
    descriptor
        .as_mut()
        .map_or(std::ptr::null_mut(), |descriptor| descriptor as *mut _)
}

/// Calls one process routine; without `info` the process ends.
fn call_process(
    registration: &Arc<Registration>,
    process: &Arc<Process>,
    info: Option<&mut PS_CREATE_NOTIFY_INFO>,
) {
    let pid = process.pid() as HANDLE;
    let create = info.is_some();
    let info = info.map_or(std::ptr::null_mut(), |info| info as *mut _);
    registration.routine.run(|routine| match registration.kind {
        Kind::Process => {
            // SAFETY: registered as a routine of this kind.
            let routine: ProcessRoutine = unsafe { std::mem::transmute(routine) };
            // SAFETY: the arguments are those of the kind.
            unsafe { routine(process.parent_pid() as HANDLE, pid, create) };
        }
        _ => {
            // SAFETY: registered as a routine of this kind.
            let routine: ProcessRoutineEx = unsafe { std::mem::transmute(routine) };
            // SAFETY: the process is kept by the caller, `info` is null or valid for the call.
            unsafe { routine(process.address() as PEPROCESS, pid, info) };
        }
    });
}

/// Calls the exit routines, in this thread attached to the dying process. A process that is not
/// known is ignored.
pub(crate) fn process_exited(state: &State, pid: u64, exit_status: i32) {
    let Some(process) = state.processes.find(pid) else {
        return;
    };
    process.set_exit_status(state, exit_status);
    process.attach(|| {
        critical_region::inside(|| {
            for registration in state.notify.of(&PROCESS_KINDS) {
                call_process(&registration, &process, None);
            }
        });
    });
    state.processes.remove(state, pid);
    state.views.process_ended(&process);
}

/// Calls the thread routines, attached to the process of the thread.
pub(crate) fn thread_event(state: &State, pid: u64, tid: u64, create: bool) {
    let call = || {
        for registration in state.notify.of(&[Kind::Thread, Kind::ThreadOnNew]) {
            registration.routine.run(|routine| {
                // SAFETY: registered as a routine of this kind.
                let routine: ThreadRoutine = unsafe { std::mem::transmute(routine) };
                // SAFETY: the arguments are those of the kind.
                unsafe { routine(pid as HANDLE, tid as HANDLE, create) };
            });
        }
    };
    match state.processes.find(pid) {
        Some(process) => process.attach(call),
        None => call(),
    }
}

/// Calls the image routines, attached to the process that maps the image.
pub(crate) fn image_loaded(state: &State, event: &ImageLoaded) {
    const SYSTEM_MODE_IMAGE: u32 = 0x100;
    let name = event.name.as_deref().map(OwnedUnicodeString::new);
    let mut descriptor = name.as_ref().map(OwnedUnicodeString::descriptor);
    let name = pointer_to(&mut descriptor).cast_const();
    let properties = if event.system_mode {
        SYSTEM_MODE_IMAGE
    } else {
        0
    };
    let info = IMAGE_INFO {
        Anonymous: IMAGE_INFO_0 {
            Properties: properties,
        },
        ImageBase: event.base as *mut _,
        ImageSelector: 0,
        ImageSize: event.size,
        ImageSectionNumber: 0,
    };
    let call = || {
        critical_region::inside(|| {
            for registration in state.notify.of(&[Kind::Image]) {
                registration.routine.run(|routine| {
                    // SAFETY: registered as a routine of this kind.
                    let routine: ImageRoutine = unsafe { std::mem::transmute(routine) };
                    // SAFETY: name and info live until the call has returned.
                    unsafe { routine(name, event.pid as HANDLE, &raw const info) };
                });
            }
        });
    };
    match state.processes.find(event.pid) {
        Some(process) => process.attach(call),
        None => call(),
    }
}
