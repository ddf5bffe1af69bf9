// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Filter Manager of one kernel: the state machine, and what the host knows beside it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use fltmgr::{
    ConnectionId, Decisions, FilterId, FilterManager, GetId, GetOutcome, PortId, SendId,
    SendOutcome, Snapshot, Time,
};
use parking_lot::{Mutex, MutexGuard};

use super::reply_length::ReplyLengths;
use super::security::BuiltDescriptor;
use super::variable::Variables;
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
pub(crate) struct FilterTable {
    tables: Mutex<Tables>,
    state: Weak<State>,
}

/// What is behind the lock.
pub(super) struct Tables {
    pub(super) machine: FilterManager,
    pub(super) filters: BTreeMap<FilterId, Arc<FilterRecord>>,
    /// Where each filter that is gone was unregistered, of the last ones.
    pub(super) unregistered: BTreeMap<FilterId, Stack>,
    /// Where the references to each filter were taken that are not given back.
    pub(super) references: BTreeMap<FilterId, Vec<Stack>>,
    pub(super) ports: BTreeMap<PortId, Arc<PortRecord>>,
    /// Where each server port was closed, of the last ones.
    pub(super) closed_ports: BTreeMap<PortId, Stack>,
    /// Ports, by their upcased names, that listened when their driver was unloaded.
    pub(super) ghosts: Vec<(Vec<u16>, Arc<PortRecord>)>,
    pub(super) variables: Variables,
    pub(super) reply_lengths: ReplyLengths,
    /// Descriptors that FltBuildDefaultSecurityDescriptor built, by their address.
    pub(super) built: BTreeMap<usize, BuiltDescriptor>,
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
    fn new(decisions: Decisions, state: Weak<State>) -> FilterTable {
        let tables = Mutex::new(Tables {
            machine: FilterManager::new(decisions),
            filters: BTreeMap::new(),
            unregistered: BTreeMap::new(),
            references: BTreeMap::new(),
            ports: BTreeMap::new(),
            closed_ports: BTreeMap::new(),
            ghosts: Vec::new(),
            variables: Variables::default(),
            reply_lengths: ReplyLengths::default(),
            built: BTreeMap::new(),
            descriptors: HashMap::new(),
            sends: HashMap::new(),
            gets: HashMap::new(),
            closers: HashMap::new(),
            pending_disconnects: HashMap::new(),
            former_unloads: HashMap::new(),
        });
        FilterTable { tables, state }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock()
    }

    /// The kernel whose Filter Manager this is, as long as anybody uses it.
    pub(super) fn state(&self) -> Option<Arc<State>> {
        self.state.upgrade()
    }
}

/// As many filters and ports that are gone are remembered of each kind.
const MOST_REMEMBERED: usize = 1024;

/// Remembers the stack of the caller for something that is gone. Its number is the highest so far.
fn remember<Id: Ord>(stacks: &mut BTreeMap<Id, Stack>, id: Id) {
    stacks.insert(id, Stack::capture());
    if stacks.len() > MOST_REMEMBERED {
        stacks.pop_first();
    }
}

impl Tables {
    /// A filter is unregistered here.
    pub(super) fn note_unregistered(&mut self, filter: FilterId) {
        remember(&mut self.unregistered, filter);
    }

    /// A server port is closed here.
    pub(super) fn note_closed(&mut self, port: PortId) {
        remember(&mut self.closed_ports, port);
    }

    /// Takes a filter out of the tables: it is gone.
    pub(super) fn forget_filter(&mut self, filter: FilterId) -> Option<Arc<FilterRecord>> {
        self.references.remove(&filter);
        self.reply_lengths.forget(filter);
        self.filters.remove(&filter)
    }

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
    let table = Arc::new(FilterTable::new(
        Decisions::default(),
        Arc::downgrade(state),
    ));
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
        || Arc::new(FilterTable::new(Decisions::default(), Weak::new())),
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

/// Reports a mistake of a driver.
pub(super) fn report(rule: Rule, expected: &str, found: impl Into<String>, detail: &str) {
    Report::new(rule)
        .expected(expected)
        .found(found)
        .detail(detail)
        .file();
}

/// Answers the open questions about Windows for the running kernel's Filter Manager, and limits how
/// long a wait without a limit of its own may last (in 100 ns) before that counts as a hang: of
/// FltUnregisterFilter, of rundown protection, of the removal of a routine, of an unload for the
/// driver's work items.
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
