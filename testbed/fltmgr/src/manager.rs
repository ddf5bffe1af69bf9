// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole state, and what every part of it needs: identifiers and the end of objects.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::connection::{Connection, Disconnect};
use crate::decisions::{Decisions, DisconnectOrder, SlotRelease};
use crate::effect::Effect;
use crate::filter::Filter;
use crate::id::{ConnectionId, FilterId, MessageCallId, PortId, SendId, Time};
use crate::port::Port;
use crate::send::Send;

/// The Filter Manager: every filter, port, connection, send and get there is.
///
/// Operations on identifiers that no longer exist are answered, never a panic: with a status, or
/// with no effects where Windows' function returns nothing.
#[derive(Debug, Default)]
pub struct FilterManager {
    pub(crate) decisions: Decisions,
    pub(crate) initialized: bool,
    last_id: u64,
    pub(crate) filters: BTreeMap<FilterId, Filter>,
    pub(crate) ports: BTreeMap<PortId, Port>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) sends: BTreeMap<SendId, Send>,
    /// Deadlines of the sends that still have to meet one, soonest first.
    pub(crate) deadlines: BTreeSet<(Time, SendId)>,
    /// Message callbacks that run now.
    pub(crate) calls: BTreeMap<MessageCallId, ConnectionId>,
}

impl FilterManager {
    /// A Filter Manager without filters that is not up yet; see
    /// [`set_initialized`](FilterManager::set_initialized).
    pub fn new(decisions: Decisions) -> FilterManager {
        FilterManager {
            decisions,
            ..FilterManager::default()
        }
    }

    /// The Filter Manager is up: filters may register. Before it they get
    /// STATUS_FLT_NOT_INITIALIZED.
    pub fn set_initialized(&mut self) {
        self.initialized = true;
    }

    /// Whether filters may register.
    pub fn is_initialized(&self) -> bool {
        self.initialized
    }

    /// The answers to the open questions this machine was made with.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// A number never used before for anything in this machine.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Carries a connection as far as it can go: calls DisconnectNotify when it is due, frees the
    /// slot, forgets the connection, and lets the filter go if that was the last thing it waited
    /// for.
    pub(crate) fn settle(&mut self, id: ConnectionId, effects: &mut Vec<Effect>) {
        let in_callback = self.has_message_calls(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (port, filter) = (connection.port, connection.filter);
        let drained =
            !in_callback || self.decisions.disconnect_order == DisconnectOrder::Overlapping;
        if connection.disconnect == Disconnect::Due && drained {
            connection.disconnect = Disconnect::Running;
            let cookie = connection.cookie;
            effects.push(Effect::CallDisconnect {
                connection: id,
                port,
                cookie,
            });
        }
        if connection.disconnect == Disconnect::Done && connection.manager_closes {
            connection.driver_open = false;
        }
        let slot_free = connection.disconnect == Disconnect::Done
            && (!connection.driver_open
                || self.decisions.slot_release == SlotRelease::DisconnectReturned);
        let free_now = slot_free && core::mem::take(&mut connection.slot_held);
        let gone = connection.is_over() && !in_callback;
        if gone {
            self.connections.remove(&id);
            effects.push(Effect::ConnectionGone { connection: id });
        }
        if free_now {
            self.free_slot(port, effects);
        }
        self.settle_filter(filter, effects);
    }

    /// Lets FltUnregisterFilter return if it waits and nothing holds it any more.
    pub(crate) fn settle_filter(&mut self, id: FilterId, effects: &mut Vec<Effect>) {
        let deleting = self.filters.get(&id).is_some_and(|filter| filter.deleting);
        if deleting && self.unregister_waits_for(id).is_empty() {
            self.filters.remove(&id);
            effects.push(Effect::FilterGone { filter: id });
        }
    }

    fn free_slot(&mut self, id: PortId, effects: &mut Vec<Effect>) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.slots = port.slots.saturating_sub(1);
        }
        self.settle_port(id, effects);
    }

    /// Forgets a server port that is closed and has no connection left that could call back.
    pub(crate) fn settle_port(&mut self, id: PortId, effects: &mut Vec<Effect>) {
        let over = self
            .ports
            .get(&id)
            .is_some_and(|port| !port.open && port.slots == 0);
        if over {
            self.ports.remove(&id);
            effects.push(Effect::PortGone { port: id });
        }
    }

    pub(crate) fn has_message_calls(&self, id: ConnectionId) -> bool {
        self.calls.values().any(|connection| *connection == id)
    }
}
