// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is kept while nobody is connected, and who gets it.

use crate::bare::BareClient;
use crate::generator::{self, Blob};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::command::{BACKLOG, ENDED};
use fltport_abi::common_driver::{self, BacklogsUnread};
use fltport_abi::frame::RecordKind;
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::STATUS_RETRY;

fn machine(backlog: u32, policy: BacklogPolicy) -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, backlog, policy));
    machine
}

fn subscribed(machine: &Machine) -> Service {
    let service = Service::connect(machine);
    service
        .subscribe(service.provider("generator").unwrap(), 1 << 1, 0)
        .unwrap();
    service
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let blobs = records
        .iter()
        .filter(|r| r.kind == RecordKind::Notification);
    blobs
        .map(|r| Blob::decode(&r.payload).unwrap().number)
        .collect()
}

#[test]
fn the_first_subscriber_gets_the_backlog_and_the_second_does_not() {
    let machine = machine(64 * 1024, BacklogPolicy::KeepNewest);
    (0..10).for_each(|n| generator::blob(n, b"early"));
    let mut first = subscribed(&machine);
    generator::blob(10, b"live");
    assert_eq!(numbers(&first.drain()), (0..11).collect::<Vec<_>>());
    let mut second = subscribed(&machine);
    generator::blob(11, b"live");
    assert_eq!(numbers(&second.drain()), [11]);
    let rows = first.settled_ledger();
    let backlog = rows
        .iter()
        .find(|row| row.connection == BACKLOG && row.offered > 0)
        .unwrap();
    assert_eq!((backlog.offered, backlog.delivered), (10, 10));
    drop((first, second));
    machine.check();
}

/// A service that lets go before it has read the backlog it was passed, and comes back, would get
/// what was kept meanwhile behind what came later.
#[test]
fn a_second_backlog_waits_until_the_first_is_read() {
    let machine = machine(512 * 1024, BacklogPolicy::KeepNewest);
    let large = [7; 20 * 1024];
    (0..8).for_each(|n| generator::blob(n, &large));
    let mut service = subscribed(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 0, 0).unwrap();
    generator::blob(8, b"kept");
    assert_eq!(service.subscribe(provider, 1 << 1, 0), Err(STATUS_RETRY));
    // Nothing to be kept is in the way of letting go, or of other types.
    service.subscribe(provider, 1 << 2, 0).unwrap();
    let mut read = numbers(&service.drain_until(8));
    while service.subscribe(provider, 1 << 1, 0) == Err(STATUS_RETRY) {
        std::thread::yield_now();
    }
    generator::blob(9, b"live");
    read.extend(numbers(&service.drain()));
    assert_eq!(read, (0..10).collect::<Vec<_>>());
    drop(service);
    machine.check();
}

/// What a service is told of backlogs that nobody has read: how many notifications, of how many
/// providers, and the last one's name.
fn unread(records: &[Record]) -> Vec<(u64, u32, String)> {
    let told = records.iter().filter(|r| {
        (r.header.provider, r.header.message) == (common_driver::NUMBER, BacklogsUnread::NUMBER)
    });
    told.map(|r| {
        let told = BacklogsUnread::decode(&r.payload).unwrap();
        (told.notifications, told.providers, told.name.to_string())
    })
    .collect()
}

#[test]
fn what_went_unread_with_its_provider_is_told_to_who_connects_later() {
    let machine = machine(4096, BacklogPolicy::KeepNewest);
    let image = generator::image(&machine, 4096, BacklogPolicy::KeepNewest);
    // Those that did not fit would have been told of in a gap.
    (0..50).for_each(|n| generator::blob(n, &[0; 200]));
    machine.stop(&image);
    machine.load(&image);
    generator::blob(50, b"early");
    machine.stop(&image);
    let mut first = Service::connect(&machine);
    assert_eq!(unread(&first.drain()), [(51, 2, "generator".to_owned())]);
    let mut second = Service::connect(&machine);
    assert_eq!(
        unread(&second.drain()),
        [(51, 2, "generator".to_owned())],
        "whoever was the first, this one may be whom it is about"
    );
    assert_eq!(unread(&first.drain()), [], "it has been told");
    drop((first, second));
    machine.check();
}

#[test]
fn what_went_unread_with_its_provider_is_told_to_who_is_there() {
    let machine = machine(4096, BacklogPolicy::KeepNewest);
    let image = generator::image(&machine, 4096, BacklogPolicy::KeepNewest);
    let mut service = subscribed(&machine);
    generator::blob(0, b"read");
    machine.stop(&image);
    machine.load(&image);
    generator::blob(1, b"nobody observes the new one");
    machine.stop(&image);
    let records = service.drain();
    assert_eq!(unread(&records), [(1, 1, "generator".to_owned())]);
    drop(service);
    machine.check();
}

/// As the second backlog, but nothing was kept meanwhile, only lost: there is nothing to wait for, and the loss is told
/// of between what was kept before and what comes now.
#[test]
fn what_was_lost_between_two_backlogs_is_told_of() {
    let machine = machine(512 * 1024, BacklogPolicy::KeepNewest);
    let large = [7; 20 * 1024];
    (0..8).for_each(|n| generator::blob(n, &large));
    let mut service = subscribed(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 0, 0).unwrap();
    generator::blob(8, &[7; 61 * 1024]);
    service.subscribe(provider, 1 << 1, 0).unwrap();
    let read = service.drain_until(9);
    assert_eq!(numbers(&read), (0..8).collect::<Vec<_>>());
    let last = read.last().unwrap();
    assert_eq!(last.kind, RecordKind::Gap);
    let told = (last.gap[0].cause(), last.gap[0].count, last.gap.len());
    assert_eq!(told, (Some(Cause::TooLarge), 1, 1));
    generator::blob(9, b"live");
    assert_eq!(numbers(&service.drain()), [9]);
    drop(service);
    machine.check();
}

#[test]
fn the_newest_are_kept_behind_a_gap() {
    let machine = machine(16 * 1024, BacklogPolicy::KeepNewest);
    (0..100).for_each(|n| generator::blob(n, &[0; 1000]));
    let mut service = subscribed(&machine);
    let records = service.drain();
    assert_eq!(
        records[0].kind,
        RecordKind::Gap,
        "the oldest are missing, so the gap comes first"
    );
    assert_eq!(records[0].gap[0].cause(), Some(Cause::RingFull));
    let kept = numbers(&records);
    assert_eq!(kept.len() as u64 + records[0].gap[0].count, 100);
    assert_eq!(kept, (100 - kept.len() as u64..100).collect::<Vec<_>>());
    drop(service);
    machine.check();
}

#[test]
fn the_oldest_are_kept_before_a_gap() {
    let machine = machine(16 * 1024, BacklogPolicy::KeepOldest);
    (0..100).for_each(|n| generator::blob(n, &[0; 1000]));
    let mut service = subscribed(&machine);
    let records = service.drain();
    let kept = numbers(&records);
    assert_eq!(kept, (0..kept.len() as u64).collect::<Vec<_>>());
    let last = records.last().unwrap();
    assert_eq!(
        (last.kind, last.gap[0].count),
        (RecordKind::Gap, 100 - kept.len() as u64)
    );
    drop(service);
    machine.check();
}

#[test]
fn without_a_backlog_what_nobody_hears_is_lost_with_that_cause() {
    let machine = machine(0, BacklogPolicy::KeepNewest);
    generator::blob(1, b"unheard");
    let mut service = subscribed(&machine);
    generator::blob(2, b"heard");
    assert_eq!(numbers(&service.drain()), [2]);
    let rows = service.settled_ledger();
    let unheard = rows
        .iter()
        .find(|row| row.connection == BACKLOG && row.offered > 0)
        .unwrap();
    assert_eq!(
        (unheard.offered, unheard.lost[Cause::NoConnection.index()]),
        (1, 1)
    );
    drop(service);
    machine.check();
}

#[test]
fn a_successor_is_told_what_its_predecessor_did_not_get() {
    let machine = machine(1024 * 1024, BacklogPolicy::KeepNewest);
    let first = subscribed(&machine);
    // Two gets are outstanding; the rest waits in the queue, and dies with the connection.
    (0..500).for_each(|n| generator::blob(n, &[0; 500]));
    let mut observed = first;
    let before = numbers(&observed.drain_available()).len() as u64;
    observed.close();
    (500..600).for_each(|n| generator::blob(n, b"between"));
    let mut second = subscribed(&machine);
    (600..610).for_each(|n| generator::blob(n, b"live"));
    let records = second.drain();
    assert_eq!(numbers(&records), (500..610).collect::<Vec<_>>());
    let told: u64 = records
        .iter()
        .flat_map(|r| &r.gap)
        .map(|entry| entry.count)
        .sum();
    let ledger = second.settled_ledger();
    let ended = ledger
        .iter()
        .find(|row| row.connection == u32::MAX && row.offered > 0)
        .unwrap();
    assert_eq!(ended.offered, 500);
    assert_eq!(
        told,
        ended.lost[Cause::Disconnected.index()],
        "each loss is told once"
    );
    assert!(ended.delivered >= before);
    drop((observed, second));
    machine.check();
}

#[test]
fn what_one_has_heard_no_successor_of_another_is_told_of() {
    let machine = machine(1024 * 1024, BacklogPolicy::KeepNewest);
    let (sleeper, mut reader) = (subscribed(&machine), subscribed(&machine));
    // More than the sleeper has room for in its gets.
    (0..500).for_each(|n| generator::blob(n, &[0; 500]));
    assert_eq!(numbers(&reader.drain()).len(), 500);
    sleeper.close();
    let ledger = reader.settled_ledger();
    let lost = ledger.iter().filter(|row| row.connection == ENDED);
    let lost: u64 = lost.map(|row| row.lost[Cause::Disconnected.index()]).sum();
    assert!(lost > 0, "{ledger:?}");
    reader.close();
    let mut third = subscribed(&machine);
    generator::blob(500, b"live");
    let records = third.drain();
    assert_eq!(numbers(&records), [500]);
    assert_eq!(records.len(), 1, "nothing was lost to everybody");
    drop((sleeper, reader, third));
    machine.check();
}

#[test]
fn a_backlog_listens_for_notifications_only() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&generator::PROVIDER, 4096);
    assert!(client.is_listening(1));
    assert!(!client.is_listening(2), "nobody would answer a request");
    client.lost(1, Cause::NoMemory, 2);
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    let gap = service.next().unwrap();
    assert_eq!(
        (gap.gap[0].cause(), gap.gap[0].count),
        (Some(Cause::NoMemory), 2)
    );
    drop((client, service));
    machine.check();
}

#[test]
fn who_unsubscribes_and_subscribes_again_gets_everything_in_order() {
    let machine = machine(1024 * 1024, BacklogPolicy::KeepNewest);
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    // Two frames are taken by the gets that are outstanding, one waits for a reader: most of this
    // is still in the queue.
    let data = vec![0; 20 * 1024];
    (0..20).for_each(|n| generator::blob(n, &data));
    generator::blob(99, &[0; 70_000]);
    service.subscribe(provider, 0, 0).unwrap();
    (20..30).for_each(|n| generator::blob(n, &data));
    service.subscribe(provider, 1 << 1, 0).unwrap();
    (30..35).for_each(|n| generator::blob(n, &data));
    let records = service.drain();
    assert_eq!(numbers(&records), (0..35).collect::<Vec<_>>());
    let gap = records.iter().position(|r| r.kind == RecordKind::Gap);
    assert_eq!(gap, Some(20), "the loss is told of where it was");
    drop(service);
    machine.check();
}

fltport_abi::messages! {
    /// Tells two things.
    provider PAIR = "pair";

    /// What somebody asks for.
    notification 1 "wanted" Wanted {
        /// Counted by the test.
        number: u64,
    }

    /// What nobody asks for.
    notification 2 "unwanted" Unwanted {
        /// Counted by the test.
        number: u64,
    }
}

#[test]
fn what_the_first_subscriber_does_not_ask_for_is_counted_as_unheard() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&PAIR, 4096);
    client.notify_at(0, &Wanted { number: 0 });
    client.notify_at(0, &Unwanted { number: 1 });
    client.notify_at(0, &Wanted { number: 2 });
    let mut first = Service::connect(&machine);
    let provider = first.provider("pair").unwrap();
    first.subscribe(provider, 1 << 1, 0).unwrap();
    let records = first.drain();
    let received = records
        .iter()
        .map(|r| Wanted::decode(&r.payload).unwrap().number);
    assert_eq!(received.collect::<Vec<_>>(), [0, 2]);
    // The backlog is its first subscriber's as a whole: for others nothing is left.
    let mut second = Service::connect(&machine);
    second.subscribe(provider, 1 << 2, 0).unwrap();
    assert!(second.drain().is_empty());
    let rows = first.settled_ledger();
    let backlog = |message| {
        let row = rows
            .iter()
            .find(|row| row.connection == BACKLOG && row.offered > 0 && row.message == message);
        let row = row.unwrap();
        (
            row.offered,
            row.delivered,
            row.lost[Cause::NoConnection.index()],
        )
    };
    assert_eq!(backlog(1), (2, 2, 0));
    assert_eq!(backlog(2), (1, 0, 1));
    drop((client, first, second));
    machine.check();
}

/// What is kept of a type that it does not ask for is not in the way of who asks again while it
/// still reads.
#[test]
fn what_nobody_asks_for_delays_no_subscription() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&PAIR, 512 * 1024);
    let wanted = |number| assert_eq!(client.notify_at(0, &Wanted { number }), 0);
    (0..4000).for_each(wanted);
    let mut service = Service::connect(&machine);
    let provider = service.provider("pair").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    client.notify_at(0, &Unwanted { number: 0 });
    service.subscribe(provider, 1 << 1, 0).unwrap();
    // But it cannot ask for that, too, before it has read on.
    assert_eq!(service.subscribe(provider, 0b110, 0), Err(STATUS_RETRY));
    wanted(4000);
    let records = service.drain();
    let read = records
        .iter()
        .map(|r| Wanted::decode(&r.payload).unwrap().number);
    assert_eq!(read.collect::<Vec<_>>(), (0..4001).collect::<Vec<_>>());
    drop((service, client));
    machine.check();
}
