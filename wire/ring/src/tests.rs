// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both halves over memory of this process, and either of them against one that does anything.

mod hostile;
mod order;

use crate::memory::Ordering;
use crate::{
    Account, Bell, Consumer, Cursor, Front, LogEntry, Order, Producer, Settler, Shape, Shared,
    stride,
};
use core::ptr::NonNull;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{GapHeader, RecordHeader, RecordKind};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

pub(super) type Ours = Arc<Account<Vec<LogEntry>>>;

fn account(records: usize) -> Ours {
    Arc::new(Account::new(
        (0..records).map(|_| LogEntry::new()).collect(),
    ))
}

/// The memory of a connection.
pub(super) struct Memory {
    pub(super) shape: Shape,
    pub(super) data: Shared,
    pub(super) consumer: Shared,
    words: [Vec<u64>; 2],
}

impl Memory {
    pub(super) fn new(shape: Shape) -> Memory {
        let mut words =
            [shape.data_size(), shape.consumer_size()].map(|size| vec![0_u64; size / 8]);
        let [data, consumer] = words.each_mut().map(|words| {
            let base = NonNull::new(words.as_mut_ptr().cast()).unwrap();
            // SAFETY: the vector is never resized and lives as long as what is made of it, in this struct or in a test
            // that ends before it; and it is not used otherwise.
            unsafe { Shared::new(base, words.len() * 8) }
        });
        Memory {
            shape,
            data,
            consumer,
            words,
        }
    }

    pub(super) fn side(&self, ring: usize) -> (Producer<Ours>, Settler<Ours>) {
        let account = account(self.shape.records());
        Producer::new(self.shape, ring, &self.data, &self.consumer, account).unwrap()
    }

    pub(super) fn consumer(&self) -> Consumer<Vec<Cursor>> {
        let cursors = vec![Cursor::default(); self.shape.rings()];
        Consumer::new(self.shape, &self.data, &self.consumer, cursors).unwrap()
    }
}

pub(super) fn header(sequence: u64, payload: usize) -> RecordHeader {
    RecordHeader {
        size: 0,
        payload: payload as u32,
        sequence,
        time: 5,
        provider: 1,
        message: 2,
        kind: RecordKind::Notification as u16,
        fixed: 0,
    }
}

/// Bytes that tell the record of this number from every other one.
pub(super) fn payload(number: u64, length: usize) -> Vec<u8> {
    let bytes = (0..length as u64).map(|at| (number.wrapping_mul(31) ^ at.wrapping_mul(7)) as u8);
    bytes.collect()
}

/// Publishes a record; false if there is no room.
pub(super) fn push(producer: &mut Producer<Ours>, order: &Order, length: usize) -> bool {
    let size = RecordHeader::SIZE + length.next_multiple_of(8);
    let Some(mut room) = producer.room(size) else {
        return false;
    };
    let number = order.next();
    assert!(room.write(0, &payload(number, length)));
    assert_eq!(order.take(1), number);
    room.commit(&header(number, length), 3);
    true
}

/// Publishes a gap record for so many.
pub(super) fn push_gap(producer: &mut Producer<Ours>, order: &Order, count: u64) -> bool {
    let size = RecordHeader::SIZE + GapHeader::SIZE;
    let Some(mut room) = producer.room(size) else {
        return false;
    };
    let first = order.take(count);
    let gap = GapHeader {
        first,
        entries: 0,
        reserved: 0,
    };
    let mut payload = [0; GapHeader::SIZE];
    gap.write(&mut payload).unwrap();
    assert!(room.write(0, &payload));
    let header = RecordHeader {
        kind: RecordKind::Gap as u16,
        ..header(first + count - 1, GapHeader::SIZE)
    };
    room.commit(&header, 0);
    true
}

/// Reads what there is, checks it, and says how far it is.
pub(super) fn read(consumer: &mut Consumer<Vec<Cursor>>, mut next: u64) -> u64 {
    let mut record = vec![0; 64 * 1024];
    while consumer.front(next) == Ok(Front::Record) {
        let (size, behind) = consumer.take(&mut record).unwrap().unwrap();
        let header = RecordHeader::read(&record).unwrap();
        assert_eq!(size, header.size as usize);
        if header.kind == RecordKind::Notification as u16 {
            assert_eq!(header.sequence, next);
            let bytes = &record[RecordHeader::SIZE..][..header.payload as usize];
            assert_eq!(bytes, payload(next, bytes.len()));
        }
        next = behind;
    }
    next
}

#[test]
fn shapes_are_what_they_say_and_everything_else_is_refused() {
    for (rings, capacity) in [
        (1, 0),
        (2, 64 * 1024),
        (3, 100_000),
        (64, 1 << 20),
        (2048, 1 << 20),
    ] {
        let shape = Shape::new(rings, capacity).unwrap();
        assert!(shape.capacity() >= capacity as usize && shape.capacity().is_power_of_two());
        let mut bytes = [0; 32];
        shape.header().write(&mut bytes).unwrap();
        assert_eq!(Shape::read(&bytes), Some(shape));
        for at in 0..32 {
            let mut bad = bytes;
            bad[at] ^= 0x81;
            assert_ne!(Shape::read(&bad), Some(shape), "byte {at}");
        }
        assert_eq!(Shape::read(&bytes[..31]), None);
        assert_eq!(shape.data_size() % 4096, 0);
        assert_eq!(shape.consumer_size() % 4096, 0);
    }
    assert_eq!(Shape::new(0, 1 << 20), None);
    assert_eq!(Shape::new(2049, 1 << 16), None);
    assert_eq!(Shape::new(2048, 16 << 20), None, "32 GiB");
    assert_eq!(Shape::new(1, u32::MAX).unwrap().capacity(), 16 << 20);
}

#[test]
fn halves_that_do_not_fit_the_memory_are_refused() {
    let small = Memory::new(Shape::new(1, 0).unwrap());
    let larger = Shape::new(2, 0).unwrap();
    let log = || account(larger.records());
    assert!(Producer::new(larger, 0, &small.data, &small.consumer, log()).is_none());
    assert!(Producer::new(small.shape, 1, &small.data, &small.consumer, log()).is_none());
    let log = account(small.shape.records() - 1);
    assert!(Producer::new(small.shape, 0, &small.data, &small.consumer, log).is_none());
    let cursors = vec![Cursor::default(); 2];
    assert!(Consumer::new(larger, &small.data, &small.consumer, cursors).is_none());
    assert!(Consumer::new(small.shape, &small.data, &small.consumer, Vec::new()).is_none());
    assert!(
        small
            .words
            .iter()
            .all(|words| words.iter().all(|word| *word == 0))
    );
}

#[test]
fn a_full_ring_refuses_until_something_was_read_and_says_what_is_gone() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let ((mut producer, mut settler), order) = (memory.side(0), Order::new(1));
    let mut pushed = 0;
    while push(&mut producer, &order, 100) {
        pushed += 1;
    }
    assert_eq!(pushed, 64 * 1024 / stride(RecordHeader::SIZE + 104));
    assert_eq!(settler.peak(), settler.used());
    let mut consumer = memory.consumer();
    assert_eq!(read(&mut consumer, 1), pushed as u64 + 1);
    assert!(!settler.settle(usize::MAX, |_| panic!("not told yet")));
    consumer.release();
    let mut gone = Vec::new();
    assert!(settler.settle(7, |it| gone.push((it.tag, it.bytes))));
    assert_eq!(gone, vec![(3, stride(RecordHeader::SIZE + 104)); 7]);
    assert!(!settler.settle(usize::MAX, |_| ()));
    assert_eq!((settler.used(), settler.nonsense()), (0, 0));
    assert!(
        push(&mut producer, &order, 60 * 1024),
        "the largest payload"
    );
    consumer.front(pushed as u64 + 1).unwrap();
    assert!(
        matches!(consumer.take(&mut [0; 100]), Ok(None)),
        "too short for it"
    );
    assert_eq!(read(&mut consumer, pushed as u64 + 1), pushed as u64 + 2);
}

#[test]
fn what_is_on_its_way_when_the_consumer_dies_is_handed_back() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let ((mut producer, mut settler), order) = (memory.side(0), Order::new(1));
    (0..10).for_each(|_| assert!(push(&mut producer, &order, 8)));
    let mut consumer = memory.consumer();
    for number in 1..=4 {
        assert_eq!(consumer.front(number), Ok(Front::Record));
        consumer.take(&mut [0; 64]).unwrap();
    }
    consumer.release();
    settler.settle(usize::MAX, |_| ());
    // Another one goes on with the fifth, whatever this one leaves behind.
    let word = memory.consumer.word(memory.shape.consumed(0));
    word.store(u64::MAX, Ordering::Relaxed);
    settler.hand_over();
    assert_eq!(read(&mut memory.consumer(), 5), 11);
    let mut left = 0;
    assert!(settler.abandon(4, |_| left += 1));
    assert!(!settler.abandon(99, |_| left += 1));
    assert_eq!((left, settler.used()), (6, 0));
}

#[test]
fn the_bell_is_rung_once_for_each_sleep() {
    let memory = Memory::new(Shape::new(2, 0).unwrap());
    let ((mut producer, _), order) = (memory.side(1), Order::new(1));
    let (mut consumer, bell) = (memory.consumer(), Bell::new(&memory.consumer));
    assert!(!bell.is_to_ring());
    assert!(consumer.arm());
    assert!(push(&mut producer, &order, 0));
    assert!(bell.is_to_ring() && !bell.is_to_ring());
    assert!(!consumer.arm(), "there is something to read");
    assert!(!bell.is_to_ring());
    assert_eq!(read(&mut consumer, 1), 2);
    assert!(consumer.arm());
    consumer.disarm();
    assert!(!bell.is_to_ring());
}

#[test]
fn each_record_is_told_of_once_on_its_way_or_when_it_is_gone() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let ((mut producer, mut settler), order) = (memory.side(0), Order::new(1));
    let mut consumer = memory.consumer();
    (0..4).for_each(|_| assert!(push(&mut producer, &order, 8)));
    let mut noted = 0;
    assert!(settler.note(3, |_| noted += 1));
    read(&mut consumer, 1);
    consumer.release();
    (0..2).for_each(|_| assert!(push(&mut producer, &order, 8)));
    let mut gone = Vec::new();
    settler.settle(9, |it| gone.push(it.noted));
    assert_eq!(gone, [true, true, true, false]);
    assert!(!settler.note(9, |_| noted += 1));
    assert_eq!(noted, 5);
    assert!(!settler.note(9, |_| panic!("told of before")));
    settler.abandon(9, |it| assert!(it.noted));
}

/// A ring with records of later numbers does not keep a consumer from sleeping that waits for an earlier one.
#[test]
fn one_that_waits_for_a_number_sleeps_although_later_ones_are_there() {
    let memory = Memory::new(Shape::new(2, 0).unwrap());
    let ((mut other, _), order) = (memory.side(1), Order::new(2));
    let mut consumer = memory.consumer();
    assert!(push(&mut other, &order, 8));
    assert_eq!(consumer.front(1), Ok(Front::Missing(2)));
    assert!(push(&mut other, &order, 8));
    assert!(!consumer.arm(), "something new");
    assert_eq!(consumer.front(1), Ok(Front::Missing(2)));
    assert!(consumer.arm());
    let first = Order::new(1);
    assert!(push(&mut memory.side(0).0, &first, 8));
    assert!(!consumer.arm());
    assert_eq!(read(&mut consumer, 1), 4);
}

/// A number that was given up waiting for, because its producer was stopped, comes after all.
#[test]
fn what_comes_too_late_is_passed_over() {
    let memory = Memory::new(Shape::new(2, 0).unwrap());
    let mut consumer = memory.consumer();
    let later = Order::new(3);
    assert!(push(&mut memory.side(1).0, &later, 8));
    assert_eq!(consumer.front(1), Ok(Front::Missing(3)));
    assert_eq!(read(&mut consumer, 3), 4);
    let ((mut stopped, _), order) = (memory.side(0), Order::new(1));
    assert!(push(&mut stopped, &order, 8) && push(&mut stopped, &order, 8));
    let corrupt = consumer.front(4).unwrap_err();
    assert_eq!((corrupt.ring, corrupt.position), (0, 0));
    assert_eq!(consumer.pass_over(4), Ok(2));
    assert_eq!(consumer.front(4), Ok(Front::Empty));
    assert_eq!(consumer.pass_over(4), Ok(0));
}
