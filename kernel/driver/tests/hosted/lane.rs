// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guaranteed lane, and notifications that are filled in where they lie.

use crate::bare::{BareClient, named};
use crate::generator::{self, Blob, PROVIDER, Question};
use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::command::BACKLOG;
use fltport_abi::frame::RecordKind;
use fltport_abi::limits::{MAX_BOOKINGS, MAX_PAYLOAD, MIN_QUEUE};
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{
    STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_QUOTA_EXCEEDED,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

fltport_abi::messages! {
    /// Tells of pairs.
    provider PAIRS = "pairs";

    /// The first half.
    notification 1 "start" Start<'a> {
        /// Counted by the test.
        number: u64,
        /// Anything.
        data: &'a [u8],
    }

    /// The second half.
    notification 2 "exit" Exit {
        /// Of the start.
        number: u64,
    }
}

pub(crate) const EXIT: u32 = Exit::FIXED as u32;
pub(crate) const BOTH: u64 = 1 << Start::NUMBER | 1 << Exit::NUMBER;
const PLENTY: &[u8] = &[7; 1000];

pub(crate) fn machine() -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine
}

/// Starts and exits that came, and what gap records told of, by message.
#[derive(Default)]
struct Heard {
    starts: BTreeSet<u64>,
    exits: BTreeSet<u64>,
    lost: BTreeMap<u16, u64>,
}

impl Heard {
    fn take(&mut self, records: Vec<Record>, provider: u32) {
        for record in records {
            for entry in &record.gap {
                if u32::from(entry.provider) == provider {
                    *self.lost.entry(entry.message).or_default() += entry.count;
                }
            }
            let own = u32::from(record.header.provider) == provider;
            if !own || record.kind != RecordKind::Notification {
                continue;
            }
            let twice = match record.header.message {
                Start::NUMBER => {
                    let start = Start::decode(&record.payload).expect("a start");
                    !self.starts.insert(start.number)
                }
                _ => {
                    let exit = Exit::decode(&record.payload).expect("an exit");
                    !self.exits.insert(exit.number)
                }
            };
            assert!(!twice, "twice: {record:?}");
        }
    }
}

/// The notifications of a provider.
pub(crate) fn of(records: Vec<Record>, provider: u32) -> Vec<Record> {
    let own = |r: &Record| u32::from(r.header.provider) == provider;
    records.into_iter().filter(own).collect()
}

#[test]
fn no_exit_is_lost_whose_start_was_told() {
    const PAIRS_OFFERED: u64 = 10_000;
    const RUNNING: usize = 40;
    let machine = machine();
    let mut service = Service::connect(&machine);
    service.limit(MIN_QUEUE, 0, 0).expect("nothing is in it");
    let client = BareClient::register(&PAIRS, 0);
    let noisy = BareClient::register(&named(&PROVIDER, "noisy".to_owned()), 0);
    let provider = service.provider(PAIRS.name).expect("is registered");
    let noise = service.provider("noisy").expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    let observed = service.subscribe(noise, 1 << Blob::NUMBER, 0);
    observed.expect("subscribes");
    let (mut heard, mut running, mut booked) = (Heard::default(), VecDeque::new(), BTreeSet::new());
    let exit = |(number, booking): (u64, Option<u64>)| {
        let status = client.notify_booked(&Exit { number }, booking.unwrap_or(0));
        assert_eq!(status, 0);
    };
    for number in 0..PAIRS_OFFERED {
        let booking = client.book(Exit::NUMBER, EXIT).ok();
        booked.extend(booking.map(|_| number));
        let data = PLENTY;
        assert_eq!(client.notify_at(0, &Start { number, data }), 0);
        assert_eq!(noisy.notify_at(0, &Blob { number, data }), 0);
        running.push_back((number, booking));
        if running.len() > RUNNING {
            running.pop_front().map(exit);
        }
        // Reads seldom: most of the time there is no room for anything but what was booked.
        if number % 200 == 0 {
            heard.take(service.drain(), provider);
        }
    }
    running.into_iter().for_each(exit);
    assert_eq!(service.usage_of(provider).booked, 0, "all have been used");
    heard.take(service.drain(), provider);
    let rows = service.settled_ledger();
    let own = |row: &&fltport_abi::command::LedgerRow| u32::from(row.provider) == provider;
    let lost: u64 = rows.iter().filter(own).map(|row| row.lost_total()).sum();
    assert_eq!(heard.lost.values().sum::<u64>(), lost, "each loss is told");
    assert!(heard.lost[&Start::NUMBER] > 1000, "there is no flood");
    assert!(booked.len() > 500, "{} booked", booked.len());
    let without: Vec<_> = booked.difference(&heard.exits).collect();
    assert!(
        without.is_empty(),
        "lost although there was room: {without:?}"
    );
    drop((service, client, noisy));
    machine.check();
}

/// What a model does with bookings.
#[derive(Clone, Debug)]
enum Step {
    Book(u32),
    /// Of the outstanding bookings, if there is one.
    Use(prop::sample::Index),
    Unbook(prop::sample::Index),
    /// So many notifications of so many bytes.
    Flood(u64, usize),
    Read,
    /// Another service observes.
    Join,
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0..400_u32).prop_map(|more| Step::Book(EXIT + more)),
        3 => any().prop_map(Step::Use),
        1 => any().prop_map(Step::Unbook),
        4 => (1..80_u64, 0..3000_usize).prop_map(|(n, size)| Step::Flood(n, size)),
        1 => Just(Step::Read),
        1 => Just(Step::Join),
        1 => Just(Step::Leave),
    ]
}

/// Bytes of the queue that a booking takes: the record, and a gap record of eight entries.
fn room(payload: u32) -> u32 {
    use fltport_abi::frame::record_size;
    (record_size(payload as usize) + record_size(16 + 8 * 16)) as u32
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    })]

    /// What is booked is nobody else's, adds up, and is enough, whatever else happens.
    #[test]
    fn booked_room_is_kept(steps in prop::collection::vec(step(), 1..60)) {
        let machine = machine();
        let mut service = Service::connect(&machine);
        service.limit(MIN_QUEUE, 0, 0).unwrap();
        let client = BareClient::register(&PAIRS, 0);
        let provider = service.provider(PAIRS.name).unwrap();
        service.subscribe(provider, BOTH, 0).unwrap();
        // Number, length, and whether the service keeps room for it.
        let mut outstanding: Vec<(u64, u32, bool)> = Vec::new();
        let mut certain = BTreeSet::new();
        let (mut heard, mut used, mut number) = (Heard::default(), BTreeSet::new(), 0);
        let mut other: Option<Service> = None;
        for step in steps {
            match step {
                Step::Book(length) => {
                    let before = service.usage_of(provider).booked;
                    match client.book(Exit::NUMBER, length) {
                        Ok(booking) => {
                            let kept = service.usage_of(provider).booked != before;
                            prop_assert!(kept || other.is_some());
                            outstanding.push((booking, length, kept));
                        }
                        Err(status) => prop_assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES),
                    }
                }
                Step::Use(which) if !outstanding.is_empty() => {
                    let (booking, _, kept) = outstanding.swap_remove(which.index(outstanding.len()));
                    prop_assert_eq!(client.notify_booked(&Exit { number }, booking), 0);
                    certain.extend(kept.then_some(number));
                    used.insert(number);
                    number += 1;
                }
                Step::Unbook(which) if !outstanding.is_empty() => {
                    let (booking, _, _) = outstanding.swap_remove(which.index(outstanding.len()));
                    client.unbook(booking);
                    // Twice is once.
                    client.unbook(booking);
                }
                Step::Use(_) | Step::Unbook(_) => {}
                Step::Flood(count, size) => {
                    let data = vec![7; size];
                    for _ in 0..count {
                        prop_assert_eq!(client.notify_at(0, &Start { number, data: &data }), 0);
                        number += 1;
                    }
                }
                Step::Read => heard.take(service.drain_available(), provider),
                Step::Join if other.is_none() => {
                    let joined = Service::connect(&machine);
                    joined.subscribe(provider, BOTH, 0).unwrap();
                    // Its queue is empty: it has room for whatever is booked.
                    let rooms: u32 = outstanding.iter().map(|(_, length, _)| room(*length)).sum();
                    prop_assert_eq!(joined.usage_of(provider).booked, rooms);
                    other = Some(joined);
                }
                Step::Join => {}
                Step::Leave => {
                    if let Some(other) = other.take() {
                        other.close();
                    }
                }
            }
            let usage = service.usage_of(provider);
            let kept = outstanding.iter().filter(|(_, _, kept)| *kept);
            let rooms: u32 = kept.map(|(_, length, _)| room(*length)).sum();
            prop_assert_eq!(usage.booked, rooms);
            let info = service.info();
            prop_assert!(usage.booked + info.queued <= info.capacity);
            prop_assert!(usage.booked <= info.capacity / 2);
        }
        drop(other);
        heard.take(service.drain(), provider);
        service.ledger();
        let missing: Vec<_> = certain.difference(&heard.exits).collect();
        prop_assert!(missing.is_empty(), "there was room for {missing:?}");
        let exits_lost = heard.lost.get(&Exit::NUMBER).copied().unwrap_or(0);
        prop_assert_eq!(heard.exits.len() as u64 + exits_lost, used.len() as u64);
        drop((service, client));
        machine.check();
    }
}

#[test]
fn what_is_told_in_front_of_a_booked_record_has_room_as_well() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    service.limit(MIN_QUEUE, 0, 0).expect("nothing is in it");
    let client = BareClient::register(&PAIRS, 0);
    let provider = service.provider(PAIRS.name).expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    let booking = client.book(Exit::NUMBER, EXIT).expect("there is room");
    let small = Start {
        number: 9999,
        data: &[],
    };
    service.stall(|| assert_eq!(client.notify_at(0, &small), 0));
    (0..300).for_each(|number| {
        let data = PLENTY;
        assert_eq!(client.notify_at(0, &Start { number, data }), 0);
    });
    // To the last byte.
    (300..600).for_each(|number| {
        let data = &[];
        assert_eq!(client.notify_at(0, &Start { number, data }), 0);
    });
    assert_eq!(client.notify_booked(&Exit { number: 1 }, booking), 0);
    let records = service.drain();
    let exit = records
        .iter()
        .position(|r| r.header.message == Exit::NUMBER);
    let exit = exit.expect("it came");
    assert_eq!(
        records[exit - 1].kind,
        RecordKind::Gap,
        "the loss is told where it was"
    );
    assert_eq!(exit + 1, records.len());
    drop((service, client));
    machine.check();
}

#[test]
fn a_booking_is_for_one_notification_of_its_kind_and_size() {
    let machine = machine();
    let mut service = Service::connect(&machine);
    let client = BareClient::register(&PAIRS, 0);
    let provider = service.provider(PAIRS.name).expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    let booked = |service: &Service| service.usage_of(provider).booked;
    let booking = client.book(Exit::NUMBER, EXIT).expect("there is room");
    assert_eq!(booked(&service), room(EXIT));
    // Of another kind, or too large: an ordinary one, and the booking is gone.
    let large = Start {
        number: 1,
        data: &[0; 100],
    };
    assert_eq!(client.notify_booked(&large, booking), 0);
    assert_eq!(booked(&service), 0);
    let booking = client.book(Start::NUMBER, EXIT).expect("there is room");
    assert_eq!(client.notify_booked(&large, booking), 0);
    assert_eq!(booked(&service), 0);
    // Again, never made, and another's.
    for stale in [booking, 1, u64::MAX] {
        assert_eq!(client.notify_booked(&Exit { number: stale }, stale), 0);
        client.unbook(stale);
    }
    assert_eq!(
        of(service.drain(), provider).len(),
        5,
        "they are ordinary ones"
    );
    assert_eq!(
        client.book(Exit::NUMBER, MAX_PAYLOAD as u32 + 1),
        Err(STATUS_BUFFER_OVERFLOW)
    );
    assert_eq!(client.book(3, EXIT), Err(STATUS_INVALID_PARAMETER));
    drop((service, client));
    machine.check();
}

#[test]
fn a_booking_ends_with_the_registration() {
    let machine = machine();
    let mut service = Service::connect(&machine);
    let client = BareClient::register(&PAIRS, 0);
    let first = client.book(Exit::NUMBER, EXIT).expect("nobody is there");
    drop(client);
    let client = BareClient::register(&PAIRS, 0);
    let provider = service.provider(PAIRS.name).expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    let second = client.book(Exit::NUMBER, EXIT).expect("there is room");
    assert_ne!(first, second);
    client.unbook(first);
    assert_eq!(service.usage_of(provider).booked, room(EXIT));
    assert_eq!(client.notify_booked(&Exit { number: 1 }, first), 0);
    assert_eq!(service.usage_of(provider).booked, room(EXIT));
    assert_eq!(of(service.drain(), provider).len(), 1);
    // The registration ends with bookings outstanding: their room is free again.
    drop(client);
    let client = BareClient::register(&PAIRS, 0);
    let provider = service.provider(PAIRS.name).expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    let all = (0..).take_while(|_| client.book(Exit::NUMBER, EXIT).is_ok());
    let capacity = service.info().capacity;
    assert_eq!(
        all.count() as u32,
        capacity / 2 / room(EXIT),
        "the whole half is there"
    );
    drop(client);
    drop(service);
    machine.check();
}

#[test]
fn bookings_are_bounded_and_count_against_the_rate() {
    let machine = machine();
    let client = BareClient::register(&PAIRS, 0);
    let all: Vec<u64> = (0..MAX_BOOKINGS)
        .map(|_| client.book(Exit::NUMBER, EXIT).expect("nobody is there"))
        .collect();
    assert_eq!(
        client.book(Exit::NUMBER, EXIT),
        Err(STATUS_INSUFFICIENT_RESOURCES)
    );
    client.unbook(all[17]);
    let again = client.book(Exit::NUMBER, EXIT).expect("a place is free");
    assert_eq!(
        all.iter().chain([&again]).collect::<BTreeSet<_>>().len(),
        MAX_BOOKINGS + 1
    );
    let service = Service::connect(&machine);
    let provider = service.provider(PAIRS.name).expect("is registered");
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    // As many as fit into the half of the queue.
    let (usage, capacity) = (service.usage_of(provider), service.info().capacity);
    let rooms = MAX_BOOKINGS as u32 * room(EXIT);
    assert_eq!(
        usage.booked,
        rooms.min(capacity / 2 / room(EXIT) * room(EXIT))
    );
    drop(client);
    let slow = BareClient::register_with(&PAIRS, 0, |d| (d.rate, d.burst) = (1, 2));
    let booked = (0..50).filter(|_| match slow.book(Exit::NUMBER, EXIT) {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status, STATUS_QUOTA_EXCEEDED);
            false
        }
    });
    assert!((2..25).contains(&booked.count()));
    drop((slow, service));
    machine.check();
}

#[test]
fn a_backlog_keeps_room_for_what_was_booked() {
    let machine = machine();
    let oldest = BacklogPolicy::KeepOldest as u32;
    let client = BareClient::register_with(&PAIRS, 16 * 1024, |d| d.backlog_policy = oldest);
    let mut service = Service::connect(&machine);
    let provider = service.provider(PAIRS.name).expect("is registered");
    let bookings: Vec<u64> = (0..10)
        .map(|_| client.book(Exit::NUMBER, EXIT).expect("there is room"))
        .collect();
    assert_eq!(service.usage_as_a_whole(provider).booked, 10 * room(EXIT));
    (0..100).for_each(|number| {
        let data = PLENTY;
        assert_eq!(client.notify_at(0, &Start { number, data }), 0);
    });
    for (number, booking) in (0..5).zip(&bookings) {
        assert_eq!(client.notify_booked(&Exit { number }, *booking), 0);
    }
    assert_eq!(service.usage_as_a_whole(provider).booked, 5 * room(EXIT));
    service.subscribe(provider, BOTH, 0).expect("subscribes");
    // The connection has taken over what was booked, and so has the next backlog.
    assert_eq!(service.usage_of(provider).booked, 5 * room(EXIT));
    for (number, booking) in (5..10).zip(&bookings[5..]) {
        assert_eq!(client.notify_booked(&Exit { number }, *booking), 0);
    }
    assert_eq!(service.usage_of(provider).booked, 0);
    assert_eq!(service.usage_as_a_whole(provider).booked, 0);
    let mut heard = Heard::default();
    heard.take(service.drain(), provider);
    assert_eq!(heard.exits, (0..10).collect());
    assert!(heard.starts.len() < 20 && heard.lost[&Start::NUMBER] > 80);
    drop((service, client));
    machine.check();
}

#[test]
fn a_connection_ends_with_bookings_and_the_next_one_keeps_them() {
    let machine = machine();
    let client = BareClient::register(&PAIRS, 0);
    let first = Service::connect(&machine);
    let provider = first.provider(PAIRS.name).expect("is registered");
    first.subscribe(provider, BOTH, 0).expect("subscribes");
    let bookings: Vec<u64> = (0..100)
        .map(|_| client.book(Exit::NUMBER, EXIT).expect("there is room"))
        .collect();
    first.close();
    let mut second = Service::connect(&machine);
    let bystander = Service::connect(&machine);
    second.subscribe(provider, BOTH, 0).expect("subscribes");
    bystander
        .subscribe(provider, 1 << Start::NUMBER, 0)
        .expect("subscribes");
    assert_eq!(second.usage_of(provider).booked, 100 * room(EXIT));
    assert_eq!(
        bystander.usage_of(provider).booked,
        0,
        "it does not observe them"
    );
    client.unbook(bookings[0]);
    for (number, booking) in (1..100).zip(&bookings[1..]) {
        assert_eq!(client.notify_booked(&Exit { number }, *booking), 0);
    }
    assert_eq!(second.usage_of(provider).booked, 0);
    assert_eq!(second.drain().len(), 99);
    drop((first, second, bystander, client));
    machine.check();
}

/// The stub's guards: a driver is unloaded while a client fills a notification in, and has booked.
#[test]
fn the_driver_is_unloaded_behind_a_reservation_and_bookings() {
    let machine = machine();
    let image = generator::image(&machine, 64 * 1024, BacklogPolicy::KeepNewest);
    machine.load(&image);
    let service = Service::connect(&machine);
    let booking = generator::provider()
        .book::<Blob<'_>>(64)
        .expect("there is room");
    let unused = generator::provider()
        .book::<Blob<'_>>(64)
        .expect("there is room");
    let provider = generator::provider();
    std::thread::scope(|scope| {
        let mut reservation = provider.reserve::<Blob<'_>>(64).expect("memory");
        let unloading = scope.spawn(|| machine.stop(&FLTPORT));
        let mut watcher = service;
        while watcher.receive(PATIENCE) {}
        assert!(watcher.try_info().is_err(), "the driver does not go");
        assert!(!unloading.is_finished(), "the driver does not wait");
        let written = Blob {
            number: 1,
            data: b"late",
        }
        .encode(&mut reservation);
        reservation
            .commit(written.expect("fits"))
            .expect("accounted for");
    });
    // Without a common driver there is room for it in the staging buffer.
    (0..200).for_each(|number| generator::blob(number, &[0; 64]));
    booking
        .notify(&Blob {
            number: 900,
            data: b"booked",
        })
        .expect("accounted for");
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    // When it is registered, what was staged may still be on its way; then it has been handed over.
    while provider.statistics(0).is_err() {
        std::thread::yield_now();
    }
    let number = service.provider("generator").expect("is registered");
    service
        .subscribe(number, 1 << Blob::NUMBER, 0)
        .expect("subscribes");
    let records = service.drain();
    let lost = records.iter().flat_map(|r| &r.gap);
    let lost: Vec<_> = lost
        .map(|e| (e.cause().expect("a cause"), e.count))
        .collect();
    assert!(lost.contains(&(Cause::ShuttingDown, 1)), "{lost:?}");
    let mut blobs = records
        .iter()
        .filter(|r| u32::from(r.header.provider) == number);
    let last = blobs.next_back().expect("some came");
    assert_eq!(Blob::decode(&last.payload).expect("a blob").number, 900);
    // A booking of a former driver's, which is given back to this one.
    drop((unused, provider));
    drop(service);
    machine.stop(&image);
    machine.check();
}

#[test]
fn the_process_monitor_books_the_exit_at_the_start() {
    let machine = machine();
    machine.start_process(77_000, "/bin/before");
    machine.load(&MONITOR);
    let mut service = Service::connect(&machine);
    let provider = service.watch(&[1, 2], &[]);
    (0..100).for_each(|n| {
        machine.start_process(2000 + 4 * n, "/bin/booked");
    });
    let booked = service.usage_of(provider).booked;
    assert_eq!(booked, 100 * room(process_exit()));
    (0..50).for_each(|n| machine.end_process(2000 + 4 * n, 0));
    assert_eq!(service.usage_of(provider).booked, booked / 2);
    // The number of a process that has not been seen to end.
    machine.start_process(2000 + 4 * 99, "/bin/again");
    assert_eq!(service.usage_of(provider).booked, booked / 2);
    // Of one that was there before the driver.
    machine.end_process(77_000, 0);
    assert_eq!(service.drain().len(), 152);
    machine.stop(&MONITOR);
    let rows = service.ledger();
    assert!(
        rows.iter()
            .filter(|r| r.connection != BACKLOG)
            .all(|r| r.lost_total() == 0)
    );
    drop(service);
    machine.check();
}

fn process_exit() -> u32 {
    fltport_abi::process_monitor::ProcessExit::FIXED as u32
}

/// A question has no place in it.
#[test]
fn requests_are_not_booked() {
    let machine = machine();
    let client = BareClient::register(&PROVIDER, 0);
    assert_eq!(
        client.book(Question::NUMBER, 8),
        Err(STATUS_INVALID_PARAMETER)
    );
    assert_eq!(
        client.reserve_at(0, Question::NUMBER, 8).err(),
        Some(STATUS_INVALID_PARAMETER)
    );
    drop(client);
    machine.check();
}
