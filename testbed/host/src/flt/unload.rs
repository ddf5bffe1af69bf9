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
use crate::sched;
use crate::verifier::{Report, Rule};

/// Puts the Filter Manager's routine, or NULL, in the place of the driver's DriverUnload, and
/// remembers that.
pub(super) fn replace(tables: &mut Tables, driver: &Arc<Driver>, stoppable: bool) {
    tables
        .former_unloads
        .entry(driver.object() as usize)
        .or_insert_with(|| driver.unload_routine());
    driver.set_unload_routine(stoppable.then_some(filter_manager_unload));
}

/// Reports a DriverUnload that is no longer what [`replace`] has put there.
pub(super) fn check_routine(filters: &FilterTable, driver: &Arc<Driver>) {
    let Some((_, record)) = filters.lock().filters_of(driver).into_iter().next() else {
        return;
    };
    let routine = driver.unload_routine();
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
    // A mandatory unload cannot be refused: NT unloads the driver whatever comes of this.
    let _unload_goes_on = unload(&table::of(&state), &driver, UnloadTrigger::Mandatory);
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
    sched::point("a filter's unload");
    for (id, record) in own {
        match unload_filter(filters, id, &record, by) {
            Err(Status::FLT_DELETING_OBJECT | Status::FLT_FILTER_NOT_FOUND)
                if by == UnloadTrigger::Mandatory =>
            {
                report_unregistering(filters, id, driver);
            }
            unloaded => unloaded?,
        }
    }
    call_former(filters, driver);
    Ok(())
}

/// Reports that a stop has met a thread that unregisters the filter, outside of the unload.
fn report_unregistering(filters: &FilterTable, id: FilterId, driver: &Arc<Driver>) {
    let stack = filters.lock().unregistered.get(&id).cloned();
    Report::new(Rule::UnregisterMeetsUnload)
        .driver(Some(driver.name()))
        .function("FltUnregisterFilter")
        .expected("FltUnregisterFilter in the unload callback, or in a DriverEntry that fails")
        .found("an unload that came while another thread unregistered the filter")
        .detail(
            "what the Filter Manager does then is not documented: if it calls neither \
             FilterUnloadCallback nor DriverUnload, NT unmaps a driver that still runs; the hosted \
             kernel goes on with DriverUnload",
        )
        .at(
            "the filter was unregistered here",
            stack.unwrap_or_default(),
        )
        .file();
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
