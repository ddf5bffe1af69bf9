// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the common driver tells about itself: providers, connections, and the accounts.

use fltport_abi::Time;
use fltport_abi::command::{ConnectionRow, ProviderRow};
use fltport_abi::fixed::name_from_bytes;

/// A registered provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderInfo {
    /// Its number, which records carry.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Its schema's hash.
    pub hash: u64,
    /// Bytes of notifications that are kept for it while nobody is subscribed.
    pub backlog: u32,
    /// Of these in use.
    pub backlog_used: u32,
    /// When it registered.
    pub since: Time,
}

/// A connected service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number; never used twice.
    pub number: u32,
    /// The process that connected.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// When it connected.
    pub since: Time,
    /// Its rights: [`rights`](crate::rights) bits.
    pub rights: u32,
    /// How many times it had connected before, as it says.
    pub generation: u32,
    /// The sequence number of its next record.
    pub next_sequence: u64,
    /// Bytes in its queue.
    pub queued: u32,
    /// The most that ever were in it.
    pub queued_peak: u32,
    /// What it can hold.
    pub capacity: u32,
    /// The agreed protocol version.
    pub version: u16,
    /// It is the connection that asks.
    pub own: bool,
    /// It has ended, and its stream waits for the service to come back.
    pub waits: bool,
}

fn name(bytes: &[u8]) -> String {
    name_from_bytes(bytes).unwrap_or_default().to_owned()
}

impl From<ProviderRow> for ProviderInfo {
    fn from(row: ProviderRow) -> Self {
        ProviderInfo {
            number: u16::try_from(row.provider).unwrap_or(0),
            name: name(&row.name),
            hash: row.hash,
            backlog: row.backlog,
            backlog_used: row.backlog_used,
            since: Time(row.since),
        }
    }
}

impl From<ConnectionRow> for ConnectionInfo {
    fn from(row: ConnectionRow) -> Self {
        ConnectionInfo {
            number: row.connection,
            pid: row.pid,
            name: name(&row.name),
            since: Time(row.since),
            rights: row.rights,
            generation: row.generation,
            next_sequence: row.next_sequence,
            queued: row.queued,
            queued_peak: row.queued_peak,
            capacity: row.capacity,
            version: row.version,
            own: row.own == 1,
            waits: row.own == 2,
        }
    }
}
