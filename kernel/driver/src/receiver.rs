// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection's place in the routes: its subscriptions, its queue, its accounts, and the making
//! of its stream.

mod batch;
mod replay;
mod ring_path;
mod room;

use crate::connection::Connection;
use crate::fair::{TokenBucket, Usage};
use crate::lane::Lanes;
use crate::ledger::{Account, Gap, Loss, bit};
use crate::marks::Marks;
use crate::mute::Muted;
use crate::provider::TYPES;
use crate::queue::Queue;
use crate::request_account;
use crate::rings::Rings;
use crate::routes::{PROVIDER_SLOTS, Prepared, taken, taken_mut};
use crate::screen::{Screen, Subject};
use crate::stream::{SETTLED_AT_ONCE, Stream};
use crate::tag;
pub(crate) use replay::{KeptSnapshot, Replay};
pub(crate) use ring_path::{SETTLED_AT_ONCE as RECORDS_AT_ONCE, TELLS_AFTER};

use batch::{BATCH_BYTES, Batch, MAX_PASSED_OVER};
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{Frame, GapEntry, GapHeader, RecordHeader, RecordKind, record_size};
use fltport_abi::hello;
use fltport_abi::limits::MIN_QUEUE;
use fltport_nt::bindings::STATUS_INSUFFICIENT_RESOURCES;
use fltport_nt::ex::{PoolArc, PoolBox, PoolSlice};
use fltport_nt::{NtError, Result};
use fltport_ring::Order;

/// Bytes of records that a connection's queue holds.
const QUEUE_BYTES: usize = 1024 * 1024;

/// What one connection has to do with one provider.
pub(crate) struct Subscription {
    pub(crate) provider: u16,
    pub(crate) observe: u64,
    pub(crate) decide: u64,
    pub(crate) account: Account,
    pub(crate) screen: Screen,
    /// What the provider takes of the queue.
    pub(crate) usage: Usage,
    /// What each processor has noted of it, and what it takes of the ring of each.
    pub(crate) marks: PoolArc<Marks>,
    /// The requests that this connection was asked.
    pub(crate) requests: request_account::Accounts,
    /// A backlog that was taken over; it is sent before what was queued after that.
    pub(crate) replay: Option<Replay>,
    /// A snapshot on its way; it is sent behind a backlog, and before what was queued after it.
    pub(crate) snapshot: Option<KeptSnapshot>,
    /// The provider is gone.
    pub(crate) orphaned: bool,
}

impl Subscription {
    /// IRQL: <= DISPATCH_LEVEL. One that wants nothing yet, of a provider with these requests, for
    /// rings of so many processors.
    #[inline(never)]
    pub(crate) fn new(provider: u16, requests: u64, processors: u32) -> Result<PoolBox<Self>> {
        let account = Account::new(TYPES)?;
        let marks = PoolArc::new(tag::LEDGER, Marks::new(processors)?)?;
        let requests = request_account::Accounts::new(requests)?;
        let none = Subscription {
            provider,
            observe: 0,
            decide: 0,
            account,
            screen: Screen::default(),
            usage: Usage::default(),
            marks,
            requests,
            replay: None,
            snapshot: None,
            orphaned: false,
        };
        PoolBox::new(tag::CONNECTION, none)
    }

    /// Takes out all losses that have not been told yet.
    pub(crate) fn take_unreported(&mut self, sink: &mut impl FnMut(u16, Loss)) {
        let replayed = self
            .replay
            .as_mut()
            .map(|replay| replay.backlog.unreported());
        for unreported in replayed.into_iter().chain([self.account.unreported()]) {
            unreported.take(self.provider, usize::MAX, |entry| {
                let GapEntry { count, by, .. } = entry;
                if let Some(cause) = entry.cause() {
                    sink(entry.message, Loss { cause, count, by });
                }
            });
        }
    }
}

/// A connection's place.
pub(crate) struct Receiver {
    pub(crate) connection: PoolArc<Connection>,
    pub(crate) subscriptions: PoolSlice<Option<PoolBox<Subscription>>>,
    pub(crate) queue: Queue,
    /// Where its records take their numbers from.
    pub(crate) order: PoolArc<Order>,
    /// The way to it through shared memory, if it has asked for that.
    pub(crate) rings: Option<PoolBox<Rings>>,
    /// The processes that subscriptions of this connection mute.
    pub(crate) muted: Option<PoolBox<Muted>>,
    /// How many records it takes.
    pub(crate) rate: TokenBucket,
    /// Its bit in bookings; of no other receiver that is in the routes.
    pub(crate) lane: Lanes,
    /// What it keeps so that it can outlive its connection, if it was made to.
    pub(crate) stream: Option<Stream>,
    /// How many asynchronous requests are in the queue.
    pub(crate) queued_requests: usize,
    /// The table of the short way says that records go into its rings.
    pub(crate) is_simple: bool,
    /// The sender has found nothing and sleeps, or will.
    idle: bool,
    /// Since when (interrupt time) something is to be told that no record has come behind.
    untold_since: Option<u64>,
}

/// What a notification consists of, before a receiver's queue.
pub(crate) struct Offer<'a> {
    pub(crate) message: u16,
    pub(crate) kind: RecordKind,
    pub(crate) fixed: u16,
    pub(crate) time: i64,
    pub(crate) subject: Subject<'a>,
    /// Room that was booked for it; 0 for none.
    pub(crate) booking: u64,
    /// The payload; every part but the last is padded to a multiple of 8.
    pub(crate) parts: &'a [&'a [u8]],
}

impl Offer<'_> {
    /// The header of the record that this becomes.
    pub(crate) fn header(&self, provider: u16) -> RecordHeader {
        let mut payload: usize = 0;
        for part in self.parts {
            payload = payload.next_multiple_of(8).saturating_add(part.len());
        }
        let payload = payload.min(u32::MAX as usize / 2);
        RecordHeader {
            size: record_size(payload) as u32,
            payload: payload as u32,
            sequence: 0,
            time: self.time,
            provider,
            message: self.message,
            kind: self.kind as u16,
            fixed: self.fixed,
        }
    }
}

impl Receiver {
    /// IRQL: <= DISPATCH_LEVEL. For a connection that has nothing yet; subscribed to the driver's
    /// own messages if it may observe.
    #[inline(never)]
    pub(crate) fn new(
        connection: PoolArc<Connection>,
        stream: Option<Stream>,
    ) -> Result<PoolBox<Self>> {
        let mut subscriptions = PoolSlice::filled_with(tag::CONNECTION, PROVIDER_SLOTS, || None)?;
        let observes = connection.identity.rights & hello::rights::OBSERVE != 0;
        if let Some(first) = subscriptions.first_mut().filter(|_| observes) {
            let mut own = Subscription::new(common_driver::NUMBER, 0, 0)?;
            own.observe = u64::MAX;
            *first = Some(own);
        }
        let queue = Queue::new(QUEUE_BYTES)?;
        let order = PoolArc::new(tag::CONNECTION, Order::new(1))?;
        PoolBox::new(
            tag::CONNECTION,
            Receiver {
                connection,
                subscriptions,
                queue,
                order,
                rings: None,
                muted: None,
                rate: TokenBucket::unlimited(),
                lane: 0,
                stream,
                queued_requests: 0,
                is_simple: false,
                idle: true,
                untold_since: None,
            },
        )
    }

    #[inline(never)]
    pub(crate) fn subscription(&mut self, provider: u16) -> Option<&mut Subscription> {
        taken_mut(&mut self.subscriptions).find(|s| s.provider == provider)
    }

    /// This connection's subscription to a provider; a new one if there is none, in the place of
    /// one to a provider that is gone if need be.
    #[inline(never)]
    pub(crate) fn subscription_or_new(
        &mut self,
        provider: u16,
        prepared: &mut Prepared,
    ) -> Result<&mut Subscription> {
        let full = NtError(STATUS_INSUFFICIENT_RESOURCES);
        let is_it =
            |p: &Option<PoolBox<Subscription>>| p.as_ref().is_some_and(|s| s.provider == provider);
        let found = self.subscriptions.iter().position(is_it);
        // Its books do not know of what lies in rings and was lost there before somebody looks.
        self.collect_losses();
        let done = |p: &Option<PoolBox<Subscription>>| {
            p.as_ref().is_some_and(|s| {
                let is_empty = s.is_sent() && s.marks.bytes_anywhere() == 0;
                s.orphaned && is_empty && s.account.is_settled()
            })
        };
        // A free place first: the books of a provider that is gone are kept while there is room.
        let place = found
            .or_else(|| self.subscriptions.iter().position(Option::is_none))
            .or_else(|| self.subscriptions.iter().position(done))
            .ok_or(full)?;
        let place = self.subscriptions.get_mut(place).ok_or(full)?;
        if found.is_none() {
            *place = Some(prepared.subscription.take().ok_or(full)?);
        }
        place.as_deref_mut().ok_or(full)
    }

    /// Whether it has ever subscribed to a provider.
    pub(crate) fn has_subscribed(&self) -> bool {
        taken(&self.subscriptions).any(|s| s.provider != common_driver::NUMBER)
    }

    pub(crate) fn observes(&self, provider: u16, message: u16) -> bool {
        taken(&self.subscriptions).any(|s| s.provider == provider && s.observe & bit(message) != 0)
    }

    /// Whether a message of a provider is to be offered here: `None` if its type is not observed,
    /// false if it is left out.
    pub(crate) fn wants(
        &mut self,
        provider: u16,
        message: u16,
        subject: &Subject<'_>,
    ) -> Option<bool> {
        let muted = self.muted.as_deref();
        let mut subscriptions = taken_mut(&mut self.subscriptions);
        let subscription = subscriptions.find(|s| s.provider == provider);
        let observes = subscription.filter(|s| s.observe & bit(message) != 0);
        observes.map(|s| s.screen.lets_pass(muted, message, subject))
    }

    /// Wakes the sender if it sleeps.
    pub(crate) fn wake(&mut self) {
        if core::mem::take(&mut self.idle) {
            self.connection.wake.set();
        }
    }

    /// Accounts for a loss; the stream will tell of it at this place.
    pub(crate) fn lose(&mut self, provider: u16, message: u16, loss: Loss) {
        if let Some(guilty) = self.subscription(loss.by) {
            guilty.usage.blamed += loss.count;
        }
        if let Some(subscription) = self.subscription(provider) {
            subscription.account.lost(message, loss);
        }
        self.note_loss();
        self.wake();
    }

    /// Whether something was lost that has not been told.
    fn has_untold(&mut self) -> bool {
        let mut accounts = taken_mut(&mut self.subscriptions).map(|s| &mut s.account);
        accounts.any(|account| account.unreported().total() != 0)
    }

    /// Queues the record of an asynchronous request; false if there is no room, or its provider has
    /// its share.
    pub(crate) fn push_request(&mut self, header: &RecordHeader, parts: &[&[u8]]) -> bool {
        let size = header.size as usize;
        let fits =
            size + self.told_in() <= self.queue.free() && self.has_share(header.provider, size);
        let is_queued = fits && self.flush_gaps(0) && self.queue.push(header, parts);
        if is_queued {
            if let Some(subscription) = self.subscription(header.provider) {
                subscription.usage.queued(size);
            }
            self.queued_requests += 1;
            self.wake();
        }
        is_queued
    }

    /// Queues gap records for all losses that have not been told, and leaves room for so many bytes
    /// behind them; false if there was no room for all.
    pub(crate) fn flush_gaps(&mut self, leave: usize) -> bool {
        while self.has_untold() {
            let free = self.queue.free().saturating_sub(leave);
            let entries = Gap::entries_in(free);
            if entries == 0 {
                return false;
            }
            let mut gap = gap_of(&mut self.subscriptions, entries);
            let header = gap_header(&mut gap);
            if !self.queue.push(&header, &[gap.payload()]) {
                return false;
            }
        }
        true
    }

    /// Fills `out` with the next records; their number and bytes. Those that a new connection must
    /// be sent again come first.
    #[inline(never)]
    pub(crate) fn take(&mut self, out: &mut [u8]) -> (u32, usize) {
        let noted = self.collect_untold();
        let mut room = out.len();
        if let Some(stream) = &mut self.stream {
            let again = stream.take_again(out, BATCH_BYTES);
            if again.0 != 0 {
                self.idle = false;
                return again;
            }
            room = room.min(stream.room());
        }
        let mut batch = Batch {
            out: out.get_mut(..room).unwrap_or(&mut []),
            at: 0,
            records: 0,
            order: self.order.clone(),
            passed_over: 0,
        };
        let emptied = self.take_replays(&mut batch)
            && self.take_queue(&mut batch, u64::MAX)
            && self.take_last_gaps(&mut batch);
        self.idle = emptied && batch.records == 0 && self.untold_since.is_none();
        self.note_told(noted);
        if batch.passed_over >= MAX_PASSED_OVER {
            // There is more, and nothing else would have the sender ask again.
            self.connection.wake.set();
        }
        if let Some(stream) = &mut self.stream {
            let paused = !emptied && batch.records == 0 && batch.passed_over < MAX_PASSED_OVER;
            stream.keep(batch.out.get(..batch.at).unwrap_or(&[]), paused);
        }
        (batch.records, batch.at)
    }

    /// Moves records out of the queue, up to this position; whether there are none left.
    fn take_queue(&mut self, batch: &mut Batch<'_>, until: u64) -> bool {
        let subscriptions = &mut self.subscriptions;
        let requests = &mut self.queued_requests;
        batch.take_queue(&mut self.queue, u64::MAX, until, |header, _| {
            // Here, and not where their numbers are noted: what is sent again has been counted.
            if header.kind == RecordKind::AsyncRequest as u16 {
                *requests = requests.saturating_sub(1);
            }
            // A gap record is nobody's.
            let mut all = taken_mut(subscriptions);
            if header.kind != RecordKind::Gap as u16
                && let Some(subscription) = all.find(|s| s.provider == header.provider)
            {
                subscription.usage.left(header.size as usize);
            }
            (true, 0)
        })
    }

    /// The gaps behind everything; whether all have been told, or are to be told later.
    fn take_last_gaps(&mut self, batch: &mut Batch<'_>) -> bool {
        if self.tells_later() {
            return true;
        }
        while self.has_untold() {
            if !batch.has_room(Gap::MAX_PAYLOAD) {
                return false;
            }
            batch.gap(&mut gap_of(&mut self.subscriptions, usize::MAX));
        }
        true
    }

    /// A frame has been taken by the service. In a stream that counts when it is acknowledged.
    pub(crate) fn delivered(&mut self, frame: &Frame<'_>) {
        if self.stream.is_some() {
            return;
        }
        for record in frame.records().flatten() {
            count_delivered(&mut self.subscriptions, &record.header);
        }
    }

    /// A frame will never be taken. In a stream that is for the next connection to do.
    pub(crate) fn undelivered(&mut self, frame: &Frame<'_>) {
        if self.stream.is_some() {
            return;
        }
        for gap in frame
            .records()
            .flatten()
            .filter(|r| r.kind == RecordKind::Gap)
        {
            self.recall(gap.payload);
        }
    }

    /// Counts as delivered what was acknowledged, some of it; whether more is left.
    pub(crate) fn settle(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let subscriptions = &mut self.subscriptions;
        let more = stream.settle(|header| count_delivered(subscriptions, header));
        if stream.unpause() {
            self.connection.wake.set();
        }
        more
    }

    /// The connection has ended: whether the stream goes on without one.
    pub(crate) fn detach(&mut self) -> bool {
        self.idle = false;
        self.stream.as_mut().is_some_and(Stream::detach)
    }

    /// Whether it is a stream that waits for its service.
    pub(crate) fn is_detached(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_detached)
    }

    /// Another connection has the stream from now on.
    pub(crate) fn change_connection(&mut self, connection: &mut PoolArc<Connection>) {
        core::mem::swap(&mut self.connection, connection);
        if let Some(muted) = &mut self.muted {
            muted.succeeded_by(self.connection.identity.pid);
        }
        // The new sender looks by itself as soon as it may send.
        self.idle = false;
    }

    /// Takes back what gap records that were sent and not acknowledged have told, some of it;
    /// whether more is left. For a stream that is over.
    pub(crate) fn recall_window(&mut self) -> bool {
        for _ in 0..SETTLED_AT_ONCE {
            let mut record = [0; record_size(Gap::MAX_PAYLOAD)];
            let Some(window) = self.stream.as_mut().map(Stream::window) else {
                return false;
            };
            let Some(header) = window.front() else {
                return false;
            };
            if header.kind == RecordKind::Gap as u16 && window.pop(&mut record) {
                self.recall(payload_of(&record, &header));
            } else {
                window.drop_front();
            }
        }
        true
    }

    /// Takes back what gap records in the queue would have told, looking at so many records at most;
    /// whether many are left. For a receiver whose accounts are about to be settled.
    pub(crate) fn recall_gaps(&mut self, most: usize) -> bool {
        let mut record = [0; record_size(Gap::MAX_PAYLOAD)];
        for _ in 0..most {
            let Some(header) = self.queue.front() else {
                return false;
            };
            if header.kind == RecordKind::Gap as u16 && self.queue.pop(&mut record) {
                self.recall(payload_of(&record, &header));
            } else {
                self.queue.drop_front();
            }
        }
        self.queue.used() > MIN_QUEUE as usize
    }

    fn recall(&mut self, payload: &[u8]) {
        for entry in payload
            .get(GapHeader::SIZE..)
            .unwrap_or(&[])
            .chunks_exact(GapEntry::SIZE)
        {
            let Some(entry) = GapEntry::read(entry) else {
                continue;
            };
            let GapEntry { count, by, .. } = entry;
            if let (Some(subscription), Some(cause)) =
                (self.subscription(entry.provider), entry.cause())
            {
                let unreported = subscription.account.unreported();
                unreported.add(entry.message, Loss { cause, count, by });
            }
        }
    }
}

/// The payload of a record of this header.
fn payload_of<'r>(record: &'r [u8], header: &RecordHeader) -> &'r [u8] {
    let payload = record.get(RecordHeader::SIZE..);
    let payload = payload.and_then(|p| p.get(..header.payload as usize));
    payload.unwrap_or(&[])
}

/// Counts a record as delivered, if it was offered.
fn count_delivered(subscriptions: &mut [Option<PoolBox<Subscription>>], header: &RecordHeader) {
    if !is_accounted(header.kind) {
        return;
    }
    if let Some(subscription) = taken_mut(subscriptions).find(|s| s.provider == header.provider) {
        subscription.account.delivered(header.message, 1);
    }
}

/// Whether the ledger counts records of this kind: what was offered. Gap records tell of it,
/// requests have an account of their own, and a snapshot can be asked for again.
pub(crate) fn is_accounted(kind: u16) -> bool {
    matches!(
        RecordKind::from_wire(kind),
        Some(RecordKind::Notification | RecordKind::Outcome)
    )
}

/// A gap of what the accounts have not told, with at most so many entries.
fn gap_of(subscriptions: &mut [Option<PoolBox<Subscription>>], most: usize) -> Gap {
    let mut gap = Gap::empty();
    for subscription in taken_mut(subscriptions) {
        let unreported = subscription.account.unreported();
        gap.take(subscription.provider, unreported, most);
    }
    gap
}

/// The header of a gap record before it has its place in the stream: the number of losses stands
/// where the sequence number will be.
fn gap_header(gap: &mut Gap) -> RecordHeader {
    let payload = gap.payload().len();
    RecordHeader {
        size: record_size(payload) as u32,
        payload: payload as u32,
        sequence: gap.total(),
        time: fltport_nt::ke::system_time(),
        provider: 0,
        message: 0,
        kind: RecordKind::Gap as u16,
        fixed: GapHeader::SIZE as u16,
    }
}
