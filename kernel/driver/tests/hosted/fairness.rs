// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shares, quotas and rates: a noisy provider costs the others nothing, and is named. Of queues; `rings` has the same of rings.

use crate::bare::{BareClient, named};
use crate::generator::{Blob, PROVIDER, Question};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::command::{BACKLOG, LedgerRow, own};
use fltport_abi::frame::BLAME_NONE;
use fltport_abi::limits::{MAX_QUEUE, MAX_QUEUES, MIN_QUEUE};
use fltport_abi::message::Message;
use fltport_nt::bindings::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn machine() -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine
}

/// A provider of that name, and its number.
fn provider(service: &Service, name: &str) -> (BareClient, u32) {
    provider_with(service, name, |_| ())
}

fn provider_with(
    service: &Service,
    name: &str,
    change: impl FnOnce(&mut fltport_abi::interface::ProviderDescription),
) -> (BareClient, u32) {
    let schema = named(&PROVIDER, name.to_owned());
    let client = BareClient::register_with(&schema, 0, change);
    (client, service.provider(name).expect("is registered"))
}

fn offer(client: &BareClient, number: u64, size: usize) {
    let data = vec![7; size];
    assert_eq!(
        client.notify_at(
            0,
            &Blob {
                number,
                data: &data
            }
        ),
        0
    );
}

/// Has the service observe the blobs of a provider.
fn observe(service: &Service, provider: u32) {
    let observed = service.subscribe(provider, 1 << Blob::NUMBER, 0);
    observed.expect("subscribes");
}

/// The account of a provider's blobs with the service, at rest.
fn account(rows: &[LedgerRow], connection: u32, provider: u32) -> LedgerRow {
    let own = |row: &&LedgerRow| {
        row.connection == connection
            && u32::from(row.provider) == provider
            && row.message == Blob::NUMBER
    };
    *rows.iter().find(own).expect("is in the ledger")
}

/// What gap records told of a provider's losses: the cause, who is to blame, how many.
fn told(records: &[Record], provider: u32) -> Vec<(Cause, u16, u64)> {
    let entries = records.iter().flat_map(|r| &r.gap);
    entries
        .filter(|e| u32::from(e.provider) == provider)
        .map(|e| (e.cause().expect("a cause"), e.by, e.count))
        .collect()
}

/// The notifications of a provider.
fn of(records: Vec<Record>, provider: u32) -> Vec<Record> {
    let own = |r: &Record| u32::from(r.header.provider) == provider;
    records.into_iter().filter(own).collect()
}

#[test]
fn the_quiet_lose_nothing_while_one_floods() {
    const ROUNDS: u64 = 60;
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    let (noisy, noise) = provider(&service, "noisy");
    let quiet: Vec<_> = (0..4)
        .map(|n| provider(&service, &format!("quiet-{n}")))
        .collect();
    let all = quiet.iter().map(|(_, number)| *number).chain([noise]);
    all.for_each(|number| observe(&service, number));
    // The service does not read. What one round floods is more than the queue holds at the end.
    for round in 0..ROUNDS {
        (0..40).for_each(|n| offer(&noisy, 40 * round + n, 2000));
        for (client, _) in &quiet {
            (0..3).for_each(|n| offer(client, 3 * round + n, 200));
        }
    }
    let usage = service.usage_of(noise);
    assert!(usage.bytes <= service.info().capacity / 2, "{usage:?}");
    assert!(usage.bytes_peak >= usage.bytes && usage.bytes > 0);
    assert_eq!((usage.booked, usage.rate), (0, 0));
    let records = service.drain();
    let rows = service.settled_ledger();
    let connection = service.info().connection;
    for (_, number) in &quiet {
        let row = account(&rows, connection, *number);
        assert_eq!((row.delivered, row.lost_total()), (3 * ROUNDS, 0));
        assert_eq!(service.usage_of(*number).blamed, 0);
    }
    let row = account(&rows, connection, noise);
    let lost = row.lost[Cause::Quota.index()];
    assert!(lost > 0 && row.lost_total() == lost, "{row:?}");
    assert_eq!(service.usage_of(noise).blamed, lost);
    let told = told(&records, noise);
    assert!(
        told.iter()
            .all(|(cause, by, _)| *cause == Cause::Quota && u32::from(*by) == noise)
    );
    assert_eq!(told.iter().map(|(_, _, count)| count).sum::<u64>(), lost);
    drop((service, noisy, quiet));
    machine.check();
}

#[test]
fn alone_a_provider_has_the_whole_queue_and_is_to_blame_when_it_is_full() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    let (client, number) = provider(&service, "alone");
    observe(&service, number);
    (0..1000).for_each(|n| offer(&client, n, 2000));
    let (usage, info) = (service.usage_of(number), service.info());
    assert_eq!(usage.bytes_allowed, info.capacity);
    // The peak: the sender may take its first batch when the queue is full, and not before.
    assert!(usage.bytes_peak > info.capacity - 4096, "{usage:?}");
    let records = service.drain();
    let row = account(&service.settled_ledger(), info.connection, number);
    let lost = row.lost[Cause::RingFull.index()];
    assert!(lost > 0 && row.lost_total() == lost, "{row:?}");
    let told = told(&records, number);
    let blames =
        |(cause, by, _): &(Cause, u16, u64)| (*cause, *by) == (Cause::RingFull, number as u16);
    assert!(told.iter().all(blames), "{told:?}");
    assert_eq!(told.iter().map(|(_, _, count)| count).sum::<u64>(), lost);
    assert_eq!(service.usage_of(number).blamed, lost);
    drop((service, client));
    machine.check();
}

#[test]
fn who_has_most_of_a_full_queue_is_to_blame() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    service.limit(MIN_QUEUE, 0, 0).expect("nothing is in it");
    let (large, large_number) = provider(&service, "large");
    let (second, second_number) = provider(&service, "second");
    let (third, third_number) = provider(&service, "third");
    [large_number, second_number, third_number]
        .into_iter()
        .for_each(|number| observe(&service, number));
    service.stall(|| offer(&third, 0, 10));
    // Half of the queue, and half of what is left.
    (0..300).for_each(|n| offer(&large, n, 1000));
    (0..300).for_each(|n| offer(&second, n, 1000));
    offer(&third, 0, 30_000);
    let records = service.drain();
    assert_eq!(
        told(&records, third_number),
        [(Cause::RingFull, large_number as u16, 1)]
    );
    let own = told(&records, large_number)
        .iter()
        .map(|(_, _, n)| n)
        .sum::<u64>();
    assert!(own > 0);
    assert_eq!(service.usage_of(large_number).blamed, own + 1);
    assert_eq!(service.usage_of(third_number).blamed, 0);
    drop((service, large, second, third));
    machine.check();
}

#[test]
fn a_quota_is_kept() {
    const QUOTA: u32 = 10_000;
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    let (client, number) = provider_with(&service, "frugal", |d| d.quota = QUOTA);
    observe(&service, number);
    let usage = service.usage_of(number);
    assert_eq!((usage.bytes, usage.bytes_allowed), (0, QUOTA));
    (0..500).for_each(|n| offer(&client, n, 500));
    let usage = service.usage_of(number);
    assert!(usage.bytes_peak <= QUOTA, "{usage:?}");
    assert!(usage.bytes_peak > QUOTA - 1000, "{usage:?}");
    // One that is larger than the quota is never queued.
    offer(&client, 500, QUOTA as usize);
    let records = service.drain();
    let connection = service.info().connection;
    let row = account(&service.settled_ledger(), connection, number);
    let lost = row.lost[Cause::Quota.index()];
    assert!(lost > 0 && row.lost_total() == lost, "{row:?}");
    let by_itself =
        |(cause, by, _): &(Cause, u16, u64)| (*cause, u32::from(*by)) == (Cause::Quota, number);
    assert!(told(&records, number).iter().all(by_itself));
    assert_eq!(service.usage_of(number).bytes, 0, "all has been taken");
    drop((service, client));
    machine.check();
}

#[test]
fn a_rate_is_kept_towards_everybody() {
    const RATE: u32 = 20;
    const BURST: u32 = 5;
    const OFFERED: u64 = 400;
    let machine = machine();
    let (mut one, mut two) = (Service::with_a_queue(&machine), Service::with_a_queue(&machine));
    let begun = Instant::now();
    let limit = |d: &mut fltport_abi::interface::ProviderDescription| {
        (d.rate, d.burst) = (RATE, BURST);
    };
    let (client, number) = provider_with(&one, "slow", limit);
    let whole = one.usage_as_a_whole(number);
    assert_eq!((whole.rate, whole.burst, whole.blamed), (RATE, BURST, 0));
    // Nobody hears the first one, and it costs a token.
    offer(&client, 0, 10);
    observe(&one, number);
    observe(&two, number);
    (1..=OFFERED).for_each(|n| offer(&client, n, 10));
    let most = u64::from(BURST) + (begun.elapsed().as_secs_f64() * f64::from(RATE)) as u64 + 1;
    for service in [&mut one, &mut two] {
        let records = service.drain();
        let connection = service.info().connection;
        let row = account(&service.settled_ledger(), connection, number);
        let lost = row.lost[Cause::RateLimit.index()];
        assert_eq!((row.offered, row.delivered + lost), (OFFERED, OFFERED));
        assert!(
            (u64::from(BURST) - 1..most).contains(&row.delivered),
            "{row:?}"
        );
        let by_itself = |(cause, by, _): &(Cause, u16, u64)| {
            (*cause, u32::from(*by)) == (Cause::RateLimit, number)
        };
        assert!(told(&records, number).iter().all(by_itself));
        assert_eq!(service.usage_of(number).blamed, lost);
    }
    drop((one, two, client));
    machine.check();
}

#[test]
fn a_rate_is_kept_where_nobody_listens() {
    let machine = machine();
    let service = Service::with_a_queue(&machine);
    let (client, number) = provider_with(&service, "slow", |d| (d.rate, d.burst) = (1, 1));
    (0..3).for_each(|n| offer(&client, n, 10));
    let row = account(&service.ledger(), BACKLOG, number);
    assert_eq!(row.offered, 3);
    // A second may pass on a busy machine.
    let limited = row.lost[Cause::RateLimit.index()];
    assert!((1..=2).contains(&limited), "{row:?}");
    assert_eq!(service.usage_as_a_whole(number).blamed, limited);
    drop((service, client));
    machine.check();
}

#[test]
fn what_finds_no_room_to_book_costs_nothing_of_the_rate() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    service.limit(MIN_QUEUE, 0, 0).expect("nothing is in it");
    let (client, number) = provider_with(&service, "slow", |d| (d.rate, d.burst) = (1, 2));
    observe(&service, number);
    for _ in 0..20 {
        let refused = client.book(Blob::NUMBER, MIN_QUEUE / 2);
        assert_eq!(refused, Err(STATUS_INSUFFICIENT_RESOURCES));
    }
    let booked = client.book(Blob::NUMBER, Blob::FIXED as u32);
    client.unbook(booked.expect("the burst is whole"));
    offer(&client, 1, 10);
    assert_eq!(of(service.drain(), number).len(), 1);
    drop((service, client));
    machine.check();
}

#[test]
fn a_service_takes_no_more_than_it_asked_for() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    let (client, number) = provider(&service, "plenty");
    observe(&service, number);
    service.limit(0, 1, 4).expect("a rate");
    (0..100).for_each(|n| offer(&client, n, 10));
    let records = service.drain();
    let connection = service.info().connection;
    let row = account(&service.settled_ledger(), connection, number);
    assert!((4..50).contains(&row.delivered), "{row:?}");
    assert_eq!(row.delivered + row.lost[Cause::RateLimit.index()], 100);
    let nobody = |(_, by, _): &(Cause, u16, u64)| *by == BLAME_NONE;
    assert!(
        told(&records, number).iter().all(nobody),
        "it is the service's wish"
    );
    // And takes it back.
    service.limit(0, 0, 0).expect("no rate");
    (100..200).for_each(|n| offer(&client, n, 10));
    assert_eq!(of(service.drain(), number).len(), 100);
    drop((service, client));
    machine.check();
}

#[test]
fn a_queue_is_as_large_as_the_service_wants_it() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    for wrong in [1, MIN_QUEUE - 1, MAX_QUEUE + 1, u32::MAX] {
        assert_eq!(
            service.limit(wrong, 0, 0),
            Err(STATUS_INVALID_PARAMETER),
            "{wrong}"
        );
    }
    let mut reserved = [0; 16];
    reserved[12] = 1;
    let refused = service.command(0, own::LIMITS, &reserved);
    assert_eq!(refused, Err(STATUS_INVALID_PARAMETER));
    assert_eq!(
        service.command(0, own::LIMITS, &[0; 15]),
        Err(STATUS_INVALID_PARAMETER)
    );
    service.limit(MIN_QUEUE, 0, 0).expect("the smallest");
    assert_eq!(service.info().capacity, MIN_QUEUE);
    let (client, number) = provider(&service, "mover");
    observe(&service, number);
    // What is moved is split by the end of the memory, and is not a record more or less.
    service.stall(|| offer(&client, 1000, 20_000));
    let mut offered = 0;
    let mut fill = |bytes: u32| {
        while service.info().queued < bytes {
            offer(&client, offered, 997);
            offered += 1;
        }
    };
    fill(MIN_QUEUE / 2);
    service
        .limit(4 * MIN_QUEUE, 0, 0)
        .expect("there is room for what is queued");
    assert_eq!(service.info().capacity, 4 * MIN_QUEUE);
    fill(MIN_QUEUE * 2);
    assert_eq!(
        service.limit(MIN_QUEUE, 0, 0),
        Err(STATUS_INVALID_DEVICE_STATE),
        "no room for what is queued"
    );
    assert_eq!(
        service.limit(MAX_QUEUE, 0, 0),
        Err(STATUS_INVALID_DEVICE_STATE),
        "too much to be moved under the lock"
    );
    let numbers: Vec<u64> = of(service.drain(), number)
        .iter()
        .map(|r| Blob::decode(&r.payload).expect("a blob").number)
        .collect();
    let stalled = [1000; 3].into_iter();
    assert_eq!(numbers, stalled.chain(0..offered).collect::<Vec<_>>());
    service.limit(MAX_QUEUE, 0, 0).expect("nothing is in it");
    assert_eq!(service.info().capacity, MAX_QUEUE);
    drop((service, client));
    machine.check();
}

#[test]
fn a_provider_reads_its_accounts() {
    let machine = machine();
    let mut service = Service::with_a_queue(&machine);
    let (client, number) = provider(&service, "curious");
    offer(&client, 0, 10);
    let decide = 1 << Question::NUMBER;
    let subscribed = service.subscribe(number, 1 << Blob::NUMBER, decide);
    subscribed.expect("subscribes");
    (1..4).for_each(|n| offer(&client, n, 10));
    offer(&client, 4, 70_000);
    service.drain();
    service.settled_ledger();
    let found = client.statistics(0).expect("the accounts");
    assert_eq!((found.observers, found.deciders), (1, 1));
    assert_eq!((found.offered, found.delivered, found.in_flight), (5, 3, 0));
    assert_eq!(found.lost[Cause::NoConnection.index()], 1);
    assert_eq!(found.lost[Cause::TooLarge.index()], 1);
    assert_eq!(found.lost.iter().sum::<u64>(), 2);
    let question = client.statistics(Question::NUMBER).expect("the accounts");
    assert_eq!(
        (question.observers, question.deciders, question.offered),
        (0, 1, 0)
    );
    assert_eq!(client.statistics(9).err(), Some(STATUS_INVALID_PARAMETER));
    // What has ended stays in the books.
    service.close();
    let found = client.statistics(Blob::NUMBER).expect("the accounts");
    assert_eq!((found.observers, found.delivered), (0, 3));
    drop((service, client));
    machine.check();
}

#[test]
fn a_word_says_who_listens() {
    let word: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(u64::MAX)));
    let machine = machine();
    let service = Service::with_a_queue(&machine);
    let (client, number) = provider_with(&service, "asked", |d| d.interest = word.as_ptr());
    let now = || word.load(Ordering::Relaxed);
    let (blob, question) = (1 << Blob::NUMBER, 1 << Question::NUMBER);
    assert_eq!(now(), 0, "nobody");
    observe(&service, number);
    assert_eq!(now(), blob);
    let second = Service::with_a_queue(&machine);
    second.subscribe(number, 0, question).expect("decides");
    assert_eq!(now(), blob | question);
    assert_eq!(client.is_listening(Blob::NUMBER), now() & blob != 0);
    service.subscribe(number, 0, 0).expect("wants nothing");
    assert_eq!(now(), question);
    second.close();
    while now() != 0 {
        std::thread::yield_now();
    }
    drop(client);
    // It is not the common driver's any more.
    word.store(7, Ordering::Relaxed);
    let (kept, _) = provider(&service, "other");
    assert_eq!(now(), 7);
    let schema = named(&PROVIDER, "keeper".to_owned());
    let keeper = BareClient::register_with(&schema, 4096, |d| d.interest = word.as_ptr());
    assert_eq!(now(), blob, "a backlog takes notifications");
    drop((service, second, keeper, kept));
    machine.check();
}

/// From there on a stub keeps everything for the next common driver; a word of before would have its
/// client driver not even build what nobody listened to.
#[test]
fn a_word_says_that_everything_is_wanted_when_the_driver_lets_go_of_it() {
    let word: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    let machine = machine();
    let schema = named(&PROVIDER, "stays".to_owned());
    let client = BareClient::register_with(&schema, 0, |d| d.interest = word.as_ptr());
    assert_eq!(word.load(Ordering::Relaxed), 0, "nobody");
    machine.stop(&FLTPORT);
    assert_eq!(word.load(Ordering::Relaxed), u64::MAX);
    drop(client);
    machine.check();
}

/// The default is always to be had; what services choose beyond that has a bound together.
#[test]
fn queues_take_no_more_memory_than_all_together_may() {
    let machine = machine();
    let services: Vec<_> = (0..9).map(|_| Service::with_a_queue(&machine)).collect();
    let refused = services
        .iter()
        .map(|service| service.limit(MAX_QUEUE, 0, 0).err());
    let most = MAX_QUEUES / MAX_QUEUE as usize - 1;
    let refused: Vec<_> = refused.collect();
    assert!(refused[..most].iter().all(Option::is_none), "{refused:?}");
    assert_eq!(refused[8], Some(STATUS_INSUFFICIENT_RESOURCES));
    services[8].limit(MIN_QUEUE, 0, 0).expect("less");
    services[0].limit(MIN_QUEUE, 0, 0).expect("less");
    services[8]
        .limit(MAX_QUEUE, 0, 0)
        .expect("what is free now");
    drop((Service::with_a_queue(&machine), services));
    machine.check();
}

#[test]
fn without_clients_and_services_the_driver_is_small() {
    let machine = machine();
    let used: usize = machine
        .kernel
        .pool_usage()
        .iter()
        .map(|tag| tag.bytes)
        .sum();
    println!("{used} bytes of pool");
    assert!(
        used < 256 * 1024,
        "{used} bytes: {:?}",
        machine.kernel.pool_usage()
    );
    machine.check();
}
