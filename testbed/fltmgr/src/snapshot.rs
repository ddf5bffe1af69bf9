// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole state as plain values: for tests of the laws, for reports of what a driver left
//! behind, and for status displays.

use alloc::vec::Vec;

use crate::id::{ConnectionId, FilterId, GetId, PortId, SendId, Time};
use crate::manager::FilterManager;
use crate::send::Phase;

/// Everything there is, in order of creation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Registered filters.
    pub filters: Vec<FilterState>,
    /// Server ports whose callbacks may still run.
    pub ports: Vec<PortState>,
    /// Connections that are not over.
    pub connections: Vec<ConnectionState>,
    /// Sends that wait.
    pub sends: Vec<SendState>,
    /// Gets that are pended.
    pub gets: Vec<GetState>,
}

/// A registered filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterState {
    /// Its identifier.
    pub filter: FilterId,
    /// The driver that registered it.
    pub driver: u64,
    /// FltStartFiltering succeeded.
    pub started: bool,
    /// Rundown references held.
    pub references: u64,
    /// FltUnregisterFilter was called.
    pub deleting: bool,
}

/// A server port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState {
    /// Its identifier.
    pub port: PortId,
    /// Its filter.
    pub filter: FilterId,
    /// It listens.
    pub open: bool,
    /// Connections that count against the limit.
    pub slots: u32,
    /// The limit.
    pub max_connections: u32,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Its identifier.
    pub connection: ConnectionId,
    /// Its filter.
    pub filter: FilterId,
    /// Its port.
    pub port: PortId,
    /// ConnectNotify accepted.
    pub accepted: bool,
    /// Handles the user has.
    pub user_handles: u32,
    /// The driver has not called FltCloseClientPort.
    pub driver_open: bool,
    /// Traffic is possible.
    pub connected: bool,
    /// It counts against the port's limit.
    pub slot_held: bool,
    /// DisconnectNotify is to be called as soon as the message callbacks have returned.
    pub disconnect_due: bool,
}

/// A send that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendState {
    /// Its identifier.
    pub send: SendId,
    /// Its connection.
    pub connection: ConnectionId,
    /// What it waits for.
    pub phase: Phase,
    /// Bytes a get must offer, while it waits for one.
    pub needed: usize,
    /// Until when it waits; `None` is for ever, which a verifier should object to.
    pub deadline: Option<Time>,
}

/// A get that is pended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetState {
    /// Its identifier.
    pub get: GetId,
    /// Its connection.
    pub connection: ConnectionId,
    /// Bytes it offers.
    pub capacity: usize,
}

impl FilterManager {
    /// The whole state now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            filters: self.filter_states(),
            ports: self.port_states(),
            connections: self.connection_states(),
            sends: self.send_states(),
            gets: self.get_states(),
        }
    }

    fn filter_states(&self) -> Vec<FilterState> {
        let state = |(id, filter): (&FilterId, &crate::filter::Filter)| FilterState {
            filter: *id,
            driver: filter.driver,
            started: filter.started,
            references: filter.references,
            deleting: filter.deleting,
        };
        self.filters.iter().map(state).collect()
    }

    fn port_states(&self) -> Vec<PortState> {
        let state = |(id, port): (&PortId, &crate::port::Port)| PortState {
            port: *id,
            filter: port.filter,
            open: port.open,
            slots: port.slots,
            max_connections: port.max_connections,
        };
        self.ports.iter().map(state).collect()
    }

    fn connection_states(&self) -> Vec<ConnectionState> {
        self.connections
            .keys()
            .filter_map(|id| self.connection_state(*id))
            .collect()
    }

    /// One connection; `None` when it is gone.
    pub fn connection_state(&self, id: ConnectionId) -> Option<ConnectionState> {
        let connection = self.connections.get(&id)?;
        Some(ConnectionState {
            connection: id,
            filter: connection.filter,
            port: connection.port,
            accepted: connection.accepted,
            user_handles: connection.user_handles,
            driver_open: connection.driver_open,
            connected: connection.is_connected(),
            slot_held: connection.slot_held,
            disconnect_due: connection.disconnect == crate::connection::Disconnect::Due,
        })
    }

    fn send_states(&self) -> Vec<SendState> {
        let state = |(id, send): (&SendId, &crate::send::Send)| SendState {
            send: *id,
            connection: send.connection,
            phase: send.phase,
            needed: send.needed(),
            deadline: send.deadline,
        };
        self.sends.iter().map(state).collect()
    }

    fn get_states(&self) -> Vec<GetState> {
        let of_connection = |(id, connection): (&ConnectionId, &crate::connection::Connection)| {
            let connection_id = *id;
            let state = move |get: &crate::get::PendedGet| GetState {
                get: get.id,
                connection: connection_id,
                capacity: get.capacity,
            };
            connection.gets.iter().map(state).collect::<Vec<_>>()
        };
        self.connections.iter().flat_map(of_connection).collect()
    }
}
