// SPDX-License-Identifier: MIT OR Apache-2.0
//! FltSendMessage: a thread of the kernel waits for a reader, and maybe for its reply.

use std::sync::Arc;

use fltmgr::{ConnectionId, Effect, FilterId, SendOutcome, Status, Time};

use super::reply_length::{ReplyBuffer, Stale};
use super::table::{FilterTable, PendingSend, Tables, now, report};
use super::variable::{self, Use};
use super::{handle, inside};
use crate::clock::{self, Deadline};
use crate::sched::{self, Blocked};
use crate::verifier::Rule;

/// What a driver asks FltSendMessage to do.
pub(super) struct Request {
    pub(super) filter: FilterId,
    pub(super) payload: Vec<u8>,
    /// Room for the reply's payload; none without a reply buffer.
    pub(super) reply: Option<ReplyBuffer>,
    /// The value behind the pointer; none for NULL.
    pub(super) timeout: Option<i64>,
    /// The address of the driver's port variable.
    pub(super) variable: usize,
}

/// Why a value of the driver's variable cannot be sent through.
enum Unusable {
    /// NULL: the port was closed, as it may be at any moment.
    Null,
    NoClientPort,
    OfAnotherFilter,
    Closed(Option<Use>),
}

impl Unusable {
    fn status(&self) -> Status {
        match self {
            Unusable::Null | Unusable::Closed(_) => Status::PORT_DISCONNECTED,
            Unusable::NoClientPort | Unusable::OfAnotherFilter => Status::INVALID_PARAMETER,
        }
    }

    fn report(&self, value: isize) {
        match self {
            Unusable::Null => {}
            Unusable::NoClientPort => variable::report_unknown(value, "no client port"),
            Unusable::OfAnotherFilter => {
                variable::report_unknown(value, "a client port of another filter");
            }
            Unusable::Closed(closed) => {
                variable::report_closed(Rule::PortUsedAfterClose, value, closed.as_ref());
            }
        }
    }
}

/// A message on its way.
struct Begun {
    pending: Arc<PendingSend>,
    deadline: Option<Deadline>,
    effects: Vec<Effect>,
    /// The reply's length looks as if it had not been set for this send.
    stale: Option<Stale>,
}

/// Sends and waits. `read` reads the driver's port variable; it runs under the lock under which
/// FltCloseClientPort clears it.
pub(super) fn send(
    filters: &FilterTable,
    request: Request,
    read: impl FnOnce() -> isize,
) -> SendOutcome {
    object_to(&request);
    let (filter, reply) = (request.filter, request.reply);
    let begun = match begin(filters, request, read) {
        Ok(begun) => begun,
        Err(status) => {
            return SendOutcome {
                status,
                reply: Vec::new(),
            };
        }
    };
    filters.execute(begun.effects);
    let outcome = wait(filters, &begun.pending, begun.deadline);
    if let Some(reply) = reply {
        look_at_length(filters, filter, reply, begun.stale, &outcome);
    }
    outcome
}

/// Reports a reply length that was a mistake, as the outcome shows.
fn look_at_length(
    filters: &FilterTable,
    filter: FilterId,
    reply: ReplyBuffer,
    stale: Option<Stale>,
    outcome: &SendOutcome,
) {
    let mistake = match outcome.status {
        Status::SUCCESS => {
            let mut tables = filters.lock();
            tables.reply_lengths.end(filter, reply, outcome.reply.len())
        }
        Status::BUFFER_OVERFLOW => stale.map(|stale| stale.report(reply)),
        _ => None,
    };
    if let Some(report) = mistake {
        report.file();
    }
}

/// Queues the message, if the variable names an open connection; reports what is wrong with it.
fn begin(
    filters: &FilterTable,
    request: Request,
    read: impl FnOnce() -> isize,
) -> Result<Begun, Status> {
    let mut tables = filters.lock();
    let value = read();
    let connection = match resolve(&tables, request.filter, value) {
        Ok(connection) => connection,
        Err(unusable) => {
            drop(tables);
            unusable.report(value);
            return Err(unusable.status());
        }
    };
    let differs = tables.variables.differs(connection, request.variable);
    let stale = request
        .reply
        .and_then(|reply| tables.reply_lengths.suspect(reply));
    let in_connect = inside::is_in_connect(connection);
    let begun = tables.queue(
        connection,
        request.payload,
        &request.reply,
        request.timeout,
        in_connect,
    );
    drop(tables);
    if let Some(first) = differs {
        variable::report_differs(&first, request.variable);
    }
    if in_connect {
        report_in_connect();
    }
    let begun = begun.ok_or(Status::TIMEOUT)?;
    Ok(Begun { stale, ..begun })
}

impl Tables {
    /// Hands the message to the machine. Not without a deadline in ConnectNotify, before whose
    /// return nobody can read: that would wait for ever.
    fn queue(
        &mut self,
        connection: ConnectionId,
        payload: Vec<u8>,
        reply: &Option<ReplyBuffer>,
        timeout: Option<i64>,
        in_connect: bool,
    ) -> Option<Begun> {
        let system_time = clock::system_time().max(0).unsigned_abs();
        let decisions = self.machine.decisions();
        let deadline = decisions.deadline(timeout, now(), system_time);
        if in_connect && deadline.is_none() {
            return None;
        }
        let capacity = reply.as_ref().map(|reply| reply.capacity);
        let (id, effects) = self.machine.send(connection, payload, capacity, deadline);
        let pending = Arc::new(PendingSend::default());
        self.sends.insert(id, pending.clone());
        Some(Begun {
            pending,
            deadline: deadline.map(|time| Deadline(time.0)),
            effects,
            stale: None,
        })
    }
}

/// The connection that the driver's variable names.
fn resolve(tables: &Tables, filter: FilterId, value: isize) -> Result<ConnectionId, Unusable> {
    if value == 0 {
        return Err(Unusable::Null);
    }
    let id = handle::client_port(value).ok_or(Unusable::NoClientPort)?;
    match tables.machine.connection_state(id) {
        Some(connection) if connection.filter != filter => Err(Unusable::OfAnotherFilter),
        Some(connection) if connection.driver_open => Ok(id),
        _ => Err(Unusable::Closed(tables.variables.closed(id))),
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
            // The deadline has passed, even if another processor's clock does not show that yet.
            let passed = deadline.map_or(0, |it| it.0);
            let effects = filters.lock().machine.expire(now().max(Time(passed)));
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
        None => report(
            Rule::MessageWithoutDeadline,
            "a timeout",
            "a NULL pointer, which waits for ever",
            "a service that hangs then stalls whoever caused the message; pass a negative \
             (relative) timeout",
        ),
        Some(0) => report(
            Rule::ZeroTimeout,
            "a timeout other than zero",
            "a pointer to zero",
            "the documentation contradicts itself about zero (at once, or for ever); pass a \
             negative (relative) timeout",
        ),
        Some(_) => {}
    }
    if inside::is_in_instance_setup(request.filter) {
        report(
            Rule::SendFromInstanceSetup,
            "no waiting for user mode in an instance-setup callback",
            "a message sent from inside one",
            "the volume's first opener waits for this callback; if that is the service, both wait; \
             queue a work item",
        );
    }
}

fn report_in_connect() {
    report(
        Rule::SendFromConnect,
        "no message to a service before its ConnectNotify has returned",
        "a message sent from inside it, to the service that connects",
        "the service gets its handle when the callback has returned, so nobody can read: the send \
         waits for its whole timeout; queue a work item, or let the service ask first",
    );
}
