// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry monitor: what it tells and asks, and that the common driver serves it and the process
//! monitor at once.

use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::frame::RecordKind;
use fltport_abi::message::{Message, Pid, Status};
use fltport_abi::registry_monitor::{
    GetWatched, Intention, KeyChange, KeyCreated, KeyDeleted, KeyRenamed, MAX_DATA, MAX_WATCHED,
    SetWatched, ValueDeleted, ValueSet, ValueType, Watched, WatchedSet,
};
use fltport_abi::text::{Text, TextList};
use fltport_nt::bindings::{
    DRIVER_OBJECT, NTSTATUS, REG_BINARY, STATUS_ACCESS_DENIED,
    STATUS_FLT_INSTANCE_ALTITUDE_COLLISION, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND,
    UNICODE_STRING,
};
use fltport_nt::cm::{Change, Completed, Operation, RegistryCallback, RegistryObserver};
use fltport_nt::ex::{Global, PoolArc, Tag};
use fltport_nt::io::DriverObject;
use fltport_nt::status::to_status;
use fltport_nt::{NtError, Result, utf16};
use nt_host::faults::Sweep;
use nt_host::registry::Value;
use nt_host::{DriverImage, Process, UserRegistry};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// The registry monitor's image.
const REGISTRY: DriverImage = DriverImage {
    name: registry_monitor::IMAGE_NAME,
    entry: registry_monitor::driver_entry,
    force_integrity: false,
};

const KEY: &str = "\\Registry\\Machine\\Software\\Vendor";
const OTHER: &str = "\\Registry\\Machine\\Software\\Vendors";
const PID: u32 = 2000;
const EVERYTHING: u64 = 0b111_1110;
const DECIDE: u64 = 1 << KeyChange::NUMBER;
const DENY: [u8; 4] = [1, 0, 0, 0];
const ALLOW: [u8; 4] = [0; 4];

/// A machine with two keys, the common driver and the registry monitor, and a program.
fn machine() -> (Machine, Arc<Process>) {
    let machine = Machine::bare();
    machine.kernel.registry().create_path(KEY);
    machine.kernel.registry().create_path(OTHER);
    machine.load(&FLTPORT);
    machine.load(&REGISTRY);
    let user = machine.kernel.peer(PID, 1000);
    (machine, user)
}

fn connect(machine: &Machine, observe: u64, decide: u64) -> (Service, u32) {
    let service = Service::connect(machine);
    let provider = service.provider("registry-monitor").unwrap();
    service.subscribe(provider, observe, decide).unwrap();
    (service, provider)
}

fn set_watched(service: &Service, provider: u32, keys: &[&str]) -> std::result::Result<u32, i32> {
    let wanted = SetWatched {
        keys: TextList::Strings(keys),
    };
    let mut payload = vec![0; wanted.encoded_len()];
    wanted.encode(&mut payload).unwrap();
    let result = service.command(provider, SetWatched::NUMBER, &payload)?;
    Ok(WatchedSet::decode(&result).unwrap().count)
}

fn numbers(records: &[Record]) -> Vec<u16> {
    records.iter().map(|record| record.header.message).collect()
}

fn binary(length: usize) -> Value {
    Value {
        kind: REG_BINARY,
        data: vec![7; length],
    }
}

#[test]
fn every_change_is_told_with_who_what_and_what_came_of_it() {
    let (machine, user) = machine();
    let (mut service, _) = connect(&machine, EVERYTHING, 0);
    let registry = machine.kernel.registry_of(&user);
    let new = format!("{KEY}\\New");
    registry.create_key(&new).unwrap();
    registry.create_key(&new).unwrap();
    registry.set_value(KEY, "value", &binary(300)).unwrap();
    registry.delete_value(KEY, "value").unwrap();
    registry.delete_value(KEY, "value").unwrap_err();
    registry.rename_key(&new, "Newer").unwrap();
    registry.delete_key(&format!("{KEY}\\Newer")).unwrap();
    let records = service.drain();
    assert_eq!(numbers(&records), [1, 4, 5, 5, 3, 2]);
    let created = KeyCreated::decode(&records[0].payload).unwrap();
    assert_eq!(
        (created.pid, created.key),
        (Pid(PID), Some(Text::Utf8(&new)))
    );
    let set = ValueSet::decode(&records[1].payload).unwrap();
    assert_eq!(set.pid, Pid(PID));
    assert_ne!(set.tid, Pid(0));
    assert_eq!(
        (set.key, set.name),
        (Some(Text::Utf8(KEY)), Text::Utf8("value"))
    );
    assert_eq!(
        (set.status, set.kind, set.size),
        (Status(0), ValueType::Binary, 300)
    );
    assert_eq!(set.data, [7; MAX_DATA]);
    let deleted = ValueDeleted::decode(&records[2].payload).unwrap();
    assert_eq!(
        (deleted.name, deleted.status),
        (Text::Utf8("value"), Status(0))
    );
    let missing = ValueDeleted::decode(&records[3].payload).unwrap();
    assert_eq!(missing.status, Status(STATUS_OBJECT_NAME_NOT_FOUND));
    let renamed = KeyRenamed::decode(&records[4].payload).unwrap();
    assert_eq!(
        (renamed.key, renamed.new_name),
        (Some(Text::Utf8(&new)), Text::Utf8("Newer"))
    );
    let gone = KeyDeleted::decode(&records[5].payload).unwrap();
    assert_eq!(gone.key, Some(Text::Utf8(&format!("{KEY}\\Newer"))));
    assert!(!gone.truncated);
    drop(service);
    machine.check();
}

#[test]
fn only_watched_keys_and_what_is_below_them_are_told_of() {
    let (machine, user) = machine();
    let (mut service, provider) = connect(&machine, EVERYTHING, 0);
    let watched = "\\REGISTRY\\machine\\SOFTWARE\\vendor";
    assert_eq!(set_watched(&service, provider, &[watched]), Ok(1));
    let registry = machine.kernel.registry_of(&user);
    for key in [KEY, OTHER] {
        let new = format!("{key}\\New");
        registry.create_key(&new).unwrap();
        registry.set_value(key, "value", &Value::dword(1)).unwrap();
        registry.set_value(&new, "value", &Value::dword(1)).unwrap();
        registry.delete_value(key, "value").unwrap();
        registry.rename_key(&new, "Newer").unwrap();
        registry.delete_key(&format!("{key}\\Newer")).unwrap();
    }
    let above = "\\Registry\\Machine\\Software";
    registry
        .set_value(above, "value", &Value::dword(1))
        .unwrap();
    assert_eq!(numbers(&service.drain()), [1, 4, 4, 5, 3, 2]);
    assert_eq!(set_watched(&service, provider, &[]), Ok(0));
    registry
        .set_value(above, "value", &Value::dword(1))
        .unwrap();
    assert_eq!(numbers(&service.drain()), [4]);
    drop(service);
    machine.check();
}

#[test]
fn the_list_of_watched_keys_is_checked_and_read_back() {
    let (machine, _) = machine();
    let (service, provider) = connect(&machine, 0, 0);
    assert_eq!(set_watched(&service, provider, &[KEY, OTHER]), Ok(2));
    let long = format!("\\{}", "x".repeat(1024));
    for bad in ["", "Registry\\Machine", "\\Registry\\", "\\", &long] {
        let refused = set_watched(&service, provider, &[KEY, bad]);
        assert_eq!(refused, Err(STATUS_INVALID_PARAMETER), "{bad:?}");
    }
    let many = vec![KEY; MAX_WATCHED + 1];
    assert_eq!(
        set_watched(&service, provider, &many),
        Err(STATUS_INVALID_PARAMETER)
    );
    let list = service.command(provider, GetWatched::NUMBER, &[]).unwrap();
    let keys: Vec<String> = Watched::decode(&list)
        .unwrap()
        .keys
        .iter()
        .map(|key| key.to_string())
        .collect();
    assert_eq!(keys, [KEY, OTHER]);
    assert!(service.command(provider, 99, &[]).is_err());
    drop(service);
    machine.check();
}

type Attempt = fn(&UserRegistry<'_>) -> std::result::Result<(), i32>;

/// Every change that is asked about, with what the question says of it.
const CHANGES: [(Intention, Option<&str>, Attempt); 4] = [
    (Intention::SetValue, Some("value"), |registry| {
        registry.set_value(KEY, "value", &Value::dword(2))
    }),
    (Intention::DeleteValue, Some("value"), |registry| {
        registry.delete_value(KEY, "value")
    }),
    (Intention::RenameKey, Some("Other"), |registry| {
        registry.rename_key(KEY, "Other")
    }),
    (Intention::DeleteKey, None, |registry| {
        registry.delete_key(KEY)
    }),
];

#[test]
fn a_change_is_denied_and_does_not_happen() {
    let (machine, user) = machine();
    machine
        .kernel
        .registry()
        .set_value(KEY, "value", Value::dword(1))
        .unwrap();
    let (mut service, provider) = connect(&machine, 0b11_1110, DECIDE);
    set_watched(&service, provider, &[KEY]).unwrap();
    let registry = machine.kernel.registry_of(&user);
    for (wanted, name, change) in CHANGES {
        thread::scope(|scope| {
            let changed = scope.spawn(|| change(&registry));
            let request = service.next_request().unwrap();
            let question = KeyChange::decode(&request.payload).unwrap();
            assert_eq!((question.operation, question.pid), (wanted, Pid(PID)));
            assert_eq!(question.key, Text::Utf8(KEY));
            assert_eq!(question.name, name.map(Text::Utf8));
            if wanted == Intention::SetValue {
                assert_eq!((question.kind, question.size), (ValueType::Dword, 4));
                assert_eq!(question.data, [2, 0, 0, 0]);
            }
            assert_eq!(service.reply(&request, &DENY), 0);
            assert_eq!(changed.join().unwrap(), Err(STATUS_ACCESS_DENIED));
        });
    }
    let value = machine.kernel.registry().value(KEY, "value");
    assert_eq!(value.unwrap().as_dword(), Some(1));
    assert_eq!(
        numbers(&service.drain()),
        [],
        "what did not happen is not told"
    );
    drop(service);
    machine.check();
}

#[test]
fn what_is_allowed_happens_and_what_is_not_watched_is_not_asked() {
    let (machine, user) = machine();
    let (mut service, provider) = connect(&machine, EVERYTHING, DECIDE);
    let registry = machine.kernel.registry_of(&user);
    // Nothing is watched.
    registry.set_value(KEY, "value", &Value::dword(1)).unwrap();
    set_watched(&service, provider, &[KEY]).unwrap();
    registry
        .set_value(OTHER, "value", &Value::dword(1))
        .unwrap();
    // A driver's own, also of a watched key, and the decider's own.
    let system = machine.kernel.process(4).unwrap();
    let own = machine.kernel.registry_of(&system);
    own.set_value(KEY, "value", &Value::dword(1)).unwrap();
    assert!(service.take_request().is_none());
    thread::scope(|scope| {
        let changed = scope.spawn(|| registry.delete_key(KEY));
        let request = service.next_request().unwrap();
        assert_eq!(service.reply(&request, &ALLOW), 0);
        assert_eq!(changed.join().unwrap(), Ok(()));
    });
    let records = service.drain();
    let kinds: Vec<_> = records
        .iter()
        .map(|it| (it.kind, it.header.message))
        .collect();
    let told = |message| (RecordKind::Notification, message);
    assert_eq!(kinds, [told(4), told(4), (RecordKind::Outcome, 6), told(2)]);
    drop(service);
    machine.check();
}

#[test]
fn one_service_is_served_by_two_drivers_that_do_not_know_each_other() {
    const ROUNDS: u64 = 50;
    let (machine, user) = machine();
    machine.load(&MONITOR);
    let (mut service, registry_provider) = connect(&machine, EVERYTHING, DECIDE);
    let process_provider = service.watch(&[1, 2, 5], &[5]);
    set_watched(&service, registry_provider, &[KEY]).unwrap();
    let registry = machine.kernel.registry_of(&user);
    thread::scope(|scope| {
        let sets = scope.spawn(|| {
            let set = |n: u64| {
                let done = registry.set_value(KEY, "value", &Value::dword(n as u32));
                u64::from(done.is_ok())
            };
            (0..ROUNDS).map(set).sum::<u64>()
        });
        let starts = scope.spawn(|| {
            let start = |n| u64::from(machine.start_process(3000 + n, "/bin/x") == 0);
            (0..ROUNDS).map(start).sum::<u64>()
        });
        for _ in 0..2 * ROUNDS {
            let request = service.next_request().unwrap();
            // Every second one of each.
            let deny = request.header.sequence % 2 == 0;
            let verdict = if deny { DENY } else { ALLOW };
            assert_eq!(service.reply(&request, &verdict), 0);
        }
        let allowed = sets.join().unwrap() + starts.join().unwrap();
        assert!((1..2 * ROUNDS).contains(&allowed), "{allowed}");
    });
    let records = service.drain();
    for provider in [registry_provider, process_provider] {
        let of_provider = records
            .iter()
            .filter(|it| u32::from(it.header.provider) == provider);
        let outcomes = of_provider.filter(|it| it.kind == RecordKind::Outcome);
        assert_eq!(outcomes.count() as u64, ROUNDS, "{provider}");
    }
    let ledger = service.settled_ledger();
    assert!(
        ledger
            .iter()
            .all(|row| row.balances() && row.lost_total() == 0)
    );
    for provider in [registry_provider, process_provider] {
        assert!(ledger.iter().any(|row| u32::from(row.provider) == provider));
    }
    drop(service);
    machine.stop(&MONITOR);
    machine.stop(&REGISTRY);
    machine.check();
}

#[test]
fn it_is_unloaded_while_a_verdict_is_awaited() {
    let (machine, user) = machine();
    let (mut service, provider) = connect(&machine, 0, DECIDE);
    set_watched(&service, provider, &[KEY]).unwrap();
    let registry = machine.kernel.registry_of(&user);
    thread::scope(|scope| {
        let changed = scope.spawn(|| registry.set_value(KEY, "value", &Value::dword(1)));
        let request = service.next_request().unwrap();
        let stopped = scope.spawn(|| machine.stop(&REGISTRY));
        // It waits for the callback, and that for the deadline or the answer.
        assert_eq!(service.reply(&request, &ALLOW), 0);
        assert_eq!(changed.join().unwrap(), Ok(()));
        stopped.join().unwrap();
    });
    assert!(service.provider("registry-monitor").is_none());
    machine.load(&REGISTRY);
    assert!(service.provider("registry-monitor").is_some());
    drop(service);
    machine.check();
}

#[test]
fn it_is_there_before_the_common_driver_and_survives_it() {
    let machine = Machine::bare();
    machine.kernel.registry().create_path(KEY);
    machine.load(&REGISTRY);
    let user = machine.kernel.peer(PID, 1000);
    let registry = machine.kernel.registry_of(&user);
    registry.set_value(KEY, "early", &Value::dword(1)).unwrap();
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    // It binds in a thread of its own.
    let deadline = Instant::now() + PATIENCE;
    let provider = loop {
        match service.provider("registry-monitor") {
            Some(provider) => break provider,
            None => assert!(Instant::now() < deadline, "it does not bind"),
        }
        thread::yield_now();
    };
    service.subscribe(provider, EVERYTHING, 0).unwrap();
    // The common driver tells of the provider itself if it came behind the service.
    let of_monitor = |it: &Record| u32::from(it.header.provider) == provider;
    let mut records = std::iter::from_fn(|| service.next());
    let told = records.find(of_monitor).unwrap();
    let told = ValueSet::decode(&told.payload).unwrap();
    assert_eq!(told.name, Text::Utf8("early"));
    drop(service);
    machine.stop(&FLTPORT);
    registry
        .set_value(KEY, "between", &Value::dword(1))
        .unwrap();
    machine.check();
}

#[test]
fn its_altitude_can_be_allotted() {
    let machine = Machine::bare();
    let service = "\\Registry\\Machine\\System\\CurrentControlSet\\Services";
    let parameters = format!("{service}\\registry-monitor\\Parameters");
    let allot = |altitude| {
        let set = machine
            .kernel
            .registry()
            .set_value(&parameters, "Altitude", altitude);
        set.unwrap();
    };
    machine.load(&LOWEST);
    allot(Value::string("1"));
    let taken = machine.kernel.load(&REGISTRY);
    assert_eq!(taken, Err(STATUS_FLT_INSTANCE_ALTITUDE_COLLISION));
    allot(Value::string("361234.5"));
    machine.load(&REGISTRY);
    machine.stop(&REGISTRY);
    // What is no text is passed over.
    allot(Value::dword(1));
    machine.load(&REGISTRY);
    machine.check();
}

/// A driver at the lowest altitude that refuses to delete and to rename keys.
const LOWEST: DriverImage = DriverImage {
    name: "lowest",
    entry: lowest_entry,
    force_integrity: false,
};

struct Refuser;

static REFUSER: Global<RegistryCallback<Refuser>> = Global::empty();

impl RegistryObserver for Refuser {
    fn before(&self, operation: &Operation<'_>) -> Result<usize> {
        match operation.change {
            Change::DeleteKey | Change::RenameKey { .. } => Err(NtError(STATUS_ACCESS_DENIED)),
            _ => Ok(0),
        }
    }

    fn after(&self, _completed: &Completed<'_>) {}
}

unsafe extern "system" fn lowest_entry(
    driver: *mut DRIVER_OBJECT,
    _path: *const UNICODE_STRING,
) -> NTSTATUS {
    const TAG: Tag = Tag::new(b"Test");
    // SAFETY: NT passes this driver's object; nothing made from it outlives the unload.
    let object = unsafe { DriverObject::new(driver) };
    object.set_unload(lowest_unload);
    let callback = RegistryCallback::register(object, TAG, utf16!("1"), Refuser);
    to_status(callback.and_then(|callback| {
        REFUSER.replace(Some(PoolArc::new(TAG, callback)?));
        Ok(())
    }))
}

unsafe extern "system" fn lowest_unload(_driver: *const DRIVER_OBJECT) {
    drop(REFUSER.replace(None));
}

#[test]
fn what_somebody_else_refuses_leaves_nothing_behind() {
    let (machine, user) = machine();
    machine.load(&LOWEST);
    let (service, _) = connect(&machine, EVERYTHING, 0);
    let registry = machine.kernel.registry_of(&user);
    for _ in 0..100 {
        assert_eq!(registry.delete_key(KEY), Err(STATUS_ACCESS_DENIED));
        assert_eq!(registry.rename_key(KEY, "Other"), Err(STATUS_ACCESS_DENIED));
    }
    drop(service);
    machine.check();
}

#[test]
fn every_failure_is_survived_and_accounted_for() {
    let mut sweep = Sweep::default();
    sweep.over(|config| {
        let faults = config.faults;
        let (machine, user) = machine();
        machine.stop(&REGISTRY);
        machine.kernel.set_faults(faults);
        if machine.kernel.load(&REGISTRY) == Ok(()) {
            let registry = machine.kernel.registry_of(&user);
            registry.create_key(&format!("{KEY}\\New")).unwrap();
            registry.set_value(KEY, "value", &binary(300)).unwrap();
            registry.delete_value(KEY, "value").unwrap();
            registry.rename_key(OTHER, "Other").unwrap();
            registry.delete_key(&format!("{KEY}\\New")).unwrap();
        }
        machine
            .kernel
            .set_faults(nt_host::faults::FaultPlan::default());
        machine.check();
    });
    assert!(sweep.runs() > 20, "{sweep}");
}
