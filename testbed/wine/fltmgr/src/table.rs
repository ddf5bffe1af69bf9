// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state machine, and what this driver knows beside it. One lock around all.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use fltmgr::{
    ConnectionId, Decisions, FilterId, FilterManager, GetId, PortId, SendId, SendOutcome, Time,
};
use fltport_nt::bindings::{
    DRIVER_UNLOAD, PFLT_CONNECT_NOTIFY, PFLT_DISCONNECT_NOTIFY, PFLT_FILTER_UNLOAD_CALLBACK,
    PFLT_MESSAGE_NOTIFY,
};
use fltport_nt::ke::{SpinLock, SpinLockGuard};

use crate::event::Event;
use crate::irp::PendedIrp;
use crate::ntoskrnl::time;

static TABLES: SpinLock<Option<Tables>> = SpinLock::new(None);

/// What is behind the lock.
pub(crate) struct Tables {
    pub(crate) machine: FilterManager,
    pub(crate) filters: BTreeMap<FilterId, Arc<FilterRecord>>,
    pub(crate) ports: BTreeMap<PortId, Arc<PortRecord>>,
    pub(crate) sends: BTreeMap<SendId, Arc<PendingSend>>,
    pub(crate) gets: BTreeMap<GetId, (ConnectionId, PendedIrp)>,
    /// FilterUnload's calls into drivers, by driver object.
    pub(crate) unloading: BTreeMap<usize, Arc<Unloading>>,
    /// The DriverUnload routines that registering replaced, by driver object.
    pub(crate) former_unloads: BTreeMap<usize, DRIVER_UNLOAD>,
}

/// A filter, as its driver registered it.
pub(crate) struct FilterRecord {
    /// Its driver object.
    pub(crate) driver: usize,
    pub(crate) unload: PFLT_FILTER_UNLOAD_CALLBACK,
    /// Set when FltUnregisterFilter may return.
    pub(crate) gone: Event,
}

/// A server port, as its driver created it.
pub(crate) struct PortRecord {
    pub(crate) cookie: usize,
    pub(crate) connect: PFLT_CONNECT_NOTIFY,
    pub(crate) disconnect: PFLT_DISCONNECT_NOTIFY,
    pub(crate) message: PFLT_MESSAGE_NOTIFY,
}

/// FilterUnload is in the unload callbacks of a driver.
pub(crate) struct Unloading {
    /// Set when they have returned.
    pub(crate) returned: Event,
    /// A service stop waits for that, and has the driver unloaded then.
    pub(crate) met_by_stop: AtomicBool,
}

/// A thread in FltSendMessage.
pub(crate) struct PendingSend {
    pub(crate) outcome: SpinLock<Option<SendOutcome>>,
    pub(crate) done: Event,
}

impl Tables {
    /// With a Filter Manager that is not up yet.
    fn new() -> Tables {
        Tables {
            machine: FilterManager::new(Decisions::default()),
            filters: BTreeMap::new(),
            ports: BTreeMap::new(),
            sends: BTreeMap::new(),
            gets: BTreeMap::new(),
            unloading: BTreeMap::new(),
            former_unloads: BTreeMap::new(),
        }
    }
}

/// Access to the tables.
pub(crate) struct Guard(SpinLockGuard<'static, Option<Tables>>);

impl core::ops::Deref for Guard {
    type Target = Tables;
    fn deref(&self) -> &Tables {
        self.0.as_ref().expect("made by `lock`")
    }
}

impl core::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut Tables {
        self.0.as_mut().expect("made by `lock`")
    }
}

/// Says that the Filter Manager is up. A driver may have loaded this image, and called, before that:
/// FltRegisterFilter answers STATUS_FLT_NOT_INITIALIZED then.
pub(crate) fn initialize() {
    lock().machine.set_initialized();
}

pub(crate) fn lock() -> Guard {
    let mut tables = TABLES.lock();
    tables.get_or_insert_with(Tables::new);
    Guard(tables)
}

/// The machine's clock.
pub(crate) fn now() -> Time {
    Time(time::interrupt_time())
}
