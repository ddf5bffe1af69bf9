// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection's stream: order, losses, gaps, and several connections at once.

use crate::bare::BareClient;
use crate::generator::{self, Blob};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use fltport_abi::account::Cause;
use fltport_abi::frame::RecordKind;
use fltport_abi::message::{Message, Pid, Status};
use fltport_abi::process_monitor::{ProcessExit, ProcessStart};
use fltport_abi::text::Text;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};

#[test]
fn a_process_reaches_the_service() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[1, 2], &[]);
    assert_eq!(machine.start_process(2000, "/bin/true"), 0);
    machine.end_process(2000, 7);

    let start = service.next().expect("the start");
    let start = ProcessStart::decode(&start.payload).unwrap();
    assert_eq!(
        (start.pid, start.parent_pid, start.creating_pid),
        (Pid(2000), Pid(1000), Pid(1000))
    );
    assert_eq!(start.image, Some(Text::Utf8("/bin/true")));
    assert_eq!(start.command_line, Some(Text::Utf8("/bin/true --now")));
    assert!(!start.truncated);
    let exit = service.next().expect("the exit");
    assert_eq!(
        ProcessExit::decode(&exit.payload),
        Ok(ProcessExit {
            pid: Pid(2000),
            exit_status: Status(7)
        })
    );

    let ledger = service.settled_ledger();
    assert_eq!(ledger.iter().map(|row| row.delivered).sum::<u64>(), 2);
    drop(service);
    machine.check();
}

/// A machine with the common driver and a generator without backlog.
fn with_generator() -> (Machine, Service, u32) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let service = Service::connect(&machine);
    let provider = service.provider("generator").expect("registered");
    service.subscribe(provider, 1 << 1, 0).expect("subscribes");
    (machine, service, provider)
}

/// The numbers that arrived and the number of losses that gap records told of.
fn account(records: &[Record]) -> (Vec<u64>, u64) {
    let blobs = records
        .iter()
        .filter(|r| r.kind == RecordKind::Notification);
    let numbers = blobs
        .map(|r| Blob::decode(&r.payload).unwrap().number)
        .collect();
    let lost = records
        .iter()
        .flat_map(|r| &r.gap)
        .map(|entry| entry.count)
        .sum();
    (numbers, lost)
}

#[test]
fn a_flood_is_delivered_or_told_of_in_order() {
    const THREADS: u64 = 4;
    const EACH: u64 = 3_000;
    let (machine, mut service, _) = with_generator();
    // Records of 2 KiB against a queue of 1 MiB, from four processors at once: much is lost.
    let threads = (0..THREADS).map(|thread| {
        std::thread::spawn(move || {
            let data = vec![thread as u8; 2048];
            (0..EACH).for_each(|n| generator::blob(thread * EACH + n, &data));
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    let records = service.drain();
    let (numbers, lost) = account(&records);
    assert_eq!(numbers.len() as u64 + lost, THREADS * EACH);
    assert!(
        lost > 0,
        "the queue is too small for all of them, so the gaps have been tested"
    );
    for thread in 0..THREADS {
        let mine: Vec<_> = numbers.iter().filter(|n| *n / EACH == thread).collect();
        assert!(
            mine.is_sorted(),
            "each thread's notifications keep their order"
        );
    }
    let row = service
        .settled_ledger()
        .into_iter()
        .find(|row| row.offered > 0)
        .unwrap();
    assert_eq!(
        (row.offered, row.delivered),
        (THREADS * EACH, numbers.len() as u64)
    );
    assert_eq!(row.lost[Cause::RingFull.index()], lost);
    drop(service);
    machine.check();
}

#[test]
fn a_gap_stands_where_the_loss_was() {
    let (machine, mut service, _) = with_generator();
    generator::blob(1, b"before");
    generator::blob(2, &vec![0; 61 * 1024]);
    generator::blob(3, b"behind");
    let kinds: Vec<_> = (0..3).map(|_| service.next().unwrap()).collect();
    assert_eq!(
        kinds.iter().map(|r| r.kind as u16).collect::<Vec<_>>(),
        [1, 2, 1]
    );
    assert_eq!(
        kinds.iter().map(|r| r.header.sequence).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(kinds[1].gap[0].cause(), Some(Cause::TooLarge));
    drop(service);
    machine.check();
}

#[test]
fn a_loss_with_nothing_behind_it_is_told_all_the_same() {
    let (machine, mut service, _) = with_generator();
    generator::blob(1, &vec![0; 61 * 1024]);
    let gap = service
        .next()
        .expect("a gap record without waiting for another notification");
    assert_eq!((gap.kind, gap.gap[0].count), (RecordKind::Gap, 1));
    drop(service);
    machine.check();
}

#[test]
fn the_largest_notification_arrives_whole() {
    let (machine, mut service, _) = with_generator();
    let data: Vec<u8> = (0..60 * 1024 - Blob::FIXED).map(|i| i as u8).collect();
    generator::blob(1, &data);
    let record = service.next().unwrap();
    assert_eq!(Blob::decode(&record.payload).unwrap().data, data);
    drop(service);
    machine.check();
}

#[test]
fn two_services_get_their_own_streams_and_the_death_of_one_costs_the_other_nothing() {
    let (machine, mut first, provider) = with_generator();
    let second = Service::connect(&machine);
    second.subscribe(provider, 1 << 1, 0).unwrap();
    assert_eq!(first.connections().len(), 2);
    (0..100).for_each(|n| generator::blob(n, b"both"));
    second.close();
    (100..200).for_each(|n| generator::blob(n, b"one"));
    let (numbers, lost) = account(&first.drain());
    assert_eq!((numbers, lost), ((0..200).collect(), 0));
    assert_eq!(first.connections().len(), 1);
    let ended: u64 = first
        .ledger()
        .iter()
        .filter(|row| row.connection == u32::MAX)
        .map(|row| row.offered)
        .sum();
    assert_eq!(
        ended, 100,
        "what the dead one was offered stays in the books"
    );
    drop((first, second));
    machine.check();
}

#[test]
fn a_service_that_does_not_read_loses_only_its_own() {
    let (machine, mut reader, provider) = with_generator();
    // Connected and subscribed, but its two gets are used up by the first frames.
    let hung = Service::connect(&machine);
    hung.subscribe(provider, 1 << 1, 0).unwrap();
    let data = vec![1; 4096];
    let mut received = 0;
    for n in 0..2_000 {
        generator::blob(n, &data);
        if n % 50 == 49 {
            received += account(&reader.drain_until(50)).0.len();
        }
    }
    assert_eq!(received, 2_000);
    let own = hung.info().connection;
    let rows = reader.ledger();
    let row = rows
        .iter()
        .find(|row| row.connection == own && row.offered > 0)
        .unwrap();
    assert!(row.lost[Cause::RingFull.index()] > 1_000, "{row:?}");
    drop((reader, hung));
    machine.check();
}

#[test]
fn a_provider_that_comes_and_goes_is_announced() {
    let (machine, mut service, first) = with_generator();
    let image = generator::image(&machine, 0, BacklogPolicy::KeepNewest);
    generator::blob(1, b"before it went");
    assert_eq!(account(&service.drain()).0, [1]);
    machine.stop(&image);
    machine.load(&image);
    let changes: Vec<_> = (0..2).map(|_| service.next().unwrap()).collect();
    let decoded: Vec<_> = changes
        .iter()
        .map(|r| fltport_abi::common_driver::ProviderChange::decode(&r.payload).unwrap())
        .collect();
    assert!(!decoded[0].registered && decoded[1].registered);
    assert_eq!(decoded[0].provider, first);
    assert_ne!(decoded[1].provider, first, "numbers are not used again");
    assert_eq!(decoded[1].name, Text::Utf8("generator"));
    service.subscribe(decoded[1].provider, 1 << 1, 0).unwrap();
    generator::blob(5, b"again");
    assert_eq!(account(&[service.next().unwrap()]).0, [5]);
    let rows = service.settled_ledger();
    let gone = rows.iter().find(|row| u32::from(row.provider) == first);
    assert_eq!(
        gone.map(|row| row.delivered),
        Some(1),
        "in the books all the same"
    );
    drop(service);
    machine.check();
}

#[test]
fn nobody_listens_unless_somebody_does() {
    let (machine, service, provider) = with_generator();
    assert!(generator::is_listening(1) && !generator::is_listening(2));
    service.subscribe(provider, 0, 1 << 2).unwrap();
    assert!(!generator::is_listening(1) && generator::is_listening(2));
    drop(service);
    assert!(!generator::is_listening(1));
    machine.check();
}

/// A device's interrupt level.
const DIRQL: u8 = 5;

#[test]
fn what_comes_at_an_interrupt_is_accounted_for_and_told() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&generator::PROVIDER, 0);
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    let blob = |number| Blob { number, data: b"x" };
    for n in 0..3 {
        assert_eq!(client.notify_at(DIRQL, &blob(n)), STATUS_SUCCESS);
    }
    assert_eq!(client.notify_at(0, &blob(3)), STATUS_SUCCESS);
    let first = service.next().unwrap();
    assert_eq!(
        (first.kind, first.gap[0].cause(), first.gap[0].count),
        (RecordKind::Gap, Some(Cause::WrongIrql), 3)
    );
    assert_eq!(account(&[service.next().unwrap()]).0, [3]);
    // The last ones have no notification behind them that would tell of them.
    assert_eq!(client.notify_at(DIRQL, &blob(4)), STATUS_SUCCESS);
    drop(client);
    let last = service.next().unwrap();
    assert_eq!(
        (last.kind, last.gap.first().map(|g| g.count)),
        (RecordKind::Gap, Some(1)),
        "told before the provider goes"
    );
    drop(service);
    machine.check();
}

#[test]
fn a_notification_of_the_wrong_size_is_refused() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&generator::PROVIDER, 0);
    let notification = fltport_abi::interface::Notification {
        size: 8,
        message: 1,
        ..fltport_abi::interface::Notification::EMPTY
    };
    assert_eq!(client.send_at(0, &notification), STATUS_INVALID_PARAMETER);
    drop(client);
    machine.check();
}
