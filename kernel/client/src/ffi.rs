// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common driver's function table, called safely: a [`Table`] is valid while its holder has
//! protection from the rundown that the revocation waits for.

use crate::provider::Handler;
use core::ffi::c_void;
use core::slice;
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::interface::{
    Ask, CommandCaller, Interface, Notification, ProviderDescription, ProviderHandle, Request,
    Revised, VERSION,
};
use fltport_nt::bindings::{NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use fltport_nt::ex::{CallbackObject, PoolArc};
use fltport_nt::status::check;
use fltport_nt::{NtError, Result};

/// The common driver's table.
#[derive(Clone, Copy)]
pub(crate) struct Table(*const Interface);

// SAFETY: a pointer to a table that never changes, for calls from any thread.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

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
        let table = address as *const Interface;
        // SAFETY: the common driver announces a valid table, or null; nobody else may notify
        // ANNOUNCE.
        let interface = unsafe { table.as_ref() }?;
        let known = interface.version == VERSION && interface.size as usize >= Interface::FIRST;
        known.then_some(Table(table))
    }

    /// IRQL: <= DISPATCH_LEVEL. Asks whether a common driver is there.
    pub(crate) fn ask(object: &CallbackObject) -> Option<Self> {
        let mut ask = Ask {
            size: size_of::<Ask>() as u32,
            version: VERSION,
            interface: core::ptr::null(),
        };
        object.notify(fltport_abi::interface::ASK, (&raw mut ask).addr());
        // Read anew: the notification wrote to it through the address.
        // SAFETY: a valid place on this stack.
        let found = unsafe { (&raw const ask.interface).read_volatile() };
        Table::announced(found.addr())
    }

    fn interface(&self) -> &Interface {
        // SAFETY: the holder has protection, so the table has not been revoked.
        unsafe { &*self.0 }
    }

    /// IRQL: PASSIVE_LEVEL. Registers. `handler` must stay where it is until [`Bound::unregister`]
    /// has returned, or the table has been revoked.
    pub(crate) fn register<H: Handler>(
        self,
        schema: &[u8],
        backlog: u32,
        backlog_policy: u32,
        handler: &PoolArc<H>,
    ) -> Result<Bound> {
        let context: *const H = &**handler;
        let description = ProviderDescription {
            schema: schema.as_ptr(),
            schema_length: u32::try_from(schema.len())
                .map_err(|_| NtError(STATUS_INVALID_PARAMETER))?,
            backlog,
            backlog_policy,
            on_command: Some(on_command::<H>),
            context: context.cast_mut().cast(),
            ..ProviderDescription::EMPTY
        };
        let mut handle = ProviderHandle(0);
        // SAFETY: a valid description and place; the handler's routine and context stay valid, as
        // the caller sees to.
        check(unsafe { (self.interface().register)(&raw const description, &raw mut handle) })?;
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
        unsafe { (self.table.interface().unregister)(self.handle) };
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn notify(&self, message: u16, fixed: u16, time: i64, payload: &[u8]) -> Result<()> {
        let notification = Notification {
            message,
            fixed,
            time,
            payload: payload.as_ptr(),
            length: u32::try_from(payload.len()).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?,
            ..Notification::EMPTY
        };
        // SAFETY: a registered handle and a valid notification.
        check(unsafe { (self.table.interface().notify)(self.handle, &raw const notification) })
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn lost(&self, message: u16, cause: Cause, count: u64) {
        // SAFETY: a registered handle.
        unsafe { (self.table.interface().lost)(self.handle, message, cause as u16, count) };
    }

    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn is_listening(&self, message: u16) -> bool {
        // SAFETY: a registered handle.
        (unsafe { (self.table.interface().listening)(self.handle, message) }) != 0
    }

    /// IRQL: <= APC_LEVEL. `reply` holds the default; it is overwritten by a proper answer only.
    pub(crate) fn request(
        &self,
        message: u16,
        fixed: u16,
        payload: &[u8],
        deadline_ms: u32,
        reply: &mut [u8],
    ) -> Result<Outcome> {
        let too_long = |_| NtError(STATUS_INVALID_PARAMETER);
        let mut request = Request {
            message,
            fixed,
            payload: payload.as_ptr(),
            length: u32::try_from(payload.len()).map_err(too_long)?,
            deadline_ms,
            reply: reply.as_mut_ptr(),
            reply_length: u32::try_from(reply.len()).map_err(too_long)?,
            ..Request::EMPTY
        };
        // SAFETY: a registered handle and a valid request whose buffers are ours for the call.
        check(unsafe { (self.table.interface().request)(self.handle, &raw mut request) })?;
        let outcome = u16::try_from(request.outcome)
            .ok()
            .and_then(Outcome::from_wire);
        outcome.ok_or(NtError(STATUS_INVALID_PARAMETER))
    }
}

unsafe extern "system" fn on_command<H: Handler>(
    context: *mut c_void,
    caller: *const CommandCaller,
    message: u16,
    input: *const u8,
    length: u32,
    output: *mut u8,
    capacity: u32,
    returned: *mut u32,
) -> NTSTATUS {
    // SAFETY: `register` passed the handler, which outlives the registration.
    let handler = unsafe { context.cast::<H>().as_ref() };
    // SAFETY: the common driver passes a valid caller.
    let caller = unsafe { caller.as_ref() };
    let (Some(handler), Some(caller)) = (handler, caller) else {
        return STATUS_INVALID_PARAMETER;
    };
    let input = if length == 0 {
        &[]
    } else {
        // SAFETY: a kernel copy of `length` bytes, unchanged during the call.
        unsafe { slice::from_raw_parts(input, length as usize) }
    };
    let output = if capacity == 0 {
        &mut []
    } else {
        // SAFETY: a kernel buffer of `capacity` initialised bytes, nobody else's during the call.
        unsafe { slice::from_raw_parts_mut(output, capacity as usize) }
    };
    match handler.command(caller, message, input, output) {
        Ok(written) => {
            // SAFETY: the common driver passes a valid place.
            unsafe { returned.write(written as u32) };
            STATUS_SUCCESS
        }
        Err(error) => error.status(),
    }
}
