// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that the hosted kernel knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

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
    parent_pid: u64,
    token: Arc<Token>,
    image: Vec<u16>,
    create_time: i64,
    exit_status: AtomicI32,
}

impl Process {
    fn new(pid: u64, parent_pid: u64, token: Token, image: Vec<u16>) -> Arc<Process> {
        let process = Arc::new(Process {
            header: DispatcherObject::default(),
            pid,
            parent_pid,
            token: Arc::new(token),
            image,
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
        self.parent_pid
    }

    /// Whose process it is.
    #[must_use]
    pub fn token(&self) -> &Arc<Token> {
        &self.token
    }

    /// The path of the program, empty where it is not known.
    #[must_use]
    pub fn image(&self) -> &[u16] {
        &self.image
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
        let system = Process::new(SYSTEM_PROCESS_ID, 0, Token::system(), image);
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
        self.create(state, pid, 0, expected, Vec::new())
    }

    /// Makes a process. An older one of the same id is forgotten.
    pub(crate) fn create(
        &self,
        state: &State,
        pid: u64,
        parent_pid: u64,
        token: Token,
        image: Vec<u16>,
    ) -> Arc<Process> {
        let process = Process::new(pid, parent_pid, token, image);
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
