// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unloading a filter: who may refuse, and what becomes of DriverUnload.
//!
//! Registering puts the Filter Manager's own routine into the driver object, so that stopping the
//! service reaches the unload callback; the routine the driver had set is called after it.

use std::sync::Arc;

use fltmgr::{FilterId, Status, UnloadTrigger};

use super::table::{self, FilterRecord, FilterTable, Tables};
use crate::abi::{DRIVER_OBJECT, NTSTATUS};
use crate::driver::Driver;
use crate::frame;
use crate::kernel;
use crate::verifier::{Report, Rule};

/// Puts the Filter Manager's routine, or NULL, in the place of the driver's DriverUnload, and
/// remembers that.
pub(super) fn replace(tables: &mut Tables, driver: &Arc<Driver>, stoppable: bool) {
    let object = driver.object();
    // SAFETY: the driver object lives as long as `driver`; it is changed by the thread that
    // initialises the driver, as on NT.
    let place = unsafe { &raw mut (*object).DriverUnload };
    // SAFETY: as above.
    let former = unsafe { place.read() };
    tables
        .former_unloads
        .entry(object as usize)
        .or_insert(former);
    // SAFETY: as above.
    unsafe {
        place.write(if stoppable {
            Some(filter_manager_unload)
        } else {
            None
        })
    };
}

/// Reports a DriverUnload that is no longer what [`replace`] has put there.
pub(super) fn check_routine(filters: &FilterTable, driver: &Arc<Driver>) {
    let Some((_, record)) = filters.lock().filters_of(driver).into_iter().next() else {
        return;
    };
    // SAFETY: the driver object lives as long as `driver`; the field is a nullable pointer.
    let routine = unsafe { (*driver.object()).DriverUnload };
    if routine.map(|routine| routine as usize) == Some(filter_manager_unload as *const () as usize)
    {
        return;
    }
    Report::new(Rule::DriverUnloadReplaced)
        .driver(Some(driver.name()))
        .function("FltRegisterFilter")
        .expected("DriverUnload is set before FltRegisterFilter, or never")
        .found("a DriverUnload that was set afterwards")
        .detail(
            "FltRegisterFilter puts the Filter Manager's routine there, which calls the \
             FilterUnloadCallback and then the former DriverUnload; a service stop now bypasses \
             both; the stack is that of the registration",
        )
        .made_at(record.stack.clone())
        .file();
}

/// The DriverUnload of every driver with a filter.
unsafe extern "system" fn filter_manager_unload(object: *const DRIVER_OBJECT) {
    let state = kernel::state();
    let Some(driver) = state.drivers.by_object(object as usize) else {
        return;
    };
    // A mandatory unload cannot be refused; a status tells of one that runs already.
    let _already_unloading = unload(&table::of(&state), &driver, UnloadTrigger::Mandatory);
}

/// Unloads the driver's filter as FilterUnload does: the driver may refuse.
///
/// # Errors
/// STATUS_FLT_FILTER_NOT_FOUND when it has no filter, the driver's refusal, and what
/// [`FilterManager::request_unload`](fltmgr::FilterManager::request_unload) says.
pub(super) fn unload_voluntarily(
    filters: &FilterTable,
    driver: &Arc<Driver>,
) -> Result<(), NTSTATUS> {
    if filters.lock().filters_of(driver).is_empty() {
        return Err(Status::FLT_FILTER_NOT_FOUND.0);
    }
    unload(filters, driver, UnloadTrigger::Voluntary).map_err(|status| status.0)
}

fn unload(filters: &FilterTable, driver: &Arc<Driver>, by: UnloadTrigger) -> Result<(), Status> {
    let own = filters.lock().filters_of(driver);
    for (id, record) in own {
        unload_filter(filters, id, &record, by)?;
    }
    call_former(filters, driver);
    Ok(())
}

fn unload_filter(
    filters: &FilterTable,
    id: FilterId,
    record: &FilterRecord,
    by: UnloadTrigger,
) -> Result<(), Status> {
    let flags = filters.lock().machine.request_unload(id, by)?;
    let status = record.unload.map_or(Status::SUCCESS, |callback| {
        frame::call("FilterUnloadCallback", Some(&record.driver), || {
            // SAFETY: the driver registered this routine and is still loaded.
            Status(unsafe { callback(flags) })
        })
    });
    // Whether the filter is still registered shows when the driver is gone: its own DriverUnload
    // may unregister it.
    let _unloaded = filters.lock().machine.finish_unload(id, status)?;
    Ok(())
}

/// Calls the DriverUnload that the driver had before it registered.
fn call_former(filters: &FilterTable, driver: &Arc<Driver>) {
    let object = driver.object();
    let former = filters
        .lock()
        .former_unloads
        .remove(&(object as usize))
        .flatten();
    let Some(former) = former else { return };
    frame::call("DriverUnload", Some(driver), || {
        // SAFETY: the driver set this routine in its driver object, which is passed, and is loaded.
        unsafe { former(object) };
    });
}
