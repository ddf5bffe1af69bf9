// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's variable of each client port. The Filter Manager synchronises sending and closing
//! by the variable, so both must be given the address of the same one, and a copy of the value
//! defeats that even while the value is right.

use std::collections::{BTreeMap, BTreeSet};

use fltmgr::ConnectionId;

use crate::stack::Stack;
use crate::thread;
use crate::verifier::{Report, Rule};

/// As many closed client ports as are remembered.
const MOST_CLOSED: usize = 1024;

/// An address that a driver passed for a client port, and where.
#[derive(Clone)]
pub(super) struct Use {
    address: usize,
    function: &'static str,
    stack: Stack,
}

impl Use {
    fn here(address: usize) -> Use {
        Use {
            address,
            function: thread::with_context(|context| context.function.get()),
            stack: Stack::capture(),
        }
    }
}

/// The variables of all client ports.
#[derive(Default)]
pub(super) struct Variables {
    /// How each was used first.
    first: BTreeMap<ConnectionId, Use>,
    /// Other addresses that were reported.
    reported: BTreeSet<(ConnectionId, usize)>,
    /// How each was closed by the driver.
    closed: BTreeMap<ConnectionId, Use>,
}

impl Variables {
    /// A driver passes a variable for a connection that is open: the first use of it, if that was
    /// with another address and nobody was told yet.
    pub(super) fn differs(&mut self, connection: ConnectionId, address: usize) -> Option<Use> {
        let first = self
            .first
            .entry(connection)
            .or_insert_with(|| Use::here(address));
        let differs = first.address != address && self.reported.insert((connection, address));
        differs.then(|| first.clone())
    }

    /// The driver closes a connection.
    pub(super) fn close(&mut self, connection: ConnectionId, address: usize) {
        self.forget(connection);
        self.closed.insert(connection, Use::here(address));
        if self.closed.len() > MOST_CLOSED {
            self.closed.pop_first();
        }
    }

    /// A connection is over.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.first.remove(&connection);
        self.reported.retain(|(known, _)| *known != connection);
    }

    /// How the driver closed a connection.
    pub(super) fn closed(&self, connection: ConnectionId) -> Option<Use> {
        self.closed.get(&connection).cloned()
    }

    /// How the driver closed the connection whose port this variable held last.
    pub(super) fn closed_through(&self, address: usize) -> Option<Use> {
        let mut closed = self.closed.values().rev();
        closed.find(|closed| closed.address == address).cloned()
    }
}

/// Reports that a port was passed through another variable than before.
pub(super) fn report_differs(first: &Use, address: usize) {
    let Use {
        address: before,
        function,
        stack,
    } = first;
    Report::new(Rule::ClientPortAddressDiffers)
        .expected(format!(
            "the variable at {before:#x}, as {function} was given"
        ))
        .found(format!("another address, {address:#x}"))
        .detail(
            "FltSendMessage and FltCloseClientPort are given the address of one variable, under \
             whose lock the close stores NULL; through a copy a send uses a port that is closed",
        )
        .related(
            format!("it was first given to {function} here"),
            stack.clone(),
        )
        .file();
}

/// Reports the use of a client port that is closed.
pub(super) fn report_closed(rule: Rule, value: isize, closed: Option<&Use>) {
    let report = Report::new(rule)
        .expected("a port that is open; the variable that FltCloseClientPort set to NULL tells")
        .found(format!("{value:#x}, a client port that was closed"));
    match closed {
        Some(Use {
            function, stack, ..
        }) => report.related(format!("it was closed by {function} here"), stack.clone()),
        None => report.detail(
            "closed by the Filter Manager, after ConnectNotify refused it or when its filter was \
             unregistered",
        ),
    }
    .file();
}

/// Reports a value that is no client port of the filter.
pub(super) fn report_unknown(value: isize, what: &str) {
    Report::new(Rule::PortUnknown)
        .expected("the address of a variable that holds a client port of this filter")
        .found(format!("{value:#x}, {what}"))
        .detail("pass what ConnectNotify was given, with the filter that created the server port")
        .file();
}
