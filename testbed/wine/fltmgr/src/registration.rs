// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltRegisterFilter, FltStartFiltering, FltUnregisterFilter.

use alloc::sync::Arc;

use fltmgr::{DriverUnload, FilterId, FilterRegistration, NameProvider, Status};
use fltport_nt::bindings::{DRIVER_OBJECT, FLT_REGISTRATION};

use crate::event::Event;
use crate::table::{self, FilterRecord};
use crate::{effects, registry, unload};

/// Reads a driver's FLT_REGISTRATION, which may be shorter than the newest one.
///
/// # Safety
/// `at` points to a structure of as many readable bytes as its first field says.
unsafe fn read(at: *const FLT_REGISTRATION) -> FLT_REGISTRATION {
    let mut registration = FLT_REGISTRATION::default();
    // SAFETY: the first field is readable by contract.
    let size = unsafe { at.cast::<u16>().read() };
    let bytes = usize::from(size).min(size_of::<FLT_REGISTRATION>());
    let to = (&raw mut registration).cast::<u8>();
    // SAFETY: `bytes` are readable by contract, and no more than the structure holds; every field
    // is a number or an optional function, for which the rest, zero, is valid.
    unsafe { to.copy_from_nonoverlapping(at.cast::<u8>(), bytes) };
    registration
}

/// Registers a filter.
///
/// # Safety
/// `driver` is the caller's driver object; `registration` is as [`read`] wants it.
pub(crate) unsafe fn register(
    driver: *mut DRIVER_OBJECT,
    registration: *const FLT_REGISTRATION,
) -> Result<FilterId, Status> {
    // SAFETY: by contract.
    let with = unsafe { read(registration) };
    // SAFETY: by contract; the driver is in this call.
    let service = unsafe { unload::service_name(driver) }.unwrap_or(&[]);
    let roots = table::lock().machine.decisions().instance_root.paths();
    let instance = registry::instance_keys(service, roots);
    let mut tables = table::lock();
    let id = tables.machine.register_filter(&FilterRegistration {
        driver: driver as u64,
        size: with.Size,
        version: with.Version,
        flags: with.Flags,
        has_unload: with.FilterUnloadCallback.is_some(),
        has_instance_setup: with.InstanceSetupCallback.is_some(),
        names: NameProvider {
            generate: with.GenerateFileNameCallback.is_some(),
            normalize: with.NormalizeNameComponentCallback.is_some(),
            normalize_ex: with.NormalizeNameComponentExCallback.is_some(),
            cleanup: with.NormalizeContextCleanupCallback.is_some(),
        },
        instance,
    })?;
    let record = FilterRecord {
        driver: driver as usize,
        unload: with.FilterUnloadCallback,
        gone: Event::new(),
    };
    tables.filters.insert(id, Arc::new(record));
    let replaced = tables.machine.driver_unload(id) == Some(DriverUnload::Replaced);
    unload::replace(&mut tables, driver, replaced);
    Ok(id)
}

/// FltUnregisterFilter: waits until nothing uses the filter.
pub(crate) fn unregister(id: FilterId) {
    let mut tables = table::lock();
    let record = tables.filters.get(&id).cloned();
    let begun = tables.machine.unregister_filter(id);
    drop(tables);
    if let (Some(record), Ok(effects)) = (record, begun) {
        effects::execute(effects);
        record.gone.wait(None);
    }
}
