// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine asks for, done: completions, callbacks, wakes. Never under the table's lock.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::atomic::Ordering;

use fltmgr::{ConnectionId, Effect, GetId, GetOutcome, PortId, SendId, SendOutcome};

use super::inside;
use super::table::{FilterTable, PortRecord};
use crate::frame;
use crate::sched;

impl FilterTable {
    /// Executes effects in order, and those that follow from them.
    ///
    /// A DisconnectNotify that a thread waits to run in [`UserPort::close`](super::UserPort::close)
    /// is left to that thread.
    pub(super) fn execute(&self, effects: Vec<Effect>) {
        self.execute_as(None, effects);
    }

    /// As [`execute`](FilterTable::execute), in the thread that closes `closing`.
    pub(super) fn execute_as(&self, closing: Option<ConnectionId>, effects: Vec<Effect>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            // The machine has decided, and others see that, before the last effect is done.
            sched::point("an effect of the Filter Manager");
            match effect {
                Effect::GetCompleted { get, outcome, .. } => self.complete_get(get, outcome),
                Effect::SendCompleted { send, outcome } => self.complete_send(send, outcome),
                Effect::CallDisconnect {
                    connection,
                    port,
                    cookie,
                } => {
                    if closing == Some(connection) || !self.hand_over(connection, port, cookie) {
                        queue.extend(self.disconnect(connection, port, cookie));
                    }
                }
                Effect::ConnectionGone { connection } => self.lock().variables.forget(connection),
                Effect::PortGone { port } => self.forget_port(port),
                Effect::FilterGone { filter } => {
                    let record = self.lock().forget_filter(filter);
                    if let Some(record) = record {
                        sched::wake(&record.gone);
                    }
                }
            }
        }
    }

    fn complete_get(&self, get: GetId, outcome: GetOutcome) {
        let done = self.lock().gets.remove(&get);
        if let Some(done) = done {
            done(outcome);
        }
    }

    fn complete_send(&self, send: SendId, outcome: SendOutcome) {
        let pending = self.lock().sends.remove(&send);
        if let Some(pending) = pending {
            *pending.outcome.lock() = Some(outcome);
            sched::wake(&pending.waiter);
        }
    }

    /// Leaves a DisconnectNotify to the thread that closes the connection, if one waits for it.
    fn hand_over(&self, connection: ConnectionId, port: PortId, cookie: u64) -> bool {
        let mut tables = self.lock();
        let Some(closer) = tables.closers.get(&connection).cloned() else {
            return false;
        };
        tables
            .pending_disconnects
            .insert(connection, (port, cookie));
        drop(tables);
        sched::wake(&closer);
        true
    }

    /// Runs DisconnectNotify; what follows from its return.
    pub(super) fn disconnect(
        &self,
        connection: ConnectionId,
        port: PortId,
        cookie: u64,
    ) -> Vec<Effect> {
        let record = self.lock().ports.get(&port).cloned();
        if let Some(record) = record {
            call_disconnect(&record, cookie);
        }
        self.lock().machine.disconnect_returned(connection)
    }

    fn forget_port(&self, port: PortId) {
        let mut tables = self.lock();
        let record = tables.ports.remove(&port);
        if let Some(descriptor) = record.and_then(|record| record.descriptor) {
            tables.descriptors.remove(&descriptor);
        }
    }
}

fn call_disconnect(record: &PortRecord, cookie: u64) {
    let Some(callback) = record.disconnect else {
        return;
    };
    if record.abandoned.load(Ordering::Acquire) {
        return;
    }
    inside::callback(record.filter, || {
        frame::call("DisconnectNotify", Some(&record.driver), || {
            // SAFETY: the driver registered this routine for its port and is loaded as long as the
            // port is not abandoned; the cookie is the one it returned for this connection.
            unsafe { callback(cookie as *const c_void) };
        });
    });
}
