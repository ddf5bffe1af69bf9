// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions that client drivers call through the table. Each checks its pointers and calls one
//! safe function.
//!
//! Client drivers are kernel code and trusted as such: a wrong pointer from them is their bug. What
//! they can get wrong without being able to know it (a version, a size) is checked.

use crate::driver::DRIVER;
use crate::ffi::Handler;
use crate::ledger::bit;
use crate::provider::{Description, Provider};
use crate::receiver::Offer;
use crate::request::{self, Asked};
use core::mem::{MaybeUninit, size_of};
use core::slice;
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordKind;
use fltport_abi::interface::{
    Ask, BacklogPolicy, Interface, Notification, ProviderDescription, ProviderHandle, Request,
    Revised, VERSION,
};
use fltport_abi::limits::{MAX_DEADLINE_MS, MAX_SCHEMA};
use fltport_nt::bindings::{
    NTSTATUS, STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER, STATUS_REVISION_MISMATCH,
    STATUS_SUCCESS,
};
use fltport_nt::ex::{PoolArc, PoolBox};
use fltport_nt::ke::{current_irql, system_time};
use fltport_nt::linked::{APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};

static TABLE: Interface = Interface {
    size: size_of::<Interface>() as u32,
    version: VERSION,
    register,
    unregister,
    notify,
    lost,
    request,
    listening,
    reserve: None,
    commit: None,
    discard: None,
    book: None,
    unbook: None,
    request_async: None,
    statistics: None,
    snapshot_add: None,
    snapshot_live: None,
};

/// What a handle points to: the provider, kept alive by the registration.
type Registered = PoolBox<PoolArc<Provider>>;

/// The function table's address, as it travels through the callback object.
pub(crate) fn table_address() -> usize {
    (&raw const TABLE).addr()
}

/// IRQL: <= DISPATCH_LEVEL. Leaves the table in the [`Ask`] at this address, if its sender speaks
/// this version.
pub(crate) fn answer(ask: usize) {
    let ask = ask as *mut Ask;
    // SAFETY: a client driver's stub passes null or a valid Ask for the duration of the
    // notification; nobody else may notify ASK.
    if let Some(ask) = unsafe { ask.as_mut() }
        && ask.size as usize >= size_of::<Ask>()
        && ask.version == VERSION
    {
        ask.interface = &raw const TABLE;
    }
}

/// The provider of a handle.
///
/// # Safety
/// The handle came from `register`, and `unregister` has not been called with it.
unsafe fn provider<'a>(handle: ProviderHandle) -> Option<&'a PoolArc<Provider>> {
    // SAFETY: `register` gave out a pointer to a provider reference that lives until `unregister`.
    unsafe { (handle.0 as *const PoolArc<Provider>).as_ref() }
}

/// The bytes at `pointer`.
///
/// # Safety
/// `pointer` is valid for `length` bytes for `'a`, or `length` is 0.
unsafe fn bytes<'a>(pointer: *const u8, length: u32) -> Result<&'a [u8]> {
    match (pointer.is_null(), length) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(NtError(STATUS_INVALID_PARAMETER)),
        // SAFETY: as the caller vouches.
        (false, length) => Ok(unsafe { slice::from_raw_parts(pointer, length as usize) }),
    }
}

/// The struct at `pointer` as this revision knows it: what its author's revision does not have is
/// 0, what a newer one has behind that is left alone. `None` if the pointer is null, or the struct
/// shorter than the first revision's.
///
/// # Safety
/// `pointer` is null or valid for as many bytes as the struct's size, which comes first, says.
unsafe fn revised<T: Revised>(pointer: *const T) -> Option<T> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, so valid for its size at least.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if size < T::FIRST {
        return None;
    }
    let mut value = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: valid for `size` bytes, as the caller vouches, and the place for those of T.
    unsafe {
        pointer
            .cast::<u8>()
            .copy_to_nonoverlapping(value.as_mut_ptr().cast(), known)
    };
    // SAFETY: all bytes zero is a valid value of every struct of this kind, and so are those that
    // its author put there: numbers and pointers.
    Some(unsafe { value.assume_init() })
}

unsafe extern "system" fn register(
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
/// The description's pointers are valid: the schema for its length during the call, handler and
/// context until `unregister` has returned.
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
    let driver = DRIVER.get().ok_or(NtError(STATUS_DELETE_PENDING))?;
    let provider = driver.register(&Description {
        schema,
        backlog: description.backlog as usize,
        policy,
        handler,
    })?;
    PoolBox::new(crate::tag::PROVIDER, provider.clone())
        .inspect_err(|_| driver.unregister(&provider))
}

unsafe extern "system" fn unregister(handle: ProviderHandle) {
    let Some(raw) = core::ptr::NonNull::new(handle.0 as *mut PoolArc<Provider>) else {
        return;
    };
    // SAFETY: `register` gave this pointer up with this tag, and a handle is unregistered once.
    let registered: Registered = unsafe { PoolBox::from_raw(raw, crate::tag::PROVIDER) };
    match DRIVER.get() {
        Some(driver) => driver.unregister(&registered),
        None => registered.drain(false),
    }
}

unsafe extern "system" fn notify(
    handle: ProviderHandle,
    notification: *const Notification,
) -> NTSTATUS {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { provider(handle) };
    // SAFETY: and a valid notification, for the duration of the call.
    let notification = unsafe { revised(notification) };
    let (Some(provider), Some(notification)) = (provider, notification) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: whose payload is valid for its length.
    let Ok(payload) = (unsafe { bytes(notification.payload, notification.length) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    let known = provider.notifications & bit(notification.message) != 0;
    if !known || usize::from(notification.fixed) > payload.len() {
        return STATUS_INVALID_PARAMETER;
    }
    // Before the first lock, which even finding the driver takes.
    if current_irql() > DISPATCH_LEVEL {
        provider.count_too_high(notification.message);
        return STATUS_SUCCESS;
    }
    let Some(driver) = DRIVER.get() else {
        return STATUS_INVALID_PARAMETER;
    };
    let offer = Offer {
        message: notification.message,
        kind: RecordKind::Notification,
        fixed: notification.fixed,
        time: if notification.time == 0 {
            system_time()
        } else {
            notification.time
        },
        parts: &[payload],
    };
    to_status(driver.notify(provider, &offer))
}

unsafe extern "system" fn lost(handle: ProviderHandle, message: u16, cause: u16, count: u64) {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { provider(handle) };
    if let (Some(provider), Some(cause), Some(driver)) =
        (provider, Cause::from_wire(cause), DRIVER.get())
        && provider.notifications & bit(message) != 0
    {
        driver
            .routes()
            .lock()
            .lost(provider.number, message, cause, count);
    }
}

unsafe extern "system" fn request(handle: ProviderHandle, place: *mut Request) -> NTSTATUS {
    if current_irql() > APC_LEVEL {
        return STATUS_INVALID_LEVEL;
    }
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { provider(handle) };
    // SAFETY: and a valid request that nobody else touches during the call.
    let request = unsafe { revised(place.cast_const()) };
    let (Some(provider), Some(request), Some(driver)) = (provider, request, DRIVER.get()) else {
        return STATUS_INVALID_PARAMETER;
    };
    if request.deadline_ms == 0 || request.deadline_ms > MAX_DEADLINE_MS || request.reply.is_null()
    {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: whose payload is valid for its length.
    let Ok(payload) = (unsafe { bytes(request.payload, request.length) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: whose reply is valid for its length, not null, and nobody else's during the call.
    let reply = unsafe { slice::from_raw_parts_mut(request.reply, request.reply_length as usize) };
    let asked = Asked {
        message: request.message,
        fixed: request.fixed,
        payload,
        deadline_ms: request.deadline_ms,
    };
    match request::ask(&driver, provider, &asked, reply) {
        Ok(outcome) => {
            // SAFETY: within the request, for every revision has that field.
            let told = unsafe { &raw mut (*place).outcome };
            // SAFETY: valid, as the request is.
            unsafe { told.write(outcome as u32) };
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}

unsafe extern "system" fn listening(handle: ProviderHandle, message: u16) -> u8 {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { provider(handle) };
    let (Some(provider), Some(driver)) = (provider, DRIVER.get()) else {
        return 0;
    };
    driver
        .routes()
        .lock()
        .is_listening(provider.number, message)
        .into()
}
