// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots: a provider reports its present state to a service that begins to observe it, and the
//! live stream begins behind that, with no gap and no overlap.
//!
//! The provider's routine adds its objects one by one, into memory that grows. Last, holding whatever
//! orders its notifications, it lets the subscription become live: under the lock of the routes the
//! subscription begins and gets the snapshot to be sent first. So what the provider offered before is
//! in the snapshot, and what it offers afterwards is in the stream.
//!
//! A snapshot is in no account: nothing of it is lost for good, for it can be asked for again.

use crate::connection::Identity;
use crate::driver::Driver;
use crate::ledger::bit;
use crate::provider::Provider;
use crate::queue::Queue;
use crate::routes::Prepared;
use fltport_abi::command::Subscription as Wanted;
use fltport_abi::frame::{RecordHeader, RecordKind, record_size};
use fltport_abi::interface::SnapshotHandle;
use fltport_abi::limits::{MAX_PAYLOAD, MAX_SNAPSHOT};
use fltport_nt::bindings::{
    STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
};
use fltport_nt::ke::system_time;
use fltport_nt::{NtError, Result};

/// Bytes of a snapshot at first; it doubles as it grows.
const FIRST_BYTES: usize = 64 * 1024;

/// A snapshot that is being taken. Used by the provider's routine only, in one thread at a time.
pub(crate) struct Snapshot<'d> {
    driver: &'d Driver,
    connection: u32,
    provider: u16,
    wanted: Wanted,
    prepared: Prepared,
    types: u64,
    records: Option<Queue>,
    /// What went wrong first. Then it never becomes live: half a state is none.
    failed: Option<NtError>,
    live: bool,
}

/// An object of a snapshot.
pub(crate) struct Object<'a> {
    pub(crate) message: u16,
    pub(crate) fixed: u16,
    /// NT system time; 0 for now.
    pub(crate) time: i64,
    pub(crate) payload: &'a [u8],
}

/// IRQL: PASSIVE_LEVEL. Subscribes `caller` behind a snapshot of the provider's state.
///
/// Errors: those of subscribing; `STATUS_NOT_SUPPORTED` if the provider has no snapshots;
/// `STATUS_INSUFFICIENT_RESOURCES` if it is too large; the routine's own. Nothing is subscribed then.
pub(crate) fn subscribe(
    driver: &Driver,
    caller: &Identity,
    provider: &Provider,
    wanted: Wanted,
    prepared: Prepared,
) -> Result<()> {
    let types = wanted.observe & provider.notifications;
    let mut snapshot = Snapshot {
        driver,
        connection: caller.number,
        provider: provider.number,
        wanted,
        prepared,
        types,
        records: Some(Queue::new(FIRST_BYTES)?),
        failed: None,
        live: false,
    };
    let handle = SnapshotHandle((&raw mut snapshot).expose_provenance());
    let reported = provider.snapshot(handle, types);
    if snapshot.live {
        return Ok(());
    }
    if let Some(error) = snapshot.failed {
        return Err(error);
    }
    reported?;
    snapshot.become_live()
}

impl Snapshot<'_> {
    /// IRQL: <= DISPATCH_LEVEL. Adds an object; one of a type that is not wanted is passed over.
    pub(crate) fn add(&mut self, object: &Object<'_>) -> Result<()> {
        if self.live {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.types & bit(object.message) == 0 {
            return Ok(());
        }
        if object.payload.len() > MAX_PAYLOAD || usize::from(object.fixed) > object.payload.len() {
            return Err(self.fail(STATUS_BUFFER_OVERFLOW));
        }
        let header = RecordHeader {
            size: record_size(object.payload.len()) as u32,
            payload: object.payload.len() as u32,
            sequence: 0,
            time: match object.time {
                0 => system_time(),
                time => time,
            },
            provider: self.provider,
            message: object.message,
            kind: RecordKind::Snapshot as u16,
            fixed: object.fixed,
        };
        self.push(&header, object.payload)
    }

    /// IRQL: <= DISPATCH_LEVEL. Ends it and begins the live stream behind it.
    pub(crate) fn become_live(&mut self) -> Result<()> {
        if self.live {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        let end = RecordHeader {
            size: record_size(0) as u32,
            payload: 0,
            sequence: 0,
            time: system_time(),
            provider: self.provider,
            message: 0,
            kind: RecordKind::SnapshotEnd as u16,
            fixed: 0,
        };
        self.push(&end, &[])?;
        let Snapshot {
            driver,
            connection,
            wanted,
            prepared,
            records,
            ..
        } = self;
        let mut routes = driver.routes().lock();
        let subscribed = routes.subscribe_behind(*connection, wanted, prepared, records);
        drop(routes);
        match subscribed {
            Ok(()) => self.live = true,
            Err(error) => self.failed = Some(error),
        }
        subscribed
    }

    fn push(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<()> {
        let grown = match &mut self.records {
            Some(records) => grow(records, payload.len()),
            None => Err(NtError(STATUS_INVALID_PARAMETER)),
        };
        let pushed = grown.is_ok()
            && self
                .records
                .as_mut()
                .is_some_and(|records| records.push(header, &[payload]));
        match pushed {
            true => Ok(()),
            false => Err(self.fail(STATUS_INSUFFICIENT_RESOURCES)),
        }
    }

    fn fail(&mut self, status: i32) -> NtError {
        *self.failed.get_or_insert(NtError(status))
    }
}

/// Makes room for a record with a payload of this length.
fn grow(records: &mut Queue, payload: usize) -> Result<()> {
    while !records.has_room(payload) {
        let bytes = records.capacity() * 2;
        if bytes > MAX_SNAPSHOT {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        let mut larger = Queue::new(bytes)?;
        if !records.move_to(&mut larger) {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
    }
    Ok(())
}
