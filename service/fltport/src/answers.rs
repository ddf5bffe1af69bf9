// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the answers to asynchronous requests go: to the connection that has the stream now.
//!
//! What has come over one connection may be answered when another has followed it: the driver asks
//! nobody again whose place in the stream is not acknowledged, and what it sends again of that has
//! come already.

use crate::connection::Connection;
use crate::error::Error;
use crate::failure::Code;
use crate::lock::lock;
use fltport_abi::command::own;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Instant;

/// One stream's; of a connection without a stream, its own.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum State {
    /// Its connection has ended, and another may follow.
    #[default]
    Between,
    Live(Weak<Connection>),
    /// Nobody waits for an answer any more.
    Over,
}

impl Answers {
    /// This connection has the stream from now on.
    pub(crate) fn begin(&self, connection: &Arc<Connection>) {
        self.change(State::Live(Arc::downgrade(connection)));
    }

    /// The connection has ended.
    pub(crate) fn pause(&self) {
        self.change(State::Between);
    }

    /// And none will follow.
    pub(crate) fn end(&self) {
        self.change(State::Over);
    }

    fn change(&self, to: State) {
        *lock(&self.state) = to;
        self.changed.notify_all();
    }

    /// Sends an answer. While there is no connection it waits for the next one, until the deadline.
    pub(crate) fn send(&self, answer: &[u8], deadline: Instant) -> Result<(), Error> {
        let mut former = None;
        loop {
            let connection = self.next(former.as_ref(), deadline)?;
            match connection.command(0, own::ANSWER, answer, 0) {
                // That may be known here before the supervisor knows.
                Err(Error::Disconnected(_)) => former = Some(connection),
                sent => return sent.map(drop),
            }
        }
    }

    /// The connection, unless it is this one.
    fn next(
        &self,
        former: Option<&Arc<Connection>>,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Error> {
        let disconnected = Error::Disconnected(Code::None);
        let mut state = lock(&self.state);
        loop {
            let live = match &*state {
                State::Live(connection) => connection.upgrade(),
                State::Between => None,
                State::Over => return Err(disconnected),
            };
            let another = |live: &Arc<Connection>| former.is_none_or(|it| !Arc::ptr_eq(it, live));
            if let Some(connection) = live.filter(another) {
                return Ok(connection);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(disconnected);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
