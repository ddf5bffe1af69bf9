// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may connect, and what he may do.

use crate::bare::{BareClient, named};
use crate::generator;
use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::Service;
use fltport_abi::account::Refusal;
use fltport_abi::command::{RefusalRow, flags, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::{Hello, StreamHello, rights, stream};
use fltport_abi::limits::{ADMINISTRATORS_PLACES, MAX_CONNECTIONS, MAX_WINDOW};
use fltport_abi::status;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{
    REG_MULTI_SZ, STATUS_ACCESS_DENIED, STATUS_CONNECTION_COUNT_LIMIT,
    STATUS_INSUFFICIENT_RESOURCES,
};
use nt_host::registry::Value;
use nt_host::{Process, UserSlice};
use std::sync::Arc;

const PARAMETERS: &str =
    "\\Registry\\Machine\\System\\CurrentControlSet\\Services\\fltport\\Parameters";
/// How the hosted kernel names a user of Linux.
const USER: &str = "S-1-22-1-1000";
const UID: u32 = 1000;
const ADMINISTRATORS: &str = "S-1-5-32-544";
const OBSERVE: u32 = rights::OBSERVE;
const ALL: u32 = rights::ALL;

fn key(provider: &str) -> String {
    format!("{PARAMETERS}\\Access\\{provider}")
}

/// Writes into the service key what somebody may do at a provider.
pub(crate) fn grant(machine: &Machine, provider: &str, sid: &str, rights: u32) {
    let registry = machine.kernel.registry();
    registry
        .set_value(&key(provider), sid, Value::dword(rights))
        .unwrap();
}

/// Writes into the service key which programs may connect.
pub(crate) fn allow_images(machine: &Machine, patterns: &[&str]) {
    let registry = machine.kernel.registry();
    registry
        .set_value(PARAMETERS, "Images", Value::strings(patterns))
        .unwrap();
}

/// A machine with all drivers, whose configuration was there before them.
fn machine(configure: impl FnOnce(&Machine)) -> Machine {
    let machine = Machine::bare();
    configure(&machine);
    machine.load(&FLTPORT);
    machine.load(&MONITOR);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    machine
}

fn hello(rights: u32) -> [u8; 72] {
    Hello::new("x", rights, 0).to_bytes()
}

fn user(machine: &Machine, uid: u32) -> Arc<Process> {
    machine.kernel.peer(std::process::id(), uid)
}

/// A connection of the user's.
fn connect(machine: &Machine, uid: u32, rights: u32) -> Result<Service, i32> {
    Service::connect_from(user(machine, uid), &hello(rights))
}

fn try_refusals(service: &Service) -> Result<Vec<(Refusal, u64)>, i32> {
    let rows = service.try_rows::<RefusalRow>(own::REFUSALS)?;
    let rows = rows.iter().map(|row| {
        assert_eq!((row.pid, row.reserved), (std::process::id(), 0), "{row:?}");
        assert!(row.last > 0);
        let reason = Refusal::from_wire(row.reason as u16).expect("a reason");
        (reason, row.count)
    });
    Ok(rows.collect())
}

pub(crate) fn refusals(machine: &Machine) -> Vec<(Refusal, u64)> {
    try_refusals(&Service::connect(machine)).expect("for an administrator")
}

#[test]
fn without_configuration_administrators_may_everything_and_nobody_else_anything() {
    let machine = machine(|_| {});
    assert_eq!(
        connect(&machine, UID, 0).err(),
        Some(STATUS_ACCESS_DENIED),
        "the port does not let him in at all"
    );
    let service = connect(&machine, 0, ALL).unwrap();
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 1 << 2).unwrap();
    drop(service);
    assert_eq!(refusals(&machine), []);
    machine.check();
}

#[test]
fn a_user_has_the_rights_that_he_is_given_and_no_others() {
    let machine = machine(|machine| {
        grant(machine, "*", ADMINISTRATORS, ALL);
        grant(machine, "*", USER, OBSERVE);
    });
    assert_eq!(
        connect(&machine, 1001, 0).err(),
        Some(STATUS_ACCESS_DENIED),
        "another user"
    );
    for wanted in [ALL, rights::DECIDE, OBSERVE | rights::COMMAND] {
        assert_eq!(
            connect(&machine, UID, wanted).err(),
            Some(status::PRIVILEGE_NOT_HELD),
            "{wanted}"
        );
    }
    let mut service = connect(&machine, UID, OBSERVE).unwrap();
    assert_eq!(service.info().rights, OBSERVE);
    let provider = service.provider("generator").unwrap();
    service.subscribe(provider, 1 << 1, 0).unwrap();
    generator::blob(7, b"seen");
    let record = loop {
        let record = service.next().expect("a record");
        if u32::from(record.header.provider) == provider {
            break record;
        }
    };
    assert_eq!(record.header.message, 1);
    assert_eq!(
        service.subscribe(provider, 0, 1 << 2),
        Err(STATUS_ACCESS_DENIED)
    );
    assert_eq!(
        service.command(provider, 3, &[8, 0, 0, 0, 0, 0, 0, 0]),
        Err(STATUS_ACCESS_DENIED)
    );
    drop(service);
    assert_eq!(
        refusals(&machine),
        [(Refusal::RightNotGranted, 3), (Refusal::ProviderRight, 2)]
    );
    machine.check();
}

#[test]
fn a_provider_with_a_key_of_its_own_is_not_among_the_others() {
    let machine = machine(|machine| {
        grant(machine, "*", ADMINISTRATORS, ALL);
        grant(machine, "Generator", USER, ALL);
    });
    let service = connect(&machine, UID, ALL).unwrap();
    let generator = service.provider("generator").unwrap();
    let monitor = service.provider("process-monitor").unwrap();
    service.subscribe(generator, 1 << 1, 1 << 2).unwrap();
    let echo = [8, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(service.command(generator, 3, &echo).unwrap(), echo);
    let denied = Err(STATUS_ACCESS_DENIED);
    assert_eq!(service.subscribe(monitor, 1 << 1, 0), denied);
    assert_eq!(
        service.command(monitor, 7, &[]),
        denied.map(|()| Vec::new())
    );
    let schema = |provider: u32| service.command(0, own::SCHEMA, &provider.to_le_bytes());
    assert!(!schema(generator).unwrap().is_empty());
    assert_eq!(schema(monitor).err(), Some(STATUS_ACCESS_DENIED));
    // An administrator has nothing at the provider whose key does not name him.
    let other = connect(&machine, 0, ALL).unwrap();
    other.subscribe(monitor, 1 << 1, 0).unwrap();
    assert_eq!(other.subscribe(generator, 1 << 1, 0), denied);
    assert_eq!(try_refusals(&other), Ok(vec![(Refusal::ProviderRight, 4)]));
    drop((service, other));
    machine.check();
}

#[test]
fn who_has_no_right_at_a_provider_cannot_subscribe_to_nothing_of_it_either() {
    let machine = machine(|machine| grant(machine, "generator", USER, OBSERVE));
    let service = connect(&machine, UID, OBSERVE).unwrap();
    let generator = service.provider("generator").unwrap();
    let monitor = service.provider("process-monitor").unwrap();
    service.subscribe(generator, 1 << 1, 0).unwrap();
    service.subscribe(generator, 0, 0).unwrap();
    let denied = Err(STATUS_ACCESS_DENIED);
    assert_eq!(service.subscribe(monitor, 0, 0), denied);
    // It would have the provider list all processes.
    for flags in [0, flags::SNAPSHOT, flags::MUTE_SELF] {
        assert_eq!(service.subscribe_flagged(monitor, 0, flags), denied);
    }
    assert_eq!(refusals(&machine), [(Refusal::ProviderRight, 4)]);
    drop(service);
    machine.check();
}

/// The registry does not tell names apart by case, in whatever script.
#[test]
fn a_key_is_its_providers_however_its_name_is_written() {
    let machine = machine(|machine| {
        grant(machine, "*", USER, ALL);
        grant(machine, "üBERWACHER", ADMINISTRATORS, ALL);
    });
    let schema = named(&generator::PROVIDER, "Überwacher".to_owned());
    let client = BareClient::register(&schema, 0);
    let service = connect(&machine, UID, ALL).unwrap();
    let provider = service.provider("Überwacher").unwrap();
    let denied = Err(STATUS_ACCESS_DENIED);
    assert_eq!(service.subscribe(provider, 1 << 1, 0), denied);
    let root = connect(&machine, 0, ALL).unwrap();
    root.subscribe(provider, 1 << 1, 0).unwrap();
    drop((service, root, client));
    machine.check();
}

#[test]
fn who_is_no_administrator_sees_his_own_accounts_only() {
    let machine = machine(|machine| grant(machine, "generator", USER, OBSERVE));
    let root = connect(&machine, 0, ALL).unwrap();
    let service = connect(&machine, UID, OBSERVE).unwrap();
    let own = service.info().connection;
    let listed: Vec<_> = service
        .connections()
        .iter()
        .map(|row| row.connection)
        .collect();
    assert_eq!(listed, [own]);
    assert_eq!(root.connections().len(), 2);
    let monitor = service.provider("process-monitor").unwrap();
    let number = |row: u16| u32::from(row) == monitor;
    assert!(!service.ledger().iter().any(|row| number(row.provider)));
    assert!(
        !service
            .request_rows()
            .iter()
            .any(|row| number(row.provider))
    );
    assert!(root.ledger().iter().any(|row| number(row.provider)));
    assert!(root.request_rows().iter().any(|row| number(row.provider)));
    let strange = |row: u32| row != own && row != 0 && row != u32::MAX;
    assert!(!service.ledger().iter().any(|row| strange(row.connection)));
    assert!(connect(&machine, UID, ALL).is_err());
    assert_eq!(try_refusals(&service), Ok(vec![]));
    assert_eq!(try_refusals(&root), Ok(vec![(Refusal::RightNotGranted, 1)]));
    drop((service, root));
    machine.check();
}

#[test]
fn a_connection_without_any_right_is_refused() {
    let machine = machine(|machine| {
        grant(machine, "*", USER, ALL);
        grant(machine, "*", "S-1-5-80-1-2-3-4-5", ALL);
    });
    assert_eq!(
        Service::connect_with(&machine, &hello(0)).err(),
        Some(status::ACCOUNT_RESTRICTION),
        "the key names nobody that an administrator is"
    );
    // What is written is in force at once, for whom the port lets in.
    grant(&machine, "*", ADMINISTRATORS, OBSERVE);
    let service = Service::connect_with(&machine, &hello(OBSERVE)).unwrap();
    assert_eq!(try_refusals(&service), Ok(vec![(Refusal::NoRights, 1)]));
    grant(&machine, "*", ADMINISTRATORS, 0);
    assert_eq!(
        Service::connect_with(&machine, &hello(OBSERVE)).err(),
        Some(status::ACCOUNT_RESTRICTION)
    );
    assert_eq!(try_refusals(&service), Ok(vec![(Refusal::NoRights, 2)]));
    drop(service);
    machine.check();
}

/// Places and memory that whoever may connect at all could take for himself, some of it for ten minutes
/// after he has gone.
#[test]
fn users_leave_places_and_memory_to_administrators() {
    let machine = machine(|machine| {
        grant(machine, "*", ADMINISTRATORS, ALL);
        grant(machine, "*", USER, OBSERVE);
    });
    let stream = |key: u8| StreamHello {
        key: [key; 16],
        former: 0,
        flags: stream::RESUME,
        acknowledged: 0,
        retention_ms: 600_000,
        window: MAX_WINDOW,
        reserved: 0,
    };
    let observer = Hello::new("x", OBSERVE, 0);
    let user = user(&machine, UID);
    let keep = |key| Service::connect_from(user.clone(), &stream(key).to_bytes(&observer));
    let large = |key| Service::with_stream(&machine, &stream(key)).map(drop);
    drop((keep(1).unwrap(), keep(2).unwrap()));
    assert_eq!(keep(3).err(), Some(STATUS_INSUFFICIENT_RESOURCES));
    assert_eq!((large(4), large(5)), (Ok(()), Ok(())));
    assert_eq!(large(6), Err(STATUS_INSUFFICIENT_RESOURCES));
    let mut users = Vec::new();
    let refused = loop {
        match connect(&machine, UID, OBSERVE) {
            Ok(service) => users.push(service),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, STATUS_CONNECTION_COUNT_LIMIT);
    // Two of their places are those of the streams that wait.
    let theirs = MAX_CONNECTIONS - ADMINISTRATORS_PLACES;
    assert_eq!(users.len(), theirs - 2);
    let left = ADMINISTRATORS_PLACES - 2;
    let ours: Vec<_> = (0..left).map(|_| Service::connect(&machine)).collect();
    drop((users, ours));
    machine.check();
}

/// What a stream has been granted is not for somebody who was granted less, though he asks for the
/// same rights and knows the key.
#[test]
fn a_stream_goes_to_nobody_with_fewer_rights() {
    let machine = machine(|machine| {
        grant(machine, "*", ADMINISTRATORS, ALL);
        grant(machine, "generator", ADMINISTRATORS, ALL);
        grant(machine, "generator", USER, OBSERVE);
    });
    let stream = StreamHello {
        key: [7; 16],
        former: 0,
        flags: stream::RESUME | stream::TAKE_OVER,
        acknowledged: 0,
        retention_ms: 60_000,
        window: 64 * 1024,
        reserved: 0,
    };
    let context = stream.to_bytes(&Hello::new("x", OBSERVE, 0));
    let connect = |uid| Service::connect_from(user(&machine, uid), &context);
    let first = connect(0).unwrap();
    let monitor = first.provider("process-monitor").unwrap();
    first.subscribe(monitor, 1 << 1, 0).unwrap();
    assert_eq!(connect(UID).err(), Some(STATUS_ACCESS_DENIED));
    first.info();
    let second = connect(0).unwrap();
    assert_eq!(second.stream().former, 1, "who has as many gets it");
    second.close();
    assert_eq!(
        connect(UID).err(),
        Some(STATUS_ACCESS_DENIED),
        "nor a detached one"
    );
    let anew = StreamHello { flags: 0, ..stream };
    let anew = anew.to_bytes(&Hello::new("x", OBSERVE, 0));
    assert_eq!(
        Service::connect_from(user(&machine, UID), &anew).err(),
        Some(STATUS_ACCESS_DENIED),
        "nor ends one by beginning anew"
    );
    let third = connect(0).unwrap();
    assert_eq!(third.stream().former, 2 + 1);
    assert_eq!(try_refusals(&third), Ok(vec![(Refusal::ProviderRight, 3)]));
    drop((first, second, third));
    machine.check();
}

#[test]
fn a_provider_that_registers_later_has_its_rights_as_well() {
    let machine = Machine::bare();
    grant(&machine, "generator", USER, OBSERVE);
    machine.load(&FLTPORT);
    let service = connect(&machine, UID, OBSERVE).unwrap();
    machine.load(&MONITOR);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let provider = |name| service.provider(name).unwrap();
    service.subscribe(provider("generator"), 1 << 1, 0).unwrap();
    assert_eq!(
        service.subscribe(provider("process-monitor"), 1 << 1, 0),
        Err(STATUS_ACCESS_DENIED)
    );
    drop(service);
    machine.check();
}

#[test]
fn a_program_that_is_not_listed_is_refused() {
    let own = std::env::current_exe().unwrap();
    let name = own.file_name().unwrap().to_str().unwrap().to_uppercase();
    let machine = machine(|machine| allow_images(machine, &["*\\other.exe", &format!("*/{name}")]));
    drop(Service::connect(&machine));
    allow_images(&machine, &["*\\other.exe"]);
    let refused = || Service::connect_with(&machine, &hello(0)).err();
    assert_eq!(refused(), Some(status::IMAGE_NOT_ALLOWED));
    allow_images(&machine, &[]);
    assert_eq!(refused(), Some(status::IMAGE_NOT_ALLOWED), "none is none");
    let registry = machine.kernel.registry();
    let unreadable = [
        Value::string("*"),
        Value::dword(1),
        Value::strings(&["*"; 10_000]),
        Value {
            kind: REG_MULTI_SZ,
            data: vec![b'*', 0, 0],
        },
    ];
    for value in unreadable {
        registry
            .set_value(PARAMETERS, "Images", value.clone())
            .unwrap();
        assert_eq!(
            refused(),
            Some(status::CONFIGURATION_UNREADABLE),
            "{value:?}"
        );
    }
    // Neither ends with a NUL.
    let star = Value {
        kind: REG_MULTI_SZ,
        data: vec![b'*', 0],
    };
    registry.set_value(PARAMETERS, "Images", star).unwrap();
    assert_eq!(
        refusals(&machine),
        [(Refusal::Image, 2), (Refusal::Configuration, 4)]
    );
    machine.check();
}

#[test]
fn what_is_neither_sid_nor_number_gives_nobody_anything() {
    let machine = machine(|machine| {
        let registry = machine.kernel.registry();
        let long = "9".repeat(1000);
        let everybody = "S-1-22-1-1000";
        for name in [
            "",
            "Everyone",
            "S-1-22-1-",
            "S-1-22-1-1000 ",
            "S-1-22",
            "*",
            &long,
        ] {
            grant(machine, "*", name, ALL);
        }
        for value in [
            Value::string("7"),
            Value::strings(&["7"]),
            Value {
                kind: 4,
                data: vec![7],
            },
            Value {
                kind: 4,
                data: vec![7; 8],
            },
            Value {
                kind: 4,
                data: Vec::new(),
            },
            Value {
                kind: 11,
                data: vec![7; 8],
            },
            Value::dword(0),
            Value::dword(!ALL),
        ] {
            registry
                .set_value(&key("generator"), everybody, value)
                .unwrap();
        }
        // More values than are read, and keys that no provider can have.
        for n in 0..200 {
            grant(machine, "many", &format!("S-1-5-21-{n}"), ALL);
        }
        for n in 0..50 {
            registry.create_path(&key(&format!("{}{n}", "ä".repeat(30))));
        }
    });
    assert_eq!(connect(&machine, UID, 0).err(), Some(STATUS_ACCESS_DENIED));
    assert_eq!(
        connect(&machine, 0, 0).err(),
        Some(status::ACCOUNT_RESTRICTION)
    );
    grant(&machine, "*", ADMINISTRATORS, u32::MAX);
    let service = connect(&machine, 0, ALL).unwrap();
    assert_eq!(service.info().rights, ALL, "unknown bits are none");
    drop(service);
    machine.check();
}

/// A key that is not read would leave its provider to those who may what the others give them.
#[test]
fn more_keys_than_are_read_let_nobody_in() {
    let machine = machine(|machine| {
        grant(machine, "*", USER, ALL);
        (0..63).for_each(|n| grant(machine, &format!("a{n:02}"), USER, ALL));
    });
    connect(&machine, UID, OBSERVE).expect("as many as may be");
    grant(&machine, "process-monitor", ADMINISTRATORS, ALL);
    let refused = connect(&machine, UID, OBSERVE).err();
    assert_eq!(refused, Some(status::CONFIGURATION_UNREADABLE));
    let registry = machine.kernel.registry_of(&user(&machine, 0));
    registry.delete_key(&key("a00")).expect("deletes");
    let service = connect(&machine, UID, OBSERVE).expect("as many as may be");
    let monitor = service.provider("process-monitor").expect("is there");
    assert_eq!(
        service.subscribe(monitor, 1 << 1, 0),
        Err(STATUS_ACCESS_DENIED)
    );
    drop(service);
    machine.check();
}

#[test]
fn impersonation_gives_nothing_that_the_process_has_not_and_takes_what_the_client_has_not() {
    let machine = machine(|machine| {
        grant(machine, "*", ADMINISTRATORS, ALL);
        grant(machine, "*", USER, OBSERVE);
    });
    let administrator = machine.kernel.peer(77, 0);
    let stranger = machine.kernel.peer(78, 1001);
    let service = user(&machine, UID);
    let connect = |process: &Arc<Process>, rights| {
        Service::connect_from(process.clone(), &hello(rights)).map(|service| service.info().rights)
    };
    administrator.impersonated(|| {
        assert_eq!(connect(&service, ALL), Err(status::PRIVILEGE_NOT_HELD));
        assert_eq!(connect(&service, OBSERVE), Ok(OBSERVE));
    });
    stranger.impersonated(|| {
        assert_eq!(
            connect(&service, OBSERVE),
            Err(STATUS_ACCESS_DENIED),
            "by the port"
        );
    });
    let root = user(&machine, 0);
    service.impersonated(|| {
        assert_eq!(connect(&root, ALL), Err(status::PRIVILEGE_NOT_HELD));
        assert_eq!(connect(&root, OBSERVE), Ok(OBSERVE));
    });
    machine.check();
}

#[test]
fn a_process_of_the_same_number_is_another_one() {
    let machine = machine(|_| {});
    let service = Service::connect(&machine);
    let pid = u64::from(std::process::id());
    let send = |process: &Arc<Process>| {
        let info = *b"FPCM\x01\0\x01\0\0\0\0\0\0\0\0\0";
        let input = UserSlice {
            address: info.as_ptr().addr() as u64,
            length: 16,
        };
        let mut out = [0_u8; 96];
        let output = UserSlice {
            address: out.as_mut_ptr().addr() as u64,
            length: 96,
        };
        service.port.send(process, input, output).0
    };
    assert_eq!(send(&service.process), 0);
    // The service's process ends while somebody else has a handle, and its number is used again.
    machine.end_process(pid, 0);
    machine.start_process(pid, "/bin/other");
    let other = machine.kernel.process(pid).unwrap();
    assert_eq!(send(&other), status::OTHER_PROCESS);
    assert_eq!(send(&service.process), 0, "and the one that connected may");
    service.close();
    let counted = refusals(&machine);
    assert_eq!(counted, [(Refusal::OtherProcess, 1)]);
    machine.check();
}

#[test]
fn what_is_malformed_is_counted_by_what_it_is() {
    let machine = machine(|_| {});
    assert!(Service::connect_with(&machine, b"no").is_err());
    let mut future = hello(0);
    (future[4], future[6]) = (0x70, 0x90);
    assert!(Service::connect_with(&machine, &future).is_err());
    let service = Service::connect(&machine);
    assert!(service.send_raw(&[1; 15]).is_err());
    assert!(service.command(0, own::PROVIDERS, &[0; 7]).is_err());
    assert!(service.command(0, own::SUBSCRIBE, &[]).is_err());
    assert!(service.command(0, own::SUBSCRIBE_FILTERED, &[]).is_err());
    assert_eq!(
        try_refusals(&service).unwrap(),
        [
            (Refusal::BadHello, 1),
            (Refusal::Version, 1),
            (Refusal::BadCommand, 3),
            (Refusal::BadFilter, 1)
        ]
    );
    let mut page = [0; 8];
    1_u32.write(&mut page).unwrap();
    let rest = service.command(0, own::REFUSALS, &page).unwrap();
    assert_eq!(rest.len(), 3 * RefusalRow::SIZE, "the list is paged");
    drop(service);
    machine.check();
}
