// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::abi::{CLIENT_ID, HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, PETHREAD, PKSTART_ROUTINE};
use crate::driver::Driver;
use crate::entry::nt;
use crate::frame;
use crate::irql::{HIGH_LEVEL, PASSIVE_LEVEL};
use crate::ke::bug_check::never_return;
use crate::ke::header::{DispatcherObject, kind};
use crate::kernel::{self, State};
use crate::object::Object;
use crate::process::Process;
use crate::sched::{self, Waiter};
use crate::stack::Stack;
use crate::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};
use crate::thread;
use crate::verifier::attribution;
use crate::verifier::unloaded;
use crate::verifier::{Report, Rule};

type StartRoutine = unsafe extern "system" fn(*mut c_void);

/// A thread. Its address is the PETHREAD that drivers see.
#[repr(C)]
pub(crate) struct Thread {
    // First, so that a PETHREAD can be waited for.
    header: DispatcherObject,
    id: AtomicU64,
    process: Arc<Process>,
    driver: Option<Arc<Driver>>,
    is_system: AtomicBool,
    finished: AtomicBool,
    begun: Waiter,
    made_at: Stack,
}

impl Thread {
    pub(crate) fn new(process: Arc<Process>, driver: Option<Arc<Driver>>) -> Arc<Thread> {
        let thread = Arc::new(Thread {
            header: DispatcherObject::default(),
            id: AtomicU64::new(0),
            process,
            driver,
            is_system: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            begun: Waiter::new(),
            made_at: Stack::capture(),
        });
        thread.header.settle(kind::THREAD, size_of::<Thread>());
        thread
    }

    pub(crate) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Gives the thread its id, when it runs.
    pub(crate) fn begin(&self, id: u64) {
        self.id.store(id, Ordering::Release);
        sched::wake(&self.begun);
    }

    /// Makes the thread known as an object.
    pub(crate) fn enlist(self: &Arc<Self>, state: &State) {
        state.objects.insert(Object::Thread(self.clone()));
    }

    /// Ends the thread: whoever waits for it goes on.
    pub(crate) fn finish(self: &Arc<Self>, state: &State, _exit_status: NTSTATUS) {
        if !self.finished.swap(true, Ordering::AcqRel) {
            // Before the signal: whoever joins it may unload the driver at once, and must not find
            // it among the threads that still run.
            state.system_threads.remove(self);
            state.dispatcher.signal(self.header.header());
            state.objects.retire(self.address());
        }
    }
}

/// The threads that drivers started and that run.
#[derive(Default)]
pub(crate) struct SystemThreads(parking_lot::Mutex<Vec<Arc<Thread>>>);

impl SystemThreads {
    fn add(&self, thread: &Arc<Thread>) {
        self.0.lock().push(thread.clone());
    }

    fn remove(&self, thread: &Arc<Thread>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, thread));
    }

    /// Reports the threads of `driver` that still run.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let running: Vec<Arc<Thread>> = self
            .0
            .lock()
            .iter()
            .filter(|thread| attribution::is(thread.driver.as_ref(), driver))
            .cloned()
            .collect();
        for thread in running {
            Report::new(Rule::ThreadLeft)
                .driver(Some(driver.name()))
                .function("PsCreateSystemThread")
                .expected("all threads have ended, and somebody has waited for them")
                .found(format!("thread {} runs", thread.id()))
                .made_at(thread.made_at.clone())
                .file();
        }
    }
}

/// Says that the thread has ended, also when the host has panicked in it: else whoever joins it
/// would wait for ever.
struct Finishes<'t>(&'t Arc<Thread>, &'t State);

impl Drop for Finishes<'_> {
    fn drop(&mut self) {
        self.0.finish(self.1, STATUS_SUCCESS);
    }
}

/// Starts a system thread that runs `body`, attached to `process`.
pub(crate) fn start(
    state: &Arc<State>,
    process: Arc<Process>,
    driver: Option<Arc<Driver>>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<Arc<Thread>> {
    let thread = Thread::new(process, driver);
    thread.is_system.store(true, Ordering::Release);
    thread.enlist(state);
    state.system_threads.add(&thread);
    let (inner, inner_state) = (thread.clone(), state.clone());
    let name = match &thread.driver {
        Some(driver) => format!("nt:{}", driver.name()),
        None => "nt:system".to_owned(),
    };
    let spawned = sched::spawn(name, move || {
        thread::adopt_state(&inner_state);
        thread::adopt_thread(&inner_state, &inner);
        inner.begin(thread::native_id());
        let _finishes = Finishes(&inner, &inner_state);
        thread::attached(&inner.process, body);
    });
    if let Err(error) = spawned {
        thread.finish(state, STATUS_INSUFFICIENT_RESOURCES);
        return Err(error);
    }
    Ok(thread)
}

/// The process that a handle argument names; null is System.
fn process_by_handle(state: &State, handle: HANDLE) -> Result<Arc<Process>, NTSTATUS> {
    if handle.is_null() {
        return Ok(state.processes.system());
    }
    match state.objects.by_handle(handle as usize) {
        Some(Object::Process(process)) => Ok(process),
        Some(_) => Err(STATUS_OBJECT_TYPE_MISMATCH),
        None => Err(STATUS_INVALID_HANDLE),
    }
}

/// Starts a driver's thread.
///
/// # Safety
/// `routine` is a start routine for `context`.
unsafe fn start_routine(
    state: &Arc<State>,
    process: Arc<Process>,
    routine: StartRoutine,
    context: usize,
) -> Option<Arc<Thread>> {
    let driver = attribution::responsible();
    let inner = driver.clone();
    let body = move || {
        let what = "the start routine of a system thread";
        let made_at = &thread::current_thread().made_at;
        if !unloaded::may_call(what, inner.as_ref(), "PsCreateSystemThread", made_at) {
            return;
        }
        frame::call("a system thread", inner.as_ref(), || {
            // SAFETY: a start routine for this context by this function's contract.
            unsafe { routine(context as *mut c_void) }
        });
    };
    start(state, process, driver, body).ok()
}

nt! {
    /// Starts a thread in System or in the process of a handle. The handle it returns must be
    /// closed; the thread ends when its routine returns, or calls PsTerminateSystemThread.
    fails = STATUS_INSUFFICIENT_RESOURCES;
    simplified = "a thread of the host; the access that is asked for is granted";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsCreateSystemThread(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        process: HANDLE,
        client_id: *mut CLIENT_ID,
        routine: PKSTART_ROUTINE,
        context: *const c_void,
    ) -> NTSTATUS {
        let state = kernel::state();
        let process = match process_by_handle(&state, process) {
            Ok(process) => process,
            Err(status) => return status,
        };
        let Some(routine) = routine else {
            return STATUS_INVALID_PARAMETER;
        };
        // SAFETY: the metadata leaves the argument out; a start routine takes its context.
        let routine: StartRoutine = unsafe { std::mem::transmute(routine) };
        // SAFETY: the caller passes a start routine and its context.
        let thread = unsafe { start_routine(&state, process, routine, context as usize) };
        let Some(thread) = thread else {
            return STATUS_INSUFFICIENT_RESOURCES;
        };
        if !client_id.is_null() {
            sched::block(&thread.begun, None);
            let id = CLIENT_ID {
                UniqueProcess: thread.process.pid() as HANDLE,
                UniqueThread: thread.id() as HANDLE,
            };
            // SAFETY: the caller passes null or memory for a client id.
            unsafe { client_id.write(id) };
        }
        // SAFETY: the caller passes null or object attributes.
        let flags = unsafe { crate::ob::flags(attributes) };
        let opened = crate::ob::open_with(&state, Object::Thread(thread), flags, access);
        // SAFETY: the caller passes memory for a handle.
        unsafe { handle.write(opened) };
        STATUS_SUCCESS
    }

    /// Ends the calling system thread. The host system's thread stays behind, blocked: its stack
    /// cannot be unwound through the driver. Returning from the start routine does the same
    /// without that cost.
    simplified = "the host's thread stays behind, blocked: its stack cannot be unwound through the \
        driver";
    max_irql = PASSIVE_LEVEL;
    pub unsafe fn PsTerminateSystemThread(status: NTSTATUS) -> NTSTATUS {
        let state = kernel::state();
        let thread = thread::current_thread();
        if !thread.is_system.load(Ordering::Acquire) {
            return STATUS_INVALID_PARAMETER;
        }
        frame::thread_ends();
        thread.finish(&state, status);
        never_return()
    }

    /// The id of the calling thread.
    max_irql = HIGH_LEVEL;
    pub unsafe fn PsGetCurrentThreadId() -> HANDLE {
        thread::current_thread().id() as HANDLE
    }

    /// The process id of a thread.
    max_irql = HIGH_LEVEL;
    pub unsafe fn PsGetThreadProcessId(thread: PETHREAD) -> HANDLE {
        match kernel::state().objects.find(thread as usize) {
            Some(Object::Thread(thread)) => thread.process().pid() as HANDLE,
            _ => {
                Report::new(Rule::ObjectUnknown)
                    .expected("a thread object")
                    .found(format!("{thread:#x}"))
                    .file();
                std::ptr::null_mut()
            }
        }
    }
}
