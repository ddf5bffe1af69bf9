// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection's rings: one for each processor, in memory that the service's process has mapped.

#[allow(unsafe_code, reason = "memory that is shared with a service")]
mod memory;

use crate::connection::Connection;
use crate::driver::Driver;
use crate::marks::Marks;
use crate::receiver::is_accounted;
use crate::switch::GATES;
use crate::tag;
use crate::untold::Untold;
use fltport_abi::command::{RingUsageRow, RingsRow, RingsWanted};
use fltport_abi::common_driver;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::RecordHeader;
use fltport_abi::limits::{DEFAULT_RING, DEFAULT_RINGS, MAX_QUEUES, MIN_RING};
use fltport_nt::bindings::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED,
};
use fltport_nt::ex::{PoolArc, PoolBox, PoolSlice};
use fltport_nt::ke::{Apart, AtDispatch, Here, PerProcessor, UserEvent};
use fltport_nt::mm::UserView;
use fltport_nt::{NtError, Result};
use fltport_ring::{Account, Bell, Gone, LogEntry, Order, Producer, Published, Settler, Shape};
use memory::Mapped;

/// What the two halves of one ring's kernel side share.
type RingAccount = PoolArc<Account<PoolSlice<LogEntry>>>;

/// What a processor fills its ring with.
type Filler = Producer<RingAccount>;

/// What all processors need to fill a connection's rings, and what wakes the service that reads them.
pub(crate) struct RingSet {
    // Dropped in this order: what uses the memory, then the memory.
    fillers: PerProcessor<Option<Filler>>,
    bell: Bell,
    event: UserEvent,
    /// Where the connection's records take their numbers from.
    order: PoolArc<Order>,
    shape: Shape,
    /// Not beside anything that is written more often.
    untold: Apart<Untold>,
    _data: Mapped,
    _consumer: Mapped,
}

/// A connection's rings, under the lock of the routes.
pub(crate) struct Rings {
    settlers: PoolSlice<Option<Settler<RingAccount>>>,
    /// The last to go of those who have it, for its memory is freed at PASSIVE_LEVEL.
    pub(crate) set: PoolArc<RingSet>,
    /// The service knows where they are.
    begun: bool,
    /// The ring that [`Rings::in_turn`] was at last.
    turn: u32,
}

/// The bits of a tag that are the message's number; those above are the subscription's place.
const MESSAGE_BITS: u32 = 6;
/// The bit of a tag that says that the ledger counts the record.
const ACCOUNTED: u16 = 1 << 15;
/// The tag of a gap record.
pub(crate) const GAP: u16 = 1 << 14;

/// What is kept of a record in a ring until it is gone.
pub(crate) fn tag_of(place: u16, header: &RecordHeader) -> u16 {
    let accounted = match is_accounted(header.kind) {
        true => ACCOUNTED,
        false => 0,
    };
    accounted | place << MESSAGE_BITS | header.message & ((1 << MESSAGE_BITS) - 1)
}

/// The place of the subscription that a record of this tag was for.
pub(crate) fn place_of(tag: u16) -> usize {
    usize::from((tag & !(ACCOUNTED | GAP)) >> MESSAGE_BITS)
}

/// The message's number in a tag, if the ledger counts the record.
pub(crate) fn accounted(tag: u16) -> Option<u16> {
    (tag & ACCOUNTED != 0).then_some(tag & ((1 << MESSAGE_BITS) - 1))
}

/// Publishes a record whose payload is `parts`, as [`Queue::push`](crate::queue::Queue::push) takes them; false if there is no
/// room.
#[inline]
pub(crate) fn publish(
    producer: &mut Producer<RingAccount>,
    order: &Order,
    header: &RecordHeader,
    parts: &[&[u8]],
    tag: u16,
) -> bool {
    let Some(mut room) = producer.room(header.size as usize) else {
        return false;
    };
    let mut at = 0;
    for part in parts {
        if !room.write(at, part) {
            return false;
        }
        at += part.len();
        let padding = part.len().wrapping_neg() & 7;
        if padding != 0 && !room.write(at, [0_u8; 8].get(..padding).unwrap_or(&[])) {
            return false;
        }
        at += padding;
    }
    let sequence = order.take(1);
    room.commit(
        &RecordHeader {
            sequence,
            ..*header
        },
        tag,
    );
    true
}

/// Publishes a gap record; false if there is no room.
pub(crate) fn publish_gap(
    producer: &mut Producer<RingAccount>,
    order: &Order,
    header: &RecordHeader,
    payload: &[u8],
) -> bool {
    let Some(mut room) = producer.room(header.size as usize) else {
        return false;
    };
    if !room.write(0, payload) {
        return false;
    }
    let count = header.sequence.max(1);
    let first = order.take(count);
    let mut bytes = [0; u64::SIZE];
    // GapHeader::first is the payload's first field; it fits.
    let _fits = first.write(&mut bytes).map(|()| room.write(0, &bytes));
    let sequence = first + count - 1;
    room.commit(
        &RecordHeader {
            sequence,
            ..*header
        },
        GAP,
    );
    true
}

impl RingSet {
    /// IRQL: DISPATCH_LEVEL. What fills this processor's ring; none on one that came after the driver.
    #[inline]
    pub(crate) fn filler<'a>(&'a self, here: &'a mut Here<'_>) -> Option<&'a mut Filler> {
        self.fillers.get(here)?.as_mut()
    }

    #[inline]
    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// IRQL: <= DISPATCH_LEVEL. Wakes the service, if it sleeps, behind what was published.
    #[inline]
    pub(crate) fn wake(&self, behind: &Published) {
        if self.bell.is_to_ring_behind(behind) {
            self.event.set();
        }
    }

    /// IRQL: any. Whether something was lost that has not been told: then no record goes the short way, for that is told in front of it, on whatever
    /// processor the thread is by then.
    #[inline]
    pub(crate) fn untold(&self) -> &Untold {
        &self.untold.value
    }

    /// IRQL: <= DISPATCH_LEVEL, not inside a gate. Does something as this processor.
    pub(crate) fn as_this_processor<R>(&self, act: impl FnOnce(&mut Here<'_>) -> R) -> Option<R> {
        let at = AtDispatch::raise();
        let mut inside = GATES.enter(&at)?;
        let (_, mut here) = inside.split();
        Some(act(&mut here))
    }
}

/// Where the service has them. Unmapped when it is dropped; left to the service when that is told of them, for it reads there whenever it likes.
struct Views {
    data: UserView,
    consumer: UserView,
}

impl Views {
    fn row(&self) -> RingsRow {
        RingsRow {
            data: self.data.address(),
            consumer: self.consumer.address(),
            data_size: self.data.len() as u32,
            consumer_size: self.consumer.len() as u32,
            reserved: 0,
        }
    }

    /// IRQL: PASSIVE_LEVEL. From now on they are the service's to unmap.
    fn leave(self) {
        self.data.leave();
        self.consumer.leave();
    }
}

/// How many bytes a ring has if the service does not say: all of a connection's rings together have some, and each
/// enough.
fn default_capacity(processors: u32) -> u32 {
    (DEFAULT_RINGS / processors.max(1)).clamp(MIN_RING, DEFAULT_RING)
}

impl Rings {
    /// IRQL: PASSIVE_LEVEL, in the service's process. Rings for records that take their numbers from this order, mapped into
    /// that process.
    ///
    /// Errors: `STATUS_INVALID_PARAMETER` for what cannot be, `STATUS_INVALID_HANDLE`, `STATUS_OBJECT_TYPE_MISMATCH` or
    /// `STATUS_ACCESS_DENIED` for the event, `STATUS_NOT_SUPPORTED` where memory cannot be shared, or whatever NT lacks.
    #[inline(never)]
    fn new(
        driver: &Driver,
        order: PoolArc<Order>,
        wanted: &RingsWanted,
    ) -> Result<(PoolBox<Self>, Views)> {
        let capacity = match wanted.capacity {
            0 => default_capacity(driver.processors()),
            bytes => bytes,
        };
        let invalid = NtError(STATUS_INVALID_PARAMETER);
        let shape = Shape::new(driver.processors(), capacity).filter(|_| wanted.reserved == 0);
        let shape = shape.ok_or(invalid)?;
        if shape.data_size() > MAX_QUEUES {
            return Err(NtError(STATUS_INSUFFICIENT_RESOURCES));
        }
        // Memory first: where it cannot be shared, handles may not be what they seem either.
        let data = Mapped::new(shape.data_size())?;
        let consumer = Mapped::new(shape.consumer_size())?;
        let event = UserEvent::from_handle(wanted.event)?;
        let mut header = [0; fltport_ring::ShapeHeader::SIZE];
        shape.header().write(&mut header).ok_or(invalid)?;
        data.begin_with(&header);
        let views = Views {
            data: data.map(false)?,
            consumer: consumer.map(true)?,
        };
        let processors = driver.processors();
        let mut fillers = PerProcessor::new(tag::QUEUE, &GATES, processors, || None)?;
        let settlers = halves(shape, &data, &consumer, &mut fillers)?;
        let bell = Bell::new(consumer.shared());
        let set = PoolArc::new_with(tag::QUEUE, || RingSet {
            fillers,
            bell,
            event,
            order,
            shape,
            untold: Apart::new(Untold::new()),
            _data: data,
            _consumer: consumer,
        })?;
        let rings = PoolBox::new_with(tag::QUEUE, || Rings {
            settlers,
            set,
            begun: false,
            turn: 0,
        })?;
        Ok((rings, views))
    }

    fn settler(&mut self, processor: u32) -> Option<&mut Settler<RingAccount>> {
        self.settlers.get_mut(processor as usize)?.as_mut()
    }

    /// Whether records go into them.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Nothing goes into them any more; whether anything did.
    pub(crate) fn end(&mut self) -> bool {
        core::mem::take(&mut self.begun)
    }

    /// Bytes that are free in a processor's ring, as far as has been settled.
    pub(crate) fn free(&self, processor: u32) -> Option<usize> {
        let settler = self.settlers.get(processor as usize)?.as_ref()?;
        Some(settler.capacity() - settler.used())
    }

    /// Bytes of all of them.
    pub(crate) fn capacity(&self) -> usize {
        self.set.shape.rings() * self.set.shape.capacity()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.settlers.len() as u32
    }

    /// One after the other, for who looks at some of them at a time.
    pub(crate) fn in_turn(&mut self) -> u32 {
        self.turn = match self.turn + 1 {
            next if next < self.count() => next,
            _ => 0,
        };
        self.turn
    }

    /// Looks what the service has read of a processor's ring, so many records at most, and hands them on. Whether there may be more.
    pub(crate) fn settle(&mut self, processor: u32, most: usize, gone: impl FnMut(Gone)) -> bool {
        let settler = self.settler(processor);
        settler.is_some_and(|settler| settler.settle(most, gone))
    }

    /// Hands on the tags of records in a processor's ring that were not handed on before, so many at most. Whether there may be more.
    pub(crate) fn note(&mut self, processor: u32, most: usize, each: impl FnMut(u16)) -> bool {
        let settler = self.settler(processor);
        settler.is_some_and(|settler| settler.note(most, each))
    }

    /// Takes the oldest record out of a ring that will never be read, and copies its start.
    pub(crate) fn take_unread(&mut self, processor: u32, record: &mut [u8]) -> Option<Gone> {
        let settler = self.settler(processor)?;
        if !settler.look_at_oldest(record) {
            return None;
        }
        let mut taken = None;
        settler.abandon(1, |gone| taken = Some(gone));
        taken
    }

    /// Whether any of them holds anything.
    pub(crate) fn is_used(&self) -> bool {
        self.settlers.iter().flatten().any(|it| it.used() != 0)
    }

    /// For the operator.
    pub(crate) fn rows(&self, connection: u32) -> impl Iterator<Item = RingUsageRow> + '_ {
        let settlers = (0_u32..).zip(self.settlers.iter().flatten());
        settlers.map(move |(processor, settler)| RingUsageRow {
            connection,
            processor,
            capacity: settler.capacity() as u32,
            used: settler.used() as u32,
            peak: settler.peak() as u32,
            reserved: 0,
            records: settler.records(),
            nonsense: settler.nonsense(),
        })
    }
}

/// IRQL: PASSIVE_LEVEL. Makes both halves of each ring, and puts the one into its processor's place.
#[inline(never)]
fn halves(
    shape: Shape,
    data: &Mapped,
    consumer: &Mapped,
    fillers: &mut PerProcessor<Option<Filler>>,
) -> Result<PoolSlice<Option<Settler<RingAccount>>>> {
    let mut settlers = PoolSlice::filled_with(tag::QUEUE, shape.rings(), || None)?;
    let places = settlers.iter_mut().zip(fillers.iter_mut());
    for (ring, (settler, filler)) in places.enumerate() {
        let log = PoolSlice::filled_with(tag::QUEUE, shape.records(), LogEntry::new)?;
        let account = PoolArc::new_with(tag::QUEUE, || Account::new(log))?;
        let made = Producer::new(shape, ring, data.shared(), consumer.shared(), account);
        if let Some((producer, other)) = made {
            *settler = Some(other);
            *filler = Some(producer);
        }
    }
    Ok(settlers)
}

/// IRQL: PASSIVE_LEVEL, in the service's process. Gives a connection rings, into which nothing goes before [`begin`].
///
/// Errors: those of [`Rings::new`]; `STATUS_INVALID_DEVICE_STATE` if it has some or has subscribed; `STATUS_NOT_SUPPORTED` if the
/// configuration or the kind of connection forbids them.
#[inline(never)]
pub(crate) fn attach(
    driver: &Driver,
    connection: &Connection,
    wanted: &RingsWanted,
) -> Result<RingsRow> {
    if !driver.service_key().allows_rings() {
        return Err(NtError(STATUS_NOT_SUPPORTED));
    }
    let number = connection.identity.number;
    let order = driver
        .routes()
        .lock()
        .connection(number)
        .map(|it| it.order.clone());
    let order = order.ok_or(NtError(STATUS_NOT_FOUND))?;
    let (rings, views) = Rings::new(driver, order, wanted)?;
    let marks = PoolArc::new(tag::LEDGER, Marks::new(rings.count())?)?;
    let row = views.row();
    let mut routes = driver.routes().lock();
    let refused = if routes.queues_and_rings() + rings.capacity() > MAX_QUEUES {
        Some(STATUS_INSUFFICIENT_RESOURCES)
    } else {
        None
    };
    let receiver = routes.connection(number);
    let refused = match (&receiver, refused) {
        (_, Some(refused)) => Some(refused),
        (None, _) => Some(STATUS_NOT_FOUND),
        // Its subscriptions have no marks for processors.
        (Some(receiver), _) if receiver.rings.is_some() || receiver.has_subscribed() => {
            Some(STATUS_INVALID_DEVICE_STATE)
        }
        (Some(receiver), _) if receiver.stream.is_some() => Some(STATUS_NOT_SUPPORTED),
        _ => None,
    };
    if let Some(refused) = refused {
        // What was made is freed after the lock has been released.
        drop(routes);
        drop(rings);
        return Err(NtError(refused));
    }
    if let Some(receiver) = receiver {
        receiver.rings = Some(rings);
        if let Some(own) = receiver.subscription(common_driver::NUMBER) {
            own.marks = marks;
        }
        connection.note_rings();
    }
    drop(routes);
    views.leave();
    Ok(row)
}

/// IRQL: PASSIVE_LEVEL. From now on records go into a connection's rings; unless the service could not be told where they
/// are: then it has none.
pub(crate) fn begin(driver: &Driver, connection: &Connection, told: bool) {
    let mut routes = driver.routes().lock();
    let Some(receiver) = routes.connection(connection.identity.number) else {
        return;
    };
    if told {
        if let Some(rings) = &mut receiver.rings {
            rings.begun = true;
        }
        receiver.note_losses_before();
        return routes.refresh();
    }
    // One that has begun was told of before; this was a second attempt.
    let unused = match &receiver.rings {
        Some(rings) if !rings.begun => receiver.rings.take(),
        _ => None,
    };
    // Freed after the lock has been released.
    drop(routes);
    drop(unused);
}
