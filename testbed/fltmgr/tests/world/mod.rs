// SPDX-License-Identifier: MIT OR Apache-2.0
//! One filter, one port, and short words for what the tests do with them.
#![allow(dead_code, reason = "every test binary uses its own part of this")]

use fltmgr::*;

pub(crate) const NAME: &str = "\\TestPort";
pub(crate) const COOKIE: u64 = 77;

pub(crate) struct World {
    pub(crate) manager: FilterManager,
    pub(crate) filter: FilterId,
    pub(crate) port: PortId,
}

pub(crate) fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

pub(crate) fn ready(decisions: Decisions) -> FilterManager {
    let mut manager = FilterManager::new(decisions);
    manager.set_initialized();
    manager
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Decisions::default(), |_| {})
    }

    pub(crate) fn with(decisions: Decisions, change: impl FnOnce(&mut PortAttributes)) -> World {
        let mut manager = ready(decisions);
        let filter = manager
            .register_filter(&FilterRegistration::example(1))
            .unwrap();
        let mut attributes = PortAttributes::example(&units(NAME));
        attributes.max_connections = 2;
        change(&mut attributes);
        let port = manager.create_port(filter, attributes).unwrap();
        World {
            manager,
            filter,
            port,
        }
    }

    /// A connect the driver accepts.
    pub(crate) fn connect(&mut self) -> ConnectionId {
        let connecting = self.begin().unwrap();
        let (result, effects) = self.manager.connect_finish(connecting, Ok(COOKIE));
        assert_eq!((result, effects), (Ok(()), vec![]));
        connecting
    }

    pub(crate) fn begin(&mut self) -> Result<ConnectionId, Status> {
        self.manager
            .connect_begin(&units(NAME), 0, |_| true)
            .map(|begun| begun.connection)
    }

    /// A get that must stay pended.
    pub(crate) fn pend(&mut self, connection: ConnectionId, capacity: usize) -> GetId {
        let (get, effects) = self.manager.get(connection, capacity);
        assert_eq!(effects, []);
        get
    }

    /// A send that must stay waiting.
    pub(crate) fn wait(&mut self, connection: ConnectionId, payload: &[u8]) -> SendId {
        let (send, effects) = self.manager.send(connection, payload.to_vec(), None, None);
        assert_eq!(effects, []);
        send
    }

    /// A send with a reply buffer that is delivered to a pended get: the send and the message id.
    pub(crate) fn ask(&mut self, connection: ConnectionId, reply: usize) -> (SendId, MessageId) {
        self.ask_until(connection, reply, None)
    }

    pub(crate) fn ask_until(
        &mut self,
        connection: ConnectionId,
        reply: usize,
        deadline: Option<Time>,
    ) -> (SendId, MessageId) {
        self.pend(connection, 64);
        let (send, effects) = self
            .manager
            .send(connection, b"?".to_vec(), Some(reply), deadline);
        let [
            Effect::GetCompleted {
                outcome: GetOutcome::Message(bytes),
                ..
            },
        ] = &effects[..]
        else {
            panic!("not delivered: {effects:?}");
        };
        (send, Message::parse(bytes).unwrap().id)
    }

    pub(crate) fn reply(
        &mut self,
        connection: ConnectionId,
        id: MessageId,
        payload: &[u8],
    ) -> (Result<(), Status>, Vec<Effect>) {
        let reply = Reply {
            status: Status::SUCCESS,
            id,
            payload,
        };
        self.manager.reply(connection, &reply.encode())
    }

    pub(crate) fn disconnect(&self, connection: ConnectionId) -> Effect {
        Effect::CallDisconnect {
            connection,
            port: self.port,
            cookie: COOKIE,
        }
    }
}

pub(crate) fn sent(send: SendId, status: Status) -> Effect {
    replied(send, status, b"")
}

pub(crate) fn replied(send: SendId, status: Status, reply: &[u8]) -> Effect {
    Effect::SendCompleted {
        send,
        outcome: SendOutcome {
            status,
            reply: reply.to_vec(),
        },
    }
}

pub(crate) fn got(connection: ConnectionId, get: GetId, outcome: GetOutcome) -> Effect {
    Effect::GetCompleted {
        connection,
        get,
        outcome,
    }
}

/// The message id and payload of the first delivered message among some effects.
pub(crate) fn delivered(effects: &[Effect]) -> Option<(GetId, MessageId, Vec<u8>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::GetCompleted {
            get,
            outcome: GetOutcome::Message(bytes),
            ..
        } => {
            let message = Message::parse(bytes)?;
            Some((*get, message.id, message.payload.to_vec()))
        }
        _ => None,
    })
}
