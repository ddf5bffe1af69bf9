// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests: answered, missed, refused, and all that a decider can do wrong.

use crate::generator::{self, Question};
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Service};
use fltport_abi::account::Outcome;
use fltport_abi::frame::{OutcomeRecord, Record, RecordKind};
use fltport_abi::message::Message;
use fltport_abi::process_monitor::{ProcessCreate, ProcessStart, ProcessVerdict};
use fltport_abi::text::Text;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{STATUS_ACCESS_DENIED, STATUS_FLT_NO_WAITER_FOR_REPLY};
use fltport_nt::linked::STATUS_SHARING_VIOLATION;
use std::thread;
use std::time::{Duration, Instant};

const DENY: [u8; 4] = [1, 0, 0, 0];
const ALLOW: [u8; 4] = [0; 4];

fn with_decider() -> (Machine, Service, u32) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 0, 1 << 2).unwrap();
    (machine, service, provider)
}

fn count(service: &Service, outcome: Outcome) -> u64 {
    service.request_rows()[0].outcomes[outcome.index()]
}

#[test]
fn a_process_is_denied_and_the_stream_shows_it() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[1, 5], &[5]);
    thread::scope(|scope| {
        let denied = scope.spawn(|| machine.start_process(2000, "/bin/bad"));
        let request = service.next_request().unwrap();
        let question = ProcessCreate::decode(&request.payload).unwrap();
        assert_eq!(question.image, Some(Text::Utf8("/bin/bad")));
        assert_eq!(request.deadline_ms, 500);
        assert_eq!(service.reply(&request, &DENY), 0);
        assert_eq!(denied.join().unwrap(), STATUS_ACCESS_DENIED);

        let allowed = scope.spawn(|| machine.start_process(2001, "/bin/good"));
        let request = service.next_request().unwrap();
        assert_eq!(service.reply(&request, &ALLOW), 0);
        assert_eq!(allowed.join().unwrap(), 0);
    });
    let records = service.drain();
    assert_eq!(
        records.iter().map(|r| r.kind as u16).collect::<Vec<_>>(),
        [4, 4, 1],
        "outcome, outcome, start"
    );
    let first = Record {
        header: records[0].header,
        kind: records[0].kind,
        payload: &records[0].payload,
    };
    let outcome = OutcomeRecord::parse(&first).unwrap();
    assert_eq!(outcome.header.outcome, Outcome::Answered as u16);
    assert_eq!(
        ProcessVerdict::decode(outcome.reply),
        Ok(ProcessVerdict { deny: true })
    );
    assert_eq!(
        ProcessCreate::decode(outcome.request).unwrap().image,
        Some(Text::Utf8("/bin/bad"))
    );
    assert_eq!(
        ProcessStart::decode(&records[2].payload).unwrap().image,
        Some(Text::Utf8("/bin/good"))
    );
    drop(service);
    machine.check();
}

#[test]
fn without_a_decider_the_default_answers_at_once() {
    let (machine, service, provider) = with_decider();
    service.subscribe(provider, 1 << 2, 0).unwrap();
    let begun = Instant::now();
    assert_eq!(generator::outcome(1, 60_000), Outcome::NoDecider);
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(count(&service, Outcome::NoDecider), 1);
    drop(service);
    machine.check();
}

#[test]
fn a_missed_deadline_costs_the_deadline_and_a_late_reply_is_named() {
    let (machine, mut service, _) = with_decider();
    let begun = Instant::now();
    let outcome = thread::spawn(|| generator::outcome(1, 200));
    let request = service.next_request().unwrap();
    assert_eq!(outcome.join().unwrap(), Outcome::Missed);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        service.reply(&request, &[0; 8]),
        STATUS_FLT_NO_WAITER_FOR_REPLY
    );
    drop(service);
    machine.check();
}

#[test]
fn the_death_of_the_decider_answers_everything_at_once() {
    let (machine, mut service, _) = with_decider();
    let begun = Instant::now();
    let asking: Vec<_> = (0..5)
        .map(|n| thread::spawn(move || generator::outcome(n, 60_000)))
        .collect();
    for _ in 0..2 {
        service.next_request().unwrap();
    }
    service.close();
    for asked in asking {
        let outcome = asked.join().unwrap();
        assert!(
            matches!(outcome, Outcome::Disconnected | Outcome::NoDecider),
            "{outcome:?}"
        );
    }
    assert!(begun.elapsed() < PATIENCE, "nobody waited for the deadline");
    drop(service);
    machine.check();
}

#[test]
fn the_decider_is_not_asked_about_itself() {
    let machine = Machine::new();
    let service = Service::connect(&machine);
    service.watch(&[], &[5]);
    let own = u64::from(std::process::id());
    let begun = Instant::now();
    assert_eq!(machine.start_process_by(own, 2000, "/bin/child"), 0);
    assert!(
        begun.elapsed() < Duration::from_millis(400),
        "answered without waiting for the deadline"
    );
    assert_eq!(count(&service, Outcome::FromDecider), 1);
    drop(service);
    machine.check();
}

#[test]
fn every_wrong_answer_is_a_bad_reply_and_the_default_stands() {
    let (machine, mut service, _) = with_decider();
    let mut ask = |answer: &dyn Fn(&Service, &crate::service::Request)| {
        let asked = thread::spawn(|| generator::question(7, 60_000));
        let request = service.next_request().unwrap();
        answer(&service, &request);
        asked.join().unwrap()
    };
    type Answer<'a> = &'a dyn Fn(&Service, &crate::service::Request);
    let wrong: [Answer<'_>; 5] = [
        &|s, r| {
            s.reply(r, &[]);
        },
        &|s, r| {
            s.reply(r, &[1; 7]);
        },
        &|s, r| {
            s.reply(r, &[1; 8 + 1025]);
        },
        &|s, r| {
            s.reply(r, &[1; 3000]);
        },
        &|s, r| {
            let mut other = r.clone();
            other.header.sequence += 1;
            s.reply(&other, &[1; 8]);
        },
    ];
    for answer in wrong {
        let answer = ask(answer);
        assert_eq!(
            (answer.outcome, answer.reply.number),
            (Outcome::BadReply, 0)
        );
    }
    let right = ask(&|s, r| assert_eq!(s.reply(r, &9_u64.to_le_bytes()), 0));
    assert_eq!((right.outcome, right.reply.number), (Outcome::Answered, 9));
    assert_eq!(count(&service, Outcome::BadReply), 5);
    drop(service);
    machine.check();
}

#[test]
fn a_decider_that_never_answers_is_left_alone_and_a_new_one_is_asked() {
    let (machine, service, provider) = with_decider();
    for n in 0..3 {
        assert_eq!(generator::outcome(n, 20), Outcome::Missed);
    }
    let begun = Instant::now();
    assert_eq!(generator::outcome(3, 60_000), Outcome::CircuitOpen);
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(service.request_rows()[0].circuit_open, 1);
    drop(service);

    let mut successor = Service::connect(&machine);
    successor.subscribe(provider, 0, 1 << 2).unwrap();
    let asked = thread::spawn(|| generator::outcome(4, 60_000));
    let request = successor.next_request().unwrap();
    assert_eq!(
        Question::decode(&request.payload),
        Ok(Question { number: 4 })
    );
    successor.reply(&request, &[0; 8]);
    assert_eq!(asked.join().unwrap(), Outcome::Answered);
    drop(successor);
    machine.check();
}

#[test]
fn a_subscription_that_changes_no_decider_closes_no_circuit() {
    let (machine, decider, provider) = with_decider();
    let mut begun = Instant::now();
    for n in 0..3 {
        begun = Instant::now();
        assert_eq!(generator::outcome(n, 20), Outcome::Missed);
    }
    let observer = Service::connect(&machine);
    observer.subscribe(provider, 1 << 2, 0).unwrap();
    decider.subscribe(provider, 1 << 2, 1 << 2).unwrap();
    let outcome = generator::outcome(3, 20);
    // It is left alone for five seconds, and may be tried on a machine that was that slow.
    assert!(
        outcome == Outcome::CircuitOpen || begun.elapsed() > Duration::from_millis(4500),
        "{outcome:?}"
    );
    drop((decider, observer));
    machine.check();
}

#[test]
fn there_is_one_decider_and_observers_see_the_outcome() {
    let (machine, mut decider, provider) = with_decider();
    let mut observer = Service::connect(&machine);
    assert_eq!(
        observer.subscribe(provider, 0, 1 << 2),
        Err(STATUS_SHARING_VIOLATION)
    );
    observer.subscribe(provider, 1 << 2, 0).unwrap();
    let asked = thread::spawn(|| generator::outcome(1, 60_000));
    let request = decider.next_request().unwrap();
    decider.reply(&request, &[0; 8]);
    assert_eq!(asked.join().unwrap(), Outcome::Answered);
    let seen = observer.next().unwrap();
    assert_eq!((seen.kind, seen.header.message), (RecordKind::Outcome, 2));
    drop(decider);
    observer
        .subscribe(provider, 0, 1 << 2)
        .expect("the role is free again");
    drop(observer);
    machine.check();
}

#[test]
fn many_requests_at_once_each_get_their_own_answer() {
    const ASKERS: u64 = 8;
    const EACH: u64 = 50;
    let (machine, mut service, _) = with_decider();
    (0..6).for_each(|_| service.post_get());
    let askers: Vec<_> = (0..ASKERS)
        .map(|asker| {
            thread::spawn(move || {
                for n in 0..EACH {
                    let number = asker * EACH + n + 1;
                    let answer = generator::question(number, 60_000);
                    assert_eq!(
                        (answer.outcome, answer.reply.number),
                        (Outcome::Answered, number * 3)
                    );
                }
            })
        })
        .collect();
    for _ in 0..ASKERS * EACH {
        let request = service.next_request().unwrap();
        let number = Question::decode(&request.payload).unwrap().number;
        assert_eq!(service.reply(&request, &(number * 3).to_le_bytes()), 0);
    }
    for asker in askers {
        asker.join().unwrap();
    }
    assert_eq!(count(&service, Outcome::Answered), ASKERS * EACH);
    drop(service);
    machine.check();
}

#[test]
fn what_a_former_decider_misses_is_not_held_against_its_successor() {
    let (machine, mut former, provider) = with_decider();
    let asked: Vec<_> = (0..3)
        .map(|n| thread::spawn(move || generator::outcome(n, 300)))
        .collect();
    for _ in 0..3 {
        former.next_request().unwrap();
    }
    former.subscribe(provider, 0, 0).unwrap();
    let mut successor = Service::connect(&machine);
    successor.subscribe(provider, 0, 1 << 2).unwrap();
    for asked in asked {
        assert_eq!(asked.join().unwrap(), Outcome::Missed);
    }
    let asked = thread::spawn(|| generator::outcome(4, 2_000));
    let request = successor.next_request().unwrap();
    successor.reply(&request, &[0; 8]);
    assert_eq!(asked.join().unwrap(), Outcome::Answered);
    drop((former, successor));
    machine.check();
}

#[test]
fn a_wrong_answer_is_no_miss() {
    let (machine, mut service, _) = with_decider();
    for round in 0..3 {
        for n in 0..2 {
            assert_eq!(generator::outcome(n, 20), Outcome::Missed, "round {round}");
            service.next_request().unwrap();
        }
        let asked = thread::spawn(|| generator::outcome(9, 20_000));
        let request = service.next_request().unwrap();
        service.reply(&request, &[1; 3]);
        assert_eq!(asked.join().unwrap(), Outcome::BadReply);
    }
    drop(service);
    machine.check();
}

#[test]
fn the_trial_of_an_open_circuit_is_not_spent_on_who_is_not_asked() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[], &[5]);
    for pid in 0..3 {
        machine.start_process(2000 + pid, "/bin/missed");
        service.next_request().unwrap();
    }
    assert_eq!(service.request_rows()[0].circuit_open, 1);
    let deadline = Instant::now() + PATIENCE;
    while service.request_rows()[0].circuit_open == 1 {
        assert!(Instant::now() < deadline, "the circuit stays open");
        thread::yield_now();
    }
    machine.start_process_by(u64::from(std::process::id()), 3000, "/bin/own");
    thread::scope(|scope| {
        let asked = scope.spawn(|| machine.start_process(3001, "/bin/trial"));
        let request = service.next_request().expect("the trial is asked");
        service.reply(&request, &[1, 0, 0, 0]);
        assert_ne!(asked.join().unwrap(), 0, "denied by the answer");
    });
    drop(service);
    machine.check();
}

#[test]
fn when_the_decider_ends_its_successor_is_asked_in_what_is_left_of_the_deadline() {
    let (machine, mut former, provider) = with_decider();
    let mut observer = Service::connect(&machine);
    observer.subscribe(provider, 1 << 2, 0).unwrap();
    let asked = thread::spawn(|| generator::question(7, 60_000));
    let first = former.next_request().unwrap();
    former.subscribe(provider, 0, 0).unwrap();
    let mut successor = Service::connect(&machine);
    successor.subscribe(provider, 0, 1 << 2).unwrap();
    former.close();
    let second = successor.next_request().unwrap();
    assert_eq!(second.header.sequence, first.header.sequence, "one request");
    assert!(second.deadline_ms <= first.deadline_ms);
    assert_eq!(successor.reply(&second, &9_u64.to_le_bytes()), 0);
    let answer = asked.join().unwrap();
    assert_eq!(
        (answer.outcome, answer.reply.number),
        (Outcome::Answered, 9)
    );
    let row = &observer.request_rows()[0];
    assert_eq!((row.asked, row.outcomes.iter().sum::<u64>()), (1, 1));
    assert_eq!(observer.drain().len(), 1, "one outcome");
    drop((former, successor, observer));
    machine.check();
}
