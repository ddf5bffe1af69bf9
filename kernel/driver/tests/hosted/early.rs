// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who comes first: client drivers before the common driver, the common driver before the Filter
//! Manager.

use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::{Hello, rights};
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::ProcessStart;
use fltport_nt::bindings::STATUS_OBJECT_NAME_NOT_FOUND;
use nt_host::faults::FaultPlan;
use std::time::Instant;

/// What the process monitor had to say, until it accounts for `count` notifications: delivered, or
/// told to be lost. It may still be on its way from the client driver; the common driver announces
/// the monitor, too, if the service was there first.
fn of_the_monitor(service: &mut Service, count: u64) -> Vec<Record> {
    let mut records = Vec::new();
    let mut accounted = 0;
    while accounted < count {
        let record = service.next().expect("all of them");
        if record.kind == RecordKind::Gap {
            accounted += record.gap.iter().map(|entry| entry.count).sum::<u64>();
        } else if record.header.provider != 0 {
            accounted += 1;
        } else {
            continue;
        }
        records.push(record);
    }
    assert_eq!(accounted, count);
    records
}

/// The processes whose starts come next, so many.
fn started(service: &mut Service, count: u64) -> Vec<Pid> {
    let records = of_the_monitor(service, count);
    records
        .iter()
        .map(|r| ProcessStart::decode(&r.payload).unwrap().pid)
        .collect()
}

/// The service, as soon as the port is there.
fn connect_when_possible(machine: &Machine) -> Service {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Service::connect_with(machine, &Hello::new("patient", rights::ALL, 0).to_bytes()) {
            Ok(service) => return service,
            Err(STATUS_OBJECT_NAME_NOT_FOUND) => {
                assert!(Instant::now() < deadline, "the port does not come")
            }
            Err(status) => panic!("{status:#010x}"),
        }
        std::thread::yield_now();
    }
}

/// Waits until the provider has been registered, which a work item does.
fn wait_for_provider(service: &Service) {
    let deadline = Instant::now() + PATIENCE;
    while service.provider("process-monitor").is_none() {
        assert!(Instant::now() < deadline, "the provider does not come");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_loads_first_is_heard_later() {
    let machine = Machine::bare();
    machine.load(&MONITOR);
    machine.start_process(2000, "/bin/early");
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    wait_for_provider(&service);
    service.watch(&[1], &[]);
    machine.start_process(2001, "/bin/late");
    assert_eq!(started(&mut service, 2), [Pid(2000), Pid(2001)]);
    drop(service);
    machine.check();
}

#[test]
fn what_does_not_fit_into_the_staging_buffer_is_told_of() {
    let machine = Machine::bare();
    machine.load(&MONITOR);
    for pid in 0..2_000 {
        machine.start_process(2000 + pid, "/bin/early");
    }
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    wait_for_provider(&service);
    service.watch(&[1], &[]);
    let records = of_the_monitor(&mut service, 2_000);
    let lost: u64 = records
        .iter()
        .flat_map(|r| &r.gap)
        .map(|entry| entry.count)
        .sum();
    let delivered = records.iter().filter(|r| r.gap.is_empty()).count() as u64;
    assert!(lost > 0 && delivered > 0);
    assert_eq!(lost + delivered, 2_000);
    service.settled_ledger();
    drop(service);
    machine.check();
}

#[test]
fn the_common_driver_waits_for_the_filter_manager() {
    let machine = Machine::without_filter_manager();
    machine.load(&FLTPORT);
    machine.load(&MONITOR);
    machine.start_process(2000, "/bin/early");
    let hello = Hello::new("impatient", rights::ALL, 0).to_bytes();
    assert_eq!(
        Service::connect_with(&machine, &hello).err(),
        Some(STATUS_OBJECT_NAME_NOT_FOUND)
    );
    machine.kernel.filter_manager_ready();
    machine.kernel.boot_drivers_initialized();
    let mut service = connect_when_possible(&machine);
    service.watch(&[1], &[]);
    assert_eq!(started(&mut service, 1), [Pid(2000)]);
    drop(service);
    machine.check();
}

#[test]
fn it_can_be_unloaded_while_it_waits() {
    let machine = Machine::without_filter_manager();
    machine.load(&FLTPORT);
    machine.load(&MONITOR);
    machine.stop(&FLTPORT);
    machine.kernel.filter_manager_ready();
    machine.load(&FLTPORT);
    drop(connect_when_possible(&machine));
    machine.check();
}

#[test]
fn a_client_survives_the_common_driver() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[1], &[]);
    machine.start_process(2000, "/bin/a");
    assert_eq!(started(&mut service, 1), [Pid(2000)]);
    machine.stop(&FLTPORT);
    machine.start_process(2001, "/bin/b");
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    wait_for_provider(&service);
    service.watch(&[1], &[]);
    machine.start_process(2002, "/bin/c");
    assert_eq!(started(&mut service, 2), [Pid(2001), Pid(2002)]);
    drop(service);
    machine.check();
}

#[test]
fn a_want_of_memory_does_not_end_the_waiting_for_the_filter_manager() {
    let machine = Machine::without_filter_manager();
    machine.load(&FLTPORT);
    machine
        .kernel
        .set_faults(FaultPlan::nth(0).of("ExAllocatePool2"));
    machine.kernel.filter_manager_ready();
    machine.kernel.boot_drivers_initialized();
    drop(connect_when_possible(&machine));
    machine.check();
}

/// To unregister it would be a moment in which an unload could meet it.
#[test]
fn a_filter_whose_port_fails_stays_for_the_next_attempt() {
    let machine = Machine::without_filter_manager();
    machine.load(&FLTPORT);
    let plan = FaultPlan::nth(0).of("FltStartFiltering");
    machine.kernel.set_faults(plan.clone());
    machine.kernel.filter_manager_ready();
    machine.kernel.boot_drivers_initialized();
    let deadline = Instant::now() + PATIENCE;
    while plan.injected().is_empty() {
        assert!(Instant::now() < deadline, "it does not register");
        std::thread::yield_now();
    }
    let registered = || nt_host::flt::snapshot().filters;
    let [before] = registered()[..] else {
        panic!("one filter: {:?}", registered());
    };
    while !registered()[0].started {
        assert!(Instant::now() < deadline, "it does not try again");
        std::thread::yield_now();
    }
    assert_eq!(registered()[0].filter, before.filter);
    drop(connect_when_possible(&machine));
    machine.check();
}
