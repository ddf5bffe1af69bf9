// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request that waits for an answer.

use crate::answers::Answers;
use crate::connection::Connection;
use crate::envelope;
use crate::error::Error;
use crate::event::Record;
use fltport_abi::Message;
use fltport_abi::limits::MAX_REPLY;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How the answer reaches the driver.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// As the reply to a message, of at most so many bytes with all headers.
    Reply { message_id: u64, capacity: usize },
    /// As a command, over the connection that has the stream then.
    Command(Arc<Answers>),
}

/// A provider's question. Answer it with [`Request::reply`], from any thread. Dropped, it stays
/// unanswered, and the driver's miss policy answers at the deadline.
///
/// A driver that does not wait for the answer asks *asynchronously*: such a request has a place in
/// the stream and comes in its turn, while others overtake what waits in the queue. It is answered in
/// the same way.
#[derive(Debug)]
#[must_use = "a request that is dropped stays unanswered until its deadline"]
pub struct Request {
    /// The question: provider, message, payload. Its sequence is its place in the stream if it is
    /// asynchronous, else [`Request::id`].
    pub record: Record,
    pub(crate) id: u64,
    pub(crate) answer: Answer,
    pub(crate) deadline: Instant,
    pub(crate) connection: Weak<Connection>,
}

impl Request {
    /// Its id, by which an [`Outcome`](crate::Event::Outcome) refers to it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is of the stream, and nobody stands still until it is answered.
    pub fn is_asynchronous(&self) -> bool {
        matches!(self.answer, Answer::Command(_))
    }

    /// How much longer the requester waits. The driver's clock decides; the way here is not
    /// counted.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Answers. An asynchronous request of a [stream](crate::Options::stream) can be answered over the
    /// connection that goes on with it: while there is none, this waits for it, until the deadline.
    ///
    /// # Errors
    /// [`Error::TooLate`] if the deadline has passed, [`Error::Disconnected`] if the connection
    /// that asked has ended and none has gone on with its stream, [`Error::Encode`] if the answer is
    /// larger than the driver takes.
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
        let record = &self.record;
        let header = envelope::reply_header(record.provider(), record.message(), self.id);
        let too_large = Error::Encode(fltport_abi::EncodeError::TooLarge);
        match self.answer {
            Answer::Reply {
                message_id,
                capacity,
            } => {
                let bytes = envelope::reply(message_id, header, payload);
                if bytes.len() > capacity {
                    return Err(too_large);
                }
                let connection = self.connection.upgrade();
                let connection = connection.ok_or(Error::Disconnected(crate::Code::None));
                connection?.reply(&bytes)
            }
            Answer::Command(_) if payload.len() > MAX_REPLY => Err(too_large),
            Answer::Command(answers) => {
                answers.send(&envelope::answer(header, payload), self.deadline)
            }
        }
    }
}
