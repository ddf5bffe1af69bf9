// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager of one kernel: the state machine, and what the host knows beside it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use fltmgr::{
    ConnectionId, Decisions, FilterId, FilterManager, GetId, GetOutcome, PortId, SendId,
    SendOutcome, Snapshot, Time,
};
use parking_lot::{Mutex, MutexGuard};

use crate::abi::{
    DRIVER_UNLOAD, PFLT_CONNECT_NOTIFY, PFLT_DISCONNECT_NOTIFY, PFLT_FILTER_UNLOAD_CALLBACK,
    PFLT_INSTANCE_SETUP_CALLBACK, PFLT_INSTANCE_TEARDOWN_CALLBACK, PFLT_MESSAGE_NOTIFY,
};
use crate::clock;
use crate::driver::Driver;
use crate::kernel::{self, State};
use crate::sched::Waiter;
use crate::se::descriptor::Descriptor;
use crate::stack::Stack;
use crate::verifier::{Report, Rule};

/// The Filter Manager of one kernel.
pub(crate) struct FilterTable(Mutex<Tables>);

/// What is behind the lock.
pub(super) struct Tables {
    pub(super) machine: FilterManager,
    pub(super) filters: HashMap<FilterId, Arc<FilterRecord>>,
    pub(super) ports: HashMap<PortId, Arc<PortRecord>>,
    /// Descriptors of ports, by the number the machine was given for them.
    pub(super) descriptors: HashMap<u64, Arc<Descriptor>>,
    pub(super) sends: HashMap<SendId, Arc<PendingSend>>,
    pub(super) gets: HashMap<GetId, GetDone>,
    /// Threads in [`UserPort::close`](super::UserPort::close) that wait for their turn to run
    /// DisconnectNotify.
    pub(super) closers: HashMap<ConnectionId, Arc<Waiter>>,
    /// The DisconnectNotify calls left to those threads: port and cookie.
    pub(super) pending_disconnects: HashMap<ConnectionId, (PortId, u64)>,
    /// The DriverUnload routines that registering replaced, by driver object.
    pub(super) former_unloads: HashMap<usize, DRIVER_UNLOAD>,
}

/// What to call when a get completes.
pub(super) type GetDone = Box<dyn FnOnce(GetOutcome) + Send>;

/// A filter, as its driver registered it.
pub(super) struct FilterRecord {
    pub(super) driver: Arc<Driver>,
    pub(super) unload: PFLT_FILTER_UNLOAD_CALLBACK,
    pub(super) instance_setup: PFLT_INSTANCE_SETUP_CALLBACK,
    pub(super) teardown_start: PFLT_INSTANCE_TEARDOWN_CALLBACK,
    pub(super) teardown_complete: PFLT_INSTANCE_TEARDOWN_CALLBACK,
    /// Whether it has an instance on the one volume there is.
    pub(super) attached: AtomicBool,
    /// Woken when FltUnregisterFilter may return.
    pub(super) gone: Waiter,
    pub(super) stack: Stack,
}

/// A server port, as its driver created it.
pub(super) struct PortRecord {
    pub(super) driver: Arc<Driver>,
    pub(super) filter: FilterId,
    pub(super) cookie: usize,
    pub(super) connect: PFLT_CONNECT_NOTIFY,
    pub(super) disconnect: PFLT_DISCONNECT_NOTIFY,
    pub(super) message: PFLT_MESSAGE_NOTIFY,
    /// The number of its descriptor, if it has one.
    pub(super) descriptor: Option<u64>,
    /// The driver is gone and its callbacks with it.
    pub(super) abandoned: AtomicBool,
    pub(super) stack: Stack,
}

/// A thread in FltSendMessage.
#[derive(Default)]
pub(super) struct PendingSend {
    pub(super) outcome: Mutex<Option<SendOutcome>>,
    pub(super) waiter: Waiter,
}

impl FilterTable {
    fn new(decisions: Decisions) -> FilterTable {
        FilterTable(Mutex::new(Tables {
            machine: FilterManager::new(decisions),
            filters: HashMap::new(),
            ports: HashMap::new(),
            descriptors: HashMap::new(),
            sends: HashMap::new(),
            gets: HashMap::new(),
            closers: HashMap::new(),
            pending_disconnects: HashMap::new(),
            former_unloads: HashMap::new(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock()
    }
}

impl Tables {
    /// The filters that a driver registered.
    pub(super) fn filters_of(&self, driver: &Arc<Driver>) -> Vec<(FilterId, Arc<FilterRecord>)> {
        let own = self
            .filters
            .iter()
            .filter(|(_, record)| Arc::ptr_eq(&record.driver, driver));
        own.map(|(id, record)| (*id, record.clone())).collect()
    }
}

/// The Filter Manager of each kernel, as long as the kernel lives.
static TABLES: Mutex<Vec<(Weak<State>, Arc<FilterTable>)>> = Mutex::new(Vec::new());

/// Gives a kernel that boots its Filter Manager, which is not up yet.
pub(crate) fn install(state: &Arc<State>) {
    let table = Arc::new(FilterTable::new(Decisions::default()));
    let mut tables = TABLES.lock();
    tables.retain(|(state, _)| state.strong_count() > 0);
    tables.push((Arc::downgrade(state), table.clone()));
    drop(tables);
    state.install_filter_manager(table);
}

/// The Filter Manager of a kernel.
pub(super) fn of(state: &State) -> Arc<FilterTable> {
    let tables = TABLES.lock();
    let own = tables
        .iter()
        .find(|(known, _)| std::ptr::eq(known.as_ptr(), state));
    own.map_or_else(
        || Arc::new(FilterTable::new(Decisions::default())),
        |(_, table)| table.clone(),
    )
}

/// The Filter Manager of the kernel that the calling thread belongs to.
pub(super) fn current() -> Arc<FilterTable> {
    of(&kernel::state())
}

/// The machine's clock.
pub(super) fn now() -> Time {
    Time(clock::unbiased_interrupt_time())
}

/// Reports a mistake that has no rule of its own.
pub(super) fn misuse(expected: &str, found: impl Into<String>, detail: &str) {
    Report::new(Rule::FilterMisuse)
        .expected(expected)
        .found(found)
        .detail(detail)
        .file();
}

/// Answers the open questions about Windows for the running kernel's Filter Manager, and limits how
/// long a wait without a limit of its own may last (in 100 ns) before that counts as a hang: of
/// FltUnregisterFilter, of rundown protection, of the removal of a routine.
///
/// Call it before the first driver is loaded: filters registered earlier are forgotten.
pub fn configure(decisions: Decisions, hang_limit: u64) {
    let filters = current();
    let mut tables = filters.lock();
    let ready = tables.machine.is_initialized();
    tables.machine = FilterManager::new(decisions);
    if ready {
        tables.machine.set_initialized();
    }
    drop(tables);
    kernel::state()
        .hang_limit
        .store(hang_limit, Ordering::Relaxed);
}

/// Everything the running kernel's Filter Manager holds now.
#[must_use]
pub fn snapshot() -> Snapshot {
    current().lock().machine.snapshot()
}

/// Whether the named driver's filter has an instance on the one volume of the hosted kernel.
#[must_use]
pub fn attached(driver: &str) -> bool {
    let filters = current();
    let tables = filters.lock();
    let mut own = tables
        .filters
        .values()
        .filter(|record| record.driver.name() == driver);
    own.any(|record| record.attached.load(Ordering::Acquire))
}
