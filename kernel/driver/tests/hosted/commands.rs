// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands: the exclusion list, and everything that can be wrong with a command.

use crate::generator;
use crate::machine::{FLTPORT, Machine};
use crate::security::refusals;
use crate::service::{Service, port_name};
use fltport_abi::account::Refusal;
use fltport_abi::command::{FeaturesRow, own};
use fltport_abi::fixed::Fixed;
use fltport_abi::hello::{Hello, rights};
use fltport_abi::interface::{Interface, VERSION};
use fltport_abi::limits::PROTOCOL_VERSION;
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::{Exclusions, ExclusionsSet, ProcessStart, SetExclusions};
use fltport_abi::text::TextList;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{
    STATUS_ACCESS_DENIED, STATUS_ACCESS_VIOLATION, STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND,
    STATUS_REVISION_MISMATCH,
};
use nt_host::UserSlice;
use nt_host::flt::UserPort;

fn set_exclusions(service: &Service, provider: u32, patterns: &[&str]) -> Result<u32, i32> {
    let message = SetExclusions {
        images: TextList::Strings(patterns),
    };
    let mut payload = vec![0; message.encoded_len()];
    message.encode(&mut payload).unwrap();
    let result = service.command(provider, SetExclusions::NUMBER, &payload)?;
    Ok(ExclusionsSet::decode(&result).unwrap().count)
}

#[test]
fn excluded_images_are_not_offered() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    let provider = service.watch(&[1, 2], &[]);
    assert_eq!(
        set_exclusions(&service, provider, &["*/quiet", "/opt/*"]),
        Ok(2)
    );
    let list = service.command(provider, 7, &[]).unwrap();
    assert_eq!(
        Exclusions::decode(&list).unwrap().images,
        TextList::Strings(&["*/quiet", "/opt/*"])
    );
    machine.start_process(1, "/bin/QUIET");
    machine.start_process(2, "/opt/x/y");
    machine.end_process(1, 0);
    machine.start_process(3, "/bin/loud");
    let starts = service.drain();
    let pids: Vec<_> = starts
        .iter()
        .map(|r| ProcessStart::decode(&r.payload).unwrap().pid)
        .collect();
    assert_eq!(pids, [Pid(3)]);
    assert_eq!(set_exclusions(&service, provider, &[]), Ok(0));
    machine.start_process(4, "/opt/x/y");
    assert_eq!(
        ProcessStart::decode(&service.next().unwrap().payload)
            .unwrap()
            .pid,
        Pid(4)
    );
    drop(service);
    machine.check();
}

#[test]
fn a_list_that_is_too_long_is_refused_and_the_old_one_stays() {
    let machine = Machine::new();
    let service = Service::connect(&machine);
    let provider = service.watch(&[], &[]);
    set_exclusions(&service, provider, &["kept"]).unwrap();
    let long = "x".repeat(2000);
    assert_eq!(
        set_exclusions(&service, provider, &[&long]),
        Err(STATUS_INVALID_PARAMETER)
    );
    assert_eq!(
        set_exclusions(&service, provider, &["x"; 300]),
        Err(STATUS_INVALID_PARAMETER)
    );
    let list = service.command(provider, 7, &[]).unwrap();
    assert_eq!(
        Exclusions::decode(&list).unwrap().images,
        TextList::Strings(&["kept"])
    );
    drop(service);
    machine.check();
}

fn with_generator() -> (Machine, Service, u32) {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let service = Service::connect(&machine);
    let provider = service.provider("generator").unwrap();
    (machine, service, provider)
}

#[test]
fn the_driver_says_what_it_knows() {
    let (machine, service, _) = with_generator();
    let told = service.command(0, own::FEATURES, &[]).unwrap();
    let features = FeaturesRow::read(&told).unwrap();
    assert_eq!(features.version, PROTOCOL_VERSION);
    assert_eq!(
        (features.interface, features.interface_size as usize),
        (VERSION, size_of::<Interface>())
    );
    assert_eq!(
        service.command(0, own::FEATURES, &[0]),
        Err(STATUS_INVALID_PARAMETER)
    );
    drop(service);
    machine.check();
}

#[test]
fn wrong_commands_have_their_statuses() {
    let (machine, service, provider) = with_generator();
    assert_eq!(service.send_raw(&[]), Err(STATUS_INVALID_PARAMETER));
    assert_eq!(service.send_raw(&[7; 40]), Err(STATUS_INVALID_PARAMETER));
    assert_eq!(
        service.command(0, 99, &[]),
        Err(STATUS_INVALID_DEVICE_REQUEST)
    );
    assert_eq!(service.command(99, 1, &[]), Err(STATUS_NOT_FOUND));
    assert_eq!(service.command(u32::MAX, 1, &[]), Err(STATUS_NOT_FOUND));
    assert_eq!(
        service.command(0, 1, b"payload"),
        Err(STATUS_INVALID_PARAMETER)
    );
    assert_eq!(
        service.command(0, 6, &[1; 8]),
        Err(STATUS_INVALID_PARAMETER),
        "a reserved field"
    );
    assert_eq!(
        service.command(provider, 1, &[0; 16]),
        Err(STATUS_INVALID_DEVICE_REQUEST),
        "not a command"
    );
    assert_eq!(
        service.command(provider, 3, &[]),
        Err(STATUS_INVALID_PARAMETER),
        "too short for its schema"
    );
    assert_eq!(
        service.command(provider, 3, &[255; 8]),
        Err(STATUS_INVALID_PARAMETER),
        "offset out of bounds"
    );
    let mut version = b"FPCM\x03\0\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for unknown in [0, 3] {
        version[4] = unknown;
        assert_eq!(service.send_raw(&version), Err(STATUS_REVISION_MISMATCH));
    }
    for known in [1, 2] {
        version[4] = known;
        assert_eq!(service.send_raw(&version).map(|row| row.len()), Ok(96));
    }
    version[4] = 3;
    version[12] = 1;
    assert_eq!(
        service.send_raw(&version),
        Err(STATUS_INVALID_PARAMETER),
        "a payload that is not there"
    );
    assert_eq!(
        service.send_raw(&vec![0; 70_000]),
        Err(STATUS_INVALID_PARAMETER),
        "too long"
    );
    let echo = [8, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c'];
    assert_eq!(service.command(provider, 3, &echo).unwrap(), echo);
    drop(service);
    machine.check();
}

#[test]
fn bad_addresses_are_a_status_and_nothing_more() {
    let (machine, service, _) = with_generator();
    let good = *b"FPCM\x01\0\x01\0\0\0\0\0\0\0\0\0";
    let mut out = [0_u8; 256];
    let at = |address: u64, length: u32| UserSlice { address, length };
    let input = at(good.as_ptr().addr() as u64, 16);
    let output = at(out.as_mut_ptr().addr() as u64, 256);
    let send = |input, output| service.port.send(&service.process, input, output);
    assert_eq!(send(at(0x10, 16), output), (STATUS_ACCESS_VIOLATION, 0));
    assert_eq!(send(input, at(0x10, 256)), (STATUS_ACCESS_VIOLATION, 0));
    assert_eq!(
        send(at(u64::MAX - 4, 16), output).0,
        STATUS_ACCESS_VIOLATION,
        "wraps around"
    );
    assert_eq!(
        send(at(0, 16), output).0,
        STATUS_INVALID_PARAMETER,
        "a null pointer is an empty buffer"
    );
    assert_eq!(send(input, at(0, 256)).0, STATUS_BUFFER_TOO_SMALL);
    assert_eq!(
        send(input, at(output.address, 95)).0,
        STATUS_BUFFER_TOO_SMALL
    );
    assert_eq!(send(input, at(output.address, 96)), (0, 96));
    drop(service);
    machine.check();
}

#[test]
fn rights_are_what_was_asked_for() {
    let (machine, _all, provider) = with_generator();
    let with = |rights| {
        Service::connect_with(&machine, &Hello::new("some", rights, 0).to_bytes()).unwrap()
    };
    let observer = with(rights::OBSERVE);
    assert_eq!(
        observer.subscribe(provider, 0, 1 << 2),
        Err(STATUS_ACCESS_DENIED)
    );
    let echo = [8, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        observer.command(provider, 3, &echo),
        Err(STATUS_ACCESS_DENIED)
    );
    let commander = with(rights::COMMAND);
    assert_eq!(
        commander.subscribe(provider, 1 << 1, 0),
        Err(STATUS_ACCESS_DENIED)
    );
    assert_eq!(commander.command(provider, 3, &echo).unwrap(), echo);
    drop((observer, commander));
    assert_eq!(refusals(&machine), [(Refusal::RightNotAsked, 3)]);
    drop(_all);
    machine.check();
}

#[test]
fn another_process_with_the_handle_cannot_command() {
    let (machine, service, _) = with_generator();
    let other = machine.kernel.peer(1, 0);
    let good = *b"FPCM\x01\0\x01\0\0\0\0\0\0\0\0\0";
    let input = UserSlice {
        address: good.as_ptr().addr() as u64,
        length: 16,
    };
    assert_eq!(
        service.port.send(&other, input, UserSlice::default()).0,
        fltport_abi::status::OTHER_PROCESS
    );
    drop(service);
    machine.check();
}

#[test]
fn a_user_who_is_not_an_administrator_cannot_connect() {
    let machine = Machine::new();
    let user = machine.kernel.peer(std::process::id(), 12_345);
    let hello = Hello::new("intruder", rights::ALL, 0).to_bytes();
    assert_eq!(
        UserPort::connect(&user, &port_name(), &hello).err(),
        Some(STATUS_ACCESS_DENIED)
    );
    machine.check();
}
