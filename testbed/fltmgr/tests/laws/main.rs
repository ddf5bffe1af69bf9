// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laws, under random sequences of operations and under both answers to the open questions.
//!
//! A model beside the machine remembers only what was begun, what was completed, and which sender
//! asked which message; after every operation the effects and the machine's snapshot are held
//! against it.

mod model;
mod operation;
mod run;
#[path = "../world/mod.rs"]
mod world;

use fltmgr::*;
use proptest::prelude::*;

use model::Model;
use operation::{decisions, op};
use run::Run;
use world::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn laws_hold_after_every_operation(
        decisions in decisions(),
        limit in 1..5_i32,
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let world = World::with(decisions, |attributes| attributes.max_connections = limit);
        let mut run = Run { world, model: Model::default() };
        for op in ops {
            run.step(op);
        }
        run.finish();
    }

    #[test]
    fn expire_leaves_no_overdue_send(
        waits in proptest::collection::vec((0..50_u64, any::<bool>()), 1..30),
        now in 0..60_u64,
    ) {
        let mut world = World::new();
        let connection = world.connect();
        for (wait, asks) in waits {
            if asks {
                world.manager.get(connection, 64);
            }
            let reply = asks.then_some(4);
            world.manager.send(connection, b"x".to_vec(), reply, Some(Time(wait)));
        }
        world.manager.expire(Time(now));
        let sends = world.manager.snapshot().sends;
        prop_assert!(sends.iter().all(|send| send.deadline > Some(Time(now))));
        prop_assert!(world.manager.next_deadline().is_none_or(|next| next > Time(now)));
    }

    #[test]
    fn a_reply_reaches_the_sender_that_asked(
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut world = World::new();
        let connection = world.connect();
        let asked: Vec<_> = (0..8).map(|_| world.ask(connection, 8)).collect();
        for index in order {
            let (send, id) = asked[index];
            let payload = id.0.to_le_bytes();
            let (result, effects) = world.reply(connection, id, &payload);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(effects, vec![replied(send, Status::SUCCESS, &payload)]);
        }
    }
}
