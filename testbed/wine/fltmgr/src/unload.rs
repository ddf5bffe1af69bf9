// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unloading filters: by a service stop, which reaches this driver through the DriverUnload that
//! registering replaced, and by FilterUnload, which the filter may refuse.
//!
//! A stop that meets a FilterUnload in the driver's callback waits for it. Wine itself does not
//! survive it if both reach its ZwUnloadDriver in the same moment; nothing can be done about that
//! here.

use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use fltmgr::{FilterId, Status, UnloadTrigger};
use fltport_nt::bindings::{DRIVER_OBJECT, DRIVER_UNLOAD};
use fltport_nt::rtl::{UnicodeString, units_of};

use crate::event::Event;
use crate::nt::{ZwLoadDriver, ZwUnloadDriver};
use crate::registry;
use crate::table::{self, FilterRecord, Tables, Unloading};

/// Puts this driver's routine, or NULL, in the place of the driver's DriverUnload, and remembers
/// that, unless it is this driver's routine already. What is remembered of an earlier driver, whose
/// DriverEntry failed so that it was never unloaded, may be under the same address: it is replaced.
pub(crate) fn replace(tables: &mut Tables, driver: *mut DRIVER_OBJECT, stoppable: bool) {
    // SAFETY: the driver object that FltRegisterFilter was given, of a driver that is loaded.
    let routine = unsafe { &mut (*driver).DriverUnload };
    let ours: DRIVER_UNLOAD = stoppable.then_some(service_stop);
    let former = core::mem::replace(routine, ours);
    if former.map(|routine| routine as usize) != Some(service_stop as *const () as usize) {
        tables.former_unloads.insert(driver as usize, former);
    }
}

/// The DriverUnload of every driver with a filter.
unsafe extern "system" fn service_stop(driver: *const DRIVER_OBJECT) {
    let object = driver as usize;
    wait_for_voluntary(object);
    for (id, record) in filters_of(object) {
        // A mandatory unload goes on whatever the callback answers.
        let _goes_on = unload_filter(id, &record, UnloadTrigger::Mandatory);
    }
    let former = table::lock().former_unloads.remove(&object).flatten();
    if let Some(former) = former {
        // SAFETY: the driver set this routine in its driver object, which is passed, and is loaded.
        unsafe { former(driver) };
    }
}

/// Waits until no FilterUnload is in a callback of the driver: Wine unmaps the driver as soon as its
/// DriverUnload has returned.
fn wait_for_voluntary(driver: usize) {
    let tables = table::lock();
    let unloading = tables.unloading.get(&driver).cloned();
    if let Some(unloading) = &unloading {
        unloading.met_by_stop.store(true, Ordering::Relaxed);
    }
    drop(tables);
    if let Some(unloading) = unloading {
        unloading.returned.wait(None);
    }
}

fn filters_of(driver: usize) -> Vec<(FilterId, Arc<FilterRecord>)> {
    let tables = table::lock();
    let own = tables
        .filters
        .iter()
        .filter(|(_, record)| record.driver == driver);
    own.map(|(id, record)| (*id, record.clone())).collect()
}

fn unload_filter(id: FilterId, record: &FilterRecord, by: UnloadTrigger) -> Result<(), Status> {
    let flags = table::lock().machine.request_unload(id, by)?;
    let status = record.unload.map_or(Status::SUCCESS, |callback| {
        // SAFETY: the driver registered this routine and is still loaded.
        Status(unsafe { callback(flags) })
    });
    // Its own DriverUnload may unregister it still.
    let _unloaded = table::lock().machine.finish_unload(id, status)?;
    Ok(())
}

/// FilterUnload: asks the filters of a service, which may refuse, then has the driver unloaded.
pub(crate) fn voluntary(service: &[u16]) -> Result<(), Status> {
    let tables = table::lock();
    let driver = tables.filters.values().find_map(|record| {
        // SAFETY: a driver with a registered filter is loaded.
        let name = unsafe { service_name(record.driver as *const DRIVER_OBJECT) };
        name.is_some_and(|name| equal(name, service))
            .then_some(record.driver)
    });
    drop(tables);
    let driver = driver.ok_or(Status::FLT_FILTER_NOT_FOUND)?;
    if unload_voluntarily(driver)? {
        return Ok(());
    }
    with_service(service, |path| {
        // SAFETY: a valid path.
        Status(unsafe { ZwUnloadDriver(path.raw()) })
    })
}

/// Asks the filters of a driver; whether a service stop has come meanwhile, which has the driver
/// unloaded.
fn unload_voluntarily(driver: usize) -> Result<bool, Status> {
    let unloading = Arc::new(Unloading {
        returned: Event::new(),
        met_by_stop: AtomicBool::new(false),
    });
    match table::lock().unloading.entry(driver) {
        Entry::Occupied(_) => return Err(Status::FLT_DELETING_OBJECT),
        Entry::Vacant(place) => place.insert(unloading.clone()),
    };
    let mut filters = filters_of(driver).into_iter();
    let asked =
        filters.try_for_each(|(id, record)| unload_filter(id, &record, UnloadTrigger::Voluntary));
    table::lock().unloading.remove(&driver);
    unloading.returned.set();
    asked.map(|()| unloading.met_by_stop.load(Ordering::Relaxed))
}

/// FilterLoad.
pub(crate) fn load(service: &[u16]) -> Result<(), Status> {
    // Wine's own answer would be STATUS_UNSUCCESSFUL.
    if !registry::has_service(service) {
        return Err(Status::OBJECT_NAME_NOT_FOUND);
    }
    with_service(service, |path| {
        // SAFETY: a valid path.
        Status(unsafe { ZwLoadDriver(path.raw()) })
    })
}

fn with_service(
    service: &[u16],
    call: impl FnOnce(&UnicodeString<'_>) -> Status,
) -> Result<(), Status> {
    let separator = [u16::from(b'\\')];
    // Wine looks for the path's end in the memory behind it.
    let terminated: Vec<u16> = registry::SERVICES
        .encode_utf16()
        .chain(separator)
        .chain(service.iter().copied())
        .chain([0])
        .collect();
    let path = &terminated[..terminated.len() - 1];
    let path = UnicodeString::new(path).map_err(|_| Status::OBJECT_NAME_INVALID)?;
    match call(&path) {
        status if status.is_success() => Ok(()),
        status => Err(status),
    }
}

/// The name of the service key of a driver.
///
/// # Safety
/// `driver` is the object of a driver that is loaded as long as the name is used.
pub(crate) unsafe fn service_name<'a>(driver: *const DRIVER_OBJECT) -> Option<&'a [u16]> {
    // SAFETY: valid by contract.
    let extension = unsafe { (*driver).DriverExtension };
    // SAFETY: the extension of a driver object belongs to it.
    let name = unsafe { &raw const (*extension).ServiceKeyName };
    // SAFETY: a field of a valid extension, which lives as long as the driver.
    let name = unsafe { units_of(name) }?;
    // Wine keeps the whole path where Windows keeps the key's name.
    let begin = name
        .iter()
        .rposition(|unit| *unit == u16::from(b'\\'))
        .map_or(0, |at| at + 1);
    name.get(begin..)
}

/// As the registry compares names, for what is ASCII of them.
fn equal(one: &[u16], other: &[u16]) -> bool {
    let lower = |unit: &u16| match u8::try_from(*unit) {
        Ok(byte) => u16::from(byte.to_ascii_lowercase()),
        Err(_) => *unit,
    };
    one.iter().map(lower).eq(other.iter().map(lower))
}
