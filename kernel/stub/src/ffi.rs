// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common driver's function table, called safely: a [`Table`] is valid while its holder has
//! protection from the rundown that the revocation waits for.

mod completer;
mod inside;
mod memory;
mod routines;

pub(crate) use completer::Completer;
pub(crate) use inside::{Guard, Inside};
pub(crate) use memory::Memory;
pub use routines::Snapshot;

use crate::binding::Registration;
use crate::staging::Staged;
use crate::stub::Routines;
use crate::unheard::ROWS;
use core::mem::MaybeUninit;
use core::slice;
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::interface::{
    Ask, AsyncRequest, DefaultReply, Interface, Notification, ProviderDescription, ProviderHandle,
    ProviderStatistics, Request, Reservation, Revised, VERSION,
};
use fltport_nt::bindings::{STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED};
use fltport_nt::ex::{CallbackObject, PoolSlice};
use fltport_nt::status::check;
use fltport_nt::{NtError, Result};
use routines::{on_command, on_snapshot};

/// A copy of the common driver's table; what an older one does not have is `None`.
#[derive(Clone, Copy)]
pub(crate) struct Table(Interface);

/// A registration with the common driver.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    table: Table,
    handle: ProviderHandle,
}

impl Table {
    /// The table at this address, which an announcement gave; `None` if it is of another version or
    /// shorter than this client needs.
    pub(crate) fn announced(address: usize) -> Option<Self> {
        let table = address as *const u8;
        if table.is_null() {
            return None;
        }
        // SAFETY: the common driver announces a valid table, or null; nobody else may notify
        // ANNOUNCE. Its size comes first.
        let size = unsafe { table.cast::<u32>().read() } as usize;
        if size < Interface::FIRST {
            return None;
        }
        let known = size.min(size_of::<Interface>());
        let mut copy = MaybeUninit::<Interface>::zeroed();
        // SAFETY: valid for `size` bytes, and the place for those of an Interface.
        unsafe { table.copy_to_nonoverlapping(copy.as_mut_ptr().cast(), known) };
        // SAFETY: the functions of the first revision are there; all others may be none.
        let interface = unsafe { copy.assume_init() };
        (interface.version == VERSION).then_some(Table(interface))
    }

    /// Whether the common driver is of the first revision: it keeps nobody's interest word.
    pub(crate) fn is_first(&self) -> bool {
        self.0.size as usize == Interface::FIRST
    }

    /// IRQL: <= DISPATCH_LEVEL. Asks whether a common driver is there.
    pub(crate) fn ask(object: &CallbackObject) -> Option<Self> {
        let mut ask = Ask {
            size: size_of::<Ask>() as u32,
            version: VERSION,
            interface: core::ptr::null(),
        };
        // Exposed: who answers makes a pointer of the number.
        let place = (&raw mut ask).expose_provenance();
        object.notify(fltport_abi::interface::ASK, place);
        // Read anew: the notification wrote to it through the address.
        // SAFETY: a valid place on this stack.
        let found = unsafe { (&raw const ask.interface).read_volatile() };
        Table::announced(found.expose_provenance())
    }

    /// IRQL: PASSIVE_LEVEL. Registers. The registration must stay where it is until
    /// [`Bound::unregister`] has returned, or the table has been revoked.
    pub(crate) fn register<R: Routines>(self, registration: &Registration<R>) -> Result<Bound> {
        let Registration { schema, terms, .. } = registration;
        let unheard = &registration.gate.unheard;
        let context: *const Registration<R> = registration;
        // Copied by the call, as is what they point to.
        let mut declared = registration.defaults.iter();
        let defaults = PoolSlice::filled_with(terms.tag, declared.len(), || {
            let next = declared.next();
            let (message, reply) = next.map_or((0, &[][..]), |d| (d.message, &d.reply));
            DefaultReply {
                message,
                reply: reply.as_ptr(),
                length: reply.len() as u32,
                ..DefaultReply::EMPTY
            }
        })?;
        let description = ProviderDescription {
            schema: schema.as_ptr(),
            schema_length: length(schema)?,
            backlog: terms.backlog,
            backlog_policy: terms.policy as u32,
            interest: registration.gate.interest.as_ptr(),
            quota: terms.quota,
            rate: terms.rate,
            burst: terms.burst,
            quiet: unheard.quiet.as_ptr(),
            // Written to by atomic operations only, which a shared slice of atomics is for.
            unheard: unheard.counters.as_ptr().cast_mut().cast(),
            unheard_rows: ROWS as u32,
            defaults: defaults.as_ptr(),
            default_count: defaults.len() as u32,
            on_command: Some(on_command::<R>),
            on_snapshot: Some(on_snapshot::<R>),
            context: context.cast_mut().cast(),
            ..ProviderDescription::EMPTY
        };
        let mut handle = ProviderHandle(0);
        // SAFETY: a valid description and place; the routines and their context stay valid, as the
        // caller sees to.
        check(unsafe { (self.0.register)(&raw const description, &raw mut handle) })?;
        Ok(Bound {
            table: self,
            handle,
        })
    }
}

impl Bound {
    /// IRQL: PASSIVE_LEVEL, not from the command handler. Waits until the handler does not run any
    /// more. Once.
    pub(crate) fn unregister(self) {
        // SAFETY: a registered handle, not used any more by whoever calls this.
        unsafe { (self.table.0.unregister)(self.handle) };
    }

    /// IRQL: <= DISPATCH_LEVEL. `booking`: room for it; 0 for none.
    pub(crate) fn notify(&self, staged: &Staged, booking: u64, payload: &[u8]) -> Result<()> {
        let notification = Notification {
            time: staged.time,
            booking,
            ..notification(staged.message, staged.fixed, payload)?
        };
        // SAFETY: a registered handle and a valid notification.
        check(unsafe { (self.table.0.notify)(self.handle, &raw const notification) })
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn lost(&self, message: u16, cause: Cause, count: u64) {
        // SAFETY: a registered handle.
        unsafe { (self.table.0.lost)(self.handle, message, cause as u16, count) };
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn is_listening(&self, message: u16) -> bool {
        // SAFETY: a registered handle.
        (unsafe { (self.table.0.listening)(self.handle, message) }) != 0
    }

    /// IRQL: <= DISPATCH_LEVEL. Room for a notification; its number.
    pub(crate) fn book(&self, message: u16, length: u32) -> Result<u64> {
        let book = self.table.0.book.ok_or(NOT_SUPPORTED)?;
        let mut number = 0;
        // SAFETY: a registered handle and a valid place.
        check(unsafe { book(self.handle, message, length, &raw mut number) })?;
        Ok(number)
    }

    /// IRQL: <= DISPATCH_LEVEL. Gives room back.
    pub(crate) fn unbook(&self, number: u64) {
        if let Some(unbook) = self.table.0.unbook {
            // SAFETY: a registered handle.
            unsafe { unbook(self.handle, number) };
        }
    }

    /// IRQL: <= DISPATCH_LEVEL. Memory for a notification, all zero.
    pub(crate) fn reserve(&self, message: u16, length: u32) -> Result<Memory> {
        let reserve = self.table.0.reserve.ok_or(NOT_SUPPORTED)?;
        let mut reservation = Reservation {
            size: size_of::<Reservation>() as u32,
            message,
            reserved: 0,
            length,
            reserved2: 0,
            payload: core::ptr::null_mut(),
            handle: 0,
        };
        // SAFETY: a registered handle and a valid reservation.
        check(unsafe { reserve(self.handle, &raw mut reservation) })?;
        Ok(Memory {
            bound: *self,
            reservation,
        })
    }

    /// IRQL: <= DISPATCH_LEVEL. The accounts of a message, or of all for 0.
    pub(crate) fn statistics(&self, message: u16) -> Result<ProviderStatistics> {
        let statistics = self.table.0.statistics.ok_or(NOT_SUPPORTED)?;
        let mut found = ProviderStatistics {
            message,
            ..ProviderStatistics::EMPTY
        };
        // SAFETY: a registered handle and valid statistics.
        check(unsafe { statistics(self.handle, &raw mut found) })?;
        Ok(found)
    }

    /// IRQL: <= DISPATCH_LEVEL. On success `completer` is called once.
    pub(crate) fn request_async(
        &self,
        (message, fixed, payload, deadline_ms): Asked<'_>,
        default: &[u8],
        completer: Completer,
    ) -> core::result::Result<(), (NtError, Completer)> {
        let Some(ask) = self.table.0.request_async else {
            return Err((NOT_SUPPORTED, completer));
        };
        let request = AsyncRequest {
            size: size_of::<AsyncRequest>() as u32,
            message,
            fixed,
            payload: payload.as_ptr(),
            // Both are far below 4 GiB, or the common driver refuses them.
            length: length(payload).unwrap_or(u32::MAX),
            deadline_ms,
            reply: default.as_ptr(),
            reply_length: length(default).unwrap_or(u32::MAX),
            flags: 0,
            on_completion: Some(completer.routine),
            context: completer.context,
        };
        // SAFETY: a registered handle and a valid request; on success the routine is called once
        // with the context, which is given up below.
        match check(unsafe { ask(self.handle, &raw const request) }) {
            Ok(()) => {
                core::mem::forget(completer);
                Ok(())
            }
            Err(error) => Err((error, completer)),
        }
    }

    /// IRQL: <= APC_LEVEL. `reply` holds the default; it is overwritten by a proper answer only.
    pub(crate) fn request(
        &self,
        (message, fixed, payload, deadline_ms): Asked<'_>,
        reply: &mut [u8],
    ) -> Result<Outcome> {
        let mut request = Request {
            message,
            fixed,
            payload: payload.as_ptr(),
            length: length(payload)?,
            deadline_ms,
            reply: reply.as_mut_ptr(),
            reply_length: length(reply)?,
            ..Request::EMPTY
        };
        // SAFETY: a registered handle and a valid request whose buffers are ours for the call.
        check(unsafe { (self.table.0.request)(self.handle, &raw mut request) })?;
        outcome(request.outcome).ok_or(NtError(STATUS_INVALID_PARAMETER))
    }
}

/// A question: message, bytes of its payload's fixed part, payload, milliseconds to wait at most.
pub(crate) type Asked<'a> = (u16, u16, &'a [u8], u32);

fn length(bytes: &[u8]) -> Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| NtError(STATUS_INVALID_PARAMETER))
}

/// A notification of this moment.
fn notification(message: u16, fixed: u16, payload: &[u8]) -> Result<Notification> {
    Ok(Notification {
        message,
        fixed,
        payload: payload.as_ptr(),
        length: length(payload)?,
        ..Notification::EMPTY
    })
}

fn outcome(number: u32) -> Option<Outcome> {
    u16::try_from(number).ok().and_then(Outcome::from_wire)
}

/// The common driver is of a revision that does not have it.
const NOT_SUPPORTED: NtError = NtError(STATUS_NOT_SUPPORTED);

/// So many bytes at an address, which may be null if there are none.
///
/// # Safety
/// Initialised, and unchanged while they are borrowed.
unsafe fn bytes<'a>(start: *const u8, length: u32) -> &'a [u8] {
    match length {
        0 => &[],
        // SAFETY: as the caller vouches.
        length => unsafe { slice::from_raw_parts(start, length as usize) },
    }
}

/// As [`bytes`].
///
/// # Safety
/// Initialised, and nobody else's while they are borrowed.
unsafe fn bytes_mut<'a>(start: *mut u8, length: u32) -> &'a mut [u8] {
    match length {
        0 => &mut [],
        // SAFETY: as the caller vouches.
        length => unsafe { slice::from_raw_parts_mut(start, length as usize) },
    }
}
