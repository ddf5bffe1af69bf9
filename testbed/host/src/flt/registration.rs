// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltRegisterFilter, FltStartFiltering, FltUnregisterFilter and the references between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fltmgr::{
    DriverUnload, FilterId, FilterRegistration, Holders, InstanceKeys, NameProvider, Status,
};

use super::table::{FilterRecord, FilterTable, report};
use super::{attach, inside, unload};
use crate::abi::FLT_REGISTRATION;
use crate::driver::Driver;
use crate::kernel::{self, State};
use crate::sched::{self, Blocked, Waiter};
use crate::stack::Stack;
use crate::verifier::{Report, Rule};

/// Reads a driver's FLT_REGISTRATION, which may be shorter than the newest one.
///
/// # Safety
/// `at` points to a structure of as many readable bytes as its first field says.
pub(super) unsafe fn read(at: *const FLT_REGISTRATION) -> FLT_REGISTRATION {
    let mut registration = FLT_REGISTRATION::default();
    // SAFETY: the first field is readable by contract.
    let size = unsafe { at.cast::<u16>().read() };
    let bytes = usize::from(size).min(size_of::<FLT_REGISTRATION>());
    let to = (&raw mut registration).cast::<u8>();
    // SAFETY: `bytes` are readable by contract, and are no more than the structure holds; every
    // field is a number or an optional function, for which the rest, zero, is valid.
    unsafe { to.copy_from_nonoverlapping(at.cast::<u8>(), bytes) };
    registration
}

/// Registers a filter for `driver`.
pub(super) fn register(
    state: &State,
    filters: &FilterTable,
    driver: &Arc<Driver>,
    with: &FLT_REGISTRATION,
) -> Result<FilterId, Status> {
    let roots = filters.lock().machine.decisions().instance_root;
    let registration = describe(
        driver,
        with,
        instance_keys(state, driver.name(), roots.paths()),
    );
    let record = Arc::new(FilterRecord {
        driver: driver.clone(),
        unload: with.FilterUnloadCallback,
        instance_setup: with.InstanceSetupCallback,
        teardown_start: with.InstanceTeardownStartCallback,
        teardown_complete: with.InstanceTeardownCompleteCallback,
        attached: AtomicBool::new(false),
        gone: Waiter::new(),
        stack: Stack::capture(),
    });
    let mut tables = filters.lock();
    let id = tables.machine.register_filter(&registration)?;
    tables.filters.insert(id, record);
    let replaced = tables.machine.driver_unload(id) == Some(DriverUnload::Replaced);
    unload::replace(&mut tables, driver, replaced);
    Ok(id)
}

fn describe(
    driver: &Arc<Driver>,
    with: &FLT_REGISTRATION,
    instance: InstanceKeys,
) -> FilterRegistration {
    FilterRegistration {
        driver: driver.object() as u64,
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
    }
}

/// Looks for the default instance and its altitude below the first root that exists.
fn instance_keys(state: &State, service: &str, roots: &[&str]) -> InstanceKeys {
    let service = crate::driver::registry_path(service);
    let found = roots.iter().map(|root| format!("{service}\\{root}"));
    let Some(root) = found
        .into_iter()
        .find(|path| state.registry.open(path).is_ok())
    else {
        return InstanceKeys::Missing;
    };
    let name = match text_value(state, &root, "DefaultInstance") {
        Ok(name) => name,
        Err(keys) => return keys,
    };
    match text_value(state, &format!("{root}\\{name}"), "Altitude") {
        Ok(_) => InstanceKeys::Found,
        Err(keys) => keys,
    }
}

/// A REG_SZ, or what its absence makes of the registration.
fn text_value(state: &State, key: &str, value: &str) -> Result<String, InstanceKeys> {
    let value = state
        .registry
        .value(key, value)
        .map_err(|_| InstanceKeys::Missing)?;
    value.as_string().ok_or(InstanceKeys::WrongType)
}

/// Starts filtering; the setup callback may run before this returns.
pub(super) fn start(filters: &FilterTable, id: FilterId) -> Result<(), Status> {
    filters.lock().machine.start_filtering(id)?;
    attach::attach(filters, id);
    Ok(())
}

/// Ends the filter and waits until nothing uses it.
pub(super) fn unregister(filters: &FilterTable, id: FilterId) {
    let mut tables = filters.lock();
    let record = tables.filters.get(&id).cloned();
    let begun = tables.machine.unregister_filter(id);
    let (Some(record), Ok(effects)) = (record, begun) else {
        let first = tables.unregistered.get(&id).cloned();
        drop(tables);
        let first = first.unwrap_or_default();
        Report::new(Rule::FilterUnregisteredTwice)
            .expected("a filter is unregistered by one thread, one time")
            .found("a filter that is being unregistered")
            .related("it was unregistered first here", first)
            .file();
        return;
    };
    // Under the same lock, so that a second thread finds where the first one did it.
    tables.note_unregistered(id);
    drop(tables);
    attach::detach(&record, id);
    filters.execute(effects);
    if inside::is_in_callback(id) {
        report_inside();
        release(filters, id);
        return;
    }
    let open = filters
        .lock()
        .machine
        .unregister_waits_for(id)
        .open_server_ports
        > 0;
    let limit = kernel::state().hang_limit.load(Ordering::Relaxed);
    if open || !wait(&record, limit) {
        report_hang(filters, id);
        release(filters, id);
        wait(&record, limit);
    }
}

/// Waits until the filter is gone; false when that takes longer than `limit`.
fn wait(record: &FilterRecord, limit: u64) -> bool {
    sched::expect(&record.gone, limit) == Blocked::Wakened
}

/// Reports that a filter is unregistered from where that can never end.
fn report_inside() {
    report(
        Rule::UnregisterInsideCallback,
        "FltUnregisterFilter in the unload callback, in a thread that runs no other one",
        "a callback of the filter that unregisters it",
        "on NT the call waits for its own caller; the hosted kernel lets it return at once",
    );
}

fn report_hang(filters: &FilterTable, id: FilterId) {
    let tables = filters.lock();
    let holders = tables.machine.unregister_waits_for(id);
    let snapshot = tables.machine.snapshot();
    let open = |port: &fltmgr::PortState| port.filter == id && port.open;
    let ports = snapshot.ports.into_iter().filter(open);
    let ports = ports.filter_map(|port| tables.ports.get(&port.port));
    let ports: Vec<Stack> = ports.map(|port| port.stack.clone()).collect();
    let references = tables.references.get(&id).cloned().unwrap_or_default();
    drop(tables);
    let mut report = Report::new(Rule::UnregisterHangs)
        .expected("nothing holds the filter, or lets go of it soon")
        .found(held_by(&holders))
        .detail(
            "on NT this call never returns: close the server ports first, give back every \
             reference, and let callbacks return; the hosted kernel goes on as if that had been \
             done",
        );
    for stack in ports {
        report = report.related("a server port was created here", stack);
    }
    for stack in references {
        report = report.related("a reference was taken here", stack);
    }
    report.file();
}

/// What keeps a filter, in words.
fn held_by(holders: &Holders) -> String {
    let counts = [
        (
            holders.open_server_ports,
            "server ports that are not closed",
        ),
        (holders.references, "references (FltObjectReference)"),
        (
            holders.connects,
            "ConnectNotify callbacks that have not returned",
        ),
        (
            holders.message_calls,
            "MessageNotify callbacks that have not returned",
        ),
        (
            holders.disconnects,
            "DisconnectNotify callbacks that have not returned",
        ),
    ];
    let held = counts.iter().filter(|(count, _)| *count > 0);
    let held: Vec<String> = held
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    held.join(", ")
}

/// Takes away what keeps the filter, as far as that can be done from outside.
pub(super) fn release(filters: &FilterTable, id: FilterId) {
    let tables = filters.lock();
    let ports = tables.machine.snapshot().ports;
    let references = tables.machine.unregister_waits_for(id).references;
    drop(tables);
    for port in ports.iter().filter(|port| port.filter == id && port.open) {
        let effects = filters.lock().machine.close_server_port(port.port);
        filters.execute(effects);
    }
    for _ in 0..references {
        let effects = filters.lock().machine.dereference(id);
        filters.execute(effects.unwrap_or_default());
    }
}

/// FltObjectReference on a filter.
pub(super) fn reference(filters: &FilterTable, id: FilterId) -> Result<(), Status> {
    let mut tables = filters.lock();
    tables.machine.reference(id)?;
    let stack = Stack::capture();
    tables.references.entry(id).or_default().push(stack);
    Ok(())
}

/// FltObjectDereference on a filter.
pub(super) fn dereference(filters: &FilterTable, id: FilterId) {
    let mut tables = filters.lock();
    let result = tables.machine.dereference(id);
    if let Some(references) = tables.references.get_mut(&id) {
        references.pop();
    }
    drop(tables);
    match result {
        Ok(effects) => filters.execute(effects),
        Err(_) => report(
            Rule::ReferenceUnderflow,
            "a filter with a reference from FltObjectReference",
            "a filter without one",
            "on NT the filter's rundown count is corrupt from here on",
        ),
    }
}
