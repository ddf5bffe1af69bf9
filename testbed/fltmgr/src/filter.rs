// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters: registration, rundown references, unload.

use alloc::vec::Vec;

use crate::connection::Disconnect;
use crate::decisions::{SecondRegistration, VersionCheck};
use crate::effect::{Effect, GetOutcome};
use crate::id::{ConnectionId, FilterId};
use crate::manager::FilterManager;
use crate::status::Status;

/// `FLTFL_REGISTRATION_DO_NOT_SUPPORT_SERVICE_STOP`.
pub const DO_NOT_SUPPORT_SERVICE_STOP: u32 = 1;
/// `FLTFL_FILTER_UNLOAD_MANDATORY`, the flag an unload callback gets when its answer is ignored.
pub const UNLOAD_MANDATORY: u32 = 1;

/// `FLT_REGISTRATION_VERSION` of Windows 8 and later.
const VERSION_WINDOWS_8: u16 = 0x0203;
/// `sizeof(FLT_REGISTRATION)` on x64, by version.
const SIZES: &[(u16, &[u16])] = &[
    (0x0200, &[0x58]),
    (0x0201, &[0x60, 0x68]),
    (0x0202, &[0x68]),
    (0x0203, &[0x70]),
];

/// What FltRegisterFilter is told: the parts of FLT_REGISTRATION that decide anything here, and
/// what the registry holds for the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRegistration {
    /// The driver object, as a number of the host's.
    pub driver: u64,
    /// `Size`, in bytes (x64).
    pub size: u16,
    /// `Version`.
    pub version: u16,
    /// `Flags`.
    pub flags: u32,
    /// `FilterUnloadCallback` is not NULL.
    pub has_unload: bool,
    /// `InstanceSetupCallback` is not NULL.
    pub has_instance_setup: bool,
    /// The name provider callbacks.
    pub names: NameProvider,
    /// What the host found below the service's registry key.
    pub instance: InstanceKeys,
}

impl FilterRegistration {
    /// A registration that succeeds: size, version and an unload callback, everything else NULL.
    /// For tests and examples.
    pub const fn example(driver: u64) -> FilterRegistration {
        FilterRegistration {
            driver,
            size: 0x70,
            version: VERSION_WINDOWS_8,
            flags: 0,
            has_unload: true,
            has_instance_setup: false,
            names: NameProvider::NONE,
            instance: InstanceKeys::Found,
        }
    }

    fn check(&self, version_check: VersionCheck) -> Result<(), Status> {
        let known = match version_check {
            VersionCheck::Major => self.version >> 8 == 2,
            VersionCheck::Exact => self.version == VERSION_WINDOWS_8,
        };
        let sizes = SIZES
            .iter()
            .find(|row| row.0 == self.version)
            .map(|row| row.1);
        let size_fits = sizes.is_none_or(|sizes| sizes.contains(&self.size));
        if !known || !size_fits || !self.names.is_consistent() {
            return Err(Status::INVALID_PARAMETER);
        }
        match self.instance {
            InstanceKeys::Found => Ok(()),
            InstanceKeys::Missing => Err(Status::OBJECT_NAME_NOT_FOUND),
            InstanceKeys::WrongType => Err(Status::INVALID_PARAMETER),
        }
    }
}

/// Which name provider callbacks of FLT_REGISTRATION are not NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameProvider {
    /// `GenerateFileNameCallback`.
    pub generate: bool,
    /// `NormalizeNameComponentCallback`.
    pub normalize: bool,
    /// `NormalizeNameComponentExCallback`.
    pub normalize_ex: bool,
    /// `NormalizeContextCleanupCallback`.
    pub cleanup: bool,
}

impl NameProvider {
    /// The filter does not alter the name space.
    pub const NONE: NameProvider = NameProvider {
        generate: false,
        normalize: false,
        normalize_ex: false,
        cleanup: false,
    };

    /// Generating and normalising come together, and a clean-up needs something to clean up after.
    const fn is_consistent(&self) -> bool {
        let normalizes = self.normalize || self.normalize_ex;
        self.generate == normalizes && (!self.cleanup || normalizes)
    }
}

/// What the registry says about a filter's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceKeys {
    /// DefaultInstance, its subkey and its altitude exist.
    Found,
    /// The service key, the Instances key, DefaultInstance, its subkey or the altitude is missing.
    Missing,
    /// DefaultInstance or Altitude is not a REG_SZ.
    WrongType,
}

/// What registering makes of the driver object's DriverUnload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverUnload {
    /// The Filter Manager's own routine, so that a service stop reaches it. The old one is called
    /// after the unload callback.
    Replaced,
    /// NULL: the I/O manager refuses to stop the service.
    Removed,
}

/// Who wants a filter unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnloadTrigger {
    /// `fltmc unload`, FilterUnload, FltUnloadFilter: the callback may refuse.
    Voluntary,
    /// A service stop: it may not.
    Mandatory,
}

impl UnloadTrigger {
    /// The flags word the unload callback gets.
    pub const fn flags(self) -> u32 {
        match self {
            UnloadTrigger::Voluntary => 0,
            UnloadTrigger::Mandatory => UNLOAD_MANDATORY,
        }
    }
}

/// The unload goes on: the host calls the driver's former DriverUnload, then removes the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the host has to go on with the unload"]
pub struct Unloaded {
    /// The callback returned without FltUnregisterFilter. Legal only if the former DriverUnload
    /// does it.
    pub still_registered: bool,
}

/// What FltUnregisterFilter waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// FltObjectReference without FltObjectDereference.
    pub references: u64,
    /// Server ports not closed; each holds a reference, so the wait would never end.
    pub open_server_ports: u64,
    /// ConnectNotify callbacks that run now.
    pub connects: u64,
    /// MessageNotify callbacks that run now.
    pub message_calls: u64,
    /// DisconnectNotify callbacks that run now or are due.
    pub disconnects: u64,
}

impl Holders {
    /// Whether FltUnregisterFilter may return.
    pub fn is_empty(&self) -> bool {
        *self == Holders::default()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) driver: u64,
    pub(crate) flags: u32,
    pub(crate) has_unload: bool,
    pub(crate) has_instance_setup: bool,
    pub(crate) started: bool,
    pub(crate) references: u64,
    /// The trigger of the unload whose callback runs now.
    pub(crate) unloading: Option<UnloadTrigger>,
    /// FltUnregisterFilter was called.
    pub(crate) deleting: bool,
}

impl FilterManager {
    /// FltRegisterFilter.
    ///
    /// # Errors
    /// STATUS_FLT_NOT_INITIALIZED before [`set_initialized`](FilterManager::set_initialized);
    /// STATUS_INVALID_PARAMETER for the version, the size, inconsistent name callbacks, a registry
    /// value of the wrong type, or a second registration; STATUS_OBJECT_NAME_NOT_FOUND without
    /// registered instances.
    pub fn register_filter(&mut self, with: &FilterRegistration) -> Result<FilterId, Status> {
        if !self.initialized {
            return Err(Status::FLT_NOT_INITIALIZED);
        }
        with.check(self.decisions.version_check)?;
        let again = self
            .filters
            .values()
            .any(|filter| filter.driver == with.driver);
        if again && self.decisions.second_registration == SecondRegistration::Refused {
            return Err(Status::INVALID_PARAMETER);
        }
        let id = FilterId(self.next_id());
        let filter = Filter {
            driver: with.driver,
            flags: with.flags,
            has_unload: with.has_unload,
            has_instance_setup: with.has_instance_setup,
            started: false,
            references: 0,
            unloading: None,
            deleting: false,
        };
        self.filters.insert(id, filter);
        Ok(id)
    }

    /// What registering makes of DriverUnload; `None` for an unknown filter.
    pub fn driver_unload(&self, id: FilterId) -> Option<DriverUnload> {
        let filter = self.filters.get(&id)?;
        let stoppable = filter.has_unload && filter.flags & DO_NOT_SUPPORT_SERVICE_STOP == 0;
        Some(if stoppable {
            DriverUnload::Replaced
        } else {
            DriverUnload::Removed
        })
    }

    /// FltStartFiltering.
    ///
    /// # Errors
    /// STATUS_INVALID_PARAMETER when filtering has started already or the filter is unknown;
    /// STATUS_FLT_DELETING_OBJECT when the filter is going away.
    pub fn start_filtering(&mut self, id: FilterId) -> Result<(), Status> {
        let filter = self.live_filter(id)?;
        if core::mem::replace(&mut filter.started, true) {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(())
    }

    /// FltAttachVolume of this filter, as far as it concerns ports: whether the filter is ready to
    /// attach, and if so whether the driver's setup callback is asked (else it attaches).
    ///
    /// # Errors
    /// STATUS_FLT_FILTER_NOT_READY before FltStartFiltering, STATUS_FLT_DELETING_OBJECT after
    /// teardown began.
    pub fn attach(&mut self, id: FilterId) -> Result<bool, Status> {
        let filter = self.live_filter(id)?;
        if filter.started {
            Ok(filter.has_instance_setup)
        } else {
            Err(Status::FLT_FILTER_NOT_READY)
        }
    }

    /// FltObjectReference on a filter.
    ///
    /// # Errors
    /// STATUS_FLT_DELETING_OBJECT once teardown began.
    pub fn reference(&mut self, id: FilterId) -> Result<(), Status> {
        let filter = self.live_filter(id)?;
        filter.references = filter.references.saturating_add(1);
        Ok(())
    }

    /// FltObjectDereference on a filter.
    ///
    /// # Errors
    /// STATUS_INVALID_PARAMETER when there is no such filter or no reference to give back. On NT
    /// that is silent corruption; a host reports it.
    pub fn dereference(&mut self, id: FilterId) -> Result<Vec<Effect>, Status> {
        let filter = self.filters.get_mut(&id).ok_or(Status::INVALID_PARAMETER)?;
        let left = filter
            .references
            .checked_sub(1)
            .ok_or(Status::INVALID_PARAMETER)?;
        filter.references = left;
        let mut effects = Vec::new();
        self.settle_filter(id, &mut effects);
        Ok(effects)
    }

    /// Somebody wants the filter unloaded. `Ok` is the flags word: call the unload callback with
    /// it, then [`finish_unload`](FilterManager::finish_unload).
    ///
    /// # Errors
    /// STATUS_FLT_FILTER_NOT_FOUND for an unknown filter, STATUS_FLT_DELETING_OBJECT while an
    /// unload runs, and what [`Decisions`](crate::Decisions) says when there is no unload callback
    /// or the driver does not support a service stop. The callback is not called then.
    pub fn request_unload(&mut self, id: FilterId, by: UnloadTrigger) -> Result<u32, Status> {
        let filter = self
            .filters
            .get_mut(&id)
            .ok_or(Status::FLT_FILTER_NOT_FOUND)?;
        if filter.deleting || filter.unloading.is_some() {
            return Err(Status::FLT_DELETING_OBJECT);
        }
        let stop_refused = filter.flags & DO_NOT_SUPPORT_SERVICE_STOP != 0;
        match by {
            UnloadTrigger::Voluntary if !filter.has_unload => {
                Err(self.decisions.no_unload_callback)
            }
            UnloadTrigger::Mandatory if !filter.has_unload || stop_refused => {
                Err(self.decisions.no_service_stop)
            }
            _ => {
                filter.unloading = Some(by);
                Ok(by.flags())
            }
        }
    }

    /// The unload callback returned `status`.
    ///
    /// # Errors
    /// The callback's own status when it refused a voluntary unload: the filter stays.
    /// STATUS_INVALID_PARAMETER without a matching request.
    pub fn finish_unload(&mut self, id: FilterId, status: Status) -> Result<Unloaded, Status> {
        let Some(filter) = self.filters.get_mut(&id) else {
            // The callback unregistered, as it should: whatever it answers, the filter is gone.
            return Ok(Unloaded {
                still_registered: false,
            });
        };
        let by = filter.unloading.take().ok_or(Status::INVALID_PARAMETER)?;
        if by == UnloadTrigger::Voluntary && !status.is_success() && !filter.deleting {
            return Err(status);
        }
        Ok(Unloaded {
            still_registered: true,
        })
    }

    /// FltUnregisterFilter: ends every connection that is left. The caller waits until
    /// [`Effect::FilterGone`]; [`unregister_waits_for`](FilterManager::unregister_waits_for) says
    /// for what.
    ///
    /// # Errors
    /// STATUS_INVALID_PARAMETER for a filter that is unknown or already unregistering.
    pub fn unregister_filter(&mut self, id: FilterId) -> Result<Vec<Effect>, Status> {
        let filter = self
            .live_filter(id)
            .map_err(|_| Status::INVALID_PARAMETER)?;
        filter.deleting = true;
        let mut effects = Vec::new();
        let of_filter = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.filter == id);
        let left: Vec<ConnectionId> = of_filter.map(|(connection, _)| *connection).collect();
        for connection in &left {
            self.sever(*connection, &GetOutcome::Disconnected, &mut effects);
            if let Some(state) = self.connections.get_mut(connection)
                && state.accepted
            {
                state.manager_closes = true;
                self.disconnect_due(*connection);
            }
        }
        // Only now: with every disconnect due, none of these can let the filter go too early.
        for connection in left {
            self.settle(connection, &mut effects);
        }
        self.settle_filter(id, &mut effects);
        Ok(effects)
    }

    /// What keeps FltUnregisterFilter from returning; empty also for an unknown filter.
    pub fn unregister_waits_for(&self, id: FilterId) -> Holders {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let connections = || self.connections.values().filter(|c| c.filter == id);
        let in_disconnect = [Disconnect::Due, Disconnect::Running];
        let of_filter = |connection: &ConnectionId| {
            self.connections
                .get(connection)
                .is_some_and(|c| c.filter == id)
        };
        Holders {
            references: self.filters.get(&id).map_or(0, |filter| filter.references),
            open_server_ports: count(
                self.ports
                    .values()
                    .filter(|port| port.filter == id && port.open)
                    .count(),
            ),
            connects: count(connections().filter(|c| !c.accepted).count()),
            message_calls: count(self.calls.values().filter(|call| of_filter(call)).count()),
            disconnects: count(
                connections()
                    .filter(|c| in_disconnect.contains(&c.disconnect))
                    .count(),
            ),
        }
    }

    /// The filter, unless teardown began.
    pub(crate) fn live_filter(&mut self, id: FilterId) -> Result<&mut Filter, Status> {
        match self.filters.get_mut(&id) {
            None => Err(Status::INVALID_PARAMETER),
            Some(filter) if filter.deleting => Err(Status::FLT_DELETING_OBJECT),
            Some(filter) => Ok(filter),
        }
    }
}
