// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common driver's function table, called safely: a [`Table`] is valid while its holder has
//! protection from the rundown that the revocation waits for.

use crate::default_reply::Encoded;
use crate::options::Options;
use crate::provider::{Client, Handler};
use crate::snapshot::Snapshot;
use crate::staging::Staged;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::AtomicU64;
use fltport_abi::account::{Cause, Outcome};
use fltport_abi::interface::{
    Ask, AsyncRequest, CommandCaller, Completion, CompletionRoutine, Interface, Notification,
    ProviderDescription, ProviderHandle, ProviderStatistics, Request, Reservation, Revised,
    SnapshotHandle, VERSION,
};
use fltport_nt::bindings::{
    NTSTATUS, STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_RETRY, STATUS_SUCCESS,
};
use fltport_nt::ex::{CallbackObject, PoolBox, Tag};
use fltport_nt::status::{check, to_status};
use fltport_nt::{NtError, Result};

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
        object.notify(fltport_abi::interface::ASK, (&raw mut ask).addr());
        // Read anew: the notification wrote to it through the address.
        // SAFETY: a valid place on this stack.
        let found = unsafe { (&raw const ask.interface).read_volatile() };
        Table::announced(found.addr())
    }

    /// IRQL: PASSIVE_LEVEL. Registers. `client` and `interest` must stay where they are until
    /// [`Bound::unregister`] has returned, or the table has been revoked.
    pub(crate) fn register<H: Handler>(
        self,
        schema: &[u8],
        options: &Options,
        interest: &AtomicU64,
        client: &Client<H>,
    ) -> Result<Bound> {
        let context: *const Client<H> = client;
        // Copied by the call.
        let defaults = Encoded::new(options.tag, options.default_replies)?;
        let description = ProviderDescription {
            schema: schema.as_ptr(),
            schema_length: u32::try_from(schema.len())
                .map_err(|_| NtError(STATUS_INVALID_PARAMETER))?,
            backlog: options.backlog,
            backlog_policy: options.policy as u32,
            interest: interest.as_ptr(),
            quota: options.quota,
            rate: options.rate,
            burst: options.burst,
            defaults: defaults.rows.as_ptr(),
            default_count: defaults.rows.len() as u32,
            on_command: Some(on_command::<H>),
            on_snapshot: Some(on_snapshot::<H>),
            context: context.cast_mut().cast(),
            ..ProviderDescription::EMPTY
        };
        let mut handle = ProviderHandle(0);
        // SAFETY: a valid description and place; the routines and their context stay valid, as
        // the caller sees to.
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
        let Staged {
            message,
            fixed,
            time,
            ..
        } = *staged;
        let notification = Notification {
            message,
            fixed,
            time,
            payload: payload.as_ptr(),
            length: u32::try_from(payload.len()).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?,
            booking,
            ..Notification::EMPTY
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

    /// IRQL: <= DISPATCH_LEVEL. Asks message and bytes of the fixed part; on success `completer` is
    /// called once.
    pub(crate) fn request_async(
        &self,
        (message, fixed): (u16, u16),
        payload: &[u8],
        deadline_ms: u32,
        default: &[u8],
        completer: Completer,
    ) -> core::result::Result<(), (NtError, Completer)> {
        let Some(ask) = self.table.0.request_async else {
            return Err((NtError(STATUS_NOT_SUPPORTED), completer));
        };
        let request = AsyncRequest {
            size: size_of::<AsyncRequest>() as u32,
            message,
            fixed,
            payload: payload.as_ptr(),
            // Both are far below 4 GiB, or the common driver refuses them.
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            deadline_ms,
            reply: default.as_ptr(),
            reply_length: default.len() as u32,
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
        check(unsafe { (self.table.0.request)(self.handle, &raw mut request) })?;
        let outcome = u16::try_from(request.outcome)
            .ok()
            .and_then(Outcome::from_wire);
        outcome.ok_or(NtError(STATUS_INVALID_PARAMETER))
    }
}

/// Memory of the common driver's for one notification. Dropping it gives it back; who has it has
/// protection from the table's revocation.
pub(crate) struct Memory {
    bound: Bound,
    reservation: Reservation,
}

impl Memory {
    /// The payload.
    pub(crate) fn bytes(&self) -> &[u8] {
        let Reservation {
            payload, length, ..
        } = self.reservation;
        if length == 0 {
            return &[];
        }
        // SAFETY: the common driver gave so many initialised bytes, ours until the reservation ends.
        unsafe { slice::from_raw_parts(payload, length as usize) }
    }

    /// The payload, to be filled in.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let Reservation {
            payload, length, ..
        } = self.reservation;
        if length == 0 {
            return &mut [];
        }
        // SAFETY: as in `bytes`, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(payload, length as usize) }
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers the first `length` bytes.
    pub(crate) fn commit(self, fixed: u16, length: u32, time: i64) -> Result<()> {
        let this = core::mem::ManuallyDrop::new(self);
        let Bound { table, handle } = &this.bound;
        let commit = table.0.commit.ok_or(NOT_SUPPORTED)?;
        // SAFETY: a registered handle and a reservation of its own, which ends here.
        check(unsafe { commit(*handle, this.reservation.handle, fixed, length, time) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(discard) = self.bound.table.0.discard {
            // SAFETY: a registered handle and a reservation of its own, which ends here.
            unsafe { discard(self.bound.handle, self.reservation.handle) };
        }
    }
}

/// The common driver is of a revision that does not have it.
const NOT_SUPPORTED: NtError = NtError(STATUS_NOT_SUPPORTED);

/// A snapshot while the provider's routine runs.
pub(crate) struct Taking {
    table: Table,
    handle: SnapshotHandle,
}

impl Taking {
    /// IRQL: <= DISPATCH_LEVEL. Adds an object.
    pub(crate) fn add(&self, message: u16, fixed: u16, payload: &[u8]) -> Result<()> {
        let object = Notification {
            message,
            fixed,
            payload: payload.as_ptr(),
            length: u32::try_from(payload.len()).map_err(|_| NtError(STATUS_INVALID_PARAMETER))?,
            ..Notification::EMPTY
        };
        let add = self.table.0.snapshot_add.ok_or(NOT_SUPPORTED)?;
        // SAFETY: a handle whose routine runs, for this does not outlive it; a valid notification.
        check(unsafe { add(self.handle, &raw const object) })
    }

    /// IRQL: <= DISPATCH_LEVEL. Ends it.
    pub(crate) fn live(&self) -> Result<()> {
        let live = self.table.0.snapshot_live.ok_or(NOT_SUPPORTED)?;
        // SAFETY: as above.
        check(unsafe { live(self.handle) })
    }
}

unsafe extern "system" fn on_snapshot<H: Handler>(
    context: *mut c_void,
    handle: SnapshotHandle,
    types: u64,
) -> NTSTATUS {
    // SAFETY: `register` passed the client, which outlives the registration.
    let Some(client) = (unsafe { context.cast::<Client<H>>().as_ref() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    // While it binds, what was staged has not been offered yet: it would come behind the snapshot that
    // it is older than.
    let Some(Bound { table, .. }) = client.bound() else {
        return STATUS_RETRY;
    };
    let snapshot = Snapshot::new(Taking { table, handle }, types, client.options.tag);
    to_status(client.handler.snapshot(&snapshot))
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
    // SAFETY: `register` passed the client, which outlives the registration.
    let handler = unsafe { context.cast::<Client<H>>().as_ref() }.map(|client| &*client.handler);
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

/// A closure that is called once with the bytes of a reply, or dropped.
pub(crate) struct Completer {
    routine: CompletionRoutine,
    /// The closure, in pool memory.
    context: *mut c_void,
    discard: unsafe fn(*mut c_void),
}

// SAFETY: the closure may be sent, which `new` demands, and this owns it.
unsafe impl Send for Completer {}

/// A closure and what it takes to free it.
struct Boxed<F> {
    tag: Tag,
    then: F,
}

impl Completer {
    /// IRQL: <= DISPATCH_LEVEL. Fails with `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn new<F: FnOnce(&[u8], Outcome) + Send + 'static>(
        tag: Tag,
        then: F,
    ) -> Result<Self> {
        let boxed = PoolBox::new(tag, Boxed { tag, then })?;
        Ok(Completer {
            routine: on_completion::<F>,
            context: boxed.into_raw().as_ptr().cast(),
            discard: discard::<F>,
        })
    }

    /// IRQL: PASSIVE_LEVEL. Calls it, as the common driver would.
    pub(crate) fn call(self, reply: &[u8], outcome: Outcome) {
        let (routine, context) = (self.routine, self.context);
        core::mem::forget(self);
        let completion = Completion {
            size: size_of::<Completion>() as u32,
            message: 0,
            reserved: 0,
            outcome: outcome as u32,
            waited_us: 0,
            reply: reply.as_ptr(),
            reply_length: reply.len() as u32,
            reserved2: 0,
        };
        // SAFETY: this owned the context, and gives it up to the one call.
        unsafe { routine(context, &raw const completion) };
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        // SAFETY: this owns the context, which nobody was given.
        unsafe { (self.discard)(self.context) };
    }
}

/// Takes the closure back.
///
/// # Safety
/// `context` is that of a [`Completer`] of an `F`, whose owner gives it up.
unsafe fn unbox<F>(context: *mut c_void) -> Option<PoolBox<Boxed<F>>> {
    let memory = NonNull::new(context.cast::<Boxed<F>>())?;
    // SAFETY: a valid closure, as the caller vouches.
    let tag = unsafe { memory.as_ref() }.tag;
    // SAFETY: made with this tag, and taken back once, as the caller vouches.
    Some(unsafe { PoolBox::from_raw(memory, tag) })
}

/// # Safety
/// As [`unbox`].
unsafe fn discard<F>(context: *mut c_void) {
    // SAFETY: as the caller vouches.
    drop(unsafe { unbox::<F>(context) });
}

unsafe extern "system" fn on_completion<F: FnOnce(&[u8], Outcome) + Send + 'static>(
    context: *mut c_void,
    completion: *const Completion,
) {
    // SAFETY: `request_async` or `call` gave the context up to this one call.
    let boxed = unsafe { unbox::<F>(context) };
    // SAFETY: whoever calls passes a valid completion.
    let completion = unsafe { completion.as_ref() };
    let (Some(boxed), Some(completion)) = (boxed, completion) else {
        return;
    };
    let reply = match completion.reply_length {
        0 => &[],
        // SAFETY: the reply is valid for its length during the call.
        length => unsafe { slice::from_raw_parts(completion.reply, length as usize) },
    };
    let outcome = u16::try_from(completion.outcome).ok();
    let outcome = outcome.and_then(Outcome::from_wire);
    (boxed.into_inner().then)(reply, outcome.unwrap_or(Outcome::Failed));
}
