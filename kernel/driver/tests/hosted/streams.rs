// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that outlive their connections: nothing is lost and nothing comes twice to a service
//! that says what it has dealt with, and nobody gets what is not his.

use crate::generator::{self, Blob};
use crate::machine::{FLTPORT, Machine};
use crate::security::refusals;
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::account::{Cause, Outcome, Refusal};
use fltport_abi::command::{ENDED, LedgerRow};
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{Hello, StreamHello, rights, stream};
use fltport_abi::limits::{MAX_CONNECTIONS, MAX_RETENTION_MS, MAX_WINDOW, MIN_WINDOW};
use fltport_abi::message::Message;
use fltport_abi::status;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_CONNECTION_COUNT_LIMIT, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER,
};
use std::thread;
use std::time::Instant;

pub(crate) const KEY: [u8; 16] = *b"the test's own 1";

/// A stream that is kept as long as any may be.
pub(crate) fn wanted() -> StreamHello {
    StreamHello {
        key: KEY,
        former: 0,
        flags: stream::RESUME,
        acknowledged: 0,
        retention_ms: MAX_RETENTION_MS,
        window: 0,
        reserved: 0,
    }
}

fn taking_over() -> StreamHello {
    StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    }
}

fn machine(backlog: u32) -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, backlog, BacklogPolicy::KeepNewest));
    machine
}

/// A machine with a service that observes blobs over a stream.
fn observed() -> (Machine, Service, u32) {
    let machine = machine(0);
    let service = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    (machine, service, provider)
}

fn blobs(numbers: std::ops::Range<u64>) {
    numbers.for_each(|n| generator::blob(n, b"data"));
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let notifications = records
        .iter()
        .filter(|r| r.kind == RecordKind::Notification);
    notifications
        .map(|r| Blob::decode(&r.payload).unwrap().number)
        .collect()
}

/// The account of blobs with a receiver.
fn account(service: &Service, connection: u32) -> LedgerRow {
    let rows = service.ledger();
    let mut rows = rows.into_iter().filter(|row| row.message == 1);
    rows.find(|row| row.connection == connection && row.provider != 0)
        .expect("an account")
}

/// Waits until something holds that another thread brings about.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_service_that_comes_back_goes_on_behind_what_it_acknowledged() {
    let (machine, mut service, _) = observed();
    let first = service.info().connection;
    blobs(0..10);
    assert_eq!(numbers(&service.drain_until(10)).len(), 10);
    service.acknowledge(4).unwrap();
    let row = account(&service, first);
    assert_eq!((row.delivered, row.in_flight), (4, 6));
    drop(service);
    blobs(10..20);

    let auditor = Service::connect(&machine);
    let waiting = auditor.connections();
    let waiting: Vec<_> = waiting.iter().filter(|row| row.own == 2).collect();
    assert_eq!(waiting.len(), 1, "the stream waits");
    assert_eq!(waiting[0].connection, first);

    let mut service = Service::with_stream(&machine, &wanted()).unwrap();
    let own = service.info().connection;
    blobs(20..30);
    let records = service.drain_until(26);
    assert_eq!(numbers(&records), (4..30).collect::<Vec<_>>());
    assert_eq!(records[0].header.sequence, 5, "the same numbers");
    let stream = service.stream();
    assert_eq!((stream.former, stream.resumed), (first, 1));
    assert_eq!((stream.taken_over, stream.again), (0, 6));
    service.acknowledge(service.last()).unwrap();
    let row = account(&auditor, own);
    assert_eq!((row.offered, row.delivered, row.in_flight), (30, 30, 0));
    assert_eq!(service.stream().unacknowledged, 0);
    drop((service, auditor));
    machine.check();
}

#[test]
fn a_service_may_say_itself_what_it_has_dealt_with() {
    let (machine, mut service, _) = observed();
    blobs(0..10);
    service.drain_until(10);
    drop(service);
    let hello = StreamHello {
        acknowledged: 7,
        ..wanted()
    };
    let mut service = Service::with_stream(&machine, &hello).unwrap();
    assert_eq!(service.stream().acknowledged, 7);
    assert_eq!(numbers(&service.drain_until(3)), [7, 8, 9]);
    drop(service);
    machine.check();
}

#[test]
fn a_service_that_does_not_acknowledge_is_sent_no_more_than_its_window() {
    let (machine, mut service, _) = observed();
    let own = service.info().connection;
    let data = vec![7; 16 * 1024];
    let window = u64::from(MIN_WINDOW) / (16 * 1024 + 64);
    (0..500).for_each(|n| generator::blob(n, &data));
    let mut records = service.drain_until(window as usize);
    let row = account(&service, own);
    assert_eq!(row.delivered, 0, "nothing is, before it is acknowledged");
    assert!(row.lost_total() > 0, "more than queue and window hold");
    let mut told = 0;
    while told < 500 {
        service.acknowledge(service.last()).unwrap();
        records.extend(service.drain_until(1));
        let lost = records.iter().flat_map(|r| &r.gap).map(|e| e.count);
        told = numbers(&records).len() as u64 + lost.sum::<u64>();
    }
    assert!(numbers(&records).is_sorted());
    service.acknowledge(service.last()).unwrap();
    let row = account(&service, own);
    assert_eq!((row.offered, row.in_flight), (500, 0));
    assert_eq!(row.delivered, numbers(&records).len() as u64);
    drop(service);
    machine.check();
}

#[test]
fn when_the_retention_is_over_what_was_kept_is_lost_and_told_to_a_successor() {
    let machine = machine(64 * 1024);
    let brief = StreamHello {
        retention_ms: 50,
        ..wanted()
    };
    let mut service = Service::with_stream(&machine, &brief).unwrap();
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    let own = service.info().connection;
    blobs(0..10);
    service.drain_until(10);
    service.acknowledge(3).unwrap();
    drop(service);

    let mut other = Service::connect(&machine);
    until("the stream is not ended", || {
        other.connections().iter().all(|row| row.connection != own)
    });
    let row = account(&other, ENDED);
    assert_eq!((row.offered, row.delivered, row.in_flight), (10, 3, 0));
    assert_eq!(row.lost[Cause::Disconnected.index()], 7);
    other.subscribe(provider, 1 << 1, 0).unwrap();
    let gap = other.next().unwrap();
    assert_eq!(gap.gap.iter().map(|e| e.count).sum::<u64>(), 7);

    let again = Service::with_stream(&machine, &brief).unwrap();
    let stream = again.stream();
    assert_eq!((stream.next_sequence, stream.former), (1, 0), "a new one");
    drop((other, again));
    machine.check();
}

#[test]
fn what_a_stream_was_told_of_losses_and_did_not_acknowledge_is_told_again() {
    let machine = machine(64 * 1024);
    let brief = StreamHello {
        retention_ms: 20,
        ..wanted()
    };
    let mut service = Service::with_stream(&machine, &brief).unwrap();
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    generator::blob(0, &[0; 70_000]);
    assert_eq!(service.next().unwrap().kind, RecordKind::Gap);
    let own = service.info().connection;
    drop(service);
    let mut other = Service::connect(&machine);
    until("the stream is not ended", || {
        other.connections().iter().all(|row| row.connection != own)
    });
    other.subscribe(provider, 1 << 1, 0).unwrap();
    let gap = other.next().unwrap().gap;
    assert_eq!((gap[0].cause, gap[0].count), (Cause::TooLarge as u16, 1));
    drop(other);
    machine.check();
}

/// A full queue is taken apart in many pieces; what gap records anywhere in it would have told is told
/// to a successor, and each loss once.
#[test]
fn what_a_full_queue_would_have_told_is_told_to_a_successor() {
    let machine = machine(64 * 1024);
    let mut service = Service::with_a_queue(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    service.stall(|| generator::blob(0, b"data"));
    for n in 0..20_000 {
        generator::blob(n, b"data");
        if n % 100 == 0 {
            generator::blob(n, &[0; 70_000]);
        }
    }
    let before = account(&service, service.info().connection);
    assert!(before.lost[Cause::RingFull.index()] > 0, "{before:?}");
    drop(service);
    let mut other = Service::connect(&machine);
    until("the connection is not ended", || {
        other.connections().len() == 1
    });
    let row = account(&other, ENDED);
    assert_eq!(row.offered, row.delivered + row.lost_total());
    assert_eq!(row.lost[Cause::TooLarge.index()], 200);
    other.subscribe(provider, 1 << 1, 0).unwrap();
    let gap = other.next().unwrap().gap;
    let told = |cause: Cause| gap.iter().find(|e| e.cause == cause as u16).unwrap().count;
    for cause in [Cause::RingFull, Cause::TooLarge, Cause::Disconnected] {
        assert_eq!(told(cause), row.lost[cause.index()], "{cause:?}");
    }
    drop(other);
    machine.check();
}

#[test]
fn a_driver_goes_with_streams_that_wait() {
    let (machine, service, _) = observed();
    blobs(0..100);
    drop(service);
    blobs(100..200);
    machine.check();
}

#[test]
fn points_that_are_not_in_the_stream_are_refused() {
    let (machine, mut service, _) = observed();
    blobs(0..10);
    service.drain_until(10);
    for beyond in [11, 12, u64::MAX] {
        assert_eq!(service.acknowledge(beyond), Err(status::END_OF_FILE));
    }
    service.acknowledge(5).unwrap();
    service.acknowledge(2).expect("a late one does no harm");
    assert_eq!(service.stream().acknowledged, 5);
    assert_eq!(
        service.command(0, 9, &[0; 7]),
        Err(STATUS_INVALID_PARAMETER)
    );
    drop(service);
    for point in [1, 4, 11, u64::MAX] {
        let hello = StreamHello {
            acknowledged: point,
            ..wanted()
        };
        let refused = Service::with_stream(&machine, &hello).err();
        assert_eq!(refused, Some(status::END_OF_FILE), "{point}");
    }
    let mut service = Service::with_stream(&machine, &wanted()).unwrap();
    assert_eq!(numbers(&service.drain_until(5)), [5, 6, 7, 8, 9]);
    let other = Service::connect(&machine);
    assert_eq!(other.acknowledge(0), Err(status::CONNECTION_INVALID));
    assert_eq!(other.stream().window, 0);
    drop((service, other));
    assert_eq!(
        refusals(&machine),
        [
            (Refusal::BadResume, 4),
            (Refusal::BadCommand, 1),
            (Refusal::BadAcknowledgement, 4)
        ]
    );
    machine.check();
}

#[test]
fn streams_are_not_had_by_who_may_not() {
    let (machine, service, _) = observed();
    let refused = |hello: &StreamHello| Service::with_stream(&machine, hello).err();
    assert_eq!(refused(&wanted()), Some(status::CONNECTION_ACTIVE));
    let must_exist = StreamHello {
        key: [1; 16],
        flags: stream::RESUME | stream::MUST_EXIST,
        ..wanted()
    };
    assert_eq!(refused(&must_exist), Some(status::CONNECTION_INVALID));
    let malformed = [
        StreamHello {
            key: [0; 16],
            ..wanted()
        },
        StreamHello {
            flags: u32::MAX,
            ..wanted()
        },
        StreamHello {
            retention_ms: MAX_RETENTION_MS + 1,
            ..wanted()
        },
        StreamHello {
            window: u32::MAX,
            ..wanted()
        },
    ];
    for hello in malformed {
        assert_eq!(refused(&hello), Some(STATUS_INVALID_PARAMETER));
    }
    let old = Hello {
        max_version: 1,
        ..Hello::new("old", rights::ALL, 0)
    };
    let mixed = Service::connect_with(&machine, &wanted().to_bytes(&old));
    assert_eq!(mixed.err(), Some(STATUS_INVALID_PARAMETER));
    drop(service);
    let observer = Hello::new("observer", rights::OBSERVE, 0);
    let lesser = Service::connect_with(&machine, &wanted().to_bytes(&observer));
    assert_eq!(lesser.err(), Some(STATUS_ACCESS_DENIED), "fewer rights");
    drop(Service::with_stream(&machine, &wanted()).expect("it is still there"));
    machine.check();
}

#[test]
fn windows_take_no_more_memory_than_all_together_may() {
    let machine = machine(0);
    let large = |n: u8| StreamHello {
        key: [n + 1; 16],
        window: MAX_WINDOW,
        ..wanted()
    };
    let all: Vec<_> = (0..4)
        .map(|n| Service::with_stream(&machine, &large(n)).unwrap())
        .collect();
    assert_eq!(
        Service::with_stream(&machine, &large(4)).err(),
        Some(STATUS_INSUFFICIENT_RESOURCES)
    );
    drop(all);
    machine.check();
}

#[test]
fn a_new_stream_takes_the_place_of_one_that_is_not_wanted_any_more() {
    let (machine, mut service, _) = observed();
    blobs(0..10);
    service.drain_until(10);
    drop(service);
    let anew = StreamHello {
        flags: 0,
        ..wanted()
    };
    let service = Service::with_stream(&machine, &anew).unwrap();
    assert_eq!(service.stream().next_sequence, 1);
    until("the former stream is not ended", || {
        service.connections().len() == 1
    });
    assert_eq!(
        account(&service, ENDED).lost[Cause::Disconnected.index()],
        10
    );
    drop(service);
    machine.check();
}

#[test]
fn a_role_waits_for_nobody_and_is_given_back_if_it_is_free() {
    let (machine, service, provider) = observed();
    service.subscribe(provider, 1 << 1, 1 << 2).unwrap();
    drop(service);
    assert!(!generator::is_listening(2));
    assert_eq!(generator::outcome(1, 60_000), Outcome::NoDecider);
    let other = Service::connect(&machine);
    other.subscribe(provider, 0, 1 << 2).expect("free to take");
    let service = Service::with_stream(&machine, &wanted()).unwrap();
    assert_eq!(
        other.request_rows()[0].decider,
        other.info().connection,
        "still the other's"
    );
    drop((other, service));
    let mut service = Service::with_stream(&machine, &wanted()).unwrap();
    service.subscribe(provider, 1 << 1, 1 << 2).unwrap();
    drop(service);
    service = Service::with_stream(&machine, &wanted()).unwrap();
    let asked = thread::spawn(|| generator::outcome(2, 60_000));
    let request = service.next_request().unwrap();
    service.reply(&request, &[0; 8]);
    assert_eq!(asked.join().unwrap(), Outcome::Answered);
    drop(service);
    machine.check();
}

#[test]
fn an_instance_that_was_taken_over_is_told_so_and_the_new_one_is_not() {
    let (machine, mut old, _) = observed();
    let former = old.info().connection;
    blobs(0..10);
    old.drain_until(10);
    let mut new = Service::with_stream(&machine, &taking_over()).unwrap();
    let row = new.stream();
    assert_eq!((row.taken_over, row.former), (1, former));
    assert_eq!(numbers(&new.drain_until(10)).len(), 10);
    assert_eq!(old.acknowledge(10), Err(status::PORT_DISCONNECTED));
    let returning = |former| StreamHello {
        former,
        ..taking_over()
    };
    let refused = Service::with_stream(&machine, &returning(former)).err();
    assert_eq!(refused, Some(status::CONNECTION_ABORTED));
    let second = new.info().connection;
    drop(new);
    let refused = Service::with_stream(&machine, &returning(former)).err();
    assert_eq!(refused, Some(status::CONNECTION_ABORTED), "still");
    // It lost the answer to its last attempt, and does not know that it was connected since.
    drop(Service::with_stream(&machine, &returning(second)).unwrap());
    drop(Service::with_stream(&machine, &returning(second)).unwrap());
    drop(old);
    machine.check();
}

/// A service outlives the driver: the number that it had from it before means nothing to the next one.
#[test]
fn a_number_from_a_former_life_of_the_driver_makes_no_instance() {
    let machine = machine(0);
    let returning = |former| StreamHello { former, ..wanted() };
    let first = Service::with_stream(&machine, &returning(1000)).unwrap();
    let own = first.info().connection;
    assert_eq!(
        Service::with_stream(&machine, &returning(1000)).err(),
        Some(status::CONNECTION_ACTIVE),
        "nor does it make an owner"
    );
    drop(first);
    let second = Service::with_stream(&machine, &returning(own)).expect("its own stream");
    assert_eq!(second.stream().former, own);
    drop(second);
    machine.check();
}

/// Nor when the connections of this life have got as far as it: then it would say what it does not mean.
#[test]
fn nor_does_it_when_the_numbers_have_got_there() {
    let machine = machine(0);
    let service = Service::with_stream(&machine, &wanted()).unwrap();
    let returning = StreamHello {
        former: service.info().connection + 3,
        ..wanted()
    };
    // Another process, of the same number, so that its memory can be read.
    let pid = u64::from(std::process::id());
    machine.end_process(pid, 0);
    machine.start_process(pid, "/bin/other");
    for attempt in 0..8 {
        let refused = Service::with_stream(&machine, &returning).err();
        assert_eq!(refused, Some(status::CONNECTION_ACTIVE), "{attempt}");
    }
    service.close();
    let other = Service::with_stream(&machine, &returning).expect("it waits for anybody");
    // To the one that had it before, that is another instance.
    machine.end_process(pid, 0);
    machine.start_process(pid, "/bin/first");
    let refused = Service::with_stream(&machine, &returning).err();
    assert_eq!(refused, Some(status::CONNECTION_ABORTED));
    drop((service, other));
    machine.check();
}

#[test]
fn a_stream_is_not_ended_by_who_does_not_get_a_new_one() {
    let machine = machine(0);
    let anew = StreamHello {
        flags: 0,
        window: MAX_WINDOW,
        ..wanted()
    };
    let large = |n: u8| StreamHello {
        key: [n; 16],
        ..anew
    };
    let mut others: Vec<_> = (1..4)
        .map(|n| Service::with_stream(&machine, &large(n)).unwrap())
        .collect();
    drop(Service::with_stream(&machine, &anew).unwrap());
    let service = Service::with_stream(&machine, &anew).expect("the former one's window is free");
    until("the former stream is not ended", || {
        service.connections().len() == 4
    });
    let own = service.info().connection;
    drop(service);
    while others.len() < MAX_CONNECTIONS - 1 {
        others.push(Service::connect(&machine));
    }
    let refused = Service::with_stream(&machine, &anew).err();
    assert_eq!(refused, Some(STATUS_CONNECTION_COUNT_LIMIT));
    let service = Service::with_stream(&machine, &wanted()).unwrap();
    assert_eq!(service.stream().former, own, "it is still there");
    drop((service, others));
    machine.check();
}

#[test]
fn services_of_version_1_are_served_as_before() {
    let (machine, service, provider) = observed();
    drop(service);
    let hello = Hello {
        min_version: 1,
        max_version: 1,
        ..Hello::new("old", rights::ALL, 0)
    };
    let mut old = Service::connect_with(&machine, &hello.to_bytes()).unwrap();
    old.subscribe(provider, 1 << 1, 0).unwrap();
    blobs(0..3);
    assert_eq!(numbers(&old.drain()), [0, 1, 2]);
    assert_eq!(old.info().version, 1);
    assert_eq!(old.connections().len(), 1, "no stream that waits");
    drop(old);
    machine.check();
}
