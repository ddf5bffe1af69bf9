// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client driver without the stub: it calls the function table as a C driver would, also where
//! the stub would not let it.

use fltport_abi::account::{Cause, Outcome};
use fltport_abi::interface::{
    ASK, Ask, CALLBACK_NAME, Interface, Notification, ProviderDescription, ProviderHandle,
    ProviderStatistics, Request, Reservation, VERSION,
};
use fltport_abi::message::Message;
use fltport_abi::schema::Provider;
use fltport_nt::bindings::{KfRaiseIrql, STATUS_SUCCESS};
use fltport_nt::ex::CallbackObject;
use fltport_nt::linked::KeLowerIrql;
use fltport_nt::utf16;

/// The common driver's functions, asked for as a client does. It must be there; a test that unloads
/// it does not use them afterwards.
pub(crate) fn interface() -> &'static Interface {
    let table = try_interface().expect("opens");
    table.expect("the common driver answers")
}

/// As [`interface`], where calls may fail and the common driver may not be there.
pub(crate) fn try_interface() -> Result<Option<&'static Interface>, i32> {
    let object = CallbackObject::open_or_create(utf16!(CALLBACK_NAME));
    let object = object.map_err(|error| error.status())?;
    let mut ask = Ask {
        size: size_of::<Ask>() as u32,
        version: VERSION,
        interface: core::ptr::null(),
    };
    object.notify(ASK, (&raw mut ask).addr());
    let table = std::hint::black_box(&ask).interface;
    // SAFETY: null, or the table of the driver, which is linked into this program.
    Ok(unsafe { table.as_ref() })
}

/// A provider with this encoded schema and without commands.
pub(crate) fn describe(schema: &[u8], backlog: u32) -> ProviderDescription {
    ProviderDescription {
        schema: schema.as_ptr(),
        schema_length: schema.len() as u32,
        backlog,
        ..ProviderDescription::EMPTY
    }
}

/// The provider's definition under another name.
pub(crate) fn named(schema: &Provider, name: String) -> Provider {
    Provider {
        name: name.leak(),
        ..*schema
    }
}

/// One registered provider. Dropping it unregisters it.
pub(crate) struct BareClient {
    pub(crate) table: &'static Interface,
    pub(crate) handle: ProviderHandle,
}

impl BareClient {
    /// Registers with the common driver, which must be there.
    pub(crate) fn register(schema: &Provider, backlog: u32) -> Self {
        Self::register_with(schema, backlog, |_| ())
    }

    /// As [`BareClient::register`], with what the description says besides.
    pub(crate) fn register_with(
        schema: &Provider,
        backlog: u32,
        change: impl FnOnce(&mut ProviderDescription),
    ) -> Self {
        let mut encoded = [0; 4096];
        let length = schema.encode(&mut encoded).expect("fits");
        let mut description = describe(&encoded[..length], backlog);
        change(&mut description);
        Self::describe(&description).expect("registers")
    }

    /// Registers by this description; the status if it is refused.
    pub(crate) fn describe(description: &ProviderDescription) -> Result<Self, i32> {
        let table = interface();
        Self::describe_to(table, description)
    }

    /// As [`BareClient::describe`], to the common driver with this table.
    pub(crate) fn describe_to(
        table: &'static Interface,
        description: &ProviderDescription,
    ) -> Result<Self, i32> {
        let mut handle = ProviderHandle(0);
        let register = table.register;
        // SAFETY: a valid description and place.
        let status = unsafe { register(description, &raw mut handle) };
        match status {
            STATUS_SUCCESS => Ok(BareClient { table, handle }),
            refused => Err(refused),
        }
    }

    /// Offers a message with the room of this booking; the status.
    pub(crate) fn notify_booked<'m, M: Message<'m>>(&self, message: &M, booking: u64) -> i32 {
        let mut payload = vec![0; message.encoded_len()];
        message.encode(&mut payload).expect("fits");
        let notification = Notification {
            message: M::NUMBER,
            fixed: M::FIXED as u16,
            payload: payload.as_ptr(),
            length: payload.len() as u32,
            booking,
            ..Notification::EMPTY
        };
        self.send_at(0, &notification)
    }

    /// Books room for a notification; its number or the status.
    pub(crate) fn book(&self, message: u16, length: u32) -> Result<u64, i32> {
        let book = self.table.book.expect("this revision has it");
        let mut number = 0;
        // SAFETY: a registered handle and a valid place.
        match unsafe { book(self.handle, message, length, &raw mut number) } {
            STATUS_SUCCESS => Ok(number),
            status => Err(status),
        }
    }

    /// Gives a booking back.
    pub(crate) fn unbook(&self, number: u64) {
        let unbook = self.table.unbook.expect("this revision has it");
        // SAFETY: a registered handle.
        unsafe { unbook(self.handle, number) };
    }

    /// Memory for a notification; the reservation or the status.
    pub(crate) fn reserve_at(
        &self,
        irql: u8,
        message: u16,
        length: u32,
    ) -> Result<Reservation, i32> {
        let reserve = self.table.reserve.expect("this revision has it");
        let mut reservation = Reservation {
            size: size_of::<Reservation>() as u32,
            message,
            reserved: 0,
            length,
            reserved2: 0,
            payload: std::ptr::null_mut(),
            handle: 0,
        };
        // SAFETY: raises; lowered below.
        let former = unsafe { KfRaiseIrql(irql) };
        // SAFETY: a registered handle and a valid reservation.
        let status = unsafe { reserve(self.handle, &raw mut reservation) };
        // SAFETY: to where it was.
        unsafe { KeLowerIrql(former) };
        match status {
            STATUS_SUCCESS => Ok(reservation),
            status => Err(status),
        }
    }

    /// Offers what was reserved, with this fixed part and length; the status.
    pub(crate) fn commit(&self, reservation: &Reservation, fixed: u16, length: u32) -> i32 {
        let commit = self.table.commit.expect("this revision has it");
        // SAFETY: a registered handle and a reservation of its own.
        unsafe { commit(self.handle, reservation.handle, fixed, length, 0) }
    }

    /// Gives a reservation back.
    pub(crate) fn discard(&self, reservation: &Reservation) {
        let discard = self.table.discard.expect("this revision has it");
        // SAFETY: a registered handle and a reservation of its own.
        unsafe { discard(self.handle, reservation.handle) };
    }

    /// The accounts of a message, or of all for 0.
    pub(crate) fn statistics(&self, message: u16) -> Result<ProviderStatistics, i32> {
        let statistics = self.table.statistics.expect("this revision has it");
        let mut found = ProviderStatistics {
            message,
            ..ProviderStatistics::EMPTY
        };
        // SAFETY: a registered handle and valid statistics.
        match unsafe { statistics(self.handle, &raw mut found) } {
            STATUS_SUCCESS => Ok(found),
            status => Err(status),
        }
    }

    /// Offers a message, as a driver would at this IRQL; the status.
    pub(crate) fn notify_at<'m, M: Message<'m>>(&self, irql: u8, message: &M) -> i32 {
        let mut payload = vec![0; message.encoded_len()];
        message.encode(&mut payload).expect("fits");
        let notification = Notification {
            message: M::NUMBER,
            fixed: M::FIXED as u16,
            payload: payload.as_ptr(),
            length: payload.len() as u32,
            ..Notification::EMPTY
        };
        self.send_at(irql, &notification)
    }

    /// Offers a notification as it is.
    pub(crate) fn send_at(&self, irql: u8, notification: &Notification) -> i32 {
        let notify = self.table.notify;
        // SAFETY: raises; lowered below.
        let former = unsafe { KfRaiseIrql(irql) };
        // SAFETY: a registered handle and a valid notification.
        let status = unsafe { notify(self.handle, notification) };
        // SAFETY: to where it was.
        unsafe { KeLowerIrql(former) };
        status
    }

    /// Asks and waits: how it ended, and the reply.
    pub(crate) fn ask(
        &self,
        message: u16,
        payload: &[u8],
        default: &[u8],
    ) -> Result<(Outcome, Vec<u8>), i32> {
        let mut reply = default.to_vec();
        let mut request = Request {
            message,
            fixed: payload.len() as u16,
            payload: payload.as_ptr(),
            length: payload.len() as u32,
            deadline_ms: 60_000,
            reply: reply.as_mut_ptr(),
            reply_length: reply.len() as u32,
            ..Request::EMPTY
        };
        // SAFETY: a registered handle and a valid request, whose buffers are ours during the call.
        match unsafe { (self.table.request)(self.handle, &raw mut request) } {
            STATUS_SUCCESS => {
                let outcome = Outcome::from_wire(request.outcome as u16);
                Ok((outcome.expect("an outcome"), reply))
            }
            status => Err(status),
        }
    }

    /// Accounts for losses.
    pub(crate) fn lost(&self, message: u16, cause: Cause, count: u64) {
        let lost = self.table.lost;
        // SAFETY: a registered handle.
        unsafe { lost(self.handle, message, cause as u16, count) };
    }

    /// Whether anybody listens.
    pub(crate) fn is_listening(&self, message: u16) -> bool {
        let listening = self.table.listening;
        // SAFETY: a registered handle.
        (unsafe { listening(self.handle, message) }) != 0
    }
}

impl Drop for BareClient {
    fn drop(&mut self) {
        let unregister = self.table.unregister;
        // SAFETY: a registered handle, unregistered once.
        unsafe { unregister(self.handle) };
    }
}
