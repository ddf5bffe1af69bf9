// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that the hosted kernel knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::clock;
use crate::ke::header::{DispatcherObject, kind};
use crate::kernel::{self, State};
use crate::object::Object;
use crate::se::token::Token;
use crate::status::STATUS_PENDING;
use crate::thread;

/// The process id of System, in which the kernel's own threads run.
pub const SYSTEM_PROCESS_ID: u64 = 4;

/// A process. Its address is the PEPROCESS that drivers see.
#[repr(C)]
pub struct Process {
    // First, so that a PEPROCESS can be waited for.
    header: DispatcherObject,
    pid: u64,
    token: Arc<Token>,
    /// Its parent and the path of its program; nothing for one that was running before anybody
    /// looked, until its creation is reported after all.
    origin: OnceLock<(u64, Vec<u16>)>,
    create_time: i64,
    exit_status: AtomicI32,
}

impl Process {
    fn new(pid: u64, token: Token, origin: Option<(u64, Vec<u16>)>) -> Arc<Process> {
        let process = Arc::new(Process {
            header: DispatcherObject::default(),
            pid,
            token: Arc::new(token),
            origin: origin.map_or_else(OnceLock::new, OnceLock::from),
            create_time: clock::system_time(),
            exit_status: AtomicI32::new(STATUS_PENDING),
        });
        process.header.settle(kind::PROCESS, size_of::<Process>());
        process
    }

    /// The process that talks to the kernel through a socket or another door of the host system,
    /// made when it is not known yet. `uid` is the user the door vouches for.
    #[must_use]
    pub fn for_peer(pid: u32, uid: u32) -> Arc<Process> {
        let state = kernel::state();
        state.processes.open(&state, u64::from(pid), uid)
    }

    /// The process id, which is the host system's.
    #[must_use]
    pub fn pid(&self) -> u64 {
        self.pid
    }

    /// The process id of the parent, zero where it is not known.
    #[must_use]
    pub fn parent_pid(&self) -> u64 {
        self.origin.get().map_or(0, |(parent, _)| *parent)
    }

    /// Whose process it is.
    #[must_use]
    pub fn token(&self) -> &Arc<Token> {
        &self.token
    }

    /// The path of the program, empty where it is not known.
    #[must_use]
    pub fn image(&self) -> &[u16] {
        self.origin.get().map_or(&[], |(_, image)| image)
    }

    /// When the hosted kernel learnt of the process, as a FILETIME.
    #[must_use]
    pub fn create_time(&self) -> i64 {
        self.create_time
    }

    /// The exit status; STATUS_PENDING while it runs.
    #[must_use]
    pub fn exit_status(&self) -> i32 {
        self.exit_status.load(Ordering::Acquire)
    }

    /// The PEPROCESS.
    #[must_use]
    pub fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Runs a closure as a thread of this process: drivers that it calls see the process as the
    /// current one, and its memory as user memory.
    pub fn attach<R>(self: &Arc<Self>, f: impl FnOnce() -> R) -> R {
        thread::attached(self, f)
    }

    /// Where drivers have mapped memory into this process: address and length of each view.
    #[must_use]
    pub fn views(self: &Arc<Self>) -> Vec<(u64, usize)> {
        let places = kernel::state().views.of(self);
        let view = |place: &std::ops::Range<usize>| (place.start as u64, place.len());
        places.iter().map(view).collect()
    }

    /// UnmapViewOfFile, for a process that is played by this one: lets go of a view that a driver
    /// has mapped; false if nothing is mapped there.
    pub fn unmap_view(self: &Arc<Self>, address: u64) -> bool {
        kernel::state().views.unmap(self, address as usize)
    }

    /// Runs a closure in which the calling thread impersonates this process's user, as a service
    /// does that has been called by it.
    pub fn impersonated<R>(&self, f: impl FnOnce() -> R) -> R {
        thread::impersonating(&self.token, f)
    }

    pub(crate) fn set_exit_status(&self, state: &State, exit_status: i32) {
        self.exit_status.store(exit_status, Ordering::Release);
        state.dispatcher.signal(self.header.header());
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.pid)
    }
}

/// The processes of one kernel.
pub(crate) struct ProcessTable {
    system: Arc<Process>,
    running: Mutex<HashMap<u64, Arc<Process>>>,
}

impl ProcessTable {
    pub(crate) fn new() -> ProcessTable {
        let image = crate::unicode::encode("System");
        let system = Process::new(SYSTEM_PROCESS_ID, Token::system(), Some((0, image)));
        let running = HashMap::from([(SYSTEM_PROCESS_ID, system.clone())]);
        ProcessTable {
            system,
            running: Mutex::new(running),
        }
    }

    pub(crate) fn system(&self) -> Arc<Process> {
        self.system.clone()
    }

    pub(crate) fn find(&self, pid: u64) -> Option<Arc<Process>> {
        self.running.lock().get(&pid).cloned()
    }

    /// All there are, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Process>> {
        let mut all: Vec<_> = self.running.lock().values().cloned().collect();
        all.sort_by_key(|process| process.pid);
        all
    }

    /// Finds a process of a user, or makes one that was running before anybody looked. A process
    /// known under another user is an older one of the same id, or has changed its user: its
    /// rights must not be inherited.
    pub(crate) fn open(&self, state: &State, pid: u64, uid: u32) -> Arc<Process> {
        let expected = Token::of_user(uid);
        if let Some(known) = self.find(pid)
            && known.token.user() == expected.user()
        {
            return known;
        }
        self.make(state, pid, expected, None)
    }

    /// Makes a process. An older one of the same id is forgotten; but one of the same user that was
    /// met before its creation was reported is this one: reports may be late, and a process has one
    /// object.
    pub(crate) fn create(
        &self,
        state: &State,
        pid: u64,
        parent_pid: u64,
        token: Token,
        image: Vec<u16>,
    ) -> Arc<Process> {
        let mut origin = Some((parent_pid, image));
        if let Some(known) = self.find(pid)
            && known.token.user() == token.user()
            && known.origin.get().is_none()
        {
            known
                .origin
                .get_or_init(|| origin.take().unwrap_or_default());
            if origin.is_none() {
                return known;
            }
        }
        self.make(state, pid, token, origin)
    }

    fn make(
        &self,
        state: &State,
        pid: u64,
        token: Token,
        origin: Option<(u64, Vec<u16>)>,
    ) -> Arc<Process> {
        let process = Process::new(pid, token, origin);
        state.objects.insert(Object::Process(process.clone()));
        state.objects.insert(Object::Token(process.token.clone()));
        if let Some(older) = self.running.lock().insert(pid, process.clone()) {
            self.forget(state, &older);
        }
        process
    }

    /// Takes a process out of the table; it lives on while somebody references it.
    pub(crate) fn remove(&self, state: &State, pid: u64) {
        let removed = self.running.lock().remove(&pid);
        if let Some(process) = removed {
            self.forget(state, &process);
        }
    }

    fn forget(&self, state: &State, process: &Arc<Process>) {
        state.objects.retire(process.address());
        state.objects.retire(process.token.address());
    }

    /// Makes the System process and its token known as objects.
    pub(crate) fn enlist_system(&self, state: &State) {
        state.objects.insert(Object::Process(self.system.clone()));
        state
            .objects
            .insert(Object::Token(self.system.token.clone()));
    }
}
