// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request that waits for an answer.

use crate::connection::Connection;
use crate::envelope;
use crate::error::Error;
use crate::event::Record;
use fltport_abi::Message;
use std::sync::Weak;
use std::time::{Duration, Instant};

/// A provider's question. Answer it with [`Request::reply`], from any thread. Dropped, it stays
/// unanswered, and the driver's miss policy answers at the deadline.
#[derive(Debug)]
#[must_use = "a request that is dropped stays unanswered until its deadline"]
pub struct Request {
    /// The question: provider, message, payload; its sequence is the request's id.
    pub record: Record,
    pub(crate) message_id: u64,
    pub(crate) reply_capacity: usize,
    pub(crate) deadline: Instant,
    pub(crate) connection: Weak<Connection>,
}

impl Request {
    /// How much longer the requester waits. The driver's clock decides; the way here is not
    /// counted.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Answers.
    ///
    /// # Errors
    /// [`Error::TooLate`] if the deadline has passed, [`Error::Disconnected`] if the connection
    /// that asked has ended, [`Error::Encode`] if the answer is larger than the driver takes.
    pub fn reply<'m, M: Message<'m>>(self, reply: &M) -> Result<(), Error> {
        let mut payload = vec![0; reply.encoded_len()];
        let length = reply.encode(&mut payload)?;
        payload.truncate(length);
        self.reply_bytes(&payload)
    }

    /// Answers with bytes that are a reply of the provider's schema.
    ///
    /// # Errors
    /// As [`Request::reply`].
    pub fn reply_bytes(self, payload: &[u8]) -> Result<(), Error> {
        let header = envelope::reply_header(
            self.record.provider(),
            self.record.message(),
            self.record.sequence(),
        );
        let bytes = envelope::reply(self.message_id, header, payload);
        if bytes.len() > self.reply_capacity {
            return Err(Error::Encode(fltport_abi::EncodeError::TooLarge));
        }
        match self.connection.upgrade() {
            Some(connection) => connection.reply(&bytes),
            None => Err(Error::Disconnected(crate::Code::None)),
        }
    }
}
