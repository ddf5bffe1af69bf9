// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's state, and what is done with it as a whole: registering providers, offering,
//! unloading.

use crate::announce::Announcement;
use crate::backlog::{Backlog, ProviderSlot};
use crate::census::Census;
use crate::connection::Connection;
use crate::deadlines::Deadlines;
use crate::filter::UpperCase;
use crate::mute::Following;
use crate::policy::ServiceKey;
use crate::provider::{Description, Provider};
use crate::receiver::Offer;
use crate::refusal::Refusals;
use crate::registration::{Registration, Retry};
use crate::retention::Retention;
use crate::routes::Routes;
use crate::screen::Subject;
use crate::tag;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use fltport_abi::account::{Cause, Outcome, Refusal};
use fltport_abi::common_driver::{self, ProviderChange};
use fltport_abi::frame::RecordKind;
use fltport_abi::interface::BacklogPolicy;
use fltport_abi::limits::MAX_SCHEMA;
use fltport_abi::message::Message;
use fltport_abi::text::Text;
use fltport_nt::bindings::{
    STATUS_DELETE_PENDING, STATUS_INSUFFICIENT_RESOURCES, STATUS_INTERNAL_ERROR,
    STATUS_INVALID_PARAMETER,
};
use fltport_nt::ex::{FastMutex, Global, PoolArc, PoolBox, PoolBytes};
use fltport_nt::flt::Filter;
use fltport_nt::ke::{
    Event, EventKind, MAX_GATES, SpinLock, Timeout, interrupt_time, processor_count, system_time,
};
use fltport_nt::{NtError, Result, ps};

/// The one instance, for callbacks to which NT passes no context.
pub(crate) static DRIVER: Global<Driver> = Global::empty();

/// How often the driver has been started: a client driver that imports from this image may outlive
/// one and meet the next.
static LIVES: AtomicU32 = AtomicU32::new(0);

/// The largest backlog that a provider may declare.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;

/// The driver's state.
pub(crate) struct Driver {
    life: u32,
    /// How many processors there were when it was made, as far as they have gates. One that is added later has no ring.
    processors: u32,
    routes: SpinLock<Routes>,
    next_connection: AtomicU32,
    next_request: AtomicU64,
    census: Census,
    refusals: Refusals,
    service_key: ServiceKey,
    /// Set whenever the last connection is gone.
    no_connections: Event,
    /// The registered filter, for connections to hold; set before the port exists, so before
    /// anybody can connect.
    filter: SpinLock<Option<Filter>>,
    following: Following,
    held: PoolBox<Held>,
}

/// What the driver has, or has not yet, each changed by one thread at a time.
struct Held {
    registration: FastMutex<Registration>,
    retry: FastMutex<Option<Retry>>,
    upper_case: FastMutex<Option<PoolArc<UpperCase>>>,
    announcement: FastMutex<Option<Announcement>>,
    retention: FastMutex<Option<Retention>>,
    deadlines: FastMutex<Option<Deadlines>>,
}

impl Held {
    /// Nothing yet.
    // Not on the stack of who makes all else of a driver.
    #[inline(never)]
    fn nothing() -> Result<PoolBox<Self>> {
        let held = Held {
            registration: FastMutex::new(tag::DRIVER, Registration::Dormant)?,
            retry: FastMutex::new(tag::DRIVER, None)?,
            upper_case: FastMutex::new(tag::DRIVER, None)?,
            announcement: FastMutex::new(tag::DRIVER, None)?,
            retention: FastMutex::new(tag::DRIVER, None)?,
            deadlines: FastMutex::new(tag::DRIVER, None)?,
        };
        PoolBox::new(tag::DRIVER, held)
    }
}

impl Driver {
    /// IRQL: PASSIVE_LEVEL. A driver with this service key that is not registered with anybody yet;
    /// its own messages are its first provider.
    #[inline(never)]
    pub(crate) fn new(service_key: ServiceKey) -> Result<PoolArc<Self>> {
        let processors = processor_count().min(MAX_GATES as u32);
        let routes = SpinLock::new(Routes::new()?);
        let refusals = Refusals::new()?;
        let no_connections = Event::new(tag::DRIVER, EventKind::Notification)?;
        let following = Following::new()?;
        let held = Held::nothing()?;
        // Relaxed: only a number.
        let life = LIVES.fetch_add(1, Ordering::Relaxed);
        let driver = PoolArc::new_with(tag::DRIVER, || Driver {
            life,
            processors,
            routes,
            next_connection: AtomicU32::new(1),
            next_request: AtomicU64::new(1),
            census: Census::new(),
            refusals,
            service_key,
            no_connections,
            filter: SpinLock::new(None),
            following,
            held,
        })?;
        driver.register_itself()?;
        Ok(driver)
    }

    /// IRQL: PASSIVE_LEVEL. Its own messages are its first provider.
    #[inline(never)]
    fn register_itself(&self) -> Result<()> {
        let mut schema = PoolBytes::zeroed(tag::BUFFER, MAX_SCHEMA)?;
        let length = common_driver::PROVIDER
            .encode(&mut schema)
            .map_err(|_| NtError(STATUS_INTERNAL_ERROR))?;
        let schema = schema.get(..length).unwrap_or(&[]);
        let own = Description {
            schema,
            backlog: 0,
            policy: BacklogPolicy::KeepNewest,
            handler: None,
            reporter: None,
            quota: 0,
            rate: 0,
            burst: 0,
            interest: None,
            counters: None,
            defaults: &[],
        };
        self.register(own).map(drop)
    }

    /// Which of the drivers that this image has been it is.
    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    /// For how many processors connections have rings.
    pub(crate) fn processors(&self) -> u32 {
        self.processors
    }

    pub(crate) fn routes(&self) -> &SpinLock<Routes> {
        &self.routes
    }

    /// What was refused.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Where the configuration is.
    pub(crate) fn service_key(&self) -> &ServiceKey {
        &self.service_key
    }

    pub(crate) fn registration(&self) -> &FastMutex<Registration> {
        &self.held.registration
    }

    pub(crate) fn retry(&self) -> &FastMutex<Option<Retry>> {
        &self.held.retry
    }

    /// The filter that a new connection belongs to.
    pub(crate) fn filter(&self) -> Option<Filter> {
        self.filter.lock().clone()
    }

    /// IRQL: PASSIVE_LEVEL. What was there is dropped here, after the lock has been released.
    pub(crate) fn set_filter(&self, filter: Option<Filter>) {
        let former = core::mem::replace(&mut *self.filter.lock(), filter);
        drop(former);
    }

    /// The table that filters which ignore case share.
    pub(crate) fn upper_case(&self) -> &FastMutex<Option<PoolArc<UpperCase>>> {
        &self.held.upper_case
    }

    /// Whether the lifetimes of processes are followed.
    pub(crate) fn following(&self) -> &Following {
        &self.following
    }

    pub(crate) fn announcement(&self) -> &FastMutex<Option<Announcement>> {
        &self.held.announcement
    }

    pub(crate) fn retention(&self) -> &FastMutex<Option<Retention>> {
        &self.held.retention
    }

    pub(crate) fn deadlines(&self) -> &FastMutex<Option<Deadlines>> {
        &self.held.deadlines
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.census.is_closing()
    }

    /// A number for a new connection. Numbers are not used twice.
    pub(crate) fn next_connection(&self) -> u32 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a new request.
    pub(crate) fn next_request(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a connection, or a connect callback. Fails with `STATUS_DELETE_PENDING` when the
    /// driver is being unloaded.
    pub(crate) fn connection_made(&self) -> Result<()> {
        match self.census.add() {
            true => Ok(()),
            false => Err(NtError(STATUS_DELETE_PENDING)),
        }
    }

    pub(crate) fn connection_gone(&self) {
        if self.census.remove() {
            self.no_connections.set();
        }
    }

    /// IRQL: PASSIVE_LEVEL. Waits until no connection exists. All have been ended; what holds one
    /// still is bounded by a deadline of its own.
    fn wait_for_connections(&self) {
        loop {
            self.no_connections.clear();
            if self.census.is_empty() {
                return;
            }
            self.no_connections.wait(Timeout::from_millis(100));
        }
    }

    /// IRQL: PASSIVE_LEVEL. Registers a provider.
    ///
    /// Errors: `STATUS_INVALID_PARAMETER` (schema), `STATUS_OBJECT_NAME_COLLISION`,
    /// `STATUS_INSUFFICIENT_RESOURCES`, `STATUS_DELETE_PENDING`.
    pub(crate) fn register(&self, description: Description<'_>) -> Result<PoolArc<Provider>> {
        if self.is_closing() {
            return Err(NtError(STATUS_DELETE_PENDING));
        }
        if description.backlog > MAX_BACKLOG {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        let number = self.routes.lock().number_provider()?;
        let provider = self
            .register_as(number, description)
            .inspect_err(|_| self.routes.lock().give_number_back(number))?;
        // The unload closes the census before it looks for providers: either it finds this one, or this
        // finds it closing. One that imports by name has no stub that would wait for it, and would be
        // waited for in vain when it unregisters.
        if self.is_closing() {
            self.unregister(&provider);
            return Err(NtError(STATUS_DELETE_PENDING));
        }
        self.tell_provider_change(&provider, true);
        Ok(provider)
    }

    /// IRQL: PASSIVE_LEVEL. Makes a provider with this number, and puts it in its place.
    fn register_as(&self, number: u16, description: Description<'_>) -> Result<PoolArc<Provider>> {
        let provider =
            Provider::new(number, self.life, &description, system_time()).map_err(|error| {
                match error {
                    NtError(STATUS_INVALID_PARAMETER) => {
                        self.refusals.refuse(Refusal::BadSchema, error.status())
                    }
                    other => other,
                }
            })?;
        let backlog = match description.backlog {
            0 => None,
            bytes => Some(Backlog::new(bytes, description.policy)?),
        };
        let slot = ProviderSlot::new(
            provider.clone(),
            backlog,
            description.interest,
            description.counters,
        )?;
        let added = self.routes.lock().add_provider(slot);
        added.map_err(|(slot, error)| {
            drop(slot);
            error
        })?;
        Ok(provider)
    }

    /// IRQL: PASSIVE_LEVEL, not from a routine of the provider's. Takes a provider out, completes what
    /// it has asked and is not answered yet, and waits until no routine of its runs any more.
    pub(crate) fn unregister(&self, provider: &Provider) {
        let mut slot = self.routes.lock().remove_provider(provider.number);
        while let Some(waiting) = slot.as_mut().and_then(|slot| slot.pending.take_any()) {
            let ended = self.routes.lock().conclude_pending(
                provider.number,
                waiting,
                Outcome::Failed,
                interrupt_time(),
            );
            ended.complete();
        }
        provider.drain(slot.is_some());
        if slot.is_some() {
            self.tell_provider_change(provider, false);
        }
    }

    fn tell_provider_change(&self, provider: &Provider, registered: bool) {
        if provider.number == common_driver::NUMBER {
            return;
        }
        let change = ProviderChange {
            provider: provider.number.into(),
            registered,
            name: Text::Utf8(provider.name()),
        };
        let mut payload = [0; ProviderChange::FIXED + 2 * fltport_abi::limits::MAX_PROVIDER_NAME];
        let length = change.encode(&mut payload).unwrap_or(0);
        let payload = payload.get(..length).unwrap_or(&[]);
        let offer = Offer {
            message: ProviderChange::NUMBER,
            kind: RecordKind::Notification,
            fixed: ProviderChange::FIXED as u16,
            time: system_time(),
            subject: Subject {
                payload,
                fixed: ProviderChange::FIXED as u16,
                process: Some(ps::current_process_id()),
            },
            booking: 0,
            parts: &[payload],
        };
        let mut routes = self.routes.lock();
        // For who is there; it is no loss to anybody else.
        if routes.is_listening(common_driver::NUMBER, offer.message) {
            routes.offer(common_driver::NUMBER, &offer);
        }
    }

    /// IRQL: <= DISPATCH_LEVEL. Offers a notification of a provider. Fails with
    /// `STATUS_DELETE_PENDING` when the driver is being unloaded: then it was not offered, and the
    /// client's stub keeps it.
    pub(crate) fn notify(&self, provider: &Provider, offer: &Offer<'_>) -> Result<()> {
        if self.is_closing() {
            return Err(NtError(STATUS_DELETE_PENDING));
        }
        self.routes.lock().offer(provider.number, offer);
        Ok(())
    }

    /// Whether an unload that may be refused should be: client drivers still use this one.
    pub(crate) fn is_in_use(&self) -> bool {
        self.routes.lock().any_client().is_some()
    }

    /// IRQL: PASSIVE_LEVEL. Ends everything, in this order: end the short way; accept nothing new; end the
    /// connections, which wakes every requester; let command handlers finish; take the function
    /// table back, which waits for client drivers in it; close the server port and unregister the
    /// filter.
    ///
    /// Everything that is waited for is bounded by its own deadline, and those that could be long
    /// have been woken before; but a command handler takes as long as its client driver lets it.
    pub(crate) fn shut_down(&self) {
        // First: what is not taken any more is kept for the next driver, and nothing that comes behind it may go a way that asks
        // nobody.
        self.routes.lock().end_short_way();
        self.census.close();
        let retry = self.held.retry.lock().take();
        drop(retry);
        self.end_connections();
        loop {
            // Not in the condition of a `while let`: the lock would be held across the loop's body.
            let provider = self.routes.lock().any_client();
            let Some(provider) = provider else {
                break;
            };
            self.unregister(&provider);
        }
        let announcement = self.held.announcement.lock().take();
        drop(announcement);
        // No provider is left, and nothing pending.
        let deadlines = self.held.deadlines.lock().take();
        drop(deadlines);
        // A service may have been connecting meanwhile.
        self.end_connections();
        self.wait_for_connections();
        self.following.end();
        // Nobody connects any more, so nobody starts it again.
        let retention = self.held.retention.lock().take();
        drop(retention);
        self.set_filter(None);
        let registration =
            core::mem::replace(&mut *self.held.registration.lock(), Registration::Closing);
        drop(registration);
        *self.held.registration.lock() = Registration::Gone;
        let own = self.routes.lock().remove_provider(common_driver::NUMBER);
        drop(own);
    }

    fn end_connections(&self) {
        loop {
            let connection = self.routes.lock().any_connection();
            let Some(connection) = connection else {
                break;
            };
            self.end_connection(&connection);
        }
    }

    /// IRQL: PASSIVE_LEVEL. Ends a connection; its stream, if it has one that may, goes on without
    /// it. Any number of times, from any thread but the connection's sender.
    pub(crate) fn end_connection(&self, connection: &Connection) {
        connection.end();
        let number = connection.identity.number;
        if !self.is_closing() && self.routes.lock().detach(number) {
            self.look_after_streams();
            return;
        }
        self.end_for_good(number);
    }

    /// IRQL: PASSIVE_LEVEL. Settles the accounts of a connection that has ended, with its stream.
    fn end_for_good(&self, number: u32) {
        while self.routes.lock().wind_up(number) {}
        let cause = if self.is_closing() {
            Cause::ShuttingDown
        } else {
            Cause::Disconnected
        };
        // The receiver is freed after the lock has been released.
        let receiver = self.routes.lock().remove_connection(number, cause);
        drop(receiver);
    }

    /// IRQL: PASSIVE_LEVEL. A stream has lost its connection, or is over.
    pub(crate) fn look_after_streams(&self) {
        if let Some(retention) = &*self.held.retention.lock() {
            retention.look();
        }
    }

    /// IRQL: PASSIVE_LEVEL. Ends the streams whose services have not come back in time.
    pub(crate) fn end_streams_that_are_over(&self) {
        loop {
            let number = self.routes.lock().end_stream(interrupt_time());
            let Some(number) = number else {
                break;
            };
            self.end_for_good(number);
        }
    }
}
