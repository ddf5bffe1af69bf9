// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asynchronous requests through the stub: with types and a closure.

use crate::asker::{answer, at_dispatch_level, decider, next};
use crate::generator::{self, Reply};
use crate::machine::{FLTPORT, Machine};
use crate::service::PATIENCE;
use fltport_abi::account::Outcome;
use fltport_client::{Answer, BacklogPolicy};
use fltport_nt::bindings::STATUS_INSUFFICIENT_RESOURCES;
use nt_host::faults::FaultPlan;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

/// Asks through the stub; what comes back goes to the channel, with the number.
fn ask_through_the_stub(numbers: std::ops::Range<u64>) -> Receiver<(u64, Answer<Reply>)> {
    let (sender, answers) = channel();
    for number in numbers {
        let sender = sender.clone();
        // A test that has ended does not listen any more.
        let then = move |answer| {
            let _heard = sender.send((number, answer));
        };
        at_dispatch_level(|| generator::ask_async(number, 60_000, then)).expect("asked");
    }
    answers
}

#[test]
fn the_stub_asks_and_is_answered_with_types() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut service = decider(&machine);
    let answers = ask_through_the_stub(0..50);
    for _ in 0..50 {
        let question = next(&mut service);
        assert_eq!(answer(&service, &question), Ok(()));
        let (number, answer) = answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!(number, question.number);
        assert_eq!(answer.outcome, Outcome::Answered);
        assert_eq!(answer.reply.number, number * 3);
    }
    // Nobody keeps a closure that has been called.
    assert!(answers.recv().is_err());
    drop(service);
    machine.check();
}

#[test]
fn the_unload_of_the_common_driver_completes_everything_and_then_the_stub_does() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let image = generator::image(&machine, 0, BacklogPolicy::KeepNewest);
    machine.load(&image);
    let service = decider(&machine);
    let answers = ask_through_the_stub(0..300);
    machine.stop(&FLTPORT);
    let all: Vec<_> = answers.try_iter().collect();
    assert_eq!(all.len(), 300, "by the end of the unload");
    let outcomes = [Outcome::Failed, Outcome::Disconnected];
    assert!(
        all.iter()
            .all(|(_, a)| outcomes.contains(&a.outcome) && a.reply.number == 0)
    );
    // Without a common driver: the default, from a work item, which may run again before it has come to its end.
    let answers = ask_through_the_stub(0..20);
    machine.stop(&image);
    let mut all: Vec<_> = answers.try_iter().collect();
    all.sort_by_key(|(number, _)| *number);
    assert!(all.iter().map(|(number, _)| *number).eq(0..20), "{all:?}");
    assert!(all.iter().all(|(_, a)| a.outcome == Outcome::NoDecider));
    drop(service);
    machine.check();
}

/// A closure that cannot be passed on is dropped, not called; each other one is called once, and no
/// memory is left.
#[test]
fn a_stub_short_of_memory_refuses_and_leaves_nothing() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut refused = 0;
    for n in 0.. {
        let (sender, answers) = channel();
        let plan = FaultPlan::nth(n).of("ExAllocatePool2");
        machine.kernel.set_faults(plan.clone());
        let asked = generator::ask_async(n, 60_000, move |answer| {
            let _heard = sender.send(answer);
        });
        machine.kernel.set_faults(FaultPlan::default());
        let answer = answers.recv_timeout(PATIENCE);
        match asked {
            Ok(()) => assert_eq!(answer.unwrap().outcome, Outcome::NoDecider),
            Err(error) => {
                assert_eq!(error.status(), STATUS_INSUFFICIENT_RESOURCES);
                assert_eq!(answer, Err(RecvTimeoutError::Disconnected));
                refused += 1;
            }
        }
        if plan.injected().is_empty() {
            break;
        }
    }
    assert!(refused >= 6, "{refused}");
    machine.check();
}
