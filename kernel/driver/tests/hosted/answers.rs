// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers to asynchronous requests: right ones, wrong ones, late ones, and an enemy's.

use crate::asker::{
    DEFAULT, accounts, answer, answer_as, at_dispatch_level, header, next, read, with_decider,
};
use crate::service::Service;
use fltport_abi::account::Outcome;
use fltport_abi::command::own;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{OutcomeRecord, ReplyHeader};
use fltport_abi::hello::{Hello, rights};
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_FLT_NO_WAITER_FOR_REPLY, STATUS_INVALID_PARAMETER,
};
use std::thread;
use std::time::Duration;

#[test]
fn no_answer_of_an_enemy_completes_what_it_should_not() {
    let (machine, asker, mut service) = with_decider();
    let other = Service::connect(&machine);
    let hello = Hello::new("observer", rights::OBSERVE, 0).to_bytes();
    let observer = Service::connect_with(&machine, &hello).unwrap();
    at_dispatch_level(|| asker.ask(5, 60_000));
    let question = next(&mut service);
    let right = header(&question);
    let reply = [1; 8];
    let nobody = Err(STATUS_FLT_NO_WAITER_FOR_REPLY);
    assert_eq!(answer_as(&other, right, &reply), nobody, "not asked");
    assert_eq!(
        answer_as(&observer, right, &reply),
        Err(STATUS_ACCESS_DENIED)
    );
    for bit in 0..64 {
        let request = right.request ^ (1 << bit);
        let wrong = ReplyHeader { request, ..right };
        assert_eq!(answer_as(&service, wrong, &reply), nobody, "bit {bit}");
    }
    for provider in [0, right.provider + 1, u16::MAX] {
        let wrong = ReplyHeader { provider, ..right };
        assert_eq!(answer_as(&service, wrong, &reply), nobody);
    }
    let malformed = Err(STATUS_INVALID_PARAMETER);
    let magic = ReplyHeader { magic: 0, ..right };
    assert_eq!(answer_as(&service, magic, &reply), malformed);
    for length in 0..ReplyHeader::SIZE {
        let short = service.command(0, own::ANSWER, &vec![0; length]);
        assert_eq!(short.map(drop), malformed);
    }
    assert!(asker.take(0).is_empty(), "nothing of this is an answer");
    assert_eq!(answer(&service, &question), Ok(()));
    assert_eq!(asker.next().reply, 15);
    assert_eq!(answer(&service, &question), nobody, "twice");
    drop((service, other, observer, asker));
    machine.check();
}

#[test]
fn an_answer_of_another_length_or_message_ends_it_with_the_default() {
    let (machine, asker, mut service) = with_decider();
    let wrong: [(u16, &[u8]); 5] = [
        (2, &[]),
        (2, &[1; 7]),
        (2, &[1; 8 + 1025]),
        (2, &[1; 60_000]),
        (3, &[1; 8]),
    ];
    for (message, reply) in wrong {
        at_dispatch_level(|| asker.ask(1, 60_000));
        let question = next(&mut service);
        let header = ReplyHeader {
            message,
            ..header(&question)
        };
        assert_eq!(
            answer_as(&service, header, reply),
            Err(STATUS_INVALID_PARAMETER)
        );
        let completed = asker.next();
        assert_eq!(
            (completed.outcome, completed.reply),
            (Outcome::BadReply as u32, DEFAULT)
        );
        assert_eq!(
            answer(&service, &question),
            Err(STATUS_FLT_NO_WAITER_FOR_REPLY)
        );
    }
    drop((service, asker));
    machine.check();
}

#[test]
fn answers_and_deadlines_race_and_each_is_completed_once() {
    let (machine, asker, mut service) = with_decider();
    const ALL: u64 = 2000;
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            for n in 0..ALL {
                at_dispatch_level(|| asker.ask(n, 1 + (n % 7) as u32));
            }
        });
        let mut answered = 0;
        while !asking.is_finished() || service.receive(Duration::from_millis(50)) {
            service.receive(Duration::from_millis(1));
            for record in service.drain_available() {
                match answer(&service, &read(&record)) {
                    Ok(()) => answered += 1,
                    Err(status) => assert_eq!(status, STATUS_FLT_NO_WAITER_FOR_REPLY),
                }
            }
        }
        asking.join().unwrap();
        for record in service.drain_available() {
            answered += u64::from(answer(&service, &read(&record)).is_ok());
        }
        let all: Vec<_> = (0..ALL).map(|_| asker.next()).collect();
        let right = all.iter().filter(|c| c.outcome == Outcome::Answered as u32);
        assert!(right.clone().all(|c| c.reply == c.number * 3));
        assert_eq!(right.count() as u64, answered, "what was taken was told");
        let mut numbers: Vec<_> = all.iter().map(|c| c.number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..ALL));
    });
    accounts(&service);
    drop((service, asker));
    machine.check();
}

#[test]
fn observers_see_how_it_ended() {
    let (machine, asker, mut service) = with_decider();
    let mut observer = Service::connect(&machine);
    let provider = observer.provider("generator").unwrap();
    observer.subscribe(provider, 1 << 2, 0).unwrap();
    at_dispatch_level(|| asker.ask(9, 60_000));
    let question = next(&mut service);
    answer(&service, &question).unwrap();
    let seen = observer.next().unwrap();
    let record = fltport_abi::frame::Record {
        header: seen.header,
        kind: seen.kind,
        payload: &seen.payload,
    };
    let outcome = OutcomeRecord::parse(&record).unwrap();
    assert_eq!(outcome.header.request, question.id);
    assert_eq!(outcome.header.decider, service.info().connection);
    assert_eq!(outcome.header.outcome, Outcome::Answered as u16);
    assert_eq!(outcome.request, 9_u64.to_le_bytes());
    assert_eq!(outcome.reply, 27_u64.to_le_bytes());
    asker.next();
    drop((service, observer, asker));
    machine.check();
}
