// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltSendMessage: a thread of the kernel waits for a reader, and maybe for its reply.

use std::sync::Arc;

use fltmgr::{SendOutcome, Status};

use super::table::{FilterTable, PendingSend, Tables, misuse, now};
use super::{attach, handle};
use crate::abi::PFLT_FILTER;
use crate::clock::{self, Deadline};
use crate::sched::{self, Blocked};
use crate::verifier::{Report, Rule};

/// What a driver asks FltSendMessage to do.
pub(super) struct Request {
    pub(super) filter: PFLT_FILTER,
    pub(super) payload: Vec<u8>,
    /// Room for the reply's payload; none without a reply buffer.
    pub(super) reply_capacity: Option<usize>,
    /// The value behind the pointer; none for NULL.
    pub(super) timeout: Option<i64>,
}

/// Sends and waits. `read` reads the driver's port variable; it runs under the lock under which
/// FltCloseClientPort clears it.
pub(super) fn send(
    filters: &FilterTable,
    request: Request,
    read: impl FnOnce() -> isize,
) -> SendOutcome {
    object_to(&request);
    let mut tables = filters.lock();
    let value = read();
    let connection = match resolve(&tables, request.filter, value) {
        Ok(connection) => connection,
        Err((status, mistake)) => {
            drop(tables);
            if let Some(mistake) = mistake {
                misuse(
                    "the address of a variable that holds an open client port of this filter",
                    format!("{value:#x}: {mistake}"),
                    "pass the address of the variable that FltCloseClientPort is given, never of a \
                     copy",
                );
            }
            return SendOutcome {
                status,
                reply: Vec::new(),
            };
        }
    };
    let system_time = clock::system_time().max(0).unsigned_abs();
    let deadline = tables
        .machine
        .decisions()
        .deadline(request.timeout, now(), system_time);
    let pending = Arc::new(PendingSend::default());
    let Request {
        payload,
        reply_capacity,
        ..
    } = request;
    let (id, effects) = tables
        .machine
        .send(connection, payload, reply_capacity, deadline);
    tables.sends.insert(id, pending.clone());
    drop(tables);
    filters.execute(effects);
    wait(filters, &pending, deadline.map(|time| Deadline(time.0)))
}

/// The connection that the driver's variable names; or the status, and for a mistake its name.
fn resolve(
    tables: &Tables,
    filter: PFLT_FILTER,
    value: isize,
) -> Result<fltmgr::ConnectionId, (Status, Option<&'static str>)> {
    if value == 0 {
        return Err((Status::PORT_DISCONNECTED, None));
    }
    let Some(id) = handle::client_port(value) else {
        return Err((Status::INVALID_PARAMETER, Some("no client port")));
    };
    match tables.machine.connection_state(id) {
        None => Err((
            Status::PORT_DISCONNECTED,
            Some("a client port that was closed"),
        )),
        Some(connection) if handle::of_filter(connection.filter) != filter => Err((
            Status::INVALID_PARAMETER,
            Some("a client port of another filter"),
        )),
        Some(_) => Ok(id),
    }
}

fn wait(
    filters: &FilterTable,
    pending: &PendingSend,
    mut deadline: Option<Deadline>,
) -> SendOutcome {
    loop {
        if let Some(outcome) = pending.outcome.lock().take() {
            return outcome;
        }
        if sched::block(&pending.waiter, deadline) == Blocked::TimedOut {
            let effects = filters.lock().machine.expire(now());
            filters.execute(effects);
            // If this send is not among them, its deadline is over as decided, and only a reply or
            // a disconnect ends it.
            deadline = None;
        }
    }
}

/// Reports what is allowed and still a mistake.
fn object_to(request: &Request) {
    match request.timeout {
        None => Report::new(Rule::MessageWithoutDeadline)
            .expected("a timeout")
            .found("a NULL pointer, which waits for ever")
            .detail(
                "a service that hangs then stalls whoever caused the message; pass a negative \
                 (relative) timeout",
            )
            .file(),
        Some(0) => Report::new(Rule::MessageWithoutDeadline)
            .expected("a timeout other than zero")
            .found("a pointer to zero")
            .detail(
                "the documentation contradicts itself about zero (at once, or for ever); pass a \
                 negative (relative) timeout",
            )
            .file(),
        Some(_) => {}
    }
    if attach::in_setup() {
        misuse(
            "no waiting for user mode in an instance-setup callback",
            "a message sent from inside one",
            "the volume's first opener waits for this callback; if that is the service, both wait",
        );
    }
}
