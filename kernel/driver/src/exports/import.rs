// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions that client drivers import by name, the other way to the table's. A provider that is
//! registered here has no stub around it: it begins with its interest word, as the stub's does, and
//! calls go to the table's functions.
//!
//! NT keeps this image in memory as long as another imports from it, but may stop the driver. Then the
//! functions still answer.

use super::{TABLE, revised};
use crate::driver::DRIVER;
use crate::tag;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use fltport_abi::import::{Booking, Registration};
use fltport_abi::interface::{
    AsyncRequest, Notification, ProviderDescription, ProviderHandle, ProviderStatistics, Request,
    Reservation, SnapshotHandle, VERSION,
};
use fltport_abi::limits::MAX_SCHEMA;
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, STATUS_DELETE_PENDING, STATUS_DEVICE_NOT_READY,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_REVISION_MISMATCH, STATUS_SUCCESS,
};
use fltport_nt::ex::{PoolBox, PoolBytes};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::{PASSIVE_LEVEL, STATUS_INVALID_LEVEL};
use fltport_nt::status::check;
use fltport_nt::{NtError, Result};

/// A provider of a client driver that imports.
#[repr(C)]
pub(crate) struct Importer {
    /// First: the client driver reads it.
    interest: AtomicU64,
    /// The table's; set before the client driver has this.
    handle: AtomicUsize,
}

/// Declares functions that are exported under the name that the header has for them. One program has
/// all drivers of the hosted kernel, and a client driver's stub has functions of the same names; there
/// these have a prefix.
macro_rules! exports {
    ($($(#[$doc:meta])* $name:literal fn $function:ident($($argument:ident: $ty:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[cfg_attr(windows, unsafe(export_name = $name))]
        #[cfg_attr(not(windows), unsafe(export_name = concat!("fltport_sys_", $name)))]
        unsafe extern "system" fn $function($($argument: $ty),*) $(-> $result)? $body
    )*};
}

/// The table's handle of an importer's provider; none, which the table's functions refuse, if it is
/// null.
///
/// # Safety
/// Null, or what `FltPortRegister` gave out and `FltPortUnregister` has not taken back.
unsafe fn handle(provider: *const Importer) -> ProviderHandle {
    // SAFETY: as the caller vouches.
    let provider = unsafe { provider.as_ref() };
    ProviderHandle(provider.map_or(0, |provider| provider.handle.load(Ordering::Relaxed)))
}

/// What a call came to: a common driver that is not there, or goes, has a status of its own here,
/// since there is no stub that would keep what it did not take.
fn told(status: NTSTATUS) -> NTSTATUS {
    match status {
        STATUS_DELETE_PENDING => STATUS_DEVICE_NOT_READY,
        STATUS_INVALID_PARAMETER if DRIVER.get().is_none() => STATUS_DEVICE_NOT_READY,
        status => status,
    }
}

/// # Safety
/// The registration's pointers are valid, as `include/fltport.h` says.
unsafe fn register(registration: &Registration) -> Result<PoolBox<Importer>> {
    if current_irql() != PASSIVE_LEVEL {
        return Err(NtError(STATUS_INVALID_LEVEL));
    }
    if registration.version != VERSION {
        return Err(NtError(STATUS_REVISION_MISMATCH));
    }
    let write = registration.write_schema;
    let write = write.ok_or(NtError(STATUS_INVALID_PARAMETER))?;
    // SAFETY: the client driver's own routine and tables; there is no room to write to.
    let length = unsafe { write(registration.schema, ptr::null_mut(), 0) };
    if length as usize > MAX_SCHEMA {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let mut schema = PoolBytes::zeroed(tag::BUFFER, length as usize)?;
    // SAFETY: and as much room as it asked for.
    unsafe { write(registration.schema, schema.as_mut_ptr(), length) };
    let importer = PoolBox::new(
        tag::PROVIDER,
        Importer {
            interest: AtomicU64::new(0),
            handle: AtomicUsize::new(0),
        },
    )?;
    let description = ProviderDescription {
        schema: schema.as_ptr(),
        schema_length: length,
        backlog: registration.backlog,
        backlog_policy: registration.backlog_policy,
        on_command: registration.on_command,
        context: registration.context,
        interest: importer.interest.as_ptr(),
        on_snapshot: registration.on_snapshot,
        defaults: registration.defaults,
        default_count: registration.default_count,
        quota: registration.quota,
        rate: registration.rate,
        burst: registration.burst,
        ..ProviderDescription::EMPTY
    };
    let mut handle = ProviderHandle(0);
    // SAFETY: a valid description, whose routines are the client driver's, whose interest word lives
    // until it is unregistered, and a valid place.
    check(unsafe { (TABLE.register)(&raw const description, &raw mut handle) })?;
    importer.handle.store(handle.0, Ordering::Relaxed);
    Ok(importer)
}

exports! {
    "FltPortRegister" fn register_importer(
        _driver: *mut DRIVER_OBJECT,
        registration: *const Registration,
        place: *mut *mut Importer,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes null or a valid registration, for the duration of the call.
        let Some(registration) = (unsafe { revised(registration) }) else {
            return STATUS_INVALID_PARAMETER;
        };
        // SAFETY: which is its own.
        match unsafe { register(&registration) } {
            Ok(importer) => {
                // SAFETY: and a valid place.
                unsafe { place.write(importer.into_raw().as_ptr()) };
                STATUS_SUCCESS
            }
            Err(error) => told(error.status()),
        }
    }

    "FltPortUnregister" fn unregister_importer(provider: *mut Importer) {
        let Some(raw) = NonNull::new(provider) else {
            return;
        };
        // SAFETY: `FltPortRegister` gave this pointer up with this tag, and it is given back once.
        let importer = unsafe { PoolBox::from_raw(raw, tag::PROVIDER) };
        let handle = ProviderHandle(importer.handle.load(Ordering::Relaxed));
        // SAFETY: a handle that is registered, and is not used any more.
        unsafe { (TABLE.unregister)(handle) };
    }

    "FltPortNotifyEx" fn notify_ex(
        provider: *const Importer,
        notification: *const Notification,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a valid notification.
        told(unsafe { (TABLE.notify)(handle, notification) })
    }

    "FltPortNotify" fn notify(
        provider: *const Importer,
        message: u16,
        fixed: u16,
        payload: *const c_void,
        length: u32,
    ) -> NTSTATUS {
        // SAFETY: as the client driver calls it; without a booking.
        unsafe { notify_booked(provider, message, fixed, payload, length, ptr::null_mut()) }
    }

    "FltPortNotifyBooked" fn notify_booked(
        provider: *const Importer,
        message: u16,
        fixed: u16,
        payload: *const c_void,
        length: u32,
        booking: *mut Booking,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes null or a booking of its own that nobody else touches.
        let booking = unsafe { booking.as_mut() };
        let notification = Notification {
            message,
            fixed,
            payload: payload.cast(),
            length,
            booking: booking.as_ref().map_or(0, |booking| booking.number),
            ..Notification::EMPTY
        };
        // SAFETY: as the client driver calls it, with a valid payload.
        let status = unsafe { notify_ex(provider, &raw const notification) };
        if let Some(booking) = booking.filter(|_| status != STATUS_INVALID_PARAMETER) {
            *booking = Booking::default();
        }
        status
    }

    "FltPortLost" fn lost(provider: *const Importer, message: u16, cause: u16, count: u64) {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: a handle that is registered, or none.
        unsafe { (TABLE.lost)(handle, message, cause, count) };
    }

    "FltPortReserve" fn reserve(
        provider: *const Importer,
        reservation: *mut Reservation,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a valid reservation.
        let result = TABLE.reserve.map(|function| unsafe { function(handle, reservation) });
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }

    "FltPortCommit" fn commit(
        provider: *const Importer,
        reservation: *const Reservation,
        fixed: u16,
        length: u32,
        time: i64,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a reservation that `FltPortReserve` has filled in.
        let reserved = unsafe { (*reservation).handle };
        // SAFETY: which has not ended.
        let result = TABLE.commit.map(|function| unsafe { function(handle, reserved, fixed, length, time) });
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }

    "FltPortDiscard" fn discard(provider: *const Importer, reservation: *const Reservation) {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a reservation that `FltPortReserve` has filled in.
        let reserved = unsafe { (*reservation).handle };
        if let Some(discard) = TABLE.discard {
            // SAFETY: which has not ended.
            unsafe { discard(handle, reserved) };
        }
    }

    "FltPortBook" fn book(
        provider: *const Importer,
        message: u16,
        length: u32,
        place: *mut Booking,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        let mut booking = Booking::default();
        let number = &raw mut booking.number;
        // SAFETY: a place of ours.
        let result = TABLE.book.map(|function| unsafe { function(handle, message, length, number) });
        // SAFETY: the client driver passes a valid place.
        unsafe { place.write(booking) };
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }

    "FltPortUnbook" fn unbook(provider: *const Importer, booking: *mut Booking) {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a booking of its own that nobody else touches.
        if let (Some(unbook), Some(booking)) = (TABLE.unbook, unsafe { booking.as_mut() }) {
            // SAFETY: a handle that is registered, or none.
            unsafe { unbook(handle, booking.number) };
            *booking = Booking::default();
        }
    }

    "FltPortRequest" fn request(provider: *const Importer, request: *mut Request) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a valid request.
        told(unsafe { (TABLE.request)(handle, request) })
    }

    "FltPortRequestAsync" fn request_async(
        provider: *const Importer,
        request: *const AsyncRequest,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a valid request.
        let result = TABLE.request_async.map(|function| unsafe { function(handle, request) });
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }

    "FltPortQueryStatistics" fn query_statistics(
        provider: *const Importer,
        statistics: *mut ProviderStatistics,
    ) -> NTSTATUS {
        // SAFETY: the client driver passes a provider of its own.
        let handle = unsafe { handle(provider) };
        // SAFETY: and a valid place.
        let result = TABLE.statistics.map(|function| unsafe { function(handle, statistics) });
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }

    "FltPortSnapshotAdd" fn snapshot_add(
        _provider: *const Importer,
        snapshot: SnapshotHandle,
        notification: *const Notification,
    ) -> NTSTATUS {
        // SAFETY: the client driver's snapshot routine passes what it was called with, and a valid
        // notification.
        let result = TABLE.snapshot_add.map(|function| unsafe { function(snapshot, notification) });
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }

    "FltPortSnapshotLive" fn snapshot_live(
        _provider: *const Importer,
        snapshot: SnapshotHandle,
    ) -> NTSTATUS {
        // SAFETY: the client driver's snapshot routine passes what it was called with.
        let result = TABLE.snapshot_live.map(|function| unsafe { function(snapshot) });
        told(result.unwrap_or(STATUS_NOT_SUPPORTED))
    }
}
