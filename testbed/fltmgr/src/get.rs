// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reader's side: FilterGetMessage and its cancellation.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::effect::{Effect, GetOutcome};
use crate::id::{ConnectionId, GetId};
use crate::manager::FilterManager;
use crate::send::Send;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendedGet {
    pub(crate) id: GetId,
    /// Bytes of the user's buffer, header included.
    pub(crate) capacity: usize,
}

impl FilterManager {
    /// FilterGetMessage with a buffer of `capacity` bytes. It meets the sender that waits longest,
    /// or is pended; a buffer too small for that sender's message fails at once and the sender goes
    /// on waiting.
    pub fn get(&mut self, id: ConnectionId, capacity: usize) -> (GetId, Vec<Effect>) {
        let get = PendedGet {
            id: GetId(self.next_id()),
            capacity,
        };
        let mut effects = Vec::new();
        let Some(connection) = self.connections.get_mut(&id).filter(|c| c.is_connected()) else {
            let outcome = GetOutcome::Disconnected;
            effects.push(Effect::GetCompleted {
                connection: id,
                get: get.id,
                outcome,
            });
            return (get.id, effects);
        };
        let Some(send) = connection.waiting.front().copied() else {
            connection.gets.push_back(get);
            return (get.id, effects);
        };
        let needed = self.sends.get(&send).map_or(0, Send::needed);
        if capacity < needed {
            let outcome = GetOutcome::TooSmall { needed };
            effects.push(Effect::GetCompleted {
                connection: id,
                get: get.id,
                outcome,
            });
        } else {
            connection.waiting.pop_front();
            self.deliver(id, send, get.id, &mut effects);
        }
        (get.id, effects)
    }

    /// Cancels one get. Nothing happens when it has completed already.
    pub fn cancel_get(&mut self, id: ConnectionId, get: GetId) -> Vec<Effect> {
        self.cancel(id, |pended| pended.id == get)
    }

    /// Cancels every get of a connection.
    pub fn cancel_all_gets(&mut self, id: ConnectionId) -> Vec<Effect> {
        self.cancel(id, |_| true)
    }

    fn cancel(&mut self, id: ConnectionId, which: impl Fn(&PendedGet) -> bool) -> Vec<Effect> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        let (cancelled, kept): (VecDeque<PendedGet>, _) = core::mem::take(&mut connection.gets)
            .into_iter()
            .partition(which);
        connection.gets = kept;
        let outcome = GetOutcome::Cancelled;
        let completed = |get: PendedGet| Effect::GetCompleted {
            connection: id,
            get: get.id,
            outcome: outcome.clone(),
        };
        cancelled.into_iter().map(completed).collect()
    }
}
