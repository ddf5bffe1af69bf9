// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blocking client.

use crate::command::CommandResult;
use crate::connection::Connection;
use crate::error::Error;
use crate::event::Event;
use crate::failure::Code;
use crate::lock::lock;
use crate::message_set::MessageSet;
use crate::options::Options;
use crate::queue::EventQueue;
use crate::rows::{ConnectionInfo, ProviderInfo};
use crate::schema::Schema;
use crate::statistics::{Counters, Statistics};
use crate::stream::{Acknowledge, Progress, StreamInfo};
use crate::subscription::Subscription;
use crate::supervisor::{self, Control, Shared};
use crate::transport::Transport;
use fltport_abi::Message;
use fltport_abi::command::{
    ConnectionRow, FeaturesRow, LedgerRow, Limits, RefusalRow, RequestAccountRow, RequestRow,
    RingUsageRow, UsageRow, features, own,
};
use fltport_abi::limits::MAX_COMMAND;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A service's connection to the common driver. See the [crate](crate) for one in use.
///
/// All methods may be called from any thread. Dropping it closes the connection, ends its threads
/// and wakes everybody who waits for it.
#[derive(Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::AccessDenied`], [`Error::NotAllowed`], [`Error::VersionMismatch`],
    /// [`Error::TooManyConnections`], [`Error::StreamInUse`], [`Error::NoAnswer`], or what else the
    /// driver refuses with.
    pub fn connect(options: Options) -> Result<Client, Error> {
        let shared = Arc::new(Shared {
            queue: EventQueue::new(options.queue),
            spin: options.spin(),
            serving: AtomicBool::new(false),
            options,
            counters: Counters::default(),
            control: Mutex::new(Control::default()),
            changed: Condvar::new(),
            subscribing: Mutex::default(),
            progress: Progress::default(),
        });
        let session = supervisor::establish(&shared, 0)?;
        supervisor::install(&shared, &session);
        supervisor::tell_if_streamless(&shared, &session);
        session.connection.begin(&shared.queue);
        let supervisor = supervisor::start(&shared, session)?;
        Ok(Client {
            shared,
            supervisor: Mutex::new(Some(supervisor)),
        })
    }

    /// The next event; `None` if there is none within `timeout`, or no more will come
    /// ([`Client::is_over`]).
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        let now = Instant::now();
        let deadline = now.checked_add(timeout);
        // A timeout beyond what the clock can say is cut to a day; the caller asks again.
        if let Some(sequence) = self.due() {
            self.acknowledge_taken(sequence);
        }
        let event = self
            .shared
            .queue
            .pop(deadline.unwrap_or(now + Duration::from_secs(86_400)));
        if let Some(event) = &event {
            self.taken(event);
        }
        event
    }

    /// The number that is to be acknowledged before the program waits for the next event.
    pub(crate) fn due(&self) -> Option<u64> {
        let stream = self.shared.options.stream.as_ref();
        let stream = stream.filter(|s| s.acknowledge == Acknowledge::Automatically)?;
        let will_wait = self.shared.queue.is_empty();
        self.shared.progress.due(stream.window, will_wait)
    }

    /// Acknowledges what the program has taken. Without a connection it is due again on the next
    /// one.
    pub(crate) fn acknowledge_taken(&self, sequence: u64) {
        let current = lock(&self.shared.control).current.clone();
        let told = current.map(|connection| match connection.has_stream {
            true => connection.acknowledge(sequence),
            false => Ok(()),
        });
        if !matches!(told, Some(Ok(()))) {
            self.shared.progress.not_acknowledged(sequence - 1);
        }
    }

    /// Says that everything up to this number of the stream has been dealt with
    /// ([`Event::last_sequence`]): it will not be sent again. With
    /// [`Acknowledge::Explicitly`] only this says so.
    ///
    /// # Errors
    /// As [`Client::info`]; [`Error::NoSuchRecord`], also for what has come before an
    /// [`Event::Reconnected`] that the program has not taken yet: its stream is over.
    pub fn acknowledge(&self, sequence: u64) -> Result<(), Error> {
        if self.shared.progress.is_behind() {
            return Err(Error::NoSuchRecord(Code::None));
        }
        self.connection()?.acknowledge(sequence)
    }

    /// This connection's stream; `None` if it has none.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn stream(&self) -> Result<Option<StreamInfo>, Error> {
        self.connection()?.stream()
    }

    /// An event has been taken: gets that were held back may go.
    pub(crate) fn taken(&self, event: &Event) {
        if self.shared.options.stream.is_some() {
            self.shared.progress.taken(event);
        }
        if !self.shared.queue.is_refill_due() {
            return;
        }
        let current = lock(&self.shared.control).current.clone();
        if let Some(connection) = current {
            // If this fails the connection has ended, and the pump says so.
            let _ended = connection.refill(&self.shared.queue);
        }
    }

    /// Whether all events have been taken and no more will come: the client was closed, or the
    /// connection ended and [`Options::reconnect`] is off.
    pub fn is_over(&self) -> bool {
        self.shared.queue.is_over()
    }

    fn connection(&self) -> Result<Arc<Connection>, Error> {
        let control = lock(&self.shared.control);
        match &control.current {
            Some(connection) => Ok(connection.clone()),
            None if control.closing => Err(Error::Closed),
            None => Err(Error::Disconnected(Code::None)),
        }
    }

    /// Who this connection is to the driver, and the rights that it was granted.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::NoAnswer`], or what the driver refuses with; so with all
    /// commands below.
    pub fn info(&self) -> Result<ConnectionInfo, Error> {
        Ok(self.connection()?.info()?.into())
    }

    /// How notifications come: by rings in shared memory, or by the port, and why.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::Closed`].
    pub fn transport(&self) -> Result<Transport, Error> {
        Ok(self.connection()?.transport())
    }

    /// How the rings of each connection are used; empty if the driver does not tell.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn ring_usage(&self) -> Result<Vec<RingUsageRow>, Error> {
        self.connection()?.list_if(features::RINGS, own::RING_USAGE)
    }

    /// The registered providers.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn providers(&self) -> Result<Vec<ProviderInfo>, Error> {
        self.connection()?.providers()
    }

    /// A provider's schema.
    ///
    /// # Errors
    /// As [`Client::info`], [`Error::NoProvider`] and [`Error::Schema`].
    pub fn schema(&self, provider: &str) -> Result<Arc<Schema>, Error> {
        let connection = self.connection()?;
        let schema = connection.schema(connection.find(provider)?);
        self.shared.counters.note_schema(&schema);
        schema
    }

    /// Subscribes to a provider: `observe` are the notifications, and the requests whose outcomes
    /// are wanted; `decide` are the requests that this service answers. Replaces this client's
    /// former subscription to the same provider, and is made again after each reconnect.
    ///
    /// # Errors
    /// As [`Client::schema`]; [`Error::DeciderTaken`] if somebody else answers
    /// one of these requests; [`Error::Refused`] with STATUS_RETRY (0xC000022D) if more has been kept
    /// for a first subscriber while an earlier backlog is still on its way to this client: take its
    /// events, then subscribe again.
    pub fn subscribe(
        &self,
        provider: &str,
        observe: impl Into<MessageSet>,
        decide: impl Into<MessageSet>,
    ) -> Result<(), Error> {
        let subscription = Subscription::to(provider);
        self.subscribe_with(subscription.observe(observe).decide(decide))
    }

    /// As [`Client::subscribe`], with all that a [`Subscription`] can say.
    ///
    /// # Errors
    /// As [`Client::subscribe`]; [`Error::Filter`] if a filter is not one, or not for that message;
    /// [`Error::DriverTooOld`] if the driver does not know filters.
    pub fn subscribe_with(&self, subscription: Subscription) -> Result<(), Error> {
        let connection = self.connection()?;
        self.shared.subscribe(&connection, subscription)
    }

    /// Sends a provider one of its commands, and waits for the result.
    ///
    /// # Errors
    /// As [`Client::info`]; [`Error::NoProvider`]; [`Error::Encode`] if the command is too large.
    pub fn command<'m, C: Message<'m>>(
        &self,
        provider: &str,
        command: &C,
    ) -> Result<CommandResult, Error> {
        let mut payload = vec![0; command.encoded_len()];
        let length = command.encode(&mut payload)?;
        payload.truncate(length);
        self.command_bytes(provider, C::NUMBER, &payload)
    }

    /// [`Client::command`] with bytes that are a command of the provider's schema.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn command_bytes(
        &self,
        provider: &str,
        command: u16,
        payload: &[u8],
    ) -> Result<CommandResult, Error> {
        let connection = self.connection()?;
        let send = |number: u16| connection.command(number.into(), command, payload, MAX_COMMAND);
        let known = connection.provider_number(provider);
        let sent = send(known.map_or_else(|| connection.find(provider), Ok)?);
        let result = match (known, sent) {
            // It may have registered anew since, under another number.
            (Some(known), Err(Error::NotFound(code))) => match connection.find(provider)? {
                number if number == known => Err(Error::NotFound(code)),
                number => send(number),
            },
            (_, sent) => sent,
        };
        result.map(CommandResult)
    }

    /// The connected services.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn connections(&self) -> Result<Vec<ConnectionInfo>, Error> {
        let rows = self.connection()?.list::<ConnectionRow>(own::CONNECTIONS)?;
        Ok(rows.into_iter().map(ConnectionInfo::from).collect())
    }

    /// The account of every message type towards every receiver.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn ledger(&self) -> Result<Vec<LedgerRow>, Error> {
        self.connection()?.list(own::LEDGER)
    }

    /// The account of every request type.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn requests(&self) -> Result<Vec<RequestRow>, Error> {
        self.connection()?.list(own::REQUESTS)
    }

    /// What the driver knows beyond what every driver knows; all zero for one of the first version.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn features(&self) -> Result<FeaturesRow, Error> {
        self.connection()?.features()
    }

    /// Sets the limits of the present connection: bytes of the driver's queue for it (64 KiB to 16
    /// MiB; 0 leaves it as it is), records a second (0: no limit), and how many at once. A later
    /// connection has those of [`Options::driver_queue`] and [`Options::rate`].
    ///
    /// # Errors
    /// As [`Client::info`]; [`Error::Refused`] if the queue has too much in it to be replaced, or the
    /// driver does not know limits.
    pub fn limit(&self, queue: u32, rate: u32, burst: u32) -> Result<(), Error> {
        self.connection()?.limit(&Limits {
            queue,
            rate,
            burst,
            reserved: 0,
        })
    }

    /// What each provider takes of each connection; empty if the driver does not tell.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn usage(&self) -> Result<Vec<UsageRow>, Error> {
        self.connection()?.list_if(features::LIMITS, own::USAGE)
    }

    /// The account of every request type with each connection that was asked; empty if the driver
    /// does not tell.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn request_accounts(&self) -> Result<Vec<RequestAccountRow>, Error> {
        let connection = self.connection()?;
        connection.list_if(features::REQUEST_ACCOUNTS, own::REQUEST_ACCOUNTS)
    }

    /// What a provider's request is answered with when nobody answers it, as the provider declared
    /// it; empty if it did not, or the driver does not tell. The driver that asks may give another
    /// default with a request.
    ///
    /// # Errors
    /// As [`Client::info`], and [`Error::NoProvider`].
    pub fn default_reply(&self, provider: &str, request: u16) -> Result<CommandResult, Error> {
        let connection = self.connection()?;
        let number = connection.find(provider)?;
        if connection.features()?.features & features::REQUEST_ACCOUNTS == 0 {
            return Ok(CommandResult(Vec::new()));
        }
        let payload = [number.into(), u32::from(request)].map(u32::to_le_bytes);
        let reply = connection.command(0, own::DEFAULT_REPLY, &payload.concat(), MAX_COMMAND)?;
        Ok(CommandResult(reply))
    }

    /// What the driver refused, by reason; empty if it does not tell.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub fn refusals(&self) -> Result<Vec<RefusalRow>, Error> {
        self.connection()?
            .list_if(features::REFUSALS, own::REFUSALS)
    }

    /// What this client has counted.
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.read()
    }

    /// Acknowledges what the program has dealt with, as it would have when it took more.
    fn acknowledge_the_rest(&self) {
        let stream = self.shared.options.stream.as_ref();
        let automatically = stream.is_some_and(|s| s.acknowledge == Acknowledge::Automatically);
        if automatically && let Some(sequence) = self.shared.progress.due_at_the_end() {
            self.acknowledge_taken(sequence);
        }
    }

    /// Closes the connection: cancels the gets, ends the threads, wakes everybody who waits. Events
    /// that have come may still be taken.
    ///
    /// It returns soon, but while the client is connecting again it waits for that attempt, at most
    /// [`Options::patience`].
    pub fn close(&self) {
        self.acknowledge_the_rest();
        let current = {
            let mut control = lock(&self.shared.control);
            control.closing = true;
            [control.current.take(), control.opening.take()]
        };
        self.shared.changed.notify_all();
        for connection in current.into_iter().flatten() {
            if let Some(rings) = connection.rings() {
                rings.abandon();
            }
            connection.shutdown();
        }
        let supervisor = lock(&self.supervisor).take();
        if let Some(thread) = supervisor {
            // A thread that panicked has told its reason to standard error.
            let _panicked = thread.join();
        }
        self.shared.queue.close();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}
