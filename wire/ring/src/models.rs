// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every interleaving, and every order in which stores become visible, of what the two halves do to each
//! other.

mod broken;

use crate::account::{Account, LogEntry};
use crate::bell::{Bell, Published};
use crate::consumer::{Consumer, Cursor, Front};
use crate::layout::{Shape, stride};
use crate::memory::Shared;
use crate::order::Order;
use crate::producer::{Producer, Room};
use crate::settler::Settler;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{GapHeader, RecordHeader, RecordKind};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::vec;
use std::vec::Vec;

/// Bytes of a record in these models: a header, and a word that says its number once more.
const SIZE: usize = RecordHeader::SIZE + 8;

/// What an event is to a driver. Nobody waits for it here: a consumer that would sleep says so and ends, and is
/// to be signalled if there is anything for it to read.
#[derive(Default)]
pub(super) struct Signal(AtomicBool);

impl Signal {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Once all producers have ended.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the two processes share.
#[derive(Clone)]
pub(super) struct Memory {
    shape: Shape,
    data: Shared,
    consumer: Shared,
}

impl Memory {
    /// So many rings for so many records each.
    pub(super) fn new(rings: u32, records: usize) -> Memory {
        let shape = Shape::tiny(rings, (records * stride(SIZE)) as u32);
        let all = 0..shape.rings();
        let published = all.clone().map(|ring| shape.published(ring));
        let consumed = all.map(|ring| shape.consumed(ring));
        let length = shape.consumer_size();
        Memory {
            data: Shared::modelled(shape.data_size(), published, shape.ring(0)),
            consumer: Shared::modelled(length, consumed, length),
            shape,
        }
    }

    pub(super) fn consumer(&self) -> Consumer<Vec<Cursor>> {
        let cursors = vec![Cursor::default(); self.shape.rings()];
        Consumer::new(self.shape, &self.data, &self.consumer, cursors).unwrap()
    }
}

type Ours = Arc<Account<Vec<LogEntry>>>;

/// A producer as the common driver is one, settler and all.
pub(super) struct Side {
    producer: Producer<Ours>,
    settler: Settler<Ours>,
    order: Arc<Order>,
    bell: Bell,
    signal: Arc<Signal>,
    /// Lost since the last gap record.
    untold: u64,
}

impl Side {
    fn new(memory: &Memory, ring: usize, order: &Arc<Order>, signal: &Arc<Signal>) -> Side {
        let log = (0..memory.shape.records()).map(|_| LogEntry::new());
        let account = Arc::new(Account::new(log.collect()));
        let (shape, data, consumer) = (memory.shape, &memory.data, &memory.consumer);
        let (producer, settler) = Producer::new(shape, ring, data, consumer, account).unwrap();
        Side {
            producer,
            settler,
            order: order.clone(),
            bell: Bell::new(&memory.consumer),
            signal: signal.clone(),
            untold: 0,
        }
    }

    /// Publishes a record, behind a gap record if any were lost; or loses it.
    fn push(&mut self) {
        let gap = if self.untold == 0 {
            0
        } else {
            stride(GAP_SIZE)
        };
        if !self.producer.has_room(stride(SIZE) + gap) {
            self.settler.settle(usize::MAX, |_| ());
        }
        if !self.producer.has_room(stride(SIZE) + gap) {
            self.untold += 1;
            return;
        }
        if gap != 0 {
            self.tell();
        }
        let room = self.producer.room(SIZE).unwrap();
        Self::fill(room, &self.order);
        self.wake();
    }

    /// Publishes a record, for which there is room, and wakes nobody.
    fn publish(&mut self) {
        Self::fill(self.producer.room(SIZE).unwrap(), &self.order);
    }

    fn fill(mut room: Room<'_, Ours>, order: &Order) {
        // What a payload says is not known to be the number before that is taken.
        assert!(room.write(0, &7_u64.to_le_bytes()));
        let number = order.take(1);
        room.commit(&header(number, RecordKind::Notification, 8), 1);
    }

    /// Publishes a gap record for what was lost.
    fn tell(&mut self) {
        let mut room = self.producer.room(GAP_SIZE).unwrap();
        let first = self.order.take(self.untold);
        let gap = GapHeader {
            first,
            entries: 0,
            reserved: 0,
        };
        let mut payload = [0; GapHeader::SIZE];
        gap.write(&mut payload).unwrap();
        assert!(room.write(0, &payload));
        let last = first + self.untold - 1;
        room.commit(&header(last, RecordKind::Gap, GapHeader::SIZE), 0);
        self.untold = 0;
        self.wake();
    }

    fn wake(&self) {
        self.wake_behind(&Published::fence());
    }

    fn wake_behind(&self, behind: &Published) {
        if self.bell.is_to_ring_behind(behind) {
            self.signal.set();
        }
    }
}

const GAP_SIZE: usize = RecordHeader::SIZE + GapHeader::SIZE;

fn header(sequence: u64, kind: RecordKind, payload: usize) -> RecordHeader {
    RecordHeader {
        size: 0,
        payload: payload as u32,
        sequence,
        time: 0,
        provider: 1,
        message: 1,
        kind: kind as u16,
        fixed: 0,
    }
}

/// Reads in order until there is no next record now; the number that follows, and how many were told to be lost.
fn read(consumer: &mut Consumer<Vec<Cursor>>, mut next: u64) -> (u64, u64) {
    let mut lost = 0;
    while consumer.front(next).unwrap() == Front::Record {
        let mut record = [0; GAP_SIZE];
        let (_, behind) = consumer.take(&mut record).unwrap().unwrap();
        let header = RecordHeader::read(&record).unwrap();
        if header.kind == RecordKind::Gap as u16 {
            lost += behind - next;
        } else {
            assert_eq!(header.sequence, next);
            assert_eq!(u64::read(&record[RecordHeader::SIZE..]), Some(7));
        }
        next = behind;
    }
    (next, lost)
}

/// Reads until everything before this number has been read, or there is nothing to do but to sleep; the number that follows.
fn read_until(consumer: &mut Consumer<Vec<Cursor>>, mut next: u64, end: u64) -> u64 {
    while next != end && !consumer.arm() {
        next = read(consumer, next).0;
    }
    next
}

#[test]
fn what_is_read_is_whole_and_room_is_used_again_only_after_it_was_read() {
    loom::model(|| {
        let memory = Memory::new(1, 1);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut side = Side::new(&memory, 0, &order, &signal);
        let producing = thread::spawn(move || {
            side.push();
            side.push();
            side
        });
        let mut consumer = memory.consumer();
        let (mut next, _) = read(&mut consumer, 1);
        consumer.release();
        next = read(&mut consumer, next).0;
        let side = producing.join().unwrap();
        let (next, _) = read(&mut consumer, next);
        // Nothing but what was lost is missing.
        assert_eq!(next - 1 + side.untold, 2);
        assert_eq!(order.next(), next);
    });
}

#[test]
fn a_ring_that_wraps_in_the_middle_of_a_record() {
    loom::model(|| {
        // Three records take two and a half times the bytes of this ring.
        let mut memory = Memory::new(1, 1);
        memory.shape = Shape::tiny(1, 128);
        memory.data = Shared::modelled(
            memory.shape.data_size(),
            [memory.shape.published(0)].into_iter(),
            memory.shape.ring(0),
        );
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut side = Side::new(&memory, 0, &order, &signal);
        let mut consumer = memory.consumer();
        let put = |side: &mut Side| {
            let mut room = side.producer.room(RecordHeader::SIZE + 64).unwrap();
            assert!(room.write(0, &[5; 40]) && room.write(40, &[6; 24]));
            assert!(!room.write(48, &[7; 24]), "beyond the record");
            room.commit(&header(side.order.take(1), RecordKind::Notification, 64), 1);
        };
        put(&mut side);
        assert!(side.producer.room(RecordHeader::SIZE + 64).is_none());
        let get = |consumer: &mut Consumer<Vec<Cursor>>, number| {
            assert_eq!(consumer.front(number), Ok(Front::Record));
            let mut record = [0; RecordHeader::SIZE + 64];
            consumer.take(&mut record).unwrap().unwrap();
            assert_eq!(record[RecordHeader::SIZE..][..40], [5; 40]);
            assert_eq!(record[RecordHeader::SIZE + 40..], [6; 24]);
            consumer.release();
        };
        get(&mut consumer, 1);
        let producing = thread::spawn(move || {
            side.settler.settle(1, |_| ());
            put(&mut side);
        });
        let early = consumer.front(2).unwrap() == Front::Record;
        if early {
            get(&mut consumer, 2);
        }
        producing.join().unwrap();
        if !early {
            get(&mut consumer, 2);
        }
    });
}

/// A consumer that sleeps when there is nothing to read, while this publishes `end - 1` records in all: if it sleeps and
/// then there is something, it is signalled.
fn nobody_sleeps_on(
    memory: &Memory,
    signal: &Signal,
    end: u64,
    publish: impl FnOnce() -> Side + Send + 'static,
) {
    let mut consumer = memory.consumer();
    // What it returns is not dropped there: that is not what is explored, and takes loom long.
    let publishing = thread::spawn(publish);
    let next = read_until(&mut consumer, 1, end);
    let _side = publishing.join().unwrap();
    if next != end {
        assert!(signal.is_set(), "it sleeps with records before it");
    }
    assert_eq!(read(&mut consumer, next).0, end);
}

#[test]
fn a_consumer_that_sleeps_is_woken_by_one_producer() {
    loom::model(|| {
        let memory = Memory::new(1, 2);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut side = Side::new(&memory, 0, &order, &signal);
        nobody_sleeps_on(&memory, &signal, 3, move || {
            side.push();
            side.push();
            side
        });
    });
}

/// A record for two connections, one fence behind both, and then both bells: neither consumer sleeps with it before him.
#[test]
fn two_consumers_are_woken_behind_one_fence() {
    loom::model(|| {
        let memories = [Memory::new(1, 2), Memory::new(1, 2)];
        let signals = [(); 2].map(|()| Arc::new(Signal::default()));
        let mut sides = [0, 1].map(|n: usize| {
            let order = Arc::new(Order::new(1));
            Side::new(&memories[n], 0, &order, &signals[n])
        });
        let [mut one, mut other] = [0, 1].map(|n: usize| memories[n].consumer());
        let publishing = thread::spawn(move || {
            sides.iter_mut().for_each(Side::publish);
            let behind = Published::fence();
            sides.iter().for_each(|side| side.wake_behind(&behind));
            sides
        });
        let reading = thread::spawn(move || {
            let next = read_until(&mut other, 1, 2);
            (other, next)
        });
        let next = read_until(&mut one, 1, 2);
        let _sides = publishing.join().unwrap();
        let (other, other_next) = reading.join().unwrap();
        for (mut consumer, next, signal) in
            [(one, next, &signals[0]), (other, other_next, &signals[1])]
        {
            if next != 2 {
                assert!(signal.is_set(), "it sleeps with a record before it");
            }
            assert_eq!(read(&mut consumer, next).0, 2);
        }
    });
}

/// One of two producers is stopped between taking its number and publishing, while the other one's record, with a later
/// number, is there: then nothing is read out of order, and whoever waits is woken.
#[test]
fn a_consumer_that_waits_for_a_number_is_woken() {
    loom::model(|| {
        let memory = Memory::new(2, 2);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut stopped = Side::new(&memory, 0, &order, &signal);
        let mut other = Side::new(&memory, 1, &order, &signal);
        let number = order.take(1);
        other.push();
        nobody_sleeps_on(&memory, &signal, 3, move || {
            let mut room = stopped.producer.room(SIZE).unwrap();
            assert!(room.write(0, &7_u64.to_le_bytes()));
            room.commit(&header(number, RecordKind::Notification, 8), 1);
            stopped.wake();
            stopped
        });
    });
}

/// Two producers and the consumer at once, with all that can happen to their numbers.
#[test]
fn two_rings_are_merged_in_the_order_of_their_numbers() {
    loom::model(|| {
        let memory = Memory::new(2, 2);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut first = Side::new(&memory, 0, &order, &signal);
        let mut second = Side::new(&memory, 1, &order, &signal);
        nobody_sleeps_on(&memory, &signal, 3, move || {
            let second = thread::spawn(move || {
                second.push();
                second
            });
            first.push();
            let _second = second.join().unwrap();
            first
        });
    });
}

#[test]
fn losses_are_told_where_they_were_and_leave_no_hole() {
    loom::model(|| {
        let memory = Memory::new(2, 2);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut full = Side::new(&memory, 0, &order, &signal);
        let mut other = Side::new(&memory, 1, &order, &signal);
        full.push();
        full.push();
        full.push();
        assert_eq!(full.untold, 1);
        let producing = thread::spawn(move || {
            full.push();
            full
        });
        let mut consumer = memory.consumer();
        let (next, mut lost) = read(&mut consumer, 1);
        consumer.release();
        other.push();
        let (next, more) = read(&mut consumer, next);
        lost += more;
        consumer.release();
        let mut full = producing.join().unwrap();
        full.push();
        full.push();
        let (next, more) = read(&mut consumer, next);
        lost += more;
        // Seven were offered in all; what is not told yet is known.
        assert_eq!(next - 1 + full.untold, 7);
        assert_eq!(order.next(), next);
        assert!(lost + full.untold >= 1);
    });
}

#[test]
fn another_consumer_goes_on_where_the_one_that_died_had_told_it_was() {
    loom::model(|| {
        let memory = Memory::new(1, 2);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut side = Side::new(&memory, 0, &order, &signal);
        side.push();
        let side = Arc::new(Mutex::new(side));
        let theirs = memory.clone();
        let dying = thread::spawn(move || {
            let mut consumer = theirs.consumer();
            let (next, _) = read(&mut consumer, 1);
            consumer.release();
            // It has read this, too, and nobody will ever know.
            read(&mut consumer, next);
            next
        });
        let producer = side.clone();
        let producing = thread::spawn(move || producer.lock().unwrap().push());
        let next = dying.join().unwrap();
        // The driver does this under whatever keeps the ring's producer out.
        let mut locked = side.lock().unwrap();
        locked.settler.settle(usize::MAX, |_| ());
        locked.settler.hand_over();
        drop(locked);
        let mut second = memory.consumer();
        let (next, _) = read(&mut second, next);
        producing.join().unwrap();
        let (next, _) = read(&mut second, next);
        assert_eq!(next, 3, "nothing is missing");
    });
}

/// As in the driver: one processor fills the ring while another one accounts for it.
#[test]
fn a_ring_is_filled_while_it_is_settled() {
    loom::model(|| {
        let memory = Memory::new(1, 1);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut side = Side::new(&memory, 0, &order, &signal);
        side.push();
        let mut consumer = memory.consumer();
        assert_eq!(read(&mut consumer, 1).0, 2);
        let Side {
            mut producer,
            mut settler,
            ..
        } = side;
        let theirs = order.clone();
        let producing = thread::spawn(move || {
            let pushed = producer.room(SIZE).map(|mut room| {
                assert!(room.write(0, &7_u64.to_le_bytes()));
                room.commit(&header(theirs.take(1), RecordKind::Notification, 8), 2);
            });
            (pushed.is_some(), producer, theirs)
        });
        let mut gone = Vec::new();
        consumer.release();
        settler.settle(9, |it| gone.push(it.tag));
        assert_eq!(gone, [1]);
        let (pushed, _producer, _order) = producing.join().unwrap();
        assert_eq!(read(&mut consumer, 2).0, 2 + u64::from(pushed));
        consumer.release();
        settler.settle(9, |it| gone.push(it.tag));
        assert_eq!(gone.len(), 1 + usize::from(pushed));
        assert_eq!((settler.used(), settler.nonsense()), (0, 0));
    });
}

#[test]
fn room_that_is_given_back_leaves_nothing_behind() {
    loom::model(|| {
        let memory = Memory::new(1, 1);
        let (order, signal) = (Arc::new(Order::new(1)), Arc::new(Signal::default()));
        let mut side = Side::new(&memory, 0, &order, &signal);
        let producing = thread::spawn(move || {
            let mut room = side.producer.room(SIZE).unwrap();
            assert!(room.write(0, &[9; 8]));
            drop(room);
            assert_eq!(side.order.next(), 1);
            side.push();
        });
        let mut consumer = memory.consumer();
        let (next, _) = read(&mut consumer, 1);
        producing.join().unwrap();
        assert_eq!(read(&mut consumer, next).0, 2);
    });
}
