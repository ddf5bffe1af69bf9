// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider as it registered: its schema, its command handler, and what the routes keep for it.

use crate::command_shape::Shapes;
use crate::defaults::{Declared, Defaults};
use crate::ffi::{Handler, InterestWord, Reporter, UnheardCounters};
use crate::ledger::bit;
use crate::policy::KeyName;
use crate::tag;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use fltport_abi::interface::{BacklogPolicy, CommandCaller, SnapshotHandle};
use fltport_abi::limits::{MAX_MESSAGE_NUMBER, MAX_PROVIDER_NAME};
use fltport_abi::schema::{self, FieldKind, FieldRow, Owner, Role, SchemaVisitor, field_flags};
use fltport_nt::bindings::{
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED,
};
use fltport_nt::ex::{PoolArc, PoolBytes, PoolSlice, Rundown};
use fltport_nt::ke::{Event, EventKind, Timeout};
use fltport_nt::{NtError, Result};

/// One more than the highest message number: the length of arrays that are indexed by it.
pub(crate) const TYPES: usize = MAX_MESSAGE_NUMBER as usize + 1;

/// No place in the fixed part.
pub(crate) const NO_FIELD: u16 = u16::MAX;

/// What a client driver registers with, after its pointers have been read.
pub(crate) struct Description<'a> {
    pub(crate) schema: &'a [u8],
    pub(crate) backlog: usize,
    pub(crate) policy: BacklogPolicy,
    pub(crate) handler: Option<Handler>,
    pub(crate) reporter: Option<Reporter>,
    /// Bytes in a connection's queue; 0 for its fair share.
    pub(crate) quota: u32,
    /// Notifications a second, and at once; 0 for no limit.
    pub(crate) rate: u32,
    pub(crate) burst: u32,
    pub(crate) interest: Option<InterestWord>,
    pub(crate) counters: Option<UnheardCounters>,
    pub(crate) defaults: &'a [Declared<'a>],
}

/// A registered provider. What changes while it is registered lies in the routes; this part is
/// constant.
pub(crate) struct Provider {
    pub(crate) number: u16,
    /// That of the driver with which it registered.
    pub(crate) life: u32,
    /// Its place among the routes' providers.
    pub(crate) place: AtomicU32,
    pub(crate) since: i64,
    pub(crate) name: [u8; MAX_PROVIDER_NAME],
    /// The name of the key of who may what here.
    pub(crate) key: KeyName,
    pub(crate) hash: u64,
    pub(crate) notifications: u64,
    pub(crate) requests: u64,
    commands: u64,
    shapes: Shapes,
    /// Where the first process id of each message type lies; [`NO_FIELD`] if there is none.
    pub(crate) pid_at: PoolSlice<u16>,
    pub(crate) schema: PoolBytes,
    pub(crate) quota: u32,
    pub(crate) rate: u32,
    pub(crate) burst: u32,
    defaults: Defaults,
    handler: Option<Handler>,
    reporter: Option<Reporter>,
    /// Held while a routine of the client driver runs, and while it is owed an answer.
    calls: Rundown,
    drained: Event,
    /// Types whose notifications came at an IRQL at which no lock can be taken, and how many came
    /// so in all; the routes collect them.
    pub(crate) too_high: PoolSlice<AtomicU32>,
    pub(crate) too_high_total: AtomicU64,
}

/// Collects what the driver itself needs of a schema.
struct Summary {
    name: [u8; MAX_PROVIDER_NAME],
    hash: u64,
    notifications: u64,
    requests: u64,
    commands: u64,
    pid_at: PoolSlice<u16>,
    last: u16,
}

impl SchemaVisitor for Summary {
    fn provider(&mut self, name: &str, hash: u64) {
        self.hash = hash;
        // The name has been checked, so it fits.
        self.name = fltport_abi::fixed::name_to_bytes(name).unwrap_or_default();
    }

    fn message(&mut self, number: u16, role: Role, _name: &str) {
        match role {
            Role::Notification => self.notifications |= bit(number),
            Role::Request => self.requests |= bit(number),
            Role::Command => self.commands |= bit(number),
        }
        self.last = number;
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        if field.owner != Owner::Message || field.kind != FieldKind::Pid as u8 {
            return;
        }
        if let Some(place) = self.pid_at.get_mut(usize::from(self.last))
            && *place == NO_FIELD
        {
            *place = field.offset;
        }
    }
}

/// Looks for a field of a message that is offered.
struct FieldSearch {
    wanted: (u16, u8, u16, bool),
    within: bool,
    found: bool,
}

impl SchemaVisitor for FieldSearch {
    fn provider(&mut self, _name: &str, _hash: u64) {}

    fn message(&mut self, number: u16, _role: Role, _name: &str) {
        self.within = number == self.wanted.0;
    }

    fn field(&mut self, field: &FieldRow<'_>) {
        let (_, kind, offset, mark) = self.wanted;
        let marked = field.flags & field_flags::OPTIONAL != 0
            && FieldKind::from_wire(field.kind).is_none_or(|kind| !kind.is_variable());
        self.found |= self.within
            && marked == mark
            && field.owner == Owner::Message
            && (field.kind, field.offset) == (kind, offset);
    }
}

impl Provider {
    /// IRQL: PASSIVE_LEVEL. Checks the schema and copies it. Fails with `STATUS_INVALID_PARAMETER`
    /// if it is not one that makes sense ([`schema::check`] says what that is), or a default reply is
    /// not one of its requests'.
    #[inline(never)]
    pub(crate) fn new(
        number: u16,
        life: u32,
        description: &Description<'_>,
        now: i64,
    ) -> Result<PoolArc<Self>> {
        let mut summary = Summary {
            name: [0; MAX_PROVIDER_NAME],
            hash: 0,
            notifications: 0,
            requests: 0,
            commands: 0,
            pid_at: PoolSlice::filled(tag::PROVIDER, TYPES, NO_FIELD)?,
            last: 0,
        };
        let sound = schema::check(description.schema).is_ok();
        if !sound || schema::read(description.schema, &mut summary).is_err() {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        // A checked name is text, and no longer than may be.
        let name = fltport_abi::fixed::name_from_bytes(&summary.name).unwrap_or("");
        let key = KeyName::new(name.encode_utf16()).ok_or(NtError(STATUS_INVALID_PARAMETER))?;
        let schema = PoolBytes::copy_of(tag::PROVIDER, description.schema)?;
        let defaults = Defaults::new(description.defaults, summary.requests)?;
        let shapes = Shapes::new(&schema)?;
        let calls = Rundown::new(tag::PROVIDER)?;
        let drained = Event::new(tag::PROVIDER, EventKind::Notification)?;
        let too_high = PoolSlice::filled_with(tag::PROVIDER, TYPES, || AtomicU32::new(0))?;
        PoolArc::new_with(tag::PROVIDER, || Provider {
            number,
            life,
            place: AtomicU32::new(u32::MAX),
            since: now,
            name: summary.name,
            key,
            hash: summary.hash,
            notifications: summary.notifications,
            requests: summary.requests,
            commands: summary.commands,
            shapes,
            pid_at: summary.pid_at,
            schema,
            quota: description.quota,
            rate: description.rate,
            burst: description.burst,
            defaults,
            handler: description.handler,
            reporter: description.reporter,
            calls,
            drained,
            too_high,
            too_high_total: AtomicU64::new(0),
        })
    }

    /// The name as text; for the schema has been checked, it is UTF-8.
    pub(crate) fn name(&self) -> &str {
        fltport_abi::fixed::name_from_bytes(&self.name).unwrap_or("")
    }

    /// IRQL: PASSIVE_LEVEL. Whether a message has a field of this kind at this place, with a mark
    /// that says whether it is there, or without one.
    #[inline(never)]
    pub(crate) fn has_field(&self, message: u16, kind: FieldKind, offset: u16, mark: bool) -> bool {
        let mut search = FieldSearch {
            wanted: (message, kind as u8, offset, mark),
            within: false,
            found: false,
        };
        schema::read(&self.schema, &mut search).is_ok() && search.found
    }

    /// What it declared this request to be answered with when nobody answers it.
    pub(crate) fn default_reply(&self, message: u16) -> Option<&[u8]> {
        self.defaults.of(message)
    }

    /// IRQL: any. Counts a notification that came at too high an IRQL for anything else.
    pub(crate) fn count_too_high(&self, message: u16) {
        if let Some(counter) = self.too_high.get(usize::from(message)) {
            // Relaxed: only numbers; whoever collects them swaps each.
            counter.fetch_add(1, Ordering::Relaxed);
            self.too_high_total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// IRQL: PASSIVE_LEVEL. Calls the handler with a checked command; the number of bytes written
    /// to `output`.
    pub(crate) fn command(
        &self,
        caller: &CommandCaller,
        message: u16,
        payload: &[u8],
        output: &mut [u8],
    ) -> Result<usize> {
        let handler = self.handler.filter(|_| self.commands & bit(message) != 0);
        let handler = handler.ok_or(NtError(STATUS_INVALID_DEVICE_REQUEST))?;
        if self.shapes.check(message, payload).is_err() {
            return Err(NtError(STATUS_INVALID_PARAMETER));
        }
        let _running = self
            .calls
            .acquire()
            .ok_or(NtError(STATUS_INVALID_DEVICE_REQUEST))?;
        handler.call(caller, message, payload, output)
    }

    /// What protects the client driver's routines.
    pub(crate) fn calls(&self) -> &Rundown {
        &self.calls
    }

    /// IRQL: PASSIVE_LEVEL. Has the provider report its present state. Fails with
    /// `STATUS_NOT_SUPPORTED` if it cannot.
    pub(crate) fn snapshot(&self, snapshot: SnapshotHandle, types: u64) -> Result<()> {
        let reporter = self.reporter.ok_or(NtError(STATUS_NOT_SUPPORTED))?;
        let _running = self.calls.acquire().ok_or(NtError(STATUS_NOT_FOUND))?;
        reporter.call(snapshot, types)
    }

    /// IRQL: PASSIVE_LEVEL, not from a routine of the client driver's. Waits until none runs and none
    /// is owed an answer, and lets none in. `first`: this caller took the provider out of the routes; NT lets only one wait for a
    /// rundown, all others wait for that one.
    pub(crate) fn drain(&self, first: bool) {
        if first {
            self.calls.wait();
            self.drained.set();
        } else {
            while !self.drained.wait(Timeout::from_millis(1000)) {}
        }
    }
}
