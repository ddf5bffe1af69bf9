// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes before a notification: memory to fill in, and room that is kept.

use super::notification::{goes_the_short_way, time_or_now};
use super::{driver_of, registered, revised};
use crate::lane::{Booked, Chunk};
use crate::ledger::bit;
use crate::provider::Provider;
use crate::receiver::Offer;
use crate::screen::{Subject, offering_process};
use crate::tag;
use core::ptr::NonNull;
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordKind;
use fltport_abi::interface::{ProviderHandle, Reservation};
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_nt::bindings::{
    NTSTATUS, STATUS_BUFFER_OVERFLOW, STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use fltport_nt::ex::{PoolBox, PoolBytes};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{DISPATCH_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result};

/// What a reservation's handle points to.
struct Reserved {
    message: u16,
    payload: PoolBytes,
}

/// IRQL: any. Memory for a payload of this length. What is not had is accounted as lost.
fn memory(provider: &Provider, message: u16, length: u32) -> Result<PoolBox<Reserved>> {
    if provider.notifications & bit(message) == 0 {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    // Before the first lock, which even finding the driver takes.
    if current_irql() > DISPATCH_LEVEL {
        provider.count_too_high(message);
        return Err(NtError(STATUS_INVALID_LEVEL));
    }
    let driver = driver_of(provider).filter(|driver| !driver.is_closing());
    let driver = driver.ok_or(NtError(STATUS_DELETE_PENDING))?;
    let lost = |cause| {
        let mut routes = driver.routes().lock();
        routes.lost(provider.number, message, cause, 1);
    };
    if length as usize > MAX_PAYLOAD {
        lost(Cause::TooLarge);
        return Err(NtError(STATUS_BUFFER_OVERFLOW));
    }
    PoolBytes::zeroed(tag::BUFFER, length as usize)
        .and_then(|payload| PoolBox::new(tag::BUFFER, Reserved { message, payload }))
        .inspect_err(|_| lost(Cause::NoMemory))
}

pub(super) unsafe extern "system" fn reserve(
    handle: ProviderHandle,
    place: *mut Reservation,
) -> NTSTATUS {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    // SAFETY: and a valid reservation that nobody else touches during the call.
    let wanted = unsafe { revised(place.cast_const()) };
    let (Some(provider), Some(wanted)) = (provider, wanted) else {
        return STATUS_INVALID_PARAMETER;
    };
    let mut reserved = match memory(provider, wanted.message, wanted.length) {
        Ok(reserved) => reserved,
        Err(error) => return error.status(),
    };
    let payload = reserved.payload.as_mut_ptr();
    let handle = reserved.into_raw().as_ptr() as usize;
    let filled = Reservation {
        payload,
        handle,
        ..wanted
    };
    // SAFETY: valid, and as long as this: every revision has these fields.
    unsafe { place.write(filled) };
    STATUS_SUCCESS
}

/// What a reservation's handle stands for.
///
/// # Safety
/// The handle is null, or came from `reserve` and has not been committed or discarded.
unsafe fn taken_back(reservation: usize) -> Option<PoolBox<Reserved>> {
    let raw = NonNull::new(reservation as *mut Reserved)?;
    // SAFETY: `reserve` gave this pointer up with this tag, and a reservation ends once.
    Some(unsafe { PoolBox::from_raw(raw, tag::BUFFER) })
}

pub(super) unsafe extern "system" fn commit(
    handle: ProviderHandle,
    reservation: usize,
    fixed: u16,
    length: u32,
    time: i64,
) -> NTSTATUS {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    // SAFETY: and a reservation of its own that has not ended.
    let reserved = unsafe { taken_back(reservation) };
    let (Some(provider), Some(reserved)) = (provider, reserved) else {
        return STATUS_INVALID_PARAMETER;
    };
    let payload = reserved.payload.get(..length as usize);
    let payload = payload.filter(|payload| usize::from(fixed) <= payload.len());
    let Some(payload) = payload else {
        return STATUS_INVALID_PARAMETER;
    };
    if goes_the_short_way(provider, reserved.message, fixed, time, payload) {
        return STATUS_SUCCESS;
    }
    let Some(driver) = driver_of(provider) else {
        return STATUS_DELETE_PENDING;
    };
    let offer = Offer {
        message: reserved.message,
        kind: RecordKind::Notification,
        fixed,
        time: time_or_now(time),
        subject: Subject {
            payload,
            fixed,
            process: offering_process(),
        },
        booking: 0,
        parts: &[payload],
    };
    to_status(driver.notify(provider, &offer))
}

pub(super) unsafe extern "system" fn discard(_handle: ProviderHandle, reservation: usize) {
    // SAFETY: the client driver passes a reservation of its own that has not ended.
    drop(unsafe { taken_back(reservation) });
}

pub(super) unsafe extern "system" fn book(
    handle: ProviderHandle,
    message: u16,
    length: u32,
    number: *mut u64,
) -> NTSTATUS {
    // SAFETY: the client driver passes a handle that is registered.
    let Some(provider) = (unsafe { registered(handle) }) else {
        return STATUS_INVALID_PARAMETER;
    };
    if number.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    match booked(provider, message, length) {
        Ok(booked) => {
            // SAFETY: the client driver passes a valid place, and not null.
            unsafe { number.write(booked) };
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}

fn booked(provider: &Provider, message: u16, length: u32) -> Result<u64> {
    if provider.notifications & bit(message) == 0 {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    if current_irql() > DISPATCH_LEVEL {
        return Err(NtError(STATUS_INVALID_LEVEL));
    }
    if length as usize > MAX_PAYLOAD {
        return Err(NtError(STATUS_BUFFER_OVERFLOW));
    }
    let driver = driver_of(provider).filter(|driver| !driver.is_closing());
    let driver = driver.ok_or(NtError(STATUS_DELETE_PENDING))?;
    // What is left of it is freed after the lock has been released.
    let mut fresh = None;
    loop {
        let mut routes = driver.routes().lock();
        match routes.book(provider.number, message, length as usize, &mut fresh)? {
            Booked::Number(number) => return Ok(number),
            Booked::NeedsChunk => {}
        }
        drop(routes);
        // With one in hand it does not ask for another: twice at most.
        fresh = Some(Chunk::new()?);
    }
}

pub(super) unsafe extern "system" fn unbook(handle: ProviderHandle, number: u64) {
    // SAFETY: the client driver passes a handle that is registered.
    let provider = unsafe { registered(handle) };
    if let Some(provider) = provider
        && let Some(driver) = driver_of(provider)
    {
        driver.routes().lock().unbook(provider.number, number);
    }
}
