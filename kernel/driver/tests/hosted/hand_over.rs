// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instance after instance takes a stream and the decider's role over, under load: each request is
//! answered once, by a decider, and the stream goes on over all of them without a hole.

use crate::generator::{self, Blob, Question};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use crate::streams::wanted;
use fltport_abi::account::Outcome;
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
    machine.load(&generator::image(0, BacklogPolicy::KeepNewest));
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
