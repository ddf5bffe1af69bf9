// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registering, and what is asked about a provider as a whole.

use super::{Registered, bytes, driver_of, registered, revised};
use crate::command::settle_rings;
use crate::defaults::Declared;
use crate::driver::DRIVER;
use crate::ffi::{Handler, InterestWord, Reporter, UnheardCounters};
use crate::ledger::bit;
use crate::provider::{Description, Provider};
use crate::usage;
use fltport_abi::interface::{
    BacklogPolicy, DefaultReply, ProviderDescription, ProviderHandle, ProviderStatistics, VERSION,
};
use fltport_abi::limits::{MAX_MESSAGE_NUMBER, MAX_SCHEMA};
use fltport_nt::bindings::{
    NTSTATUS, STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER, STATUS_REVISION_MISMATCH,
    STATUS_SUCCESS,
};
use fltport_nt::ex::{PoolArc, PoolBox, PoolSlice};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{PASSIVE_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::{NtError, Result};

pub(super) unsafe extern "system" fn register(
    description: *const ProviderDescription,
    handle: *mut ProviderHandle,
) -> NTSTATUS {
    // SAFETY: the client driver passes a valid description or null, for the duration of the call.
    let description = match unsafe { revised(description) } {
        Some(description) => description,
        None if description.is_null() => return STATUS_INVALID_PARAMETER,
        None => return STATUS_REVISION_MISMATCH,
    };
    // SAFETY: the description is the client driver's own.
    match unsafe { register_provider(&description) } {
        Ok(registered) => {
            let raw = registered.into_raw();
            // SAFETY: the client driver passes a valid place for the handle.
            unsafe { handle.write(ProviderHandle(raw.as_ptr() as usize)) };
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}

/// # Safety
/// The description's pointers are valid: the schema for its length during the call, handler,
/// snapshot routine, context, interest word, quiet word and counters until `unregister` has returned.
unsafe fn register_provider(description: &ProviderDescription) -> Result<Registered> {
    if current_irql() != PASSIVE_LEVEL {
        return Err(NtError(STATUS_INVALID_LEVEL));
    }
    if description.version != VERSION {
        return Err(NtError(STATUS_REVISION_MISMATCH));
    }
    let policy = match description.backlog_policy {
        0 => BacklogPolicy::KeepNewest,
        1 => BacklogPolicy::KeepOldest,
        _ => return Err(NtError(STATUS_INVALID_PARAMETER)),
    };
    if description.schema_length as usize > MAX_SCHEMA {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    // SAFETY: as the caller vouches.
    let schema = unsafe { bytes(description.schema, description.schema_length) }?;
    let handler = description.on_command.map(|routine| {
        // SAFETY: as the caller vouches; `unregister` drains the handler before it returns.
        unsafe { Handler::new(routine, description.context) }
    });
    let reporter = description.on_snapshot.map(|routine| {
        // SAFETY: as the caller vouches; `unregister` drains it as it does the handler.
        unsafe { Reporter::new(routine, description.context) }
    });
    // SAFETY: as the caller vouches; `unregister` takes the provider out of the routes before it
    // returns.
    let interest = unsafe { InterestWord::new(description.interest) }?;
    let (quiet, unheard) = (description.quiet, description.unheard);
    // SAFETY: as for the interest word.
    let counters = unsafe { UnheardCounters::new(quiet, unheard, description.unheard_rows) }?;
    // SAFETY: as the caller vouches.
    let defaults = unsafe { defaults(description) }?;
    let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
    let provider = driver.register(Description {
        schema,
        backlog: description.backlog as usize,
        policy,
        handler,
        reporter,
        quota: description.quota,
        rate: description.rate,
        burst: description.burst,
        interest,
        counters,
        defaults: &defaults,
    })?;
    PoolBox::new(crate::tag::PROVIDER, provider.clone())
        .inspect_err(|_| driver.unregister(&provider))
}

/// The default replies that a description declares.
///
/// # Safety
/// They, and their bytes, are valid for `'a`.
unsafe fn defaults<'a>(description: &ProviderDescription) -> Result<PoolSlice<Declared<'a>>> {
    let count = description.default_count as usize;
    if count > usize::from(MAX_MESSAGE_NUMBER) {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let none = Declared {
        message: 0,
        reply: &[],
    };
    let mut found = PoolSlice::filled(crate::tag::BUFFER, count, none)?;
    let mut next = description.defaults;
    for place in found.iter_mut() {
        // SAFETY: null, or one of those that are declared, as the caller vouches.
        let declared: Option<DefaultReply> = unsafe { revised(next) };
        let declared = declared.ok_or(NtError(STATUS_INVALID_PARAMETER))?;
        // SAFETY: as the caller vouches.
        let reply = unsafe { bytes(declared.reply, declared.length) }?;
        let message = declared.message;
        *place = Declared { message, reply };
        next = next.wrapping_byte_add(declared.size as usize);
    }
    Ok(found)
}

pub(super) unsafe extern "system" fn unregister(handle: ProviderHandle) {
    let Some(raw) = core::ptr::NonNull::new(handle.0 as *mut PoolArc<Provider>) else {
        return;
    };
    // SAFETY: `register` gave this pointer up with this tag, and a handle is unregistered once.
    let registered: Registered = unsafe { PoolBox::from_raw(raw, crate::tag::PROVIDER) };
    match driver_of(&registered) {
        Some(driver) => driver.unregister(&registered),
        None => registered.drain(false),
    }
}

pub(super) unsafe extern "system" fn listening(handle: ProviderHandle, message: u16) -> u8 {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    let Some(provider) = provider else {
        return 0;
    };
    let Some(driver) = driver_of(provider) else {
        return 0;
    };
    driver
        .routes()
        .lock()
        .is_listening(provider.number, message)
        .into()
}

pub(super) unsafe extern "system" fn statistics(
    handle: ProviderHandle,
    place: *mut ProviderStatistics,
) -> NTSTATUS {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    // SAFETY: and valid statistics that nobody else touches during the call.
    let wanted = unsafe { revised(place.cast_const()) };
    let (Some(provider), Some(wanted)) = (provider, wanted) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some(driver) = driver_of(provider) else {
        return STATUS_DELETE_PENDING;
    };
    let known = provider.notifications | provider.requests;
    if wanted.message != 0 && known & bit(wanted.message) == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let mut found = ProviderStatistics {
        size: wanted.size,
        message: wanted.message,
        ..ProviderStatistics::EMPTY
    };
    settle_rings(&driver);
    let mut routes = driver.routes().lock();
    routes.collect(provider.number);
    usage::statistics(&routes, provider.number, &mut found);
    drop(routes);
    let known = size_of::<ProviderStatistics>().min(wanted.size as usize);
    // SAFETY: valid for its size, of which no more than this revision knows is written.
    unsafe {
        place
            .cast::<u8>()
            .copy_from_nonoverlapping((&raw const found).cast(), known)
    };
    STATUS_SUCCESS
}
