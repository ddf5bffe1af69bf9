// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel as a whole: booting, what can be done to it from outside, shutting down.
//!
//! NT's functions take no argument that names a kernel, so there is one kernel at a time in a
//! process. [`Kernel::boot`] waits for its turn; threads of an older kernel keep to that one.

pub(crate) mod config;
pub(crate) mod drivers;
mod handle;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

pub use config::{Config, DebugPrint, FilterManagerStart};
pub use drivers::Unload;
pub use handle::Kernel;

use crate::clock::SECOND;
use crate::cm::callbacks::RegistryCallbacks;
use crate::ex::callback::CallbackTable;
use crate::ex::pool::Pool;
use crate::ex::rundown::Rundowns;
use crate::faults::Faults;
use crate::io::work_item::WorkItems;
use crate::io::work_queue::WorkQueue;
use crate::ke::dispatcher::Dispatcher;
use crate::ke::timer::Timers;
use crate::ke::user_event::UserHandles;
use crate::mm::mdl::Lists;
use crate::mm::view::Views;
use crate::object::ObjectTable;
use crate::process::ProcessTable;
use crate::ps::notify::NotifyRoutines;
use crate::ps::thread::SystemThreads;
use crate::registry::Registry;
use crate::sched::{self, Waiter};
use crate::sim;
use crate::thread;
use crate::verifier::locks::Locks;
use crate::verifier::{OnReport, Report};
use drivers::{Drivers, FilterManagerSide};

/// See [`State::hang_limit`].
const HANG_LIMIT: u64 = 30 * SECOND;

/// Everything that one kernel knows. Each part has a lock of its own; none is held while a driver
/// runs, and the order in which two are held is: timers, dispatcher.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) faults: Faults,
    pub(crate) pool: Pool,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) locks: Locks,
    /// Pageable functions that a report was made of.
    pub(crate) paged_code_reported: Mutex<BTreeSet<String>>,
    pub(crate) timers: Timers,
    pub(crate) rundowns: Rundowns,
    pub(crate) callbacks: CallbackTable,
    pub(crate) objects: ObjectTable,
    pub(crate) user_handles: UserHandles,
    pub(crate) views: Views,
    pub(crate) lists: Lists,
    pub(crate) processes: ProcessTable,
    pub(crate) system_threads: SystemThreads,
    pub(crate) notify: NotifyRoutines,
    pub(crate) work_queue: WorkQueue,
    pub(crate) work_items: WorkItems,
    pub(crate) registry: Registry,
    pub(crate) registry_callbacks: RegistryCallbacks,
    pub(crate) drivers: Drivers,
    /// Threads that wait for a driver in the name of the outside world.
    pub(crate) watchers: Mutex<Vec<Arc<Waiter>>>,
    filter_manager: RwLock<Option<Arc<dyn FilterManagerSide>>>,
    reports: Mutex<Vec<Report>>,
    stopped: AtomicBool,
    shut_down: AtomicBool,
    /// How long a wait without a limit may last before it counts as a hang, in 100 ns.
    pub(crate) hang_limit: AtomicU64,
}

impl State {
    fn new(config: Config) -> Arc<State> {
        let state = Arc::new(State {
            faults: Faults::new(config.faults.clone()),
            config,
            pool: Pool::default(),
            dispatcher: Dispatcher::default(),
            locks: Locks::default(),
            paged_code_reported: Mutex::default(),
            timers: Timers::default(),
            rundowns: Rundowns::default(),
            callbacks: CallbackTable::default(),
            objects: ObjectTable::default(),
            user_handles: UserHandles::default(),
            views: Views::default(),
            lists: Lists::default(),
            processes: ProcessTable::new(),
            system_threads: SystemThreads::default(),
            notify: NotifyRoutines::default(),
            work_queue: WorkQueue::default(),
            work_items: WorkItems::default(),
            registry: Registry::default(),
            registry_callbacks: RegistryCallbacks::default(),
            drivers: Drivers::default(),
            watchers: Mutex::default(),
            filter_manager: RwLock::default(),
            reports: Mutex::default(),
            stopped: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            hang_limit: AtomicU64::new(HANG_LIMIT),
        });
        state.processes.enlist_system(&state);
        state
    }

    /// Keeps a report, prints it, or ends the process with it, as configured.
    pub(crate) fn file_report(&self, report: Report) {
        match self.config.on_report {
            OnReport::Record => {}
            OnReport::Report => eprintln!("{report}"),
            OnReport::BugCheck => {
                eprintln!("{report}\n{}", report.stop_line());
                std::process::abort();
            }
        }
        self.reports.lock().push(report);
    }

    /// A driver has stopped the system: whoever waits for a driver goes on.
    pub(crate) fn stopped(&self) {
        self.stopped.store(true, Ordering::Release);
        self.watchers
            .lock()
            .iter()
            .for_each(|watcher| sched::wake(watcher));
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The Filter Manager's part, if it was installed.
    pub(crate) fn filter_manager(&self) -> Option<Arc<dyn FilterManagerSide>> {
        self.filter_manager.read().clone()
    }

    /// Installs the Filter Manager's part, once, at boot.
    pub(crate) fn install_filter_manager(&self, side: Arc<dyn FilterManagerSide>) {
        *self.filter_manager.write() = Some(side);
    }
}

/// The kernel that runs now.
static CURRENT: RwLock<Option<Arc<State>>> = RwLock::new(None);

/// The thread that booted the kernel that runs, if one does, for those that wait for their turn.
static TURN: (Mutex<Option<u64>>, Condvar) = (Mutex::new(None), Condvar::new());

/// The right to run a kernel: there is one at a time in a process. Dropping it passes it on.
pub(crate) struct Turn(());

impl Turn {
    /// Waits for it.
    pub(crate) fn take() -> Turn {
        let me = thread::native_id();
        let mut running = TURN.0.lock();
        if *running == Some(me) {
            // Not an error in itself: another thread may shut that kernel down.
            eprintln!(
                "nt-host: this thread has booted a kernel and waits until it is shut down; call \
                 `Kernel::shutdown` before another one is booted or a simulation is started"
            );
        }
        while running.is_some() {
            TURN.1.wait(&mut running);
        }
        *running = Some(me);
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURN.0.lock() = None;
        TURN.1.notify_one();
    }
}

/// The kernel that the calling thread belongs to; otherwise the one that runs now, if any. For what
/// a driver may do with its own memory before anything is booted.
pub(crate) fn running() -> Option<Arc<State>> {
    thread::own_state()
        .or_else(sim::current_kernel)
        .or_else(|| CURRENT.read().clone())
}

/// The kernel that the calling thread belongs to; otherwise the one that runs now. Without any
/// the process ends: a driver cannot run on nothing.
pub(crate) fn state() -> Arc<State> {
    match running() {
        Some(state) => state,
        None => {
            eprintln!(
                "nt-host: a driver called the kernel, but none is booted: keep the `Kernel` that \
                 `Kernel::boot` returns until the driver is unloaded"
            );
            std::process::abort();
        }
    }
}
