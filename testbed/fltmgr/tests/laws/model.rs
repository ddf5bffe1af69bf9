// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine must do, remembered beside it.

use std::collections::{BTreeMap, BTreeSet};

use fltmgr::*;

/// What a sender asked, so that an answer can be held against it.
pub(crate) struct Asked {
    pub(crate) connection: ConnectionId,
    pub(crate) reply: Option<usize>,
    /// The bytes it sent: `length` times a mark that tells messages apart.
    pub(crate) length: usize,
    pub(crate) mark: u8,
    pub(crate) message: Option<MessageId>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) marks: u8,
    pub(crate) connecting: Vec<ConnectionId>,
    pub(crate) connections: Vec<ConnectionId>,
    pub(crate) accepted: BTreeSet<ConnectionId>,
    pub(crate) driver_closed: BTreeSet<ConnectionId>,
    pub(crate) handles: BTreeMap<ConnectionId, u32>,
    pub(crate) disconnected: BTreeSet<ConnectionId>,
    pub(crate) in_disconnect: Vec<ConnectionId>,
    pub(crate) calls: Vec<MessageCallId>,
    pub(crate) gets: BTreeMap<GetId, ConnectionId>,
    pub(crate) sends: BTreeMap<SendId, Asked>,
    /// The reply just made, if any: its message and the payload.
    pub(crate) replying: Option<(ConnectionId, MessageId, Vec<u8>)>,
    pub(crate) references: u32,
    pub(crate) unregistered: bool,
    pub(crate) filter_gone: bool,
    pub(crate) gone: BTreeSet<ConnectionId>,
}

impl Model {
    pub(crate) fn pick<T: Copy>(from: &[T], pick: usize) -> Option<T> {
        from.get(pick % from.len().max(1)).copied()
    }

    pub(crate) fn absorb(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::GetCompleted {
                    connection,
                    get,
                    outcome,
                } => {
                    self.get_completed(*connection, *get, outcome);
                }
                Effect::SendCompleted { send, outcome } => self.send_completed(*send, outcome),
                Effect::CallDisconnect {
                    connection, cookie, ..
                } => {
                    assert!(!self.filter_gone, "a callback after the filter is gone");
                    assert!(
                        self.accepted.contains(connection),
                        "of a connection not accepted"
                    );
                    assert!(
                        self.disconnected.insert(*connection),
                        "a second DisconnectNotify"
                    );
                    assert_eq!(*cookie, connection.0, "the cookie is the connection's");
                    self.in_disconnect.push(*connection);
                }
                Effect::ConnectionGone { connection } => {
                    assert!(self.gone.insert(*connection), "gone twice");
                    self.connections.retain(|known| known != connection);
                }
                Effect::PortGone { .. } => {}
                Effect::FilterGone { .. } => {
                    assert!(self.unregistered && !self.filter_gone);
                    assert!(self.in_disconnect.is_empty(), "a callback still runs");
                    assert_eq!(self.references, 0, "a reference is still held");
                    self.filter_gone = true;
                }
            }
        }
    }

    fn get_completed(&mut self, connection: ConnectionId, get: GetId, outcome: &GetOutcome) {
        assert_eq!(
            self.gets.remove(&get),
            Some(connection),
            "a get completes once, at home"
        );
        let GetOutcome::Message(bytes) = outcome else {
            return;
        };
        let message = Message::parse(bytes).unwrap();
        // Empty messages look alike; among them the oldest goes first.
        let sender = self.sends.values_mut().find(|asked| {
            asked.connection == connection
                && asked.message.is_none()
                && message.payload == vec![asked.mark; asked.length]
        });
        let sender = sender.expect("a delivered message has a sender that waits");
        sender.message = Some(message.id);
        let expected = sender.reply.map_or(0, |room| room + REPLY_HEADER);
        assert_eq!(message.reply_length as usize, expected);
    }

    fn send_completed(&mut self, send: SendId, outcome: &SendOutcome) {
        let asked = self.sends.remove(&send).expect("a send completes once");
        let answer = self.replying.take();
        if let Some((connection, message, payload)) = answer {
            assert_eq!(
                (asked.connection, asked.message),
                (connection, Some(message))
            );
            match outcome.status {
                Status::BUFFER_OVERFLOW => assert!(Some(payload.len()) > asked.reply),
                _ => assert_eq!(outcome.reply, payload),
            }
        } else {
            assert_eq!(outcome.reply, b"", "a reply nobody gave");
        }
    }
}
