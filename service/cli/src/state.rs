// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that the driver tells about itself, asked for at one go: what `status` prints and `metrics`
//! exposes.

use crate::ledger::Names;
use fltport::{
    BACKLOG, Client, ConnectionInfo, ENDED, LedgerRow, ProviderInfo, RefusalRow, RequestAccountRow,
    RequestRow, RingUsageRow, UsageRow,
};

/// See the module. The lists are each of one moment, not all of the same.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) providers: Vec<ProviderInfo>,
    pub(crate) connections: Vec<ConnectionInfo>,
    pub(crate) ledger: Vec<LedgerRow>,
    pub(crate) requests: Vec<RequestRow>,
    pub(crate) accounts: Vec<RequestAccountRow>,
    pub(crate) usage: Vec<UsageRow>,
    pub(crate) rings: Vec<RingUsageRow>,
    pub(crate) refusals: Vec<RefusalRow>,
    pub(crate) names: Names,
}

impl State {
    /// Asks the driver.
    pub(crate) fn ask(client: &Client) -> Result<State, fltport::Error> {
        Ok(State {
            providers: client.providers()?,
            connections: client.connections()?,
            ledger: client.ledger()?,
            requests: client.requests()?,
            accounts: client.request_accounts()?,
            usage: client.usage()?,
            rings: client.ring_usage()?,
            refusals: client.refusals()?,
            names: Names::ask(client)?,
        })
    }

    /// The rings of this connection.
    pub(crate) fn rings_of(&self, connection: u32) -> impl Iterator<Item = &RingUsageRow> {
        let mine = move |row: &&RingUsageRow| row.connection == connection;
        self.rings.iter().filter(mine)
    }

    /// The name of the service that has this connection; empty if it is none.
    pub(crate) fn service(&self, connection: u32) -> &str {
        let found = self.connections.iter().find(|c| c.number == connection);
        found.map_or("", |c| &c.name)
    }
}

/// Whose account a row with this number is, in one word.
pub(crate) fn receiver(connection: u32) -> String {
    match connection {
        BACKLOG => "backlog".into(),
        ENDED => "ended".into(),
        number => number.to_string(),
    }
}
