// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registration with the Filter Manager.

use crate::bindings::{
    FLT_FILESYSTEM_TYPE, FLT_REGISTRATION, FLT_REGISTRATION_VERSION, FLT_RELATED_OBJECTS,
    FLTFL_FILTER_UNLOAD_MANDATORY, FltRegisterFilter, FltStartFiltering, FltUnregisterFilter,
    NTSTATUS, PFLT_FILTER, STATUS_FLT_DO_NOT_ATTACH,
};
use crate::ex::{PoolArc, Tag};
use crate::io::DriverObject;
use crate::status::{Result, check, to_status};
use core::sync::atomic::{AtomicIsize, Ordering};

/// What the Filter Manager calls a filter for.
pub trait FilterCallbacks: 'static {
    /// IRQL: PASSIVE_LEVEL. The filter is to be unloaded. An error refuses, unless the unload is
    /// mandatory. Before it returns success the driver has let go of all ports and of its
    /// [`Filter`].
    fn unload(mandatory: bool) -> Result<()>;
}

/// Whether instances of the filter are made on volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// No: an instance-setup routine answers `STATUS_FLT_DO_NOT_ATTACH`.
    Never,
    /// On every volume: no instance-setup routine.
    EveryVolume,
}

/// The filter; 0 until it has been registered.
struct Handle(AtomicIsize);

impl Handle {
    fn raw(&self) -> PFLT_FILTER {
        // Relaxed: written before `Filter::register` gives the handle to anybody.
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let filter = self.raw();
        if filter != 0 {
            // SAFETY: registered by `Filter::register`, and unregistered once. All ports that held
            // this handle have been closed.
            unsafe { FltUnregisterFilter(filter) };
        }
    }
}

/// A registered filter. The last clone to go unregisters it, which waits for everything that still
/// uses it: IRQL PASSIVE_LEVEL.
///
/// Let it go in DriverEntry that fails or in the unload, and nowhere else: what becomes of an
/// unload that comes while another thread unregisters the filter is not documented.
#[derive(Clone)]
pub struct Filter(PoolArc<Handle>);

impl Filter {
    /// IRQL: PASSIVE_LEVEL. Registers a filter with an unload routine and no I/O callbacks at all.
    ///
    /// Errors: `STATUS_FLT_NOT_INITIALIZED` while the Filter Manager is not up,
    /// `STATUS_OBJECT_NAME_NOT_FOUND` if the service key has no instance with an altitude, and
    /// others that FltRegisterFilter's page names.
    pub fn register<T: FilterCallbacks>(
        driver: DriverObject,
        tag: Tag,
        instances: Instances,
    ) -> Result<Self> {
        let registration = FLT_REGISTRATION {
            Size: size_of::<FLT_REGISTRATION>() as u16,
            Version: FLT_REGISTRATION_VERSION as u16,
            FilterUnloadCallback: Some(unload_routine::<T>),
            InstanceSetupCallback: match instances {
                Instances::Never => Some(do_not_attach),
                Instances::EveryVolume => None,
            },
            ..FLT_REGISTRATION::default()
        };
        // Its owner is made first: what has been registered need not be unregistered here.
        let owner = PoolArc::new(tag, Handle(AtomicIsize::new(0)))?;
        let mut filter = 0;
        // SAFETY: our driver object, a registration that is copied, and a valid place for the
        // result.
        check(unsafe {
            FltRegisterFilter(driver.as_ptr(), &raw const registration, &raw mut filter)
        })?;
        owner.0.store(filter, Ordering::Relaxed);
        Ok(Filter(owner))
    }

    /// IRQL: PASSIVE_LEVEL. Starts filtering: the Filter Manager may now ask for instances.
    pub fn start(&self) -> Result<()> {
        // SAFETY: a registered filter.
        check(unsafe { FltStartFiltering(self.raw()) })
    }

    pub(super) fn raw(&self) -> PFLT_FILTER {
        self.0.raw()
    }
}

unsafe extern "system" fn unload_routine<T: FilterCallbacks>(flags: u32) -> NTSTATUS {
    to_status(T::unload(flags & FLTFL_FILTER_UNLOAD_MANDATORY != 0))
}

unsafe extern "system" fn do_not_attach(
    _objects: *const FLT_RELATED_OBJECTS,
    _flags: u32,
    _device: u32,
    _file_system: FLT_FILESYSTEM_TYPE,
) -> NTSTATUS {
    STATUS_FLT_DO_NOT_ATTACH
}
