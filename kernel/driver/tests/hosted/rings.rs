// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that come through shared memory.

use crate::bare::{BareClient, named};
use crate::generator::{self, Blob, PROVIDER};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::command::{LedgerRow, RingUsageRow, RingsRow, RingsWanted, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::limits::MAX_PROVIDERS;
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER,
};
use nt_host::UserEvent;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// The smallest ring.
const SMALL: u32 = 64 * 1024;

/// A machine with a generator, and a service with rings of so many bytes that observes its blobs.
fn machine(capacity: u32) -> (Machine, Service) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let service = service(&machine, capacity);
    let provider = service.provider("generator").expect("is registered");
    observe(&service, provider);
    (machine, service)
}

fn service(machine: &Machine, capacity: u32) -> Service {
    let mut service = Service::with_a_queue(machine);
    service.want_rings(capacity).expect("gets rings");
    service
}

fn observe(service: &Service, provider: u32) {
    let observed = service.subscribe(provider, 1 << Blob::NUMBER, 0);
    observed.expect("subscribes");
}

fn usage(service: &Service) -> Vec<RingUsageRow> {
    service.try_rows(own::RING_USAGE).expect("a list")
}

/// The numbers of the blobs among these.
fn numbers(records: &[Record]) -> Vec<u64> {
    let own = |r: &&Record| r.header.provider != 0 && r.header.message == Blob::NUMBER;
    let blobs = records.iter().filter(own);
    blobs
        .map(|r| Blob::decode(&r.payload).unwrap().number)
        .collect()
}

/// What gap records told: the provider, the cause, who is to blame, how many.
fn told(records: &[Record]) -> Vec<(u16, Cause, u16, u64)> {
    let entries = records.iter().flat_map(|r| &r.gap);
    entries
        .map(|e| (e.provider, e.cause().expect("a cause"), e.by, e.count))
        .collect()
}

/// The account of a provider's blobs with this service, at rest.
fn account(service: &mut Service, provider: u32) -> LedgerRow {
    let connection = service.info().connection;
    let rows = service.settled_ledger();
    let own = |row: &&LedgerRow| {
        (row.connection, u32::from(row.provider), row.message) == (connection, provider, Blob::NUMBER)
    };
    *rows.iter().find(own).expect("is in the ledger")
}

#[test]
fn records_come_through_the_ring_of_their_processor_in_one_order() {
    let (machine, mut service) = machine(0);
    for number in 0..1000 {
        generator::blob(number, &[number as u8; 100]);
    }
    let records = service.drain();
    assert_eq!(numbers(&records), (0..1000).collect::<Vec<_>>());
    let rows = usage(&service);
    assert_eq!(rows.iter().map(|row| row.records).sum::<u64>(), 1000);
    assert!(rows.iter().all(|row| (row.used, row.nonsense) == (0, 0)));
    assert!(rows.iter().any(|row| row.peak > 0));
    drop(service);
    machine.check();
}

#[test]
fn processors_fill_their_rings_at_once_and_the_service_sleeps_in_between() {
    const EACH: u64 = 2000;
    let (machine, mut service) = machine(1 << 20);
    let done = AtomicU64::new(0);
    let mut records = Vec::new();
    thread::scope(|scope| {
        for thread in 0..4 {
            let done = &done;
            scope.spawn(move || {
                for number in 0..EACH {
                    generator::blob(thread * EACH + number, b"at once");
                    if number % 50 == 0 {
                        thread::yield_now();
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) != 4 || records.len() < 4 * EACH as usize {
            records.extend(service.drain_until(1));
        }
    });
    let numbers = numbers(&records);
    for thread in 0..4 {
        let own = |number: &&u64| **number / EACH == thread;
        let own: Vec<u64> = numbers.iter().filter(own).copied().collect();
        let all: Vec<u64> = (thread * EACH..(thread + 1) * EACH).collect();
        assert_eq!(own, all, "each thread's in its own order");
    }
    drop(service);
    machine.check();
}

#[test]
fn what_finds_no_room_is_counted_and_told_where_it_was() {
    let (machine, mut service) = machine(SMALL);
    let provider = service.provider("generator").unwrap();
    for number in 0..2000 {
        generator::blob(number, &[1; 100]);
    }
    let mut records = service.drain();
    generator::blob(2000, b"behind");
    records.extend(service.drain());
    let row = account(&mut service, provider);
    let lost = row.lost[Cause::RingFull.index()];
    assert!(lost > 0 && row.lost_total() == lost && row.offered == 2001, "{row:?}");
    let all = told(&records);
    let own = provider as u16;
    assert!(all.iter().all(|it| (it.0, it.1, it.2) == (own, Cause::RingFull, own)), "{all:?}");
    assert_eq!(all.iter().map(|it| it.3).sum::<u64>(), lost);
    assert_eq!(service.usage_of(provider).blamed, lost);
    drop(service);
    machine.check();
}

#[test]
fn a_loss_with_nothing_behind_it_is_told_all_the_same() {
    let (machine, mut service) = machine(SMALL);
    for number in 0..1000 {
        generator::blob(number, &[1; 200]);
    }
    let mut records = Vec::new();
    while told(&records).is_empty() {
        records.push(service.next().expect("a gap record comes"));
    }
    service.drain();
    drop(service);
    machine.check();
}

#[test]
fn what_one_provider_floods_leaves_room_for_others() {
    let (machine, mut service) = machine(SMALL);
    let noisy = service.provider("generator").unwrap();
    let quiet = BareClient::register(&named(&PROVIDER, "quiet".to_owned()), 0);
    let quiet_number = service.provider("quiet").unwrap();
    observe(&service, quiet_number);
    for number in 0..2000 {
        generator::blob(number, &[1; 100]);
        if number % 100 == 0 {
            assert_eq!(quiet.notify_at(0, &Blob { number, data: &[] }), 0);
        }
    }
    let records = service.drain();
    let row = account(&mut service, quiet_number);
    assert_eq!((row.delivered, row.lost_total()), (20, 0));
    let row = account(&mut service, noisy);
    assert!(row.lost[Cause::Quota.index()] > 0 && row.lost_total() == row.lost[Cause::Quota.index()]);
    assert!(told(&records).iter().all(|it| u32::from(it.0) == noisy && u32::from(it.2) == noisy));
    drop((service, quiet));
    machine.check();
}

#[test]
fn what_is_booked_overtakes_nothing_and_comes_although_the_ring_is_full() {
    let (machine, mut service) = machine(SMALL);
    for number in 0..10 {
        let room = generator::provider().book::<Blob<'_>>(64).expect("there is room");
        for filler in 0..300 {
            generator::blob(1000 * number + filler, &[1; 200]);
        }
        let blob = Blob { number: 1000 * number + 999, data: b"booked" };
        room.notify(&blob).expect("accounted for");
        generator::blob(1000 * number + 998, b"behind");
        let all = numbers(&service.drain());
        let at = |wanted| all.iter().position(|it| *it == wanted);
        let booked = at(1000 * number + 999).expect("is never lost");
        assert!(at(1000 * number + 998).is_none_or(|behind| behind > booked));
        assert!(all.iter().take(booked).all(|it| *it / 1000 == number && it % 1000 < 300));
    }
    drop(service);
    machine.check();
}

#[test]
fn a_service_that_writes_anything_hurts_nobody_and_the_books_stay_true() {
    let (machine, mut service) = machine(SMALL);
    let mut honest = self::service(&machine, SMALL);
    let provider = service.provider("generator").unwrap();
    observe(&honest, provider);
    let (address, length) = service.rings().words;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let words = std::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
            let mut random = 88_172_645_463_325_252_u64;
            while !ended.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let at = random as usize % (length as usize / 8);
                    // SAFETY: within the view, which this process has as long as the service lives.
                    let word = unsafe { words.add(at) };
                    // SAFETY: as above, and aligned.
                    let word = unsafe { &*word };
                    // Anything, a position that may be, a bell.
                    word.store([random, random % (1 << 18), random & 1][at % 3], Ordering::Relaxed);
                }
                thread::yield_now();
            }
        });
        for number in 0..3000 {
            generator::blob(number, &[1; 100]);
            if number % 200 == 0 {
                honest.drain_available();
                // Every row of it balances.
                service.ledger();
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(usage(&honest).iter().map(|row| row.nonsense).sum::<u64>() > 0);
    honest.drain();
    let row = account(&mut honest, provider);
    assert_eq!(row.offered, 3000);
    drop(service);
    let row = account(&mut honest, provider);
    assert_eq!(row.offered, 3000);
    drop(honest);
    machine.check();
}

/// A connection has a place for each provider that there can be, and gives that of one that is gone to another. What it had
/// put into rings and lost there, and nobody has looked at since, stays its own.
#[test]
fn the_place_of_a_provider_that_is_gone_is_not_another_s_before_its_records_are_accounted_for() {
    const EACH: u64 = 3;
    let (machine, mut service) = machine(0);
    let register = |name: String| BareClient::register(&named(&PROVIDER, name), 0);
    // The driver's own and the generator have the other two.
    for n in 0..MAX_PROVIDERS - 1 {
        let client = register(format!("gone {n}"));
        let number = service.provider(&format!("gone {n}")).unwrap();
        observe(&service, number);
        for number in 0..EACH {
            assert_eq!(client.notify_at(0, &Blob { number, data: &[] }), 0);
        }
    }
    let client = register("next".to_owned());
    let next = service.provider("next").unwrap();
    // As where records are queued: they are still to be counted.
    let refused = service.subscribe(next, 1 << Blob::NUMBER, 0);
    assert_eq!(refused, Err(STATUS_INSUFFICIENT_RESOURCES));
    assert_eq!(numbers(&service.drain()).len(), EACH as usize * (MAX_PROVIDERS - 1));
    observe(&service, next);
    assert_eq!(client.notify_at(0, &Blob { number: 9, data: &[] }), 0);
    assert_eq!(numbers(&service.drain()), [9]);
    let row = account(&mut service, next);
    assert_eq!((row.offered, row.delivered), (1, 1), "{row:?}");
    drop((service, client));
    machine.check();
}

#[test]
fn rings_that_cannot_be_are_refused() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let mut service = Service::with_a_queue(&machine);
    let ask = |payload: &[u8]| service.command(0, own::RINGS, payload).map(drop);
    let with = |reserved: u8, event: u64| {
        let mut payload = [0; 16];
        payload[4] = reserved;
        payload[8..].copy_from_slice(&event.to_le_bytes());
        ask(&payload)
    };
    assert_eq!(ask(&[0; 15]), Err(STATUS_INVALID_PARAMETER));
    assert_eq!(with(1, 4), Err(STATUS_INVALID_PARAMETER));
    for event in [0, 400, u64::MAX] {
        assert!(with(0, event).is_err(), "{event:#x}");
    }
    service.want_rings(0).expect("nothing is left of all this");
    assert_eq!(service.want_rings(0), Err(STATUS_INVALID_DEVICE_STATE));
    drop(service);
    machine.check();
}

/// What it is subscribed to has no books for processors.
#[test]
fn who_has_subscribed_gets_no_rings() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut service = Service::with_a_queue(&machine);
    observe(&service, service.provider("generator").expect("is registered"));
    assert_eq!(service.want_rings(0), Err(STATUS_INVALID_DEVICE_STATE));
    generator::blob(1, b"by the queue");
    assert_eq!(numbers(&service.drain()), [1]);
    drop(service);
    machine.check();
}

#[test]
fn rings_of_which_the_service_could_not_be_told_are_none() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let mut service = Service::with_a_queue(&machine);
    let event = UserEvent::new(&service.process);
    let wanted = RingsWanted {
        capacity: 0,
        reserved: 0,
        event: event.handle(),
    };
    let mut payload = [0; RingsWanted::SIZE];
    wanted.write(&mut payload).unwrap();
    let short = service.command_with_room(0, own::RINGS, &payload, RingsRow::SIZE - 1);
    assert_eq!(short, Err(STATUS_BUFFER_TOO_SMALL));
    service.want_rings(0).expect("it can ask again");
    drop(service);
    machine.check();
}
