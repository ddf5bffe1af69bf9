// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events of user mode: a service makes one, and a driver signals it.
//!
//! A service in this process makes a [`UserEvent`]. One in another process makes an eventfd, whose
//! number there is the handle; the hosted kernel takes a descriptor of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::dispatcher::{Limit, Waited};
use super::header::{DispatcherObject, kind};
use crate::abi::NTSTATUS;
use crate::clock::Deadline;
use crate::kernel::{self, State};
use crate::mm::caller::Caller;
use crate::object::Object;
use crate::process::Process;
use crate::sim;
use crate::status::{STATUS_ACCESS_DENIED, STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH};
use crate::thread;

/// What the host system calls an eventfd.
const EVENTFD: &str = "anon_inode:[eventfd]";

/// An event object of the object manager. Its address is the PKEVENT that drivers see.
#[repr(C)]
pub(crate) struct EventObject {
    // First, so that it is a KEVENT.
    header: DispatcherObject,
    /// Whom a signal is passed on to, where that is another process of the host system.
    elsewhere: Option<OwnedFd>,
}

impl EventObject {
    fn new(elsewhere: Option<OwnedFd>) -> Arc<EventObject> {
        let event = Arc::new(EventObject {
            header: DispatcherObject::default(),
            elsewhere,
        });
        let kind = kind::SYNCHRONIZATION_EVENT;
        event.header.settle(kind, size_of::<EventObject>());
        event
    }

    /// The PKEVENT.
    pub(crate) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Passes a signal on. Never waits: a counter that is full is a signal that nobody has taken. (Who
    /// fills it and makes it blocking again between the two calls has this thread wait for him; on NT
    /// there is no such thing.)
    pub(super) fn pass_on(&self) {
        let Some(descriptor) = &self.elsewhere else {
            return;
        };
        let mut ready = libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one descriptor, and no wait.
        let has_room = unsafe { libc::poll(&raw mut ready, 1, 0) } == 1;
        if has_room && ready.revents & libc::POLLOUT != 0 {
            let one = 1_u64;
            // SAFETY: eight readable bytes. It fails only if the counter is full by now.
            unsafe { libc::write(descriptor.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }
}

/// The event objects that services of this process have handles of.
#[derive(Default)]
pub(crate) struct UserHandles(Mutex<Handles>);

#[derive(Default)]
struct Handles {
    last: u64,
    /// By the process's address and the handle.
    open: BTreeMap<(usize, u64), Arc<EventObject>>,
}

/// The event that a handle of user mode stands for in the process that the thread is attached to.
pub(crate) fn by_handle(state: &State, handle: u64) -> Result<Arc<EventObject>, NTSTATUS> {
    let process = thread::current_process();
    let caller = thread::with_context(|context| context.caller.borrow().clone());
    if matches!(caller, Caller::There { .. }) && !sim::is_simulated() {
        let taken = take_eventfd(process.pid(), handle)?;
        return Ok(EventObject::new(Some(taken)));
    }
    let handles = state.user_handles.0.lock();
    let found = handles.open.get(&(process.address(), handle));
    found.cloned().ok_or(STATUS_INVALID_HANDLE)
}

/// A descriptor of a process's eventfd.
fn take_eventfd(pid: u64, number: u64) -> Result<OwnedFd, NTSTATUS> {
    let (Ok(pid), Ok(number)) = (libc::pid_t::try_from(pid), i32::try_from(number)) else {
        return Err(STATUS_INVALID_HANDLE);
    };
    let descriptor = descriptor_of(pid, number).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => STATUS_ACCESS_DENIED,
        _ => STATUS_INVALID_HANDLE,
    })?;
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let is_eventfd = fs::read_link(path).is_ok_and(|what| what.as_os_str() == EVENTFD);
    if !is_eventfd {
        return Err(STATUS_OBJECT_TYPE_MISMATCH);
    }
    // SAFETY: an open descriptor and a flag. So the driver's signal never waits.
    let done = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if done != 0 {
        return Err(STATUS_INVALID_HANDLE);
    }
    Ok(descriptor)
}

fn descriptor_of(pid: libc::pid_t, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    let process = made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: an open descriptor of a process, and numbers.
    made(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// The descriptor that a system call has made.
fn made(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: just made, and nobody else's.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An event that a service in this process makes for a driver to signal, as CreateEvent would: it is
/// not signalled at first, and a wait takes the signal back. Dropping it closes the handle.
pub struct UserEvent {
    state: Arc<State>,
    process: Arc<Process>,
    handle: u64,
    event: Arc<EventObject>,
}

impl UserEvent {
    /// Makes an event with a handle in `process`.
    #[must_use]
    pub fn new(process: &Arc<Process>) -> UserEvent {
        let state = kernel::state();
        let event = EventObject::new(None);
        let mut handles = state.user_handles.0.lock();
        handles.last += 4;
        let handle = handles.last;
        let key = (process.address(), handle);
        handles.open.insert(key, event.clone());
        drop(handles);
        UserEvent {
            state,
            process: process.clone(),
            handle,
            event,
        }
    }

    /// The handle, as the service passes it to a driver.
    #[must_use]
    pub fn handle(&self) -> u64 {
        self.handle
    }

    /// Signals it, as SetEvent does in the service.
    pub fn set(&self) {
        self.state.dispatcher.signal(self.event.header.header());
    }

    /// Waits until the event is signalled, and takes the signal; false if the time was over first.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let ticks = u64::try_from(limit.as_nanos() / 100).unwrap_or(u64::MAX);
        let limit = match ticks {
            0 => Limit::Now,
            _ => Limit::Until(Deadline::after(ticks)),
        };
        let (header, thread) = (self.event.header.header(), thread::current_thread());
        let dispatcher = &self.state.dispatcher;
        let waited = dispatcher.wait(&[header], false, limit, thread.address());
        waited == Waited::Satisfied(0)
    }
}

impl Drop for UserEvent {
    fn drop(&mut self) {
        let key = (self.process.address(), self.handle);
        self.state.user_handles.0.lock().open.remove(&key);
    }
}

impl std::fmt::Debug for UserEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserEvent")
            .field("process", &self.process)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// Passes the signal of an event on that has just been signalled, if it is a service's.
pub(super) fn signalled(address: usize) {
    if let Some(Object::Event(event)) = kernel::state().objects.find(address) {
        event.pass_on();
    }
}

/// Whether an object with a header of this many words is an event object of this module: a driver's
/// own KEVENT is smaller.
pub(super) fn may_be_object(words: u8) -> bool {
    usize::from(words) * 4 == size_of::<EventObject>()
}
