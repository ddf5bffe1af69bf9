// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever is pushed to whichever ring, it is read whole and in the order of its numbers.

use super::{Memory, push, push_gap, read};
use crate::{Order, Shape};
use proptest::prelude::*;
use std::vec::Vec;

#[derive(Clone, Debug)]
enum Step {
    Push { ring: usize, length: usize },
    Gap { ring: usize, count: u64 },
    Settle { ring: usize, most: usize },
    Read,
    Release,
}

fn step(rings: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..rings, 0..3000_usize).prop_map(|(ring, length)| Step::Push { ring, length }),
        1 => (0..rings, 50_000..60_000_usize).prop_map(|(ring, length)| Step::Push { ring, length }),
        2 => (0..rings, 1..1000_u64).prop_map(|(ring, count)| Step::Gap { ring, count }),
        2 => (0..rings, 1..20_usize).prop_map(|(ring, most)| Step::Settle { ring, most }),
        3 => Just(Step::Read),
        2 => Just(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_arrives_once_in_order(
        rings in 1..9_usize,
        steps in prop::collection::vec(step(8), 1..300),
    ) {
        let memory = Memory::new(Shape::new(rings as u32, 0).unwrap());
        let mut sides: Vec<_> = (0..rings).map(|ring| memory.side(ring)).collect();
        let (order, mut consumer) = (Order::new(1), memory.consumer());
        let mut next = 1;
        for step in steps {
            match step {
                Step::Push { ring, length } => {
                    push(&mut sides[ring % rings].0, &order, length);
                }
                Step::Gap { ring, count } => {
                    push_gap(&mut sides[ring % rings].0, &order, count);
                }
                Step::Settle { ring, most } => {
                    sides[ring % rings].1.settle(most, |_| ());
                }
                Step::Read => {
                    next = read(&mut consumer, next);
                    // Nothing is in progress here, so nothing may be missing.
                    prop_assert_eq!(next, order.next());
                    prop_assert!(consumer.arm());
                }
                Step::Release => consumer.release(),
            }
        }
        prop_assert_eq!(read(&mut consumer, next), order.next());
        consumer.release();
        for (_, settler) in &mut sides {
            settler.settle(usize::MAX, |_| ());
            prop_assert_eq!((settler.used(), settler.nonsense()), (0, 0));
        }
    }
}
