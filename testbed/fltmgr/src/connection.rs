// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections: a client port at the driver's end, a file object at the user's.
//!
//! A connection ends at either end. *Severing* wakes everybody who waits on it; DisconnectNotify is
//! then due, runs, and returns; the slot is freed; and when both ends are closed the connection is
//! forgotten. [`FilterManager::settle`] carries it through these steps.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::decisions::DriverClose;
use crate::effect::{Effect, GetOutcome};
use crate::get::PendedGet;
use crate::id::{ConnectionId, FilterId, MessageCallId, MessageId, PortId, SendId};
use crate::manager::FilterManager;
use crate::port::Security;
use crate::status::Status;

/// Largest connection context on x64, in bytes: a 16-bit attribute length less its fixed part.
pub const CONTEXT_LIMIT: usize = 65_511;

/// A connect that got as far as the driver's ConnectNotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connecting {
    /// The new connection; its number is the client port.
    pub connection: ConnectionId,
    /// Whose ConnectNotify to call.
    pub port: PortId,
    /// The server port's cookie.
    pub cookie: u64,
}

/// Where a connection stands with DisconnectNotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disconnect {
    NotDue,
    /// To be called as soon as the message callbacks have returned.
    Due,
    Running,
    /// Returned, or not to be called.
    Done,
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) filter: FilterId,
    pub(crate) port: PortId,
    /// ConnectNotify accepted.
    pub(crate) accepted: bool,
    pub(crate) cookie: u64,
    pub(crate) user_handles: u32,
    /// FltCloseClientPort has not been called.
    pub(crate) driver_open: bool,
    /// The Filter Manager closes the driver's end after DisconnectNotify (unregistration).
    pub(crate) manager_closes: bool,
    /// Nothing can be sent or received any more.
    pub(crate) severed: bool,
    pub(crate) disconnect: Disconnect,
    /// Counts against the port's limit.
    pub(crate) slot_held: bool,
    pub(crate) gets: VecDeque<PendedGet>,
    /// Senders that wait for a get, oldest first.
    pub(crate) waiting: VecDeque<SendId>,
    /// Senders that wait for a reply.
    pub(crate) unanswered: BTreeMap<MessageId, SendId>,
    pub(crate) last_message: u64,
}

impl Connection {
    fn new(filter: FilterId, port: PortId) -> Connection {
        Connection {
            filter,
            port,
            accepted: false,
            cookie: 0,
            user_handles: 0,
            driver_open: true,
            manager_closes: false,
            severed: false,
            disconnect: Disconnect::NotDue,
            slot_held: true,
            gets: VecDeque::new(),
            waiting: VecDeque::new(),
            unanswered: BTreeMap::new(),
            last_message: 0,
        }
    }

    /// Both ends are closed and nothing is owed to the driver.
    pub(crate) fn is_over(&self) -> bool {
        self.user_handles == 0
            && !self.driver_open
            && self.disconnect == Disconnect::Done
            && !self.slot_held
    }
}

impl FilterManager {
    /// FilterConnectCommunicationPort up to the driver: the name is found, the caller is let in, a
    /// slot is taken. The host now calls ConnectNotify in the caller's thread, without the lock,
    /// and reports with [`connect_finish`](FilterManager::connect_finish).
    ///
    /// # Errors
    /// STATUS_INTEGER_OVERFLOW for a context above [`CONTEXT_LIMIT`]; STATUS_OBJECT_NAME_NOT_FOUND;
    /// STATUS_ACCESS_DENIED; STATUS_CONNECTION_COUNT_LIMIT; while the filter unregisters, what
    /// [`Decisions`](crate::Decisions) says.
    pub fn connect_begin(
        &mut self,
        name: &[u16],
        context_len: usize,
        access: impl FnOnce(Security) -> bool,
    ) -> Result<Connecting, Status> {
        if context_len > CONTEXT_LIMIT {
            return Err(Status::INTEGER_OVERFLOW);
        }
        let id = self.listening(name).ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
        let port = self.ports.get(&id).ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
        let (filter, cookie) = (port.filter, port.cookie);
        if !self.admits(port, access) {
            return Err(Status::ACCESS_DENIED);
        }
        if self.live_filter(filter).is_err() {
            return Err(self.decisions.connect_while_deleting);
        }
        let port = self
            .ports
            .get_mut(&id)
            .ok_or(Status::OBJECT_NAME_NOT_FOUND)?;
        if port.slots >= port.max_connections {
            return Err(Status::CONNECTION_COUNT_LIMIT);
        }
        port.slots = port.slots.saturating_add(1);
        let connection = ConnectionId(self.next_id());
        self.connections
            .insert(connection, Connection::new(filter, id));
        Ok(Connecting {
            connection,
            port: id,
            cookie,
        })
    }

    /// ConnectNotify returned: accepted with a cookie, or refused with a status. The result is what
    /// the user gets. After a refusal the driver's client port is disposed of.
    ///
    /// # Errors
    /// The driver's refusal; if the filter began to unregister meanwhile, the status of
    /// [`connect_begin`](FilterManager::connect_begin) for that case, after which DisconnectNotify
    /// runs for a driver that accepted.
    pub fn connect_finish(
        &mut self,
        id: ConnectionId,
        answer: Result<u64, Status>,
    ) -> (Result<(), Status>, Vec<Effect>) {
        let mut effects = Vec::new();
        let Some(connection) = self.connections.get_mut(&id).filter(|c| !c.accepted) else {
            return (Err(Status::INVALID_PARAMETER), effects);
        };
        connection.accepted = true;
        let deleting = self
            .filters
            .get(&connection.filter)
            .is_none_or(|filter| filter.deleting);
        let result = match answer {
            Ok(cookie) if !deleting => {
                connection.cookie = cookie;
                connection.user_handles = 1;
                Ok(())
            }
            Ok(cookie) => {
                connection.cookie = cookie;
                connection.manager_closes = true;
                self.disconnect_due(id);
                Err(self.decisions.connect_while_deleting)
            }
            Err(status) => {
                connection.driver_open = false;
                connection.disconnect = Disconnect::Done;
                self.sever(id, &GetOutcome::Disconnected, &mut effects);
                Err(status)
            }
        };
        self.settle(id, &mut effects);
        (result, effects)
    }

    /// One more handle to the user's file object (duplicated or inherited).
    ///
    /// # Errors
    /// STATUS_INVALID_HANDLE when there is no handle to duplicate.
    pub fn duplicate_handle(&mut self, id: ConnectionId) -> Result<(), Status> {
        let connection = self.connections.get_mut(&id).filter(|c| c.user_handles > 0);
        let connection = connection.ok_or(Status::INVALID_HANDLE)?;
        connection.user_handles = connection.user_handles.saturating_add(1);
        Ok(())
    }

    /// One handle to the user's file object is closed. With the last one gets are cancelled,
    /// senders get STATUS_PORT_DISCONNECTED, and DisconnectNotify runs.
    pub fn close_handle(&mut self, id: ConnectionId) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(connection) = self.connections.get_mut(&id).filter(|c| c.user_handles > 0) else {
            return effects;
        };
        connection.user_handles = connection.user_handles.saturating_sub(1);
        if connection.user_handles == 0 {
            self.sever(id, &GetOutcome::Cancelled, &mut effects);
            self.disconnect_due(id);
            self.settle(id, &mut effects);
        }
        effects
    }

    /// DisconnectNotify returned.
    pub fn disconnect_returned(&mut self, id: ConnectionId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.disconnect == Disconnect::Running
        {
            connection.disconnect = Disconnect::Done;
            self.settle(id, &mut effects);
        }
        effects
    }

    /// FltCloseClientPort: the driver's end is closed. If the user is still there, the connection
    /// ends for him too. Closing twice does nothing.
    pub fn close_client_port(&mut self, id: ConnectionId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.driver_open = false;
            self.sever(id, &GetOutcome::Disconnected, &mut effects);
            self.settle(id, &mut effects);
        }
        effects
    }

    /// FilterSendMessage up to the driver: the host now calls MessageNotify with the cookie in the
    /// caller's thread and reports with [`message_end`](FilterManager::message_end).
    ///
    /// # Errors
    /// STATUS_PORT_DISCONNECTED after the driver's end closed;
    /// [`no_message_notify`](crate::Decisions::no_message_notify) without a callback.
    pub fn message_begin(&mut self, id: ConnectionId) -> Result<(MessageCallId, u64), Status> {
        let connection = self.connections.get(&id).filter(|c| c.is_connected());
        let connection = connection.ok_or(Status::PORT_DISCONNECTED)?;
        let (port, cookie) = (connection.port, connection.cookie);
        if !self
            .ports
            .get(&port)
            .is_some_and(|port| port.has_message_notify)
        {
            return Err(self.decisions.no_message_notify);
        }
        let call = MessageCallId(self.next_id());
        self.calls.insert(call, id);
        Ok((call, cookie))
    }

    /// MessageNotify returned.
    pub fn message_end(&mut self, call: MessageCallId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(connection) = self.calls.remove(&call) {
            self.settle(connection, &mut effects);
        }
        effects
    }

    /// Ends all traffic of a connection: every get completes with `outcome`, every send with
    /// STATUS_PORT_DISCONNECTED.
    pub(crate) fn sever(
        &mut self,
        id: ConnectionId,
        outcome: &GetOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.severed = true;
        for get in core::mem::take(&mut connection.gets) {
            let outcome = outcome.clone();
            effects.push(Effect::GetCompleted {
                connection: id,
                get: get.id,
                outcome,
            });
        }
        let waiting = core::mem::take(&mut connection.waiting);
        let unanswered = core::mem::take(&mut connection.unanswered);
        for send in waiting.into_iter().chain(unanswered.into_values()) {
            self.finish_send(send, Status::PORT_DISCONNECTED, effects);
        }
    }

    /// DisconnectNotify becomes due, unless it has been, or the driver ended the connection and
    /// is not told.
    pub(crate) fn disconnect_due(&mut self, id: ConnectionId) {
        let silent = self.decisions.driver_close == DriverClose::Silent;
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.disconnect == Disconnect::NotDue
        {
            let told = connection.driver_open || !silent;
            connection.disconnect = if told {
                Disconnect::Due
            } else {
                Disconnect::Done
            };
        }
    }
}

impl Connection {
    /// The user has a handle and both ends are open.
    pub(crate) fn is_connected(&self) -> bool {
        self.user_handles > 0 && !self.severed
    }
}
