// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's side: FltSendMessage, its reply, its deadline.

use alloc::vec::Vec;

use crate::decisions::{EmptyMessage, ReplyStatus, ReplyTimeout, UndersizedGet};
use crate::effect::{Effect, GetOutcome, SendOutcome};
use crate::get::PendedGet;
use crate::id::{ConnectionId, GetId, MessageId, SendId, Time};
use crate::manager::FilterManager;
use crate::message::{self, Reply};
use crate::status::Status;

/// What a sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A FilterGetMessage with enough room.
    Reader,
    /// The reply with this message id.
    Reply(MessageId),
}

#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) connection: ConnectionId,
    payload: Vec<u8>,
    reply_capacity: Option<usize>,
    pub(crate) deadline: Option<Time>,
    pub(crate) phase: Phase,
}

impl Send {
    /// Bytes a get must offer for this message.
    pub(crate) fn needed(&self) -> usize {
        message::needed(self.payload.len())
    }
}

impl FilterManager {
    /// FltSendMessage. Delivered at once to a pended get, else it waits for one until `deadline`.
    ///
    /// `reply_capacity` is the room for the reply's payload, `None` without a reply buffer: then
    /// delivery ends the send. A send without a `deadline` is possible, as on NT, and visible in
    /// [`Snapshot`](crate::Snapshot) so that a verifier can object. The caller waits for
    /// [`Effect::SendCompleted`], which may be among the effects returned.
    pub fn send(
        &mut self,
        id: ConnectionId,
        payload: Vec<u8>,
        reply_capacity: Option<usize>,
        deadline: Option<Time>,
    ) -> (SendId, Vec<Effect>) {
        let send = SendId(self.next_id());
        let mut effects = Vec::new();
        let refused = payload.is_empty() && self.decisions.empty_message == EmptyMessage::Refused;
        let open = self
            .connections
            .get(&id)
            .is_some_and(|connection| !connection.severed);
        if refused || !open {
            let status = if refused {
                Status::INVALID_PARAMETER
            } else {
                Status::PORT_DISCONNECTED
            };
            let outcome = SendOutcome::without_reply(status);
            effects.push(Effect::SendCompleted { send, outcome });
            return (send, effects);
        }
        let needed = message::needed(payload.len());
        let phase = Phase::Reader;
        self.sends.insert(
            send,
            Send {
                connection: id,
                payload,
                reply_capacity,
                deadline,
                phase,
            },
        );
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, send));
        }
        match self.take_get(id, needed, &mut effects) {
            Some(get) => self.deliver(id, send, get, &mut effects),
            None => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.waiting.push_back(send);
                }
            }
        }
        (send, effects)
    }

    /// FilterReplyMessage with FILTER_REPLY_HEADER and payload. The sender with that message id
    /// returns: with the payload, or with STATUS_BUFFER_OVERFLOW when it exceeds its buffer.
    ///
    /// # Errors
    /// [`short_reply`](crate::Decisions::short_reply) below 16 bytes; STATUS_PORT_DISCONNECTED;
    /// STATUS_FLT_NO_WAITER_FOR_REPLY when nobody waits for that id (timed out, answered, or never
    /// asked).
    pub fn reply(&mut self, id: ConnectionId, bytes: &[u8]) -> (Result<(), Status>, Vec<Effect>) {
        let mut effects = Vec::new();
        let Some(reply) = Reply::parse(bytes) else {
            return (Err(self.decisions.short_reply), effects);
        };
        let Some(connection) = self.connections.get_mut(&id).filter(|c| c.is_connected()) else {
            return (Err(Status::PORT_DISCONNECTED), effects);
        };
        let Some(send) = connection.unanswered.remove(&reply.id) else {
            return (Err(Status::FLT_NO_WAITER_FOR_REPLY), effects);
        };
        let outcome = self.answer(send, &reply);
        self.forget_send(send);
        effects.push(Effect::SendCompleted { send, outcome });
        (Ok(()), effects)
    }

    /// The thread of this send is being terminated: it returns STATUS_THREAD_IS_TERMINATING.
    pub fn terminate_sender(&mut self, send: SendId) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.withdraw(send, Status::THREAD_IS_TERMINATING, &mut effects);
        effects
    }

    /// Ends every send whose deadline is `now` or earlier with STATUS_TIMEOUT, soonest first.
    pub fn expire(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((deadline, send)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, send));
            self.withdraw(send, Status::TIMEOUT, &mut effects);
        }
        effects
    }

    /// When [`expire`](FilterManager::expire) will next have something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Hands the message of a send that is in no queue to a get that is in no queue.
    pub(crate) fn deliver(
        &mut self,
        id: ConnectionId,
        send_id: SendId,
        get: GetId,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(connection), Some(send)) =
            (self.connections.get_mut(&id), self.sends.get_mut(&send_id))
        else {
            return;
        };
        connection.last_message = connection.last_message.wrapping_add(1);
        let message = MessageId(connection.last_message);
        let payload = core::mem::take(&mut send.payload);
        let bytes = message::encode(message, send.reply_capacity, &payload);
        let outcome = GetOutcome::Message(bytes);
        effects.push(Effect::GetCompleted {
            connection: id,
            get,
            outcome,
        });
        if send.reply_capacity.is_none() {
            self.finish_send(send_id, Status::SUCCESS, effects);
            return;
        }
        send.phase = Phase::Reply(message);
        connection.unanswered.insert(message, send_id);
        if self.decisions.reply_timeout == ReplyTimeout::Ignored
            && let Some(deadline) = send.deadline
        {
            self.deadlines.remove(&(deadline, send_id));
        }
    }

    /// Completes a send that is in no queue any more, without a reply.
    pub(crate) fn finish_send(&mut self, send: SendId, status: Status, effects: &mut Vec<Effect>) {
        if self.forget_send(send).is_some() {
            let outcome = SendOutcome::without_reply(status);
            effects.push(Effect::SendCompleted { send, outcome });
        }
    }

    /// Takes a send out of its connection's queues and completes it.
    fn withdraw(&mut self, id: SendId, status: Status, effects: &mut Vec<Effect>) {
        let Some(send) = self.sends.get(&id) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&send.connection) {
            match send.phase {
                Phase::Reader => connection.waiting.retain(|waiting| *waiting != id),
                Phase::Reply(message) => {
                    connection.unanswered.remove(&message);
                }
            }
        }
        self.finish_send(id, status, effects);
    }

    fn forget_send(&mut self, id: SendId) -> Option<Send> {
        let send = self.sends.remove(&id)?;
        if let Some(deadline) = send.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(send)
    }

    fn answer(&self, send: SendId, reply: &Reply<'_>) -> SendOutcome {
        let capacity = self
            .sends
            .get(&send)
            .and_then(|send| send.reply_capacity)
            .unwrap_or(0);
        if reply.payload.len() > capacity {
            return SendOutcome::without_reply(Status::BUFFER_OVERFLOW);
        }
        let status = match self.decisions.reply_status {
            ReplyStatus::Ignored => Status::SUCCESS,
            ReplyStatus::Returned => reply.status,
        };
        SendOutcome {
            status,
            reply: reply.payload.to_vec(),
        }
    }

    /// Takes the get that shall receive a message of `needed` bytes out of the queue. Gets that are
    /// too small fail or stay, as decided.
    fn take_get(
        &mut self,
        id: ConnectionId,
        needed: usize,
        effects: &mut Vec<Effect>,
    ) -> Option<GetId> {
        let connection = self.connections.get_mut(&id)?;
        let fitting = connection
            .gets
            .iter()
            .position(|get| get.capacity >= needed);
        let fail = match (self.decisions.undersized_get, fitting) {
            (UndersizedGet::Skip, Some(_)) => 0,
            (UndersizedGet::Skip, None) => 1.min(connection.gets.len()),
            (UndersizedGet::Fail, fitting) => fitting.unwrap_or(connection.gets.len()),
        };
        let failed: Vec<PendedGet> = connection.gets.drain(..fail).collect();
        for get in failed {
            let outcome = GetOutcome::TooSmall { needed };
            effects.push(Effect::GetCompleted {
                connection: id,
                get: get.id,
                outcome,
            });
        }
        let at = fitting?.saturating_sub(fail);
        connection.gets.remove(at).map(|get| get.id)
    }
}
