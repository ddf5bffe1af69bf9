// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common driver is unloaded while others are at work.

use fltport_client::BacklogPolicy;
use fltport_sim::plan::{Act, Death, Habit, Image, Life, MILLISECOND, Operation, Plan, Rings};
use fltport_sim::scenario;
use nt_host::{Unload, sim};

/// Somebody who reads rings in small steps, so that they are full now and then.
const READER: Life = Life {
    after: 0,
    observes: true,
    decides: false,
    gets: 1,
    first_buffer: fltport_sim::service::BUFFER,
    starts_and_exits: 0b110,
    habit: Habit::Prompt,
    hangs_after: None,
    dies_after: None,
    death: Death::Closes,
    commands: 0,
    restless: false,
    sleeps: 0,
    rings: Some(Rings {
        capacity: 64 * 1024,
        batch: 1000,
        scribbles: None,
    }),
    rate: None,
};

/// Threads that offer without a pause what their service cannot read as fast, and an unload in the
/// midst of it.
fn unloaded_in_a_flood() -> Plan {
    let flood = |bytes: usize| {
        let notify = |n: usize| Act::Notify {
            bytes: bytes * (1 + n % 3),
            irql: 0,
        };
        let mut acts = vec![Act::Rest(20)];
        acts.extend((0..60).map(notify));
        acts
    };
    Plan {
        filter_manager_after: 0,
        client_first: false,
        backlog: 0,
        quota: 0,
        policy: BacklogPolicy::KeepNewest,
        threads: vec![flood(10), flood(8000)],
        processes: Vec::new(),
        seats: vec![vec![READER]],
        operations: vec![
            Operation::Rest(20 * MILLISECOND),
            Operation::Reload(Image::Fltport, Unload::Stop),
        ],
        orderly: false,
        faults: 0,
        processors: 4,
    }
}

/// What the driver did not take any more, because it was being unloaded, was kept by the stub for the
/// next one; what the same thread offered then went into a ring, on the way that asks nobody.
#[test]
fn what_is_kept_for_the_next_driver_is_not_overtaken() {
    let run = |seed| scenario::play(seed, &unloaded_in_a_flood());
    if let Err(failure) = sim::explore(0..1000, run) {
        panic!("{failure}");
    }
}
