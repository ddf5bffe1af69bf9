// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lives for the fault sweep: a stream that outlives its services, with snapshots, filters and mutes,
//! and asynchronous requests; and a provider that declares whatever can be declared.

use crate::bare::{self, BareClient};
use crate::generator::{self, Blob, PROVIDER};
use crate::life::Life;
use crate::machine::FLTPORT;
use crate::service::{PATIENCE, Record, Service};
use crate::streams::wanted;
use crate::{asker, filters};
use fltport_abi::command::{ConnectionRow, StreamRow, flags, own};
use fltport_abi::filter::Op;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{Hello, StreamHello, rights, stream};
use fltport_abi::interface::{DefaultReply, ProviderDescription};
use fltport_abi::limits::MIN_QUEUE;
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Connects with this stream, and goes on where it stops.
fn attach(life: &Life, wanted: &StreamHello) -> Option<Service> {
    let hello = wanted.to_bytes(&Hello::new("lasting", rights::ALL, 0));
    let connect = || Service::connect_with(&life.machine, &hello);
    let mut service = life.twice("connect with a stream", connect)?;
    let row = life.command(&service, (0, own::STREAM), &[])?;
    service.goes_on_behind(StreamRow::read(&row).expect("a row").acknowledged);
    Some(service)
}

/// How many blobs came and were told to be lost, of `all`, which are waited for unless much fails;
/// what has come is acknowledged.
fn heard(life: &Life, service: &mut Service, provider: u32, all: u64) {
    let of = u16::try_from(provider).expect("a number");
    let mut records = service.drain_available();
    let deadline = Instant::now() + PATIENCE;
    while life.is_strict() && blobs(&records, of) < all {
        assert!(Instant::now() < deadline, "{records:?} of {all}");
        service.receive(Duration::from_millis(1));
        records.extend(service.drain_available());
    }
    if life.is_strict() {
        assert_eq!(blobs(&records, of), all, "{records:?}");
    }
    let last = service.last();
    if last > 0 {
        life.twice("acknowledge", || service.acknowledge(last));
    }
}

/// Blobs that came or were told to be lost.
fn blobs(records: &[Record], provider: u16) -> u64 {
    let is_one = |r: &&Record| {
        (r.kind, r.header.provider, r.header.message)
            == (RecordKind::Notification, provider, Blob::NUMBER)
    };
    let came = records.iter().filter(is_one).count() as u64;
    let lost = records.iter().flat_map(|record| &record.gap);
    let lost = lost.filter(|entry| (entry.provider, entry.message) == (provider, Blob::NUMBER));
    came + lost.map(|entry| entry.count).sum::<u64>()
}

/// Subscribes with a snapshot of what there is.
fn subscribe(life: &Life, service: &Service, provider: u32) {
    let number = filters::place::<Blob<'_>>("number");
    let filter = filters::filter(Blob::NUMBER, |w| {
        w.numbers(Op::Range, number, &[0, u64::MAX]).expect("fits");
    });
    let snapshot = flags::SNAPSHOT;
    life.twice("subscribe with a snapshot", || {
        service.subscribe_filtered(provider, &PROVIDER, 1 << 1, &filter, snapshot)
    });
}

/// Three blobs: plain, booked, and filled in where they lie.
fn offer() {
    generator::blob(1, b"plain");
    generator::booked_blob(2, b"booked");
    generator::filled_in_blob(3, b"filled in");
}

/// All instances of one stream, one after the other.
pub(crate) fn a_lasting_life(life: &Life) {
    let common = life.load(&FLTPORT);
    let image = generator::image(&life.machine, 4096, BacklogPolicy::KeepOldest);
    let loaded = life.load(&image);
    if loaded && common {
        generator::put(1, b"kept");
        if let Some(service) = attach(life, &wanted()) {
            last(life, service);
        }
        expire(life);
        ask(life);
    }
    // In this order: a stream may still have the backlog, which to the hosted kernel is of the one
    // driver of this package that registered it.
    life.stop(&FLTPORT, common);
    life.stop(&image, loaded);
}

/// Leaves, comes back, and is taken over.
fn last(life: &Life, mut first: Service) {
    life.twice("limits", || first.limit(2 * MIN_QUEUE, 1_000_000, 0));
    let Some(provider) = life.provider(&first, "generator") else {
        return;
    };
    subscribe(life, &first, provider);
    offer();
    // What the backlog had, too.
    heard(life, &mut first, provider, 4);
    drop(first);
    offer();
    let Some(mut again) = attach(life, &wanted()) else {
        return;
    };
    heard(life, &mut again, provider, 3);
    offer();
    let take_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let Some(mut other) = attach(life, &take_over) else {
        return;
    };
    drop(again);
    heard(life, &mut other, provider, 3);
    for list in [own::USAGE, own::REQUEST_ACCOUNTS, own::REFUSALS] {
        life.command(&other, (0, list), &[0; 8]);
    }
    life.command(&other, (0, own::FEATURES), &[]);
}

/// A stream whose retention is over, with records in it.
fn expire(life: &Life) {
    let brief = StreamHello {
        key: *b"a brief stream 1",
        retention_ms: 1,
        ..wanted()
    };
    let Some(service) = attach(life, &brief) else {
        return;
    };
    if let Some(provider) = life.provider(&service, "generator") {
        let mute = flags::SNAPSHOT | flags::MUTE_SELF;
        life.twice("subscribe and mute", || {
            service.subscribe_filtered(provider, &PROVIDER, 1 << 1, &[], mute)
        });
    }
    offer();
    drop(service);
    let Some(auditor) = life.connect("auditor", rights::ALL) else {
        return;
    };
    let deadline = Instant::now() + PATIENCE;
    let connections = || auditor.try_rows::<ConnectionRow>(own::CONNECTIONS);
    loop {
        let rows = life.twice("connections", connections).unwrap_or_default();
        // The other stream may be there for as long as any may.
        let waits = |row: &ConnectionRow| row.own == 2 && row.capacity != 2 * MIN_QUEUE;
        if !life.is_strict() || !rows.iter().any(waits) {
            break;
        }
        assert!(Instant::now() < deadline, "the retention is never over");
        std::thread::yield_now();
    }
    life.ledger(&auditor);
}

/// An asynchronous request is answered, and one is not; each is completed once.
fn ask(life: &Life) {
    let Some(mut decider) = life.connect("decider", rights::ALL) else {
        return;
    };
    let Some(provider) = life.provider(&decider, "generator") else {
        return;
    };
    life.subscribe(&decider, provider, 0, 1 << 2);
    for (number, deadline_ms, answers) in [(1, 10_000, true), (2, 1, false)] {
        let (sender, completed) = channel();
        let asked = life.twice("ask", || {
            let sender = sender.clone();
            let heard = move |answer| {
                // Nobody listens any more to one that comes twice.
                let _heard = sender.send(answer);
            };
            generator::ask_async(number, deadline_ms, heard).map_err(|error| error.status())
        });
        drop(sender);
        let deadline = Instant::now() + PATIENCE;
        while asked.is_some()
            && completed.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout)
        {
            assert!(Instant::now() < deadline, "it is never completed");
            for record in decider.drain_available() {
                if answers && record.kind == RecordKind::AsyncRequest {
                    life.twice("answer", || asker::answer_record(&decider, &record));
                }
            }
        }
        // The routine is gone, and was called once.
        assert!(completed.recv_timeout(PATIENCE).is_err());
    }
    life.check_requests(&decider);
}

/// A provider with a quota, a rate, a default reply and an interest word.
pub(crate) fn a_declared_life(life: &Life) {
    let common = life.load(&FLTPORT);
    if common && let Some(Some(table)) = life.twice("the table", bare::try_interface) {
        let mut encoded = [0; 4096];
        let length = PROVIDER.encode(&mut encoded).expect("fits");
        let reply = 7_u64.to_le_bytes();
        let default = DefaultReply {
            size: size_of::<DefaultReply>() as u32,
            message: 2,
            reserved: 0,
            reply: reply.as_ptr(),
            length: reply.len() as u32,
            reserved2: 0,
        };
        let mut interest = 0_u64;
        let description = ProviderDescription {
            interest: &raw mut interest,
            defaults: &raw const default,
            default_count: 1,
            quota: MIN_QUEUE,
            rate: 1_000_000,
            burst: 100,
            ..bare::describe(&encoded[..length], 4096)
        };
        let register = || BareClient::describe_to(table, &description);
        if let Some(client) = life.twice("register", register) {
            declared(life, &client);
        }
    }
    life.stop(&FLTPORT, common);
}

fn declared(life: &Life, client: &BareClient) {
    let unused = life.twice("book", || client.book(Blob::NUMBER, 64));
    let Some(mut service) = life.connect("declared", rights::ALL) else {
        return;
    };
    let Some(provider) = life.provider(&service, "generator") else {
        return;
    };
    life.subscribe(&service, provider, 1 << 1, 0);
    let used = life.twice("book", || client.book(Blob::NUMBER, 64));
    let blob = Blob {
        number: 1,
        data: b"booked",
    };
    for number in used.into_iter().chain(unused).chain([0]) {
        assert_eq!(client.notify_booked(&blob, number), 0);
    }
    let offered = 1 + u64::from(used.is_some()) + u64::from(unused.is_some());
    life.told(&mut service, (provider, Blob::NUMBER), offered);
    let which = [provider.to_le_bytes(), 2_u32.to_le_bytes()].concat();
    let reply = life.command(&service, (0, own::DEFAULT_REPLY), &which);
    assert!(!life.is_strict() || reply == Some(7_u64.to_le_bytes().to_vec()));
    life.command(&service, (0, own::USAGE), &[0; 8]);
}
