// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that writes anything to every byte that it can write, and a driver whose data is anything.

use super::{Memory, header, push, read};
use crate::{Bell, Consumer, Cursor, Front, Order, Shape, stride};
use core::sync::atomic::Ordering;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::RecordHeader;
use proptest::prelude::*;
use std::vec::Vec;

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Settle(usize),
    Ring,
    /// The consumer's word of the ring: something near what it should be, or anything.
    Near(i64),
    Claim(u64),
    Arm(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..2000_usize).prop_map(Step::Push),
        3 => (0..50_usize).prop_map(Step::Settle),
        1 => Just(Step::Ring),
        3 => (-3000..3000_i64).prop_map(Step::Near),
        1 => any::<u64>().prop_map(Step::Claim),
        1 => any::<u32>().prop_map(Step::Arm),
    ]
}

proptest! {
    /// The producer's own account is true whatever the consumer claims: what it pushed is used until it was handed back, once, and it
    /// never has more than the ring holds.
    #[test]
    fn a_producer_keeps_a_true_account_of_a_hostile_consumers_ring(
        steps in prop::collection::vec(step(), 1..500),
    ) {
        let memory = Memory::new(Shape::new(1, 0).unwrap());
        let ((mut producer, mut settler), order) = (memory.side(0), Order::new(1));
        let (word, bell) = (memory.consumer.word(memory.shape.consumed(0)), Bell::new(&memory.consumer));
        let (mut tail, mut pushed, mut gone, mut rung, mut armed) = (0, 0_u64, 0_u64, 0, 0);
        let mut bytes = 0_usize;
        for step in steps {
            match step {
                Step::Push(length) => {
                    let size = stride(RecordHeader::SIZE + length.next_multiple_of(8));
                    let fits = producer.has_room(size);
                    prop_assert_eq!(push(&mut producer, &order, length), fits);
                    if fits {
                        (tail, pushed, bytes) = (tail + size as u64, pushed + 1, bytes + size);
                    }
                }
                Step::Settle(most) => {
                    let mut count = 0;
                    settler.settle(most, |it| {
                        assert_eq!(it.tag, 3);
                        (count, bytes) = (count + 1, bytes - it.bytes);
                    });
                    prop_assert!(count <= most);
                    gone += count as u64;
                }
                Step::Ring => rung += u32::from(bell.is_to_ring()),
                Step::Near(by) => word.store(tail.wrapping_add_signed(by), Ordering::Relaxed),
                Step::Claim(claim) => word.store(claim, Ordering::Relaxed),
                Step::Arm(value) => {
                    memory.consumer.half_word(0).store(value & 1, Ordering::Relaxed);
                    armed += value & 1;
                }
            }
            prop_assert_eq!(settler.used(), bytes);
            prop_assert!(settler.used() <= producer.capacity());
        }
        prop_assert!(rung <= armed);
        while settler.abandon(100, |_| gone += 1) {}
        prop_assert_eq!((gone, settler.used(), order.next()), (pushed, 0, pushed + 1));
    }

    /// Whatever the data is, the consumer reads records that are whole or says that it is corrupt, and ends.
    #[test]
    fn a_consumer_survives_data_that_is_anything(
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..40),
        ends in prop::collection::vec(prop_oneof![0..2_u64 << 16, any::<u64>()], 3),
        numbers in prop::collection::vec(0..300_u64, 1..60),
    ) {
        let memory = Memory::new(Shape::new(3, 0).unwrap());
        let order = Order::new(1);
        let mut producers: Vec<_> = (0..3).map(|ring| memory.side(ring).0).collect();
        for number in 0..60 {
            push(&mut producers[number % 3], &order, number * 5);
        }
        for (at, value) in spoilt {
            // The first pages of each ring, where records are.
            let place = at.index(3 * 512);
            let offset = memory.shape.ring(place / 512) + place % 512 * 8;
            memory.data.word(offset).store(value, Ordering::Relaxed);
        }
        let mut consumer: Consumer<Vec<Cursor>> = memory.consumer();
        for (ring, end) in ends.iter().enumerate().filter(|(_, end)| **end % 3 == 0) {
            memory.data.word(memory.shape.published(ring)).store(*end, Ordering::Relaxed);
        }
        let mut record = std::vec![0; 64 * 1024];
        let mut taken = 0;
        for number in numbers {
            match consumer.front(number) {
                Ok(Front::Record) => match consumer.take(&mut record) {
                    Ok(Some((size, behind))) => {
                        let header = RecordHeader::read(&record).unwrap();
                        prop_assert!(header.size as usize == size && behind > number);
                        prop_assert!(header.payload as usize <= size - RecordHeader::SIZE);
                        taken += stride(size);
                    }
                    Ok(None) => prop_assert!(false, "there is room for every record"),
                    Err(corrupt) => prop_assert!(corrupt.ring < 3),
                },
                Ok(_) => {
                    consumer.arm();
                }
                Err(corrupt) => prop_assert!(corrupt.ring < 3),
            }
            consumer.release();
        }
        prop_assert!(taken <= 3 * memory.shape.capacity());
    }
}

#[test]
fn numbers_that_go_back_are_corrupt() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let (mut producer, _) = memory.side(0);
    for number in [5, 4] {
        let room = producer.room(stride(RecordHeader::SIZE)).unwrap();
        room.commit(&header(number, 0), 0);
    }
    let mut consumer = memory.consumer();
    assert_eq!(consumer.front(4), Ok(Front::Missing(5)));
    assert_eq!(consumer.front(5), Ok(Front::Record));
    assert!(consumer.take(&mut [0; 64]).is_err());
    let consumer = &mut memory.consumer();
    assert!(consumer.front(6).is_err(), "it was read before");
}

#[test]
fn a_claim_beyond_what_was_published_is_counted_and_believed_by_nobody() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let ((mut producer, mut settler), order) = (memory.side(0), Order::new(1));
    assert!(push(&mut producer, &order, 8));
    let word = memory.consumer.word(memory.shape.consumed(0));
    for claim in [65, 1 << 20, u64::MAX] {
        word.store(claim, Ordering::Relaxed);
        assert!(!settler.settle(9, |_| panic!("not read")));
    }
    assert_eq!((settler.nonsense(), settler.used()), (3, 64));
    word.store(0, Ordering::Relaxed);
    assert_eq!(read(&mut memory.consumer(), 1), 2);
}

#[test]
fn a_consumer_sleeps_though_what_it_could_not_read_was_taken_back() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let ((mut producer, _), order) = (memory.side(0), Order::new(1));
    (0..2).for_each(|_| assert!(push(&mut producer, &order, 8)));
    let second = memory.data.word(memory.shape.ring(0) + 64);
    second.store(0, Ordering::Relaxed);
    let mut consumer = memory.consumer();
    let mut out = [0; 256];
    assert_eq!(consumer.fill(1, &mut out), Ok((1, 40, 2)));
    let published = memory.data.word(memory.shape.published(0));
    published.store(64, Ordering::Relaxed);
    assert_eq!(consumer.front(2), Ok(Front::Empty));
    assert!(
        consumer.arm(),
        "it would look again and again, and never find anything"
    );
}

#[test]
fn a_ring_that_is_sound_again_is_read_once() {
    let memory = Memory::new(Shape::new(1, 0).unwrap());
    let ((mut producer, _), order) = (memory.side(0), Order::new(1));
    (0..2).for_each(|_| assert!(push(&mut producer, &order, 8)));
    let second = memory.data.word(memory.shape.ring(0) + 64);
    let sound = second.swap(0, Ordering::Relaxed);
    let (mut consumer, mut out) = (memory.consumer(), [0; 64]);
    assert_eq!(consumer.front(1), Ok(Front::Record));
    assert!(consumer.take(&mut out).is_err());
    second.store(sound, Ordering::Relaxed);
    assert_eq!(consumer.front(2), Ok(Front::Record));
    assert_eq!(consumer.take(&mut out), Ok(Some((40, 3))));
    assert_eq!(consumer.front(3), Ok(Front::Empty), "it was read before");
}
