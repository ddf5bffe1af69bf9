// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltSendMessage: a thread waits for a reader, and maybe for its reply.

use alloc::sync::Arc;
use alloc::vec::Vec;

use fltmgr::{ConnectionId, FilterId, SendOutcome, Status, Time};
use fltport_nt::ke::SpinLock;

use crate::event::Event;
use crate::ntoskrnl::time;
use crate::table::{self, PendingSend, Tables};
use crate::{effects, handle};

/// Sends `payload` and waits. `read` reads the driver's port variable, under the lock under which
/// FltCloseClientPort clears it.
pub(crate) fn send(
    filter: FilterId,
    payload: Vec<u8>,
    reply_capacity: Option<usize>,
    timeout: Option<i64>,
    read: impl FnOnce() -> isize,
) -> SendOutcome {
    let mut tables = table::lock();
    let connection = match resolve(&tables, filter, read()) {
        Ok(connection) => connection,
        Err(status) => {
            return SendOutcome {
                status,
                reply: Vec::new(),
            };
        }
    };
    let system_time = time::system_time().max(0).unsigned_abs();
    let decisions = tables.machine.decisions();
    let deadline = decisions.deadline(timeout, table::now(), system_time);
    let (id, effects) = tables
        .machine
        .send(connection, payload, reply_capacity, deadline);
    let pending = Arc::new(PendingSend {
        outcome: SpinLock::new(None),
        done: Event::new(),
    });
    tables.sends.insert(id, pending.clone());
    drop(tables);
    effects::execute(effects);
    wait(&pending, deadline)
}

/// The connection that the driver's variable names.
fn resolve(tables: &Tables, filter: FilterId, value: isize) -> Result<ConnectionId, Status> {
    if value == 0 {
        return Err(Status::PORT_DISCONNECTED);
    }
    let id = handle::client_port(value).ok_or(Status::INVALID_PARAMETER)?;
    match tables.machine.connection_state(id) {
        Some(connection) if connection.filter != filter => Err(Status::INVALID_PARAMETER),
        Some(connection) if connection.driver_open => Ok(id),
        _ => Err(Status::PORT_DISCONNECTED),
    }
}

fn wait(pending: &PendingSend, mut deadline: Option<Time>) -> SendOutcome {
    loop {
        let left = deadline.map(|deadline| deadline.0.saturating_sub(table::now().0));
        if left != Some(0) {
            pending.done.wait(left);
        }
        if let Some(outcome) = pending.outcome.lock().take() {
            return outcome;
        }
        if let Some(passed) = deadline.filter(|deadline| *deadline <= table::now()) {
            let effects = table::lock().machine.expire(table::now().max(passed));
            effects::execute(effects);
            // If this send is not among them, its deadline is over as decided, and only a reply or
            // a disconnect ends it.
            deadline = None;
        }
    }
}
