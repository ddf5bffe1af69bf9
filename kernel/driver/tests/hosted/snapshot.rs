// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots: what a service knows from the snapshot and the stream behind it is the provider's state,
//! at whatever moment it subscribed.

use crate::bare::{self, BareClient};
use crate::generator::{self, Blob, PROVIDER};
use crate::machine::{FLTPORT, Machine};
use crate::service::{PATIENCE, Record, Service};
use crate::streams::wanted;
use fltport_abi::command::{CommandHeader, FilteredSubscription, flags, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::RecordKind;
use fltport_abi::interface::{Notification, ProviderHandle, SnapshotHandle};
use fltport_abi::limits::MIN_QUEUE;
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_NOT_SUPPORTED, STATUS_RETRY,
    STATUS_SUCCESS,
};
use nt_host::UserSlice;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

const BLOBS: u64 = 1 << 1;

fn machine(backlog: u32) -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, backlog, BacklogPolicy::KeepNewest));
    machine
}

/// A service that has asked for a snapshot, and the provider's number.
fn snapshotted(machine: &Machine) -> (Service, u32) {
    let service = Service::connect(machine);
    let provider = service.provider("generator").unwrap();
    service
        .subscribe_flagged(provider, BLOBS, flags::SNAPSHOT)
        .unwrap();
    (service, provider)
}

/// What a service knows after these records.
fn known(records: &[Record]) -> BTreeMap<u64, Vec<u8>> {
    let mut objects = BTreeMap::new();
    for record in records {
        let is_object = matches!(record.kind, RecordKind::Notification | RecordKind::Snapshot);
        if is_object && record.header.provider != 0 {
            let blob = Blob::decode(&record.payload).unwrap();
            objects.insert(blob.number, blob.data.to_vec());
        }
    }
    objects
}

fn kinds(records: &[Record]) -> Vec<RecordKind> {
    records.iter().map(|r| r.kind).collect()
}

/// Everything up to the end of the snapshot.
fn until_end(service: &mut Service) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        records.push(service.next().expect("the snapshot ends"));
        if records.last().unwrap().kind == RecordKind::SnapshotEnd {
            return records;
        }
    }
}

#[test]
fn a_snapshot_comes_before_what_happens_and_then_its_end() {
    use RecordKind::{Notification, Snapshot, SnapshotEnd};
    let machine = machine(0);
    (0..3).for_each(|n| generator::put(n, b"old"));
    let (mut service, provider) = snapshotted(&machine);
    generator::put(1, b"new");
    let records = service.drain_until(5);
    assert_eq!(
        kinds(&records),
        [Snapshot, Snapshot, Snapshot, SnapshotEnd, Notification]
    );
    assert!(
        records
            .iter()
            .all(|r| u32::from(r.header.provider) == provider)
    );
    assert_eq!(known(&records), generator::objects());
    let rows = service.settled_ledger();
    let own = service.info().connection;
    let row = rows
        .iter()
        .find(|r| r.connection == own && r.message == 1 && r.provider != 0);
    assert_eq!(row.unwrap().offered, 1, "a snapshot is in no account");
    drop(service);
    machine.check();
}

#[test]
fn a_backlog_comes_first() {
    use RecordKind::{Notification, Snapshot, SnapshotEnd};
    let machine = machine(64 * 1024);
    generator::put(1, b"a");
    generator::put(1, b"b");
    let (mut service, _) = snapshotted(&machine);
    let records = service.drain_until(4);
    assert_eq!(
        kinds(&records),
        [Notification, Notification, Snapshot, SnapshotEnd]
    );
    assert_eq!(known(&records), generator::objects());
    drop(service);
    machine.check();
}

#[test]
fn whoever_subscribes_in_the_middle_of_changes_knows_the_state() {
    const OBJECTS: u64 = 40;
    /// As many changes while somebody subscribes as all who are not read meanwhile have room for.
    const CHANGES: u64 = 120;
    let machine = machine(0);
    let done = AtomicBool::new(false);
    let allowed = AtomicU64::new(0);
    thread::scope(|scope| {
        let changing: Vec<_> = (0..2_u64)
            .map(|by| {
                let (done, allowed) = (&done, &allowed);
                scope.spawn(move || {
                    let mut n = by;
                    while !done.load(Ordering::SeqCst) {
                        if n < allowed.load(Ordering::SeqCst) {
                            generator::put(n * 7 % OBJECTS, &n.to_le_bytes());
                            n += 2;
                        } else {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut services = Vec::new();
        for _ in 0..25 {
            allowed.fetch_add(CHANGES, Ordering::SeqCst);
            let (mut service, _) = snapshotted(&machine);
            let mut records = until_end(&mut service);
            records.extend(service.drain_available());
            services.push((service, records));
            if services.len() > 4 {
                services.remove(0);
            }
        }
        done.store(true, Ordering::SeqCst);
        changing.into_iter().for_each(|c| c.join().unwrap());
        let state = generator::objects();
        for (mut service, mut records) in services {
            let deadline = Instant::now() + PATIENCE;
            while known(&records) != state {
                assert!(records.iter().all(|r| r.gap.is_empty()), "nothing was lost");
                assert!(
                    Instant::now() < deadline,
                    "{:?} is not {state:?}",
                    known(&records)
                );
                records.extend(service.drain_available());
            }
        }
    });
    machine.check();
}

#[test]
fn a_snapshot_larger_than_the_queue_comes_whole() {
    let machine = machine(0);
    let data = vec![5; 50_000];
    (0..60).for_each(|n| generator::put(n, &data));
    let (mut service, provider) = snapshotted(&machine);
    assert_eq!(
        service.subscribe_flagged(provider, BLOBS, flags::SNAPSHOT),
        Err(STATUS_RETRY),
        "one is still on its way"
    );
    generator::put(60, b"behind");
    let mut records = until_end(&mut service);
    assert_eq!(records.len(), 61);
    records.push(service.next().unwrap());
    assert_eq!(known(&records), generator::objects());
    service
        .subscribe_flagged(provider, BLOBS, flags::SNAPSHOT)
        .expect("again");
    assert_eq!(until_end(&mut service).len(), 62);
    drop(service);
    machine.check();
}

#[test]
fn a_snapshot_beyond_the_limit_is_refused_and_nothing_is_subscribed() {
    let machine = machine(0);
    let data = vec![5; 50_000];
    (0..200).for_each(|n| generator::put(n, &data));
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    assert_eq!(
        service.subscribe_flagged(provider, BLOBS, flags::SNAPSHOT),
        Err(STATUS_INSUFFICIENT_RESOURCES)
    );
    assert!(!generator::is_listening(1));
    drop(service);
    machine.check();
}

#[test]
fn a_routine_that_fails_subscribes_nobody() {
    let machine = machine(0);
    generator::fail_snapshots(true);
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    assert_eq!(
        service.subscribe_flagged(provider, BLOBS, flags::SNAPSHOT),
        Err(STATUS_ACCESS_DENIED)
    );
    assert!(!generator::is_listening(1));
    drop(service);
    machine.check();
}

#[test]
fn a_provider_without_snapshots_says_so() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register(&PROVIDER, 0);
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    assert_eq!(
        service.subscribe_flagged(provider, BLOBS, flags::SNAPSHOT),
        Err(STATUS_NOT_SUPPORTED)
    );
    drop((client, service));
    machine.check();
}

/// Adds one object and leaves the rest to the common driver; then tries what it must not.
unsafe extern "system" fn lazy(_: *mut c_void, snapshot: SnapshotHandle, types: u64) -> i32 {
    assert_eq!(types, BLOBS);
    let table = bare::interface();
    let (add, live) = (table.snapshot_add.unwrap(), table.snapshot_live.unwrap());
    let blob = Blob {
        number: 1,
        data: b"x",
    };
    let mut payload = vec![0; blob.encoded_len()];
    blob.encode(&mut payload).unwrap();
    let object = Notification {
        message: Blob::NUMBER,
        fixed: Blob::FIXED as u16,
        payload: payload.as_ptr(),
        length: payload.len() as u32,
        ..Notification::EMPTY
    };
    let nothing = std::ptr::null();
    // SAFETY: null is answered.
    assert_ne!(unsafe { add(snapshot, nothing) }, STATUS_SUCCESS);
    // SAFETY: so is no handle.
    assert_ne!(unsafe { live(SnapshotHandle(0)) }, STATUS_SUCCESS);
    // SAFETY: this is the routine, and the object valid.
    assert_eq!(unsafe { add(snapshot, &raw const object) }, STATUS_SUCCESS);
    STATUS_SUCCESS
}

#[test]
fn a_routine_that_does_not_say_when_is_live_when_it_returns() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let table = bare::interface();
    let mut encoded = [0; 4096];
    let length = PROVIDER.encode(&mut encoded).unwrap();
    let mut description = bare::describe(&encoded[..length], 0);
    description.on_snapshot = Some(lazy);
    let mut handle = ProviderHandle(0);
    // SAFETY: a valid description and place.
    let status = unsafe { (table.register)(&raw const description, &raw mut handle) };
    assert_eq!(status, STATUS_SUCCESS);
    let (mut service, _) = snapshotted(&machine);
    assert_eq!(
        kinds(&until_end(&mut service)),
        [RecordKind::Snapshot, RecordKind::SnapshotEnd]
    );
    // SAFETY: registered above, once.
    unsafe { (table.unregister)(handle) };
    drop(service);
    machine.check();
}

#[test]
fn a_stream_goes_on_in_the_middle_of_a_snapshot() {
    let machine = machine(0);
    (0..100).for_each(|n| generator::put(n, &[1; 3000]));
    let mut service = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = service.provider("generator").unwrap();
    service
        .subscribe_flagged(provider, BLOBS, flags::SNAPSHOT)
        .unwrap();
    let mut records = service.drain_until(10);
    let dealt = records[9].header.sequence;
    records.truncate(10);
    service.acknowledge(dealt).unwrap();
    drop(service);
    generator::put(100, b"behind");
    let mut service = Service::with_stream(&machine, &wanted()).unwrap();
    let mut rest = Vec::new();
    while known(&records).len() < 101 {
        let next = service.next().unwrap();
        service.acknowledge(next.header.sequence).unwrap();
        rest.push(next.kind);
        records.push(next);
    }
    assert_eq!(known(&records), generator::objects());
    assert_eq!(
        rest[rest.len() - 2..],
        [RecordKind::SnapshotEnd, RecordKind::Notification]
    );
    assert_eq!(rest.len(), 92, "none twice");
    drop(service);
    machine.check();
}

/// Waits until it is let go on, and fails.
unsafe extern "system" fn slow(_: *mut c_void, _: SnapshotHandle, _: u64) -> i32 {
    RUNNING.fetch_add(1, Ordering::SeqCst);
    while !LET_GO.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    STATUS_ACCESS_DENIED
}

static RUNNING: AtomicU32 = AtomicU32::new(0);
static LET_GO: AtomicBool = AtomicBool::new(false);

/// Each subscription brings a whole backlog along, which may be megabytes, and a snapshot besides.
#[test]
fn a_service_with_many_threads_does_not_have_as_many_backlogs() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let client = BareClient::register_with(&PROVIDER, 1024 * 1024, |description| {
        description.on_snapshot = Some(slow);
    });
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let wanted = FilteredSubscription {
        provider,
        flags: flags::SNAPSHOT,
        observe: BLOBS,
        decide: 0,
        hash: 0,
        filters: 0,
        reserved: 0,
    };
    let size = CommandHeader::SIZE + FilteredSubscription::SIZE;
    let mut command = vec![0; size];
    CommandHeader::new(0, own::SUBSCRIBE_FILTERED, FilteredSubscription::SIZE)
        .write(&mut command)
        .unwrap();
    wanted.write(&mut command[CommandHeader::SIZE..]).unwrap();
    let input = UserSlice {
        address: command.as_ptr().addr() as u64,
        length: size as u32,
    };
    let nothing = UserSlice {
        address: 0,
        length: 0,
    };
    // As a thread of the service's own would.
    let (port, process) = (&service.port, &service.process);
    let subscribe = || port.send(process, input, nothing).0;
    thread::scope(|scope| {
        let first = scope.spawn(subscribe);
        let second = scope.spawn(subscribe);
        let deadline = Instant::now() + PATIENCE;
        while RUNNING.load(Ordering::SeqCst) < 2 {
            assert!(Instant::now() < deadline, "two may");
            thread::yield_now();
        }
        let full = Err(STATUS_INSUFFICIENT_RESOURCES);
        let plain = service.subscribe(provider, BLOBS, 0);
        let limited = service.limit(MIN_QUEUE, 0, 0);
        // Somebody else's threads are none of this one's.
        let other = Service::connect(&machine).subscribe(provider, BLOBS, 0);
        LET_GO.store(true, Ordering::SeqCst);
        assert_eq!((plain, limited, other), (full, full, Ok(())));
        for ended in [first, second] {
            assert_eq!(ended.join().unwrap(), STATUS_ACCESS_DENIED);
        }
    });
    service.subscribe(provider, BLOBS, 0).unwrap();
    drop((service, client));
    machine.check();
}
