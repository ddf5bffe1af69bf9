// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instance after instance takes a stream and the decider's role over, under load: each request is
//! answered once, by a decider, and the stream goes on over all of them without a hole.

use crate::asker::{Asker, accounts, answer, at_dispatch_level, next, read};
use crate::generator::{self, Blob, Question};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use crate::streams::wanted;
use fltport_abi::account::Outcome;
use fltport_abi::command::{ENDED, own};
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{StreamHello, stream};
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const REQUESTS: u64 = 10_000;
const ASKERS: u64 = 4;
/// So many answers after the last hand-over comes the next.
const ANSWERS_EACH: u64 = 250;

/// What all instances share.
struct Shared {
    /// How often the answer to each request was taken.
    answers: Vec<AtomicU32>,
    answered: AtomicU64,
    done: AtomicBool,
}

/// What one instance has dealt with: where its stream began, and the records behind that.
struct Part {
    begun_behind: u64,
    records: Vec<Record>,
    acknowledged: u64,
}

fn taking_over() -> StreamHello {
    StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    }
}

/// An instance at work, until it is taken over or everything is done.
fn serve(mut service: Service, shared: &Shared) -> Part {
    let mut part = Part {
        begun_behind: service.last(),
        records: Vec::new(),
        acknowledged: service.last(),
    };
    while !shared.done.load(Ordering::SeqCst) {
        // Only to look whether everything is done: what comes wakes it.
        service.receive(Duration::from_millis(20));
        while let Some(request) = service.take_request() {
            let number = Question::decode(&request.payload).unwrap().number;
            if service.reply(&request, &(number * 3).to_le_bytes()) == 0 {
                shared.answers[number as usize].fetch_add(1, Ordering::SeqCst);
                shared.answered.fetch_add(1, Ordering::SeqCst);
            }
        }
        part.records.extend(service.drain_available());
        let last = service.last();
        if last == part.acknowledged {
            if service.try_info().is_err() {
                break;
            }
        } else if service.acknowledge(last).is_ok() {
            part.acknowledged = last;
        } else {
            break;
        }
    }
    part
}

fn ask(asker: u64) {
    for n in 0..REQUESTS / ASKERS {
        let number = asker + n * ASKERS;
        let answer = generator::question(number, 60_000);
        assert_eq!(
            (answer.outcome, answer.reply.number),
            (Outcome::Answered, number * 3),
            "request {number}"
        );
    }
}

#[test]
fn no_request_is_lost_or_answered_twice_and_no_record_either() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let first = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = first.provider("generator").unwrap();
    first.subscribe(provider, 1 << 1, 1 << 2).unwrap();
    let shared = Shared {
        answers: (0..REQUESTS).map(|_| AtomicU32::new(0)).collect(),
        answered: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let auditor = Service::connect(&machine);
    let (shared, machine_ref) = (&shared, &machine);
    let (parts, offered) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut number = 0;
            while !shared.done.load(Ordering::SeqCst) {
                generator::blob(number, b"flood");
                number += 1;
            }
            number
        });
        let askers: Vec<_> = (0..ASKERS).map(|n| scope.spawn(move || ask(n))).collect();
        let mut instances = vec![scope.spawn(move || serve(first, shared))];
        let mut next = ANSWERS_EACH;
        while askers.iter().any(|asker| !asker.is_finished()) {
            if shared.answered.load(Ordering::SeqCst) < next {
                thread::yield_now();
                continue;
            }
            next += ANSWERS_EACH;
            let service = Service::with_stream(machine_ref, &taking_over()).expect("takes over");
            instances.push(scope.spawn(move || serve(service, shared)));
        }
        let asked: Vec<_> = askers.into_iter().map(|asker| asker.join()).collect();
        shared.done.store(true, Ordering::SeqCst);
        let offered = flood.join().unwrap();
        let parts: Vec<Part> = instances.into_iter().map(|i| i.join().unwrap()).collect();
        asked.into_iter().for_each(|asker| asker.unwrap());
        (parts, offered)
    });

    assert!(
        parts.len() as u64 >= REQUESTS / ANSWERS_EACH / 2,
        "{}",
        parts.len()
    );
    let counts: Vec<u32> = shared
        .answers
        .iter()
        .map(|a| a.load(Ordering::SeqCst))
        .collect();
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    let row = &auditor.request_rows()[0];
    assert_eq!(row.asked, REQUESTS);
    assert_eq!(row.outcomes[Outcome::Answered.index()], REQUESTS);
    check(&parts, offered);
    drop(auditor);
    machine.check();
}

/// What the instances have acknowledged, one after the other, is one stream: each number once, or
/// in a gap. (That no number is missing within a part the service itself has seen to.)
fn check(parts: &[Part], offered: u64) {
    let ends = parts.iter().skip(1).map(|next| next.begun_behind);
    let last = parts.last().unwrap().acknowledged;
    let (mut blobs, mut lost) = (Vec::new(), 0);
    let mut before = 0;
    for (part, end) in parts.iter().zip(ends.chain([last])) {
        assert_eq!(
            part.begun_behind, before,
            "an instance goes on where the last one stopped"
        );
        assert!(end >= part.acknowledged, "what was acknowledged counts");
        for record in part.records.iter().filter(|r| r.header.sequence <= end) {
            assert!(record.header.sequence > before, "no number comes twice");
            before = record.header.sequence;
            match record.kind {
                RecordKind::Notification if record.header.provider != 0 => {
                    blobs.push(Blob::decode(&record.payload).unwrap().number);
                }
                _ => lost += record.gap.iter().map(|e| e.count).sum::<u64>(),
            }
        }
        assert_eq!(before, end, "and none is missing");
    }
    assert!(blobs.is_sorted());
    let mut once = blobs.clone();
    once.dedup();
    assert_eq!(once.len(), blobs.len(), "none comes twice");
    let all = blobs.len() as u64 + lost;
    assert!(all > offered / 2 && all <= offered, "{all} of {offered}");
}

/// What the former instance has acknowledged and not answered is asked again; the rest was on its way
/// in any case. Nothing is answered twice, and nothing is lost.
#[test]
fn who_takes_the_stream_over_is_asked_what_was_not_answered() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let observer = Service::connect(&machine);
    let mut old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    at_dispatch_level(|| (0..100).for_each(|n| asker.ask(n, 60_000)));
    let records: Vec<_> = (0..80).map(|_| old.next().unwrap()).collect();
    let questions: Vec<_> = records.iter().map(read).collect();
    for question in questions.iter().take(20) {
        assert_eq!(answer(&old, question), Ok(()));
    }
    assert_eq!(asker.take(20).len(), 20);
    let read_up_to = records[49].header.sequence;
    old.command(0, own::ACKNOWLEDGE, &read_up_to.to_le_bytes())
        .unwrap();

    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let mut new = Service::with_stream(&machine, &taking_over).unwrap();
    let stale = &questions[79];
    assert!(answer(&old, stale).is_err(), "it has been ended");
    let again: Vec<_> = (0..80).map(|_| next(&mut new)).collect();
    let numbers: Vec<_> = again.iter().map(|q| q.number).collect();
    assert!(
        numbers.iter().copied().eq((50..100).chain(20..50)),
        "{numbers:?}"
    );
    for question in &again {
        assert_eq!(answer(&new, question), Ok(()));
    }
    let all = asker.take(80);
    assert!(
        all.values()
            .all(|c| c.outcome == Outcome::Answered as u32 && c.reply == c.number * 3)
    );
    let number = new.info().connection;
    let rows = accounts(&observer);
    let row = rows.iter().find(|row| row.connection == number).unwrap();
    assert_eq!(
        (row.asked, row.in_flight),
        (100, 0),
        "the account went along"
    );
    drop((old, new, observer, asker));
    machine.check();
}

/// What a new connection is sent again is not what waits in the queue: a request behind it is still
/// known to have been read, and so is asked again by the next one to take over.
#[test]
fn a_request_behind_what_is_sent_again_is_asked_again_as_well() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let asker = Asker::new();
    let mut old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    // Two gets wait, and are not followed by others; the third one's frame waits for a get.
    for n in 0..3 {
        asker.ask(n, 60_000);
        while old.info().queued != 0 || old.info().next_sequence != n + 2 {
            thread::yield_now();
        }
    }
    asker.ask(3, 60_000);
    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let mut new = Service::with_stream(&machine, &taking_over).unwrap();
    let numbers: Vec<_> = (0..4).map(|_| next(&mut new).number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    new.acknowledge(new.last()).unwrap();
    let mut newest = Service::with_stream(&machine, &taking_over).unwrap();
    for _ in 0..4 {
        let question = next(&mut newest);
        assert_eq!(answer(&newest, &question), Ok(()));
    }
    let all = asker.take(4);
    assert!(all.values().all(|c| c.outcome == Outcome::Answered as u32));
    old.receive(Duration::ZERO);
    drop((old, new, newest, asker));
    machine.check();
}

/// The thread that asked the former instance asks the new one by itself: its request is in the books
/// of both.
#[test]
fn the_accounts_balance_when_a_stream_is_taken_over_from_under_a_request() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("generator").unwrap();
    old.subscribe(provider, 0, 1 << 2).unwrap();
    let asked = thread::spawn(|| generator::outcome(1, 60_000));
    old.next_request().unwrap();
    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let mut new = Service::with_stream(&machine, &taking_over).unwrap();
    let request = new.next_request().unwrap();
    assert_eq!(new.reply(&request, &[0; 8]), 0);
    assert_eq!(asked.join().unwrap(), Outcome::Answered);
    let number = new.info().connection;
    let rows = accounts(&new);
    let of = |connection| rows.iter().find(|r| r.connection == connection).unwrap();
    assert_eq!((of(number).asked, of(number).in_flight), (1, 0));
    assert_eq!(of(number).outcomes[Outcome::Answered.index()], 1);
    assert_eq!((of(ENDED).asked, of(ENDED).in_flight), (1, 0));
    assert_eq!(of(ENDED).outcomes[Outcome::Disconnected.index()], 1);
    drop((old, new));
    machine.check();
}
