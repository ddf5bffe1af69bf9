// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services that mean harm, or are broken.

use crate::machine::Machine;
use crate::service::Service;
use fltport_abi::hello::{Hello, rights};
use fltport_abi::limits::MAX_CONNECTIONS;
use fltport_nt::bindings::{
    STATUS_CONNECTION_COUNT_LIMIT, STATUS_FLT_NO_WAITER_FOR_REPLY, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_REVISION_MISMATCH,
};

#[test]
fn garbage_is_not_a_hello() {
    let machine = Machine::new();
    let hello = Hello::new("x", rights::ALL, 0).to_bytes();
    let refused = |context: &[u8]| Service::connect_with(&machine, context).err();
    assert_eq!(refused(&[]), Some(STATUS_INVALID_PARAMETER));
    for length in [1, 4, 71] {
        assert_eq!(
            refused(&hello[..length]),
            Some(STATUS_INVALID_PARAMETER),
            "{length} bytes"
        );
    }
    assert_eq!(
        refused(&[&hello[..], &[0]].concat()),
        Some(STATUS_INVALID_PARAMETER)
    );
    assert_eq!(refused(&[0xff; 72]), Some(STATUS_INVALID_PARAMETER));
    assert_eq!(refused(&[0; 60_000]), Some(STATUS_INVALID_PARAMETER));
    let mut future = hello;
    (future[4], future[6]) = (7, 9);
    assert_eq!(refused(&future), Some(STATUS_REVISION_MISMATCH));
    Service::connect(&machine);
    machine.check();
}

#[test]
fn a_refused_or_closed_connection_leaves_its_slot_free() {
    let machine = Machine::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        assert!(Service::connect_with(&machine, b"no").is_err());
        drop(Service::connect(&machine));
    }
    let all: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| Service::connect(&machine))
        .collect();
    let hello = Hello::new("one too many", rights::ALL, 0).to_bytes();
    assert_eq!(
        Service::connect_with(&machine, &hello).err(),
        Some(STATUS_CONNECTION_COUNT_LIMIT)
    );
    assert_eq!(all[3].connections().len(), MAX_CONNECTIONS);
    drop(all);
    drop(Service::connect(&machine));
    machine.check();
}

#[test]
fn replies_to_nothing_have_no_waiter() {
    let machine = Machine::new();
    let service = Service::connect(&machine);
    for id in [0_u64, 1, 2, u64::MAX] {
        let mut bytes = [0; 40];
        bytes[8..16].copy_from_slice(&id.to_le_bytes());
        assert_eq!(
            service.port.reply(&bytes),
            STATUS_FLT_NO_WAITER_FOR_REPLY,
            "id {id}"
        );
    }
    for length in 0..16 {
        assert!(service.port.reply(&[0; 16][..length]) < 0, "{length} bytes");
    }
    drop(service);
    machine.check();
}

#[test]
fn impossible_subscriptions_are_refused() {
    let machine = Machine::new();
    let service = Service::connect(&machine);
    let provider = service.provider("process-monitor").unwrap();
    assert_eq!(service.subscribe(99, 0, 0), Err(STATUS_NOT_FOUND));
    assert_eq!(
        service.subscribe(provider, u64::MAX, 0),
        Err(STATUS_INVALID_PARAMETER)
    );
    assert_eq!(
        service.subscribe(provider, 0, 1 << 1),
        Err(STATUS_INVALID_PARAMETER),
        "not a request"
    );
    assert_eq!(
        service.command(0, 4, &[0; 23]),
        Err(STATUS_INVALID_PARAMETER)
    );
    for _ in 0..100 {
        service
            .subscribe(provider, 1 << 1, 0)
            .expect("again and again");
        service.subscribe(provider, 0, 0).expect("and off again");
    }
    drop(service);
    machine.check();
}

#[test]
fn a_service_that_closes_in_the_middle_of_everything() {
    let machine = Machine::new();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for pid in 0..3_000 {
                machine.start_process(10_000 + pid, "/bin/flood");
                machine.end_process(10_000 + pid, 0);
            }
        });
        while !flood.is_finished() {
            let mut service = Service::connect(&machine);
            service.watch(&[1, 2, 5], &[5]);
            service.drain_available();
            service.close();
        }
    });
    let service = Service::connect(&machine);
    let rows = service.ledger();
    let offered: u64 = rows.iter().map(|row| row.offered).sum();
    assert!(offered >= 6_000, "{offered}");
    drop(service);
    machine.check();
}
