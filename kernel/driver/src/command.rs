// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands: the driver's own, and those that go on to a provider.

use crate::access::Access;
use crate::asynchronous;
use crate::connection::{Connection, Identity};
use crate::driver::Driver;
use crate::filter::Filters;
use crate::ledger::bit;
use crate::mute::Muted;
use crate::provider::Provider;
use crate::receiver::Receiver;
use crate::rings;
use crate::routes::{Prepared, Routes, taken};
use crate::snapshot;
use crate::tag;
use crate::usage;
use fltport_abi::account::Refusal;
use fltport_abi::command::{
    BACKLOG, Command, ConnectionRow, ENDED, FeaturesRow, FilteredSubscription, Page, ProviderRow,
    RingsRow, StreamRow, Subscription as Wanted, features, flags, own,
};
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::rights;
use fltport_abi::interface::{CommandCaller, Interface, VERSION};
use fltport_abi::limits::{MAX_CONNECTIONS, MAX_PROVIDERS, MIN_PROTOCOL_VERSION, PROTOCOL_VERSION};
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_REVISION_MISMATCH,
};
use fltport_nt::ex::{PoolArc, PoolBox, PoolSlice};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::DISPATCH_LEVEL;
use fltport_nt::{NtError, Result};

/// What this driver knows beyond what every driver knows.
const FEATURES: FeaturesRow = FeaturesRow {
    features: features::ASYNCHRONOUS
        | features::FILTERS
        | features::LIMITS
        | features::MUTE
        | features::REFUSALS
        | features::REQUEST_ACCOUNTS
        | features::RINGS
        | features::SNAPSHOTS
        | features::STREAMS,
    version: PROTOCOL_VERSION,
    min_version: MIN_PROTOCOL_VERSION,
    interface: VERSION,
    interface_size: size_of::<Interface>() as u32,
    max_connections: MAX_CONNECTIONS as u32,
    max_providers: MAX_PROVIDERS as u32,
    reserved: 0,
};

const MALFORMED: NtError = NtError(STATUS_INVALID_PARAMETER);

/// IRQL: PASSIVE_LEVEL. Runs a captured command of the service at `connection`; the number of bytes
/// written to `out`. What is listed is what it may see.
pub(crate) fn run(
    driver: &Driver,
    connection: &Connection,
    command: &Command<'_>,
    out: &mut [u8],
) -> Result<usize> {
    if !(MIN_PROTOCOL_VERSION..=PROTOCOL_VERSION).contains(&command.header.version) {
        return Err(NtError(STATUS_REVISION_MISMATCH));
    }
    match u16::try_from(command.header.provider) {
        Ok(0) => run_own(driver, connection, command, out),
        Ok(provider) => run_provider(driver, &connection.identity, provider, command, out),
        Err(_) => Err(NtError(STATUS_NOT_FOUND)),
    }
}

fn run_provider(
    driver: &Driver,
    caller: &Identity,
    provider: u16,
    command: &Command<'_>,
    out: &mut [u8],
) -> Result<usize> {
    if caller.rights & rights::COMMAND == 0 {
        let refusals = driver.refusals();
        return Err(refusals.refuse(Refusal::RightNotAsked, STATUS_ACCESS_DENIED));
    }
    let provider = driver
        .routes()
        .lock()
        .provider(provider)
        .map(|slot| slot.provider.clone());
    let provider = provider.ok_or(NtError(STATUS_NOT_FOUND))?;
    let who = CommandCaller {
        size: size_of::<CommandCaller>() as u32,
        connection: caller.number,
        pid: caller.pid,
        reserved: 0,
    };
    provider.command(&who, command.header.command, command.payload, out)
}

fn run_own(
    driver: &Driver,
    connection: &Connection,
    command: &Command<'_>,
    out: &mut [u8],
) -> Result<usize> {
    let (caller, access) = (&connection.identity, &connection.access);
    let mut rows = Rows {
        out,
        at: 0,
        skip: 0,
        full: false,
    };
    match command.header.command {
        own::INFO => {
            expect_empty(command)?;
            let routes = driver.routes().lock();
            let mine = routes
                .connections()
                .find(|c| c.connection.identity.number == caller.number);
            rows.add(connection_row(
                mine.ok_or(NtError(STATUS_NOT_FOUND))?,
                caller,
            ));
        }
        own::PROVIDERS => {
            rows.skip = page(command)?;
            providers(&driver.routes().lock(), &mut rows);
        }
        own::SCHEMA => return schema(driver, command, rows.out),
        own::DEFAULT_REPLY => return default_reply(driver, command, rows.out),
        own::SUBSCRIBE => {
            let _large = connection.begin_large()?;
            return subscribe(driver, caller, command).map(|()| 0);
        }
        own::SUBSCRIBE_FILTERED => {
            let _large = connection.begin_large()?;
            return subscribe_filtered(driver, caller, command).map(|()| 0);
        }
        own::ANSWER => {
            return asynchronous::answer(driver, caller, command.payload).map(|()| 0);
        }
        own::CONNECTIONS => {
            rows.skip = page(command)?;
            let routes = driver.routes().lock();
            routes
                .connections()
                .filter(|receiver| caller.version > 1 || !receiver.is_detached())
                .filter(|receiver| access.sees_connection(caller, receiver))
                .for_each(|receiver| rows.add(connection_row(receiver, caller)));
        }
        own::LEDGER => {
            rows.skip = page(command)?;
            settle_rings(driver);
            ledger(&mut driver.routes().lock(), connection, &mut rows);
        }
        own::REQUESTS => {
            rows.skip = page(command)?;
            requests(&driver.routes().lock(), access, &mut rows);
        }
        own::REFUSALS => {
            rows.skip = page(command)?;
            let refusals = driver.refusals().rows();
            refusals
                .filter(|_| access.sees_refusals())
                .for_each(|row| rows.add(row));
        }
        own::USAGE => {
            rows.skip = page(command)?;
            settle_rings(driver);
            usage::rows(&driver.routes().lock(), connection, |row| rows.add(row));
        }
        own::LIMITS => {
            let _large = connection.begin_large()?;
            return usage::set_limits(driver, caller.number, &payload(command)?).map(|()| 0);
        }
        own::ACKNOWLEDGE => {
            let number: u64 = payload(command)?;
            driver.routes().lock().acknowledge(caller.number, number)?;
            while driver.routes().lock().settle_stream(caller.number) {}
        }
        own::STREAM => {
            expect_empty(command)?;
            let routes = driver.routes().lock();
            let mine = routes
                .connections()
                .find(|c| c.connection.identity.number == caller.number);
            rows.add(stream_row(mine.ok_or(NtError(STATUS_NOT_FOUND))?));
        }
        own::RINGS => {
            if rows.out.len() < RingsRow::SIZE {
                // There would be rings, and nobody would know where.
                return Err(NtError(STATUS_BUFFER_TOO_SMALL));
            }
            let _large = connection.begin_large()?;
            rows.add(rings::attach(driver, connection, &payload(command)?)?);
        }
        own::RING_USAGE => {
            rows.skip = page(command)?;
            settle_rings(driver);
            let routes = driver.routes().lock();
            let seen = |it: &&Receiver| access.sees_connection(caller, it);
            for receiver in routes.connections().filter(seen) {
                if let Some(rings) = &receiver.rings {
                    let number = receiver.connection.identity.number;
                    rings.rows(number).for_each(|row| rows.add(row));
                }
            }
        }
        own::FEATURES => {
            expect_empty(command)?;
            rows.add(FEATURES);
        }
        own::REQUEST_ACCOUNTS => {
            rows.skip = page(command)?;
            request_accounts(&driver.routes().lock(), connection, &mut rows);
        }
        _ => return Err(NtError(STATUS_INVALID_DEVICE_REQUEST)),
    }
    rows.finish()
}

/// So many pieces are all records of the largest ring.
const MAX_SETTLES: usize = 512;

/// IRQL: <= DISPATCH_LEVEL. Accounts for what services have read of their rings, piece by piece, so that the lock is not held for long.
/// At DISPATCH_LEVEL one piece, for nobody else runs on this processor meanwhile: what is left counts as in flight.
pub(crate) fn settle_rings(driver: &Driver) {
    // As often as it takes for the largest rings; what is read meanwhile is accounted for the next time.
    let pieces = match current_irql() {
        ..DISPATCH_LEVEL => MAX_SETTLES,
        _ => 1,
    };
    for _ in 0..pieces {
        if !driver.routes().lock().settle_rings() {
            return;
        }
    }
}

/// The result of a list: the rows that fit, from the one that was asked for.
///
/// The rows before that one are gone through and skipped, under the lock of the routes: with all
/// providers, connections and types that there may be, some hundred thousand, of which each costs a few
/// nanoseconds. What comes behind the page is not gone through.
struct Rows<'o> {
    out: &'o mut [u8],
    at: usize,
    skip: u32,
    full: bool,
}

impl Rows<'_> {
    fn add<T: Fixed>(&mut self, row: T) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if !self.full {
            match self
                .out
                .get_mut(self.at..)
                .and_then(|place| row.write(place))
            {
                Some(()) => self.at += T::SIZE,
                None => self.full = true,
            }
        }
    }

    /// An empty result means the end, so a row that does not fit even alone is an error.
    fn finish(self) -> Result<usize> {
        if self.full && self.at == 0 {
            Err(NtError(STATUS_BUFFER_TOO_SMALL))
        } else {
            Ok(self.at)
        }
    }
}

fn expect_empty(command: &Command<'_>) -> Result<()> {
    if command.payload.is_empty() {
        Ok(())
    } else {
        Err(MALFORMED)
    }
}

/// The payload as exactly one struct.
fn payload<T: Fixed>(command: &Command<'_>) -> Result<T> {
    T::read(command.payload)
        .filter(|_| command.payload.len() == T::SIZE)
        .ok_or(MALFORMED)
}

fn page(command: &Command<'_>) -> Result<u32> {
    let page: Page = payload(command)?;
    if page.reserved == 0 {
        Ok(page.skip)
    } else {
        Err(MALFORMED)
    }
}

#[inline(never)]
fn providers(routes: &Routes, rows: &mut Rows<'_>) {
    for slot in routes.providers() {
        let provider = &slot.provider;
        rows.add(ProviderRow {
            provider: provider.number.into(),
            schema: provider.schema.len() as u32,
            hash: provider.hash,
            backlog: slot.backlog.as_ref().map_or(0, |b| b.capacity() as u32),
            backlog_used: slot.backlog.as_ref().map_or(0, |b| b.used() as u32),
            since: provider.since,
            name: provider.name,
        });
    }
}

fn connection_row(receiver: &Receiver, caller: &Identity) -> ConnectionRow {
    let identity = &receiver.connection.identity;
    ConnectionRow {
        connection: identity.number,
        pid: identity.pid,
        since: identity.since,
        rights: identity.rights,
        generation: identity.generation,
        next_sequence: receiver.order.next(),
        queued: receiver.queue.used() as u32,
        queued_peak: receiver.queue.peak() as u32,
        capacity: receiver.queue.capacity() as u32,
        version: identity.version,
        own: match identity.number == caller.number {
            true => 1,
            false if receiver.is_detached() => 2,
            false => 0,
        },
        name: identity.name,
    }
}

fn stream_row(receiver: &Receiver) -> StreamRow {
    let next_sequence = receiver.order.next();
    match &receiver.stream {
        Some(stream) => stream.row(next_sequence),
        None => StreamRow {
            next_sequence,
            acknowledged: 0,
            retention_ms: 0,
            window: 0,
            unacknowledged: 0,
            former: 0,
            resumed: 0,
            taken_over: 0,
            again: 0,
            reserved: [0; 2],
        },
    }
}

/// For every provider: the backlog's account, each connection's, and that of the connections that
/// have ended; then what connections had from providers that are gone.
#[inline(never)]
fn ledger(routes: &mut Routes, caller: &Connection, rows: &mut Rows<'_>) {
    let access = &caller.access;
    let mut number = 0;
    while let Some(next) = routes.next_provider_number(number) {
        routes.collect(next);
        number = next + 1;
    }
    let seen = |receiver: &&Receiver| access.sees_connection(&caller.identity, receiver);
    for slot in routes
        .providers()
        .filter(|slot| access.sees(&slot.provider))
    {
        if rows.full {
            return;
        }
        let provider = slot.provider.number;
        let outcomes = slot.provider.requests;
        let types = slot.provider.notifications | outcomes;
        slot.unheard
            .rows(BACKLOG, provider, slot.provider.notifications)
            .for_each(|row| rows.add(row));
        for receiver in routes.connections().filter(seen) {
            for subscription in taken(&receiver.subscriptions).filter(|s| s.provider == provider) {
                let account = &subscription.account;
                account
                    .rows(receiver.connection.identity.number, provider, types)
                    .for_each(|row| rows.add(row));
            }
        }
        slot.ended
            .rows(ENDED, provider, types)
            .for_each(|row| rows.add(row));
    }
    // What a connection was offered by providers that are gone since is in its books all the same.
    for receiver in routes.connections().filter(seen) {
        let connection = receiver.connection.identity.number;
        for gone in taken(&receiver.subscriptions).filter(|s| s.orphaned) {
            let rows_of = gone.account.rows(connection, gone.provider, u64::MAX);
            rows_of
                .filter(|row| row.offered != 0)
                .for_each(|row| rows.add(row));
        }
    }
}

#[inline(never)]
fn requests(routes: &Routes, access: &Access, rows: &mut Rows<'_>) {
    for slot in routes
        .providers()
        .filter(|slot| access.sees(&slot.provider))
    {
        let number = slot.provider.number;
        let decider = |message| routes.decider_number(number, message);
        slot.requests
            .rows(number, slot.provider.requests, decider)
            .for_each(|row| rows.add(row));
    }
}

/// For every provider: the requests that nobody decides, those that each connection decides or was
/// asked, and those that connections were asked which have ended; then what connections were asked by
/// providers that are gone.
#[inline(never)]
fn request_accounts(routes: &Routes, caller: &Connection, rows: &mut Rows<'_>) {
    let access = &caller.access;
    let seen = |receiver: &&Receiver| access.sees_connection(&caller.identity, receiver);
    for slot in routes
        .providers()
        .filter(|slot| access.sees(&slot.provider))
    {
        if rows.full {
            return;
        }
        let provider = slot.provider.number;
        slot.undecided
            .rows(BACKLOG, provider, slot.provider.requests)
            .for_each(|row| rows.add(row));
        for receiver in routes.connections().filter(seen) {
            let connection = receiver.connection.identity.number;
            for subscription in taken(&receiver.subscriptions).filter(|s| s.provider == provider) {
                let accounts = &subscription.requests;
                accounts
                    .rows(connection, provider, subscription.decide)
                    .for_each(|row| rows.add(row));
            }
        }
        slot.ended_requests
            .rows(ENDED, provider, slot.provider.requests)
            .for_each(|row| rows.add(row));
    }
    for receiver in routes.connections().filter(seen) {
        let connection = receiver.connection.identity.number;
        for gone in taken(&receiver.subscriptions).filter(|s| s.orphaned) {
            gone.requests
                .rows(connection, gone.provider, 0)
                .for_each(|row| rows.add(row));
        }
    }
}

#[inline(never)]
fn schema(driver: &Driver, command: &Command<'_>, out: &mut [u8]) -> Result<usize> {
    let number = u16::try_from(payload::<u32>(command)?).map_err(|_| NtError(STATUS_NOT_FOUND))?;
    let provider = driver
        .routes()
        .lock()
        .provider(number)
        .map(|slot| slot.provider.clone());
    let provider = provider.ok_or(NtError(STATUS_NOT_FOUND))?;
    let place = out
        .get_mut(..provider.schema.len())
        .ok_or(NtError(STATUS_BUFFER_TOO_SMALL))?;
    place.copy_from_slice(&provider.schema);
    Ok(place.len())
}

/// A request's declared default; nothing if none was.
#[inline(never)]
fn default_reply(driver: &Driver, command: &Command<'_>, out: &mut [u8]) -> Result<usize> {
    let [number, message] = payload::<[u32; 2]>(command)?;
    let not_found = |_| NtError(STATUS_NOT_FOUND);
    let number = u16::try_from(number).map_err(not_found)?;
    let message = u16::try_from(message).map_err(not_found)?;
    let provider = driver
        .routes()
        .lock()
        .provider(number)
        .map(|slot| slot.provider.clone())
        .filter(|provider| provider.requests & bit(message) != 0);
    let provider = provider.ok_or(NtError(STATUS_NOT_FOUND))?;
    let reply = provider.default_reply(message).unwrap_or(&[]);
    let place = out
        .get_mut(..reply.len())
        .ok_or(NtError(STATUS_BUFFER_TOO_SMALL))?;
    place.copy_from_slice(reply);
    Ok(place.len())
}

#[inline(never)]
fn subscribe(driver: &Driver, caller: &Identity, command: &Command<'_>) -> Result<()> {
    let wanted: Wanted = payload(command)?;
    let (_, mut prepared) = prepare(driver, caller, wanted.provider)?;
    enter(driver, caller, &wanted, &mut prepared)
}

/// The provider of this number, and what a subscription to it needs.
fn prepare(
    driver: &Driver,
    caller: &Identity,
    number: u32,
) -> Result<(PoolArc<Provider>, Prepared)> {
    let number = u16::try_from(number).map_err(|_| NtError(STATUS_NOT_FOUND))?;
    // So that the place of a provider that is gone is free if all that came from it has been read.
    settle_rings(driver);
    let (provider, declared, processors) = {
        let mut routes = driver.routes().lock();
        let has_rings = |it: &mut Receiver| it.connection.has_rings();
        let processors = match routes.connection(caller.number).is_some_and(has_rings) {
            true => driver.processors(),
            false => 0,
        };
        let slot = routes.provider(number).ok_or(NtError(STATUS_NOT_FOUND))?;
        let backlog = slot.backlog.as_ref();
        let declared = backlog.map(|backlog| (backlog.capacity(), backlog.policy()));
        (slot.provider.clone(), declared, processors)
    };
    let prepared = Prepared::new(number, provider.requests, declared, processors)?;
    Ok((provider, prepared))
}

/// Subscribes. What is left of `prepared` is to be dropped when this has returned, and with it the
/// lock.
fn enter(
    driver: &Driver,
    caller: &Identity,
    wanted: &Wanted,
    prepared: &mut Prepared,
) -> Result<()> {
    let mut routes = driver.routes().lock();
    routes.subscribe(caller.number, wanted, prepared)
}

#[inline(never)]
fn subscribe_filtered(driver: &Driver, caller: &Identity, command: &Command<'_>) -> Result<()> {
    let wanted = FilteredSubscription::read(command.payload).ok_or(MALFORMED)?;
    let filters = command
        .payload
        .get(FilteredSubscription::SIZE..)
        .filter(|rest| rest.len() == wanted.filters as usize)
        .ok_or(MALFORMED)?;
    let known = flags::MUTE_SELF | flags::SNAPSHOT;
    if wanted.reserved != 0 || wanted.flags & !known != 0 {
        return Err(MALFORMED);
    }
    let (provider, mut prepared) = prepare(driver, caller, wanted.provider)?;
    prepared.wishes.filters = Filters::new(&provider, wanted.hash, filters, driver.upper_case())?;
    if wanted.flags & flags::MUTE_SELF != 0 {
        prepared.wishes.mute = Some(PoolSlice::copy_of(tag::FILTER, &provider.pid_at)?);
        prepared.muted = Some(PoolBox::new(tag::FILTER, Muted::new(caller.pid)?)?);
        driver.following().begin()?;
    }
    let snapshots = wanted.flags & flags::SNAPSHOT != 0;
    let wanted = Wanted {
        provider: wanted.provider,
        reserved: 0,
        observe: wanted.observe,
        decide: wanted.decide,
    };
    if snapshots {
        return snapshot::subscribe(driver, caller, &provider, wanted, prepared);
    }
    enter(driver, caller, &wanted, &mut prepared)
}
