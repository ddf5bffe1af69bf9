// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters in the driver: what is left out, what is not, and what is refused.

use crate::generator::{self, Blob, PROVIDER as GENERATOR};
use crate::machine::{FLTPORT, Machine};
use crate::service::{Record, Service};
use crate::streams::wanted;
use fltport_abi::command::{ENDED, FilteredSubscription, flags, own};
use fltport_abi::filter::{FieldPlace, Op, Writer};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{OutcomeRecord, RecordKind};
use fltport_abi::hello::{Hello, StreamHello, rights, stream};
use fltport_abi::limits::{MAX_FILTER, MAX_PREDICATES};
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::{PROVIDER as MONITOR, ProcessCreate, ProcessStart};
use fltport_abi::schema::Provider;
use fltport_abi::text::Text;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_RETRY};
use fltport_nt::linked::{STATUS_INVALID_MESSAGE, STATUS_SHARING_VIOLATION};

/// A filter about messages of this number.
pub(crate) fn filter(message: u16, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; MAX_FILTER];
    let mut writer = Writer::new(&mut bytes, message);
    write(&mut writer);
    let length = writer.finish().expect("fits");
    bytes.truncate(length);
    bytes
}

/// The place of a message's field.
pub(crate) fn place<'a, M: Message<'a>>(name: &str) -> FieldPlace {
    let field = M::FIELDS.iter().find(|f| f.name == name);
    let field = field.expect("the message has the field");
    FieldPlace {
        kind: field.kind,
        offset: field.offset,
        optional: field.is_optional(),
    }
}

/// The payload of a subscription with filters for this schema.
fn payload(provider: u32, schema: &Provider, observe: u64, filters: &[u8], flags: u32) -> Vec<u8> {
    let mut bytes = vec![0; FilteredSubscription::SIZE];
    FilteredSubscription {
        provider,
        flags,
        observe,
        decide: 0,
        hash: schema.hash(),
        filters: filters.len() as u32,
        reserved: 0,
    }
    .write(&mut bytes)
    .unwrap();
    bytes.extend(filters);
    bytes
}

impl Service {
    /// Subscribes with filters, and flags.
    pub(crate) fn subscribe_filtered(
        &self,
        provider: u32,
        schema: &Provider,
        observe: u64,
        filters: &[u8],
        flags: u32,
    ) -> Result<(), i32> {
        let payload = payload(provider, schema, observe, filters, flags);
        self.command(0, own::SUBSCRIBE_FILTERED, &payload).map(drop)
    }
}

fn machine(backlog: u32) -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, backlog, BacklogPolicy::KeepNewest));
    machine
}

/// Blobs whose number lies in this range.
fn numbered(low: u64, high: u64) -> Vec<u8> {
    let number = place::<Blob<'_>>("number");
    filter(1, |w| w.numbers(Op::Range, number, &[low, high]).unwrap())
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let blobs = records
        .iter()
        .filter(|r| r.kind == RecordKind::Notification);
    blobs
        .map(|r| Blob::decode(&r.payload).unwrap().number)
        .collect()
}

/// What was offered to a connection, in all.
fn offered(service: &mut Service, connection: u32) -> u64 {
    let rows = service.settled_ledger();
    let rows = rows.iter().filter(|row| row.connection == connection);
    rows.map(|row| row.offered).sum()
}

#[test]
fn what_is_not_wanted_is_not_offered() {
    let machine = machine(0);
    let (mut all, mut few) = (Service::connect(&machine), Service::connect(&machine));
    let provider = all.provider("generator").unwrap();
    all.subscribe(provider, 1 << 1, 0).unwrap();
    few.subscribe_filtered(provider, &GENERATOR, 1 << 1, &numbered(10, 19), 0)
        .unwrap();
    (0..100).for_each(|n| generator::blob(n, &[0; 64]));
    assert_eq!(numbers(&all.drain()), (0..100).collect::<Vec<_>>());
    // Numbers of the stream are given behind the filter, so none is missing.
    assert_eq!(numbers(&few.drain()), (10..20).collect::<Vec<_>>());
    let (all_number, few_number) = (all.info().connection, few.info().connection);
    assert_eq!(offered(&mut all, all_number), 100);
    assert_eq!(offered(&mut few, few_number), 10);
    let usage = few.usage_of(provider);
    assert_eq!((usage.filtered, usage.muted, usage.unjudged), (90, 0, 0));
    assert_eq!(all.usage_of(provider).filtered, 0);
    // Everything again, without a filter.
    few.subscribe(provider, 1 << 1, 0).unwrap();
    generator::blob(100, b"");
    assert_eq!(numbers(&few.drain()), [100]);
    drop((all, few));
    machine.check();
}

#[test]
fn what_a_filter_leaves_out_does_not_fill_the_queue() {
    let machine = machine(0);
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let wanted = numbered(5_000, u64::MAX);
    service
        .subscribe_filtered(provider, &GENERATOR, 1 << 1, &wanted, 0)
        .unwrap();
    // Ten times the queue.
    (0..5_000).for_each(|n| generator::blob(n, &[0; 2048]));
    generator::blob(5_000, b"at last");
    let records = service.drain();
    assert_eq!(numbers(&records), [5_000]);
    assert_eq!(records.len(), 1, "and no gap");
    assert_eq!(service.usage_of(provider).filtered, 5_000);
    drop(service);
    machine.check();
}

#[test]
fn a_backlog_is_filtered_when_it_is_read() {
    let machine = machine(512 * 1024);
    // More than is looked at for one batch.
    (0..3_000).for_each(|n| generator::blob(n, &[0; 64]));
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    service
        .subscribe_filtered(provider, &GENERATOR, 1 << 1, &numbered(2_990, 3_001), 0)
        .unwrap();
    (3_000..3_005).for_each(|n| generator::blob(n, b"live"));
    let own = service.info().connection;
    assert_eq!(
        numbers(&service.drain_until(12)),
        (2_990..3_002).collect::<Vec<_>>()
    );
    assert_eq!(offered(&mut service, own), 12);
    assert_eq!(service.usage_of(provider).filtered, 2_990 + 3);
    assert!(service.drain().is_empty());
    drop(service);
    machine.check();
}

#[test]
fn texts_are_compared_as_nt_does() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    let provider = service.provider("process-monitor").unwrap();
    let image = place::<ProcessStart<'_>>("image");
    let mut filters = filter(1, |w| {
        w.text(Op::Suffix, image, Text::Utf8("/ÄRGER.exe"), true)
            .unwrap();
        w.text(Op::Contains, image, Text::Utf8("/Tmp/"), false)
            .unwrap();
        w.operator(Op::Not).unwrap();
        w.operator(Op::And).unwrap();
    });
    let pid = FieldPlace {
        kind: fltport_abi::schema::FieldKind::Pid,
        offset: 0,
        optional: false,
    };
    filters.extend(filter(2, |w| {
        w.numbers(Op::In, pid, &[2000, 2002]).unwrap()
    }));
    service
        .subscribe_filtered(provider, &MONITOR, 0b110, &filters, 0)
        .unwrap();
    let images = [
        "/bin/ärger.EXE",
        "/Tmp/ärger.exe",
        "/tmp/Ärger.exe",
        "/bin/true",
    ];
    for (pid, image) in (2000..).zip(images) {
        assert_eq!(machine.start_process(pid, image), 0);
    }
    (2000..2004).for_each(|pid| machine.end_process(pid, 0));
    let records = service.drain();
    let seen: Vec<(u16, u32)> = records
        .iter()
        .map(|r| (r.header.message, u32::read(&r.payload).unwrap()))
        .collect();
    assert_eq!(seen, [(1, 2000), (1, 2002), (2, 2000), (2, 2002)]);
    // What would take too long comes, and is counted.
    let slow = filter(1, |w| {
        let words = Text::Utf8("*aaaaaaaab");
        w.text(Op::Glob, image, words, true).unwrap();
    });
    service
        .subscribe_filtered(provider, &MONITOR, 0b10, &slow, 0)
        .unwrap();
    machine.start_process(2010, &"a".repeat(5_000));
    machine.start_process(2011, "/bin/true");
    assert_eq!(service.drain().len(), 1);
    let usage = service.usage_of(provider);
    assert_eq!((usage.unjudged, usage.filtered), (1, 2 + 2 + 1));
    drop(service);
    machine.check();
}

#[test]
fn an_outcome_is_judged_by_what_was_asked() {
    let machine = Machine::new();
    let mut decider = Service::connect(&machine);
    decider.watch(&[], &[5]);
    let mut observer = Service::connect(&machine);
    let provider = observer.provider("process-monitor").unwrap();
    let image = place::<ProcessCreate<'_>>("image");
    let filters = filter(5, |w| {
        w.text(Op::Suffix, image, Text::Utf8("/nc"), true).unwrap();
    });
    observer
        .subscribe_filtered(provider, &MONITOR, 1 << 5, &filters, 0)
        .unwrap();
    std::thread::scope(|threads| {
        let created = threads.spawn(|| {
            machine.start_process(2000, "/bin/true");
            machine.start_process(2001, "/bin/nc");
        });
        for _ in 0..2 {
            let request = decider.next_request().expect("is asked about both");
            assert_eq!(decider.reply(&request, &[0; 4]), 0);
        }
        created.join().unwrap();
    });
    let records = observer.drain();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].kind, RecordKind::Outcome);
    let record = fltport_abi::frame::Record {
        header: records[0].header,
        kind: records[0].kind,
        payload: &records[0].payload,
    };
    let outcome = OutcomeRecord::parse(&record).unwrap();
    let asked = ProcessCreate::decode(outcome.request).unwrap();
    assert_eq!(asked.pid, Pid(2001));
    drop((decider, observer));
    machine.check();
}

#[test]
fn hostile_filters_are_refused_and_change_nothing() {
    let machine = machine(0);
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let good = numbered(1, 1);
    service
        .subscribe_filtered(provider, &GENERATOR, 1 << 1, &good, 0)
        .unwrap();
    let number = place::<Blob<'_>>("number");
    let many = filter(1, |w| {
        w.numbers(Op::Range, number, &[1, 1]).unwrap();
        for _ in 1..MAX_PREDICATES {
            w.numbers(Op::Range, number, &[1, 1]).unwrap();
            w.operator(Op::And).unwrap();
        }
    });
    let nowhere = FieldPlace {
        offset: 4,
        ..number
    };
    let one = |message| filter(message, |w| w.numbers(Op::Range, number, &[1, 1]).unwrap());
    let refused = [
        (one(3), STATUS_INVALID_PARAMETER),
        (one(9), STATUS_INVALID_PARAMETER),
        ([one(1), one(1)].concat(), STATUS_INVALID_PARAMETER),
        ([many, one(2)].concat(), STATUS_INVALID_PARAMETER),
        (good[..good.len() - 1].to_vec(), STATUS_INVALID_PARAMETER),
        ([&good[..], b"x"].concat(), STATUS_INVALID_PARAMETER),
        (vec![0xff; 64], STATUS_INVALID_PARAMETER),
        (vec![0; MAX_FILTER + 1], STATUS_INVALID_PARAMETER),
        (
            filter(1, |w| w.numbers(Op::Range, nowhere, &[1, 1]).unwrap()),
            STATUS_INVALID_MESSAGE,
        ),
        (filter(1, |_| {}), STATUS_INVALID_PARAMETER),
    ];
    for (filters, status) in refused {
        let result = service.subscribe_filtered(provider, &GENERATOR, 1 << 1, &filters, 0);
        assert_eq!(result, Err(status), "{filters:x?}");
    }
    // Flags that nobody knows, lengths that lie, a schema that is another.
    let flagged = service.subscribe_filtered(provider, &GENERATOR, 1 << 1, &good, 1 << 31);
    assert_eq!(flagged, Err(STATUS_INVALID_PARAMETER));
    let mut lies = payload(provider, &GENERATOR, 1 << 1, &good, 0);
    lies[32] += 1;
    let lied = service.command(0, own::SUBSCRIBE_FILTERED, &lies);
    assert_eq!(lied, Err(STATUS_INVALID_PARAMETER));
    let other = service.subscribe_filtered(provider, &MONITOR, 1 << 1, &good, 0);
    assert_eq!(other, Err(STATUS_INVALID_MESSAGE));
    let nobody = service.subscribe_filtered(77, &GENERATOR, 1 << 1, &good, 0);
    assert_eq!(nobody, Err(STATUS_NOT_FOUND));
    (0..3).for_each(|n| generator::blob(n, b""));
    assert_eq!(
        numbers(&service.drain()),
        [1],
        "the first filter is in force"
    );
    drop(service);
    machine.check();
}

#[test]
fn a_provider_that_comes_back_is_another_one() {
    let machine = machine(0);
    let mut service = Service::connect(&machine);
    let former = service.provider("generator").unwrap();
    let filters = numbered(1, 1);
    service
        .subscribe_filtered(former, &GENERATOR, 1 << 1, &filters, 0)
        .unwrap();
    let image = generator::image(&machine, 0, BacklogPolicy::KeepNewest);
    machine.stop(&image);
    machine.load(&image);
    let again = service.subscribe_filtered(former, &GENERATOR, 1 << 1, &filters, 0);
    assert_eq!(again, Err(STATUS_NOT_FOUND));
    let provider = service.provider("generator").unwrap();
    service
        .subscribe_filtered(provider, &GENERATOR, 1 << 1, &filters, 0)
        .unwrap();
    (0..3).for_each(|n| generator::blob(n, b""));
    let own = service
        .drain()
        .into_iter()
        .filter(|r| r.header.provider == provider as u16)
        .collect::<Vec<_>>();
    assert_eq!(numbers(&own), [1]);
    drop(service);
    machine.check();
}

#[test]
fn filters_change_while_messages_come() {
    const THREADS: u64 = 3;
    const EACH: u64 = 2_000;
    let machine = machine(0);
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let filters = [numbered(0, 999), numbered(1_000, u64::MAX), Vec::new()];
    service
        .subscribe_filtered(provider, &GENERATOR, 1 << 1, &filters[0], 0)
        .unwrap();
    let mut records = Vec::new();
    std::thread::scope(|threads| {
        let producers: Vec<_> = (0..THREADS)
            .map(|_| threads.spawn(|| (0..EACH).for_each(|n| generator::blob(n, &[0; 16]))))
            .collect();
        for filter in filters.iter().cycle() {
            service
                .subscribe_filtered(provider, &GENERATOR, 1 << 1, filter, 0)
                .unwrap();
            // The ledger balances, and the stream has no hole: both are looked at on the way.
            service.ledger();
            records.extend(service.drain_available());
            if producers.iter().all(|p| p.is_finished()) {
                break;
            }
        }
    });
    records.extend(service.drain());
    let own = service.info().connection;
    let offered = offered(&mut service, own);
    let lost: u64 = records.iter().flat_map(|r| &r.gap).map(|g| g.count).sum();
    assert_eq!(numbers(&records).len() as u64 + lost, offered);
    assert!(offered <= THREADS * EACH);
    drop(service);
    let mut last = Service::connect(&machine);
    let ended = last.settled_ledger().into_iter();
    let ended: u64 = ended
        .filter(|row| row.connection == ENDED)
        .map(|row| row.offered)
        .sum();
    assert!(
        ended >= offered,
        "the account is kept when the connection ends"
    );
    drop(last);
    machine.check();
}

#[test]
fn a_second_backlog_and_a_taken_decision_leave_the_filter_as_it_was() {
    let machine = machine(512 * 1024);
    let large = [7; 20 * 1024];
    (0..8).for_each(|n| generator::blob(n, &large));
    let mut service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    let all = numbered(0, u64::MAX);
    service
        .subscribe_filtered(provider, &GENERATOR, 1 << 1, &all, 0)
        .unwrap();
    service.subscribe(provider, 0, 0).unwrap();
    generator::blob(8, b"kept");
    let none = numbered(u64::MAX, u64::MAX);
    let early = service.subscribe_filtered(provider, &GENERATOR, 1 << 1, &none, 0);
    assert_eq!(early, Err(STATUS_RETRY));
    assert_eq!(numbers(&service.drain_until(8)), (0..8).collect::<Vec<_>>());
    let other = Service::connect(&machine);
    other.subscribe(provider, 0, 1 << 2).unwrap();
    while service.subscribe(provider, 1 << 1, 0) == Err(STATUS_RETRY) {
        std::thread::yield_now();
    }
    assert_eq!(
        service.subscribe(provider, 1 << 1, 1 << 2),
        Err(STATUS_SHARING_VIOLATION)
    );
    assert_eq!(numbers(&service.drain()), [8]);
    drop((service, other));
    machine.check();
}

#[test]
fn what_the_service_and_its_children_do_is_muted() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    let provider = service.provider("process-monitor").unwrap();
    let mut other = Service::connect(&machine);
    other.watch(&[1, 2], &[]);
    service
        .subscribe_filtered(provider, &MONITOR, 0b110, &[], flags::MUTE_SELF)
        .unwrap();
    let own = u64::from(service.info().pid);
    // Its child, its grandchild, a stranger, and the stranger's child.
    machine.start_process_by(own, 2000, "/bin/child");
    machine.start_process_by(2000, 2001, "/bin/grandchild");
    machine.start_process_by(1000, 2002, "/bin/stranger");
    machine.start_process_by(2002, 2003, "/bin/strange-child");
    // The child's end does not make the grandchild a stranger.
    machine.end_process(2000, 0);
    machine.start_process_by(2001, 2004, "/bin/great-grandchild");
    [2001, 2002, 2003, 2004]
        .into_iter()
        .for_each(|pid| machine.end_process(pid, 0));
    // A number that a stranger gets is a stranger's.
    machine.start_process_by(1000, 2001, "/bin/again");
    machine.end_process(2001, 0);
    let pids = |records: Vec<Record>| -> Vec<(u16, u32)> {
        let all = records.iter();
        all.map(|r| (r.header.message, u32::read(&r.payload).unwrap()))
            .collect()
    };
    let seen = pids(service.drain());
    assert_eq!(
        seen,
        [
            (1, 2002),
            (1, 2003),
            (2, 2002),
            (2, 2003),
            (1, 2001),
            (2, 2001)
        ]
    );
    assert_eq!(pids(other.drain()).len(), 12, "nobody else's are muted");
    let usage = service.usage_of(provider);
    assert_eq!((usage.muted, usage.filtered, usage.not_muted), (6, 0, 0));
    drop((service, other));
    machine.check();
}

/// Linux has no such process, and so it cannot be that of this test, which is the service's.
const BEYOND: u64 = 10_000_000;

#[test]
fn so_many_children_that_the_first_to_end_are_forgotten() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    let provider = service.provider("process-monitor").unwrap();
    service
        .subscribe_filtered(provider, &MONITOR, 0b10, &[], flags::MUTE_SELF)
        .unwrap();
    let own = u64::from(service.info().pid);
    // Far more than are kept, but few of them at one time.
    for pid in BEYOND..BEYOND + 1000 {
        machine.start_process_by(own, pid, "/bin/child");
        machine.end_process(pid, 0);
    }
    let seen = service.drain();
    assert!(seen.is_empty(), "{seen:?}");
    // More at one time than are kept.
    for pid in BEYOND + 2000..BEYOND + 2300 {
        machine.start_process_by(own, pid, "/bin/child");
    }
    machine.start_process_by(BEYOND + 2299, BEYOND + 3000, "/bin/not-muted-any-more");
    let seen = service.drain();
    let pids: Vec<u32> = seen
        .iter()
        .map(|r| u32::read(&r.payload).unwrap())
        .collect();
    assert_eq!(
        pids,
        [BEYOND as u32 + 3000],
        "the child that had no place is the service's no more"
    );
    // The service and 255 children have places.
    assert_eq!(service.usage_of(provider).not_muted, 300 - 255);
    drop(service);
    machine.check();
}

/// A service that takes a stream over is muted like the one before it, also where all places are taken.
#[test]
fn who_takes_over_is_muted_whatever_else_is() {
    let machine = Machine::new();
    let old = Service::with_stream(&machine, &wanted()).unwrap();
    let provider = old.provider("process-monitor").unwrap();
    old.subscribe_filtered(provider, &MONITOR, 0b10, &[], flags::MUTE_SELF)
        .unwrap();
    let own = u64::from(old.info().pid);
    for pid in BEYOND + 2000..BEYOND + 2255 {
        machine.start_process_by(own, pid, "/bin/child");
    }
    let taking_over = StreamHello {
        flags: stream::RESUME | stream::TAKE_OVER,
        ..wanted()
    };
    let hello = taking_over.to_bytes(&Hello::new("test", rights::ALL, 0));
    let process = machine.kernel.peer(BEYOND as u32, 0);
    let mut new = Service::connect_from(process, &hello).unwrap();
    machine.start_process_by(BEYOND, BEYOND + 3000, "/bin/of-the-new-one");
    machine.start_process_by(BEYOND + 2254, BEYOND + 3001, "/bin/of-the-last-child");
    machine.start_process_by(1000, BEYOND + 3002, "/bin/stranger");
    let seen = new.next().expect("the stranger");
    assert_eq!(u32::read(&seen.payload), Some(BEYOND as u32 + 3002));
    drop((old, new));
    machine.check();
}
