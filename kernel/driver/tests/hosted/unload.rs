// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unloading: refused, forced, while everything is busy, again and again.

use crate::bare::{BareClient, named};
use crate::generator::{self, Blob, Echo};
use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::{PATIENCE, Record, Service};
use fltport_abi::account::Outcome;
use fltport_abi::message::Message;
use fltport_client::BacklogPolicy;
use fltport_nt::bindings::{STATUS_DELETE_PENDING, STATUS_FLT_DO_NOT_DETACH, STATUS_SUCCESS};
use nt_host::Unload;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

#[test]
fn an_unload_that_may_be_refused_is_while_clients_are_there() {
    let machine = Machine::new();
    assert_eq!(
        machine.kernel.unload("fltport", Unload::Filter),
        Err(STATUS_FLT_DO_NOT_DETACH)
    );
    let service = Service::connect(&machine);
    machine.stop(&MONITOR);
    assert!(service.provider("process-monitor").is_none());
    drop(service);
    assert_eq!(machine.kernel.unload("fltport", Unload::Filter), Ok(()));
    machine.check();
}

#[test]
fn a_forced_unload_ends_requests_at_once() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 0, BacklogPolicy::KeepNewest));
    let mut service = Service::connect(&machine);
    service
        .subscribe(service.provider("generator").unwrap(), 0, 1 << 2)
        .unwrap();
    let begun = Instant::now();
    let asking: Vec<_> = (0..4)
        .map(|n| thread::spawn(move || generator::outcome(n, 60_000)))
        .collect();
    service.next_request().unwrap();
    machine.stop(&FLTPORT);
    for asked in asking {
        let outcome = asked.join().unwrap();
        assert!(
            matches!(
                outcome,
                Outcome::Disconnected | Outcome::NoDecider | Outcome::Failed
            ),
            "{outcome:?}"
        );
    }
    assert!(begun.elapsed() < PATIENCE, "nobody waited for the deadline");
    drop(service);
    machine.check();
}

/// The driver has begun to go, and a client driver can still call it: what it does not take is the
/// next one's.
#[test]
fn what_is_offered_while_the_driver_goes_reaches_the_next_one() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    machine.load(&generator::image(&machine, 64 * 1024, BacklogPolicy::KeepNewest));
    let mut watcher = Service::connect(&machine);
    let commander = Service::connect(&machine);
    let provider = commander.provider("generator").unwrap();
    let (is_inside, release) = generator::hold_next_command();
    thread::scope(|scope| {
        scope.spawn(move || {
            let echo = Echo { data: b"held" };
            let mut payload = vec![0; echo.encoded_len()];
            echo.encode(&mut payload).unwrap();
            let _ended = commander.command(provider, Echo::NUMBER, &payload);
        });
        is_inside.recv_timeout(PATIENCE).expect("the handler runs");
        let unloading = scope.spawn(|| machine.stop(&FLTPORT));
        // It ends connections when it takes nothing any more, and waits for the handler then.
        while watcher.receive(PATIENCE) {}
        assert!(watcher.try_info().is_err(), "the driver does not go");
        generator::blob(1, b"late");
        assert!(!unloading.is_finished(), "the driver does not wait");
        drop(release);
    });
    machine.load(&FLTPORT);
    let mut service = Service::connect(&machine);
    let deadline = Instant::now() + PATIENCE;
    let provider = loop {
        if let Some(provider) = service.provider("generator") {
            break provider;
        }
        assert!(Instant::now() < deadline, "the provider does not come");
        thread::yield_now();
    };
    service.subscribe(provider, 1 << 1, 0).unwrap();
    let own = |record: &Record| u32::from(record.header.provider) == provider;
    let came: Vec<u64> = std::iter::from_fn(|| service.next())
        .filter(own)
        .map(|record| Blob::decode(&record.payload).unwrap().number)
        .take(1)
        .collect();
    assert_eq!(came, [1]);
    drop((watcher, service));
    machine.check();
}

#[test]
fn unloading_while_everything_is_busy() {
    let machine = Machine::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for creator in 0..3 {
            let (machine, stop) = (&machine, &stop);
            scope.spawn(move || {
                let mut pid = 100_000 * (creator + 1);
                while !stop.load(Ordering::Relaxed) {
                    machine.start_process(pid, "/bin/busy");
                    machine.end_process(pid, 0);
                    pid += 1;
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let hello =
                    fltport_abi::hello::Hello::new("busy", fltport_abi::hello::rights::ALL, 0)
                        .to_bytes();
                if let Ok(mut service) = Service::connect_with(&machine, &hello) {
                    if let Some(provider) = service.try_provider("process-monitor") {
                        let _ = service.subscribe(provider, 0b10_0110, 1 << 5);
                    }
                    service.drain_available();
                }
            }
        });
        for _ in 0..15 {
            machine.stop(&FLTPORT);
            machine.load(&FLTPORT);
            machine.stop(&MONITOR);
            machine.load(&MONITOR);
        }
        stop.store(true, Ordering::Relaxed);
    });
    machine.check();
}

#[test]
fn a_hundred_rounds_leave_nothing_behind() {
    let machine = Machine::bare();
    for round in 0..100 {
        machine.load(&FLTPORT);
        machine.load(&MONITOR);
        machine.start_process(1_000 + round, "/bin/round");
        let mut service = Service::connect(&machine);
        service.watch(&[1, 2, 5], &[5]);
        assert!(service.next().is_some());
        if round % 2 == 0 {
            machine.stop(&FLTPORT);
            machine.stop(&MONITOR);
        } else {
            machine.stop(&MONITOR);
            machine.stop(&FLTPORT);
        }
        let left = machine.kernel.pool_usage();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    machine.check();
}

/// As one that imports by name does, which nobody tells when the driver goes: what it registered with a
/// former driver is not what has its number with the next one.
#[test]
fn a_provider_of_a_former_life_of_the_driver_is_nobody() {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    let schema = |name: &str| named(&generator::PROVIDER, name.to_owned());
    let stays = BareClient::register(&schema("stays"), 0);
    machine.stop(&FLTPORT);
    let blob = Blob {
        number: 1,
        data: b"data",
    };
    assert_eq!(stays.notify_at(0, &blob), STATUS_DELETE_PENDING, "without");
    machine.load(&FLTPORT);
    let other = BareClient::register(&schema("other"), 0);
    let mut service = Service::connect(&machine);
    let provider = service.provider("other").unwrap();
    service.subscribe(provider, 1 << Blob::NUMBER, 0).unwrap();
    assert_eq!(stays.notify_at(0, &blob), STATUS_DELETE_PENDING);
    assert_eq!(stays.book(Blob::NUMBER, 8), Err(STATUS_DELETE_PENDING));
    assert!(!stays.is_listening(Blob::NUMBER));
    drop(stays);
    assert_eq!(service.provider("other"), Some(provider), "still there");
    assert_eq!(other.notify_at(0, &blob), STATUS_SUCCESS);
    assert_eq!(service.drain().len(), 1, "that alone");
    drop((other, service));
    machine.check();
}
