// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process monitor's other notifications, from a script: threads, images, and texts that are
//! too long; and the snapshot of the processes that run.

use crate::machine::Machine;
use crate::service::Service;
use fltport_abi::command::flags;
use fltport_abi::frame::RecordKind;
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::{ImageLoad, ProcessExit, ProcessStart, ThreadChange};
use fltport_abi::text::Text;
use nt_host::{ImageLoaded, ProcessCreated};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn threads_and_images_are_told_of() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[3, 4], &[]);
    machine.start_process(2000, "/bin/scripted");
    machine.kernel.thread_created(2000, 2001);
    machine.kernel.thread_exited(2000, 2001);
    machine.kernel.image_loaded(&ImageLoaded {
        pid: 2000,
        name: Some("/lib/scripted.so".encode_utf16().collect()),
        base: 0x7000_0000,
        size: 0x3000,
        system_mode: false,
    });
    machine.kernel.image_loaded(&ImageLoaded {
        base: 0xffff_8000_0000_0000,
        size: 0x1000,
        system_mode: true,
        ..ImageLoaded::default()
    });
    let records = service.drain();
    let threads = records.iter().filter(|r| r.header.message == 3);
    let threads: Vec<_> = threads
        .map(|r| ThreadChange::decode(&r.payload).unwrap())
        .collect();
    let change = |created| ThreadChange {
        pid: Pid(2000),
        tid: Pid(2001),
        created,
    };
    assert_eq!(threads, [change(true), change(false)]);
    let images = records.iter().filter(|r| r.header.message == 4);
    let images: Vec<_> = images
        .map(|r| ImageLoad::decode(&r.payload).unwrap())
        .collect();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0].image, Some(Text::Utf8("/lib/scripted.so")));
    assert_eq!(
        (images[0].pid, images[0].base, images[0].size),
        (Pid(2000), 0x7000_0000, 0x3000)
    );
    assert!(!images[0].system && images[1].system);
    assert_eq!(
        (images[1].pid, images[1].image),
        (Pid(0), None),
        "a driver, without a name"
    );
    drop(service);
    machine.check();
}

#[test]
fn what_nt_does_not_know_is_absent_and_what_is_too_long_is_cut_and_flagged() {
    let machine = Machine::new();
    let mut service = Service::connect(&machine);
    service.watch(&[1], &[]);
    let create = |pid, image, command_line| {
        machine.kernel.process_created(&ProcessCreated {
            pid,
            parent_pid: 1000,
            creator_pid: 1000,
            creator_tid: 1000,
            image,
            command_line,
            uid: Some(0),
        })
    };
    assert_eq!(create(2000, None, None), 0);
    let long = vec![u16::from(b'x'); 32_000];
    assert_eq!(create(2001, Some(long.clone()), Some(long)), 0);
    let bare = service.next().unwrap();
    let bare = ProcessStart::decode(&bare.payload).unwrap();
    assert_eq!(
        (bare.image, bare.command_line, bare.truncated),
        (None, None, false)
    );
    let cut = service.next().unwrap();
    let cut = ProcessStart::decode(&cut.payload).unwrap();
    assert!(cut.truncated);
    assert!(cut.image.unwrap().units().count() >= 4096);
    assert!(cut.command_line.unwrap().units().count() >= 8192);
    drop(service);
    machine.check();
}

#[test]
fn a_snapshot_has_the_processes_that_run() {
    let machine = Machine::new();
    for pid in [2000, 2004, 2008] {
        machine.start_process(pid, &format!("/bin/{pid}"));
    }
    machine.end_process(2004, 0);
    let long = "x".repeat(6000);
    machine.start_process(2012, &long);
    let mut service = Service::connect(&machine);
    let provider = service.provider("process-monitor").unwrap();
    let wanted = 1 << ProcessStart::NUMBER | 1 << ProcessExit::NUMBER;
    // Somebody else has had the backlog.
    let other = Service::connect(&machine);
    other.subscribe(provider, wanted, 0).unwrap();
    service
        .subscribe_flagged(provider, wanted, flags::SNAPSHOT)
        .unwrap();
    machine.end_process(2000, 7);
    let records = service.drain_until(6);
    let mut running: Vec<(u32, Option<String>, bool)> = records
        .iter()
        .filter(|r| r.kind == RecordKind::Snapshot)
        .map(|r| ProcessStart::decode(&r.payload).unwrap())
        .map(|s| (s.pid.0, s.image.map(|i| i.to_string()), s.truncated))
        .collect();
    running.sort();
    // System ran before the driver.
    assert_eq!(running.remove(0).0, 4);
    assert_eq!(running.len(), 3);
    assert_eq!(running[0], (2000, Some("/bin/2000".to_owned()), false));
    assert_eq!(running[1].0, 2008);
    assert_eq!(running[2], (2012, Some("x".repeat(512)), true), "cut");
    let kinds: Vec<_> = records[4..].iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [RecordKind::SnapshotEnd, RecordKind::Notification]);
    let exit = ProcessExit::decode(&records[5].payload).unwrap();
    assert_eq!((exit.pid.0, exit.exit_status.0), (2000, 7));
    drop((service, other));
    machine.check();
}

#[test]
fn processes_come_and_go_while_a_snapshot_is_taken_and_none_is_missed() {
    let machine = Machine::new();
    let wanted = 1 << ProcessStart::NUMBER | 1 << ProcessExit::NUMBER;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for by in 0..2_u64 {
            let (machine, done) = (&machine, &done);
            scope.spawn(move || {
                let mut pid = 10_000 + by * 4;
                let mut running = VecDeque::new();
                while !done.load(Ordering::SeqCst) {
                    machine.start_process(pid, "/bin/x");
                    running.push_back(pid);
                    if running.len() > 50 {
                        machine.end_process(running.pop_front().unwrap(), 0);
                    }
                    pid += 8;
                }
            });
        }
        for _ in 0..20 {
            let mut service = Service::connect(&machine);
            let provider = service.provider("process-monitor").unwrap();
            service
                .subscribe_flagged(provider, wanted, flags::SNAPSHOT)
                .unwrap();
            let mut running = BTreeSet::new();
            let mut ended = false;
            for _ in 0..300 {
                let record = service.next().expect("a record");
                ended |= record.kind == RecordKind::SnapshotEnd;
                if record.kind == RecordKind::Gap && ended {
                    // From here on it does not know all.
                    break;
                }
                if record.header.message == ProcessStart::NUMBER && record.header.provider != 0 {
                    let start = ProcessStart::decode(&record.payload).unwrap();
                    // The backlog's are told by the snapshot again.
                    assert!(running.insert(start.pid.0) || record.kind == RecordKind::Snapshot);
                } else if record.header.message == ProcessExit::NUMBER {
                    let exit = ProcessExit::decode(&record.payload).unwrap();
                    let known = running.remove(&exit.pid.0);
                    assert!(known || !ended, "an exit of a process that was not known");
                }
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    machine.check();
}
