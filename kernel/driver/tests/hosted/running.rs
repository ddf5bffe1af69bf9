// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that ran before the process monitor, in its snapshots: each that runs, once, whatever
//! starts and ends while the driver starts.

use crate::machine::{FLTPORT, MONITOR, Machine};
use crate::service::{PATIENCE, Service};
use fltport_abi::command::flags;
use fltport_abi::frame::RecordKind;
use fltport_abi::message::{Message, Pid};
use fltport_abi::process_monitor::{ProcessExit, ProcessStart};
use fltport_nt::bindings::{
    DRIVER_OBJECT, HANDLE, NTSTATUS, PsSetCreateProcessNotifyRoutine, STATUS_DEVICE_NOT_READY,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, UNICODE_STRING,
};
use nt_host::faults::FaultPlan;
use nt_host::{DriverImage, ProcessCreated};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;

const WANTED: u64 = 1 << ProcessStart::NUMBER | 1 << ProcessExit::NUMBER;

/// The number of System.
const SYSTEM: u32 = 4;
/// Who starts the processes.
const CREATOR: u32 = 1000;

fn runs_before(machine: &Machine, pid: u64, image: &str) {
    machine.kernel.process_running(&ProcessCreated {
        pid,
        parent_pid: 1000,
        image: Some(image.encode_utf16().collect()),
        uid: Some(0),
        ..ProcessCreated::default()
    });
}

/// A machine without the process monitor, and with a process that starts the others.
fn unwatched() -> Machine {
    let machine = Machine::bare();
    machine.load(&FLTPORT);
    runs_before(&machine, CREATOR.into(), "/usr/bin/creator");
    machine
}

/// A service with a snapshot, and the processes in that, with their images.
fn snapshotted(machine: &Machine) -> (Service, BTreeMap<u32, String>) {
    let mut service = Service::connect(machine);
    let provider = service.provider("process-monitor").unwrap();
    service
        .subscribe_flagged(provider, WANTED, flags::SNAPSHOT)
        .unwrap();
    let mut running = BTreeMap::new();
    loop {
        let record = service.next().expect("the snapshot ends");
        match record.kind {
            RecordKind::Snapshot => {
                let start = ProcessStart::decode(&record.payload).unwrap();
                let image = start.image.map(|image| image.to_string());
                let former = running.insert(start.pid.0, image.unwrap_or_default());
                assert_eq!(former, None, "{} is in it twice", start.pid.0);
            }
            RecordKind::SnapshotEnd => return (service, running),
            _ => {}
        }
    }
}

#[test]
fn a_snapshot_has_what_ran_before_the_driver() {
    let machine = unwatched();
    for pid in [2000, 2004] {
        runs_before(&machine, pid, &format!("/usr/bin/{pid}"));
    }
    machine.load(&MONITOR);
    machine.end_process(2004, 0);
    machine.start_process(2008, "/usr/bin/2008");
    let (mut service, running) = snapshotted(&machine);
    let wanted = [
        (SYSTEM, "System".to_owned()),
        (CREATOR, "/usr/bin/creator".to_owned()),
        (2000, "/usr/bin/2000".to_owned()),
        (2008, "/usr/bin/2008".to_owned()),
    ];
    assert_eq!(running, BTreeMap::from(wanted));
    machine.end_process(2000, 3);
    let exit = service.next().unwrap();
    let exit = ProcessExit::decode(&exit.payload).unwrap();
    assert_eq!((exit.pid, exit.exit_status.0), (Pid(2000), 3));
    drop(service);
    let (service, running) = snapshotted(&machine);
    let pids: Vec<u32> = running.into_keys().collect();
    assert_eq!(pids, [SYSTEM, CREATOR, 2008]);
    drop(service);
    machine.check();
}

#[test]
fn a_list_that_could_not_be_had_is_taken_when_a_snapshot_is_wanted() {
    let machine = unwatched();
    runs_before(&machine, 2000, "/usr/bin/old");
    let no_list = || FaultPlan::nth(0).of("ZwQuerySystemInformation");
    machine.kernel.set_faults(no_list());
    machine.load(&MONITOR);
    machine.start_process(2004, "/usr/bin/new");
    machine.kernel.set_faults(no_list());
    let service = Service::connect(&machine);
    let provider = service.provider("process-monitor").unwrap();
    let refused = service.subscribe_flagged(provider, WANTED, flags::SNAPSHOT);
    assert_eq!(refused.err(), Some(STATUS_INSUFFICIENT_RESOURCES));
    assert_eq!(machine.kernel.injected_faults().len(), 1);
    drop(service);
    let (service, running) = snapshotted(&machine);
    // The service's own process was there when the list was taken.
    let wanted = BTreeSet::from([SYSTEM, CREATOR, 2000, 2004, std::process::id()]);
    assert_eq!(running.into_keys().collect::<BTreeSet<_>>(), wanted);
    drop(service);
    machine.check();
}

/// The provider's routine is waited for by whoever lets go of the provider, and so must not be that itself.
#[test]
fn the_driver_can_be_stopped_while_a_snapshot_has_the_processes_listed() {
    let machine = unwatched();
    (2000..6000).for_each(|n| runs_before(&machine, 4 * n, "/usr/bin/some"));
    let no_list = FaultPlan::nth(0).of("ZwQuerySystemInformation");
    machine.kernel.set_faults(no_list);
    machine.load(&MONITOR);
    machine.kernel.set_faults(FaultPlan::default());
    let (sender, ended) = channel();
    let both = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let (sender, service) = (sender.clone(), Service::connect(&machine));
        let provider = service.provider("process-monitor").unwrap();
        let both = both.clone();
        thread::spawn(move || {
            both.wait();
            let status = service.subscribe_flagged(provider, WANTED, flags::SNAPSHOT);
            sender.send(status.err()).unwrap();
        });
    }
    // One of them, for the other has the list made.
    let refused = ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(refused, Some(STATUS_DEVICE_NOT_READY));
    machine.stop(&MONITOR);
    let other = ended.recv_timeout(PATIENCE);
    assert!(other.is_ok(), "it is still inside: {other:?}");
    machine.check();
}

/// No process has such a number, and so not the one that these tests run in either.
const MADE_UP: u64 = 10_000_000;

/// Starts and ends processes until told to stop; which of them run then.
fn churn(machine: &Machine, first: u64, begun: &Barrier, done: &AtomicBool) -> VecDeque<u64> {
    let mut running = VecDeque::new();
    let mut pid = first;
    let mut step = || {
        machine.start_process(pid, "/bin/x");
        running.push_back(pid);
        if running.len() > 40 {
            machine.end_process(running.pop_front().unwrap(), 0);
        }
        pid += 8;
    };
    (0..60).for_each(|_| step());
    begun.wait();
    while !done.load(Ordering::SeqCst) {
        step();
    }
    running
}

#[test]
fn processes_come_and_go_while_the_driver_starts_and_each_that_runs_is_there_once() {
    for round in 0..40_u64 {
        let machine = unwatched();
        let old = || (0..200).map(|n| MADE_UP + 4 * n);
        old().for_each(|pid| runs_before(&machine, pid, "/usr/bin/old"));
        let (begun, done) = (Barrier::new(3), AtomicBool::new(false));
        let truth = thread::scope(|scope| {
            let churning = [0, 1].map(|by| {
                let (machine, begun, done) = (&machine, &begun, &done);
                scope.spawn(move || churn(machine, MADE_UP + 10_000 + 4 * by, begun, done))
            });
            begun.wait();
            machine.load(&MONITOR);
            done.store(true, Ordering::SeqCst);
            let left = churning.map(|one| one.join().unwrap());
            left.into_iter().flatten().collect::<Vec<u64>>()
        });
        let (service, mut running) = snapshotted(&machine);
        // It is there if more had ended while the driver started than it remembers: then the list was made
        // again, after the service had come.
        running.remove(&std::process::id());
        let truth = truth.into_iter().chain(old()).map(|pid| pid as u32);
        let truth: BTreeSet<u32> = truth.chain([SYSTEM, CREATOR]).collect();
        let running: BTreeSet<u32> = running.into_keys().collect();
        assert_eq!(running, truth, "round {round}");
        drop(service);
        machine.check();
    }
}

/// A driver whose routine is called before the process monitor's, and holds what it is called for.
mod earlier {
    use super::*;

    pub(super) const IMAGE: DriverImage = DriverImage {
        name: "earlier",
        entry,
        force_integrity: false,
    };

    /// The processes whose start or end is held, and the ones that have come so far.
    static HELD: Mutex<(BTreeSet<u32>, BTreeSet<u32>)> =
        Mutex::new((BTreeSet::new(), BTreeSet::new()));
    static CHANGED: Condvar = Condvar::new();

    pub(super) fn hold(pids: &[u32]) {
        let mut held = HELD.lock().unwrap();
        held.0 = pids.iter().copied().collect();
        held.1.clear();
        CHANGED.notify_all();
    }

    /// Waits until all that are to be held have come.
    pub(super) fn until_held() {
        let held = HELD.lock().unwrap();
        let limit = Duration::from_secs(20);
        let (held, late) = CHANGED
            .wait_timeout_while(held, limit, |(wanted, come)| wanted != come)
            .unwrap();
        assert!(!late.timed_out(), "{held:?}");
    }

    unsafe extern "system" fn routine(_parent: HANDLE, pid: HANDLE, _created: bool) {
        let pid = pid as usize as u32;
        let mut held = HELD.lock().unwrap();
        held.1.insert(pid);
        CHANGED.notify_all();
        let limit = Duration::from_secs(20);
        let waited = CHANGED.wait_timeout_while(held, limit, |(wanted, _)| wanted.contains(&pid));
        drop(waited);
    }

    unsafe extern "system" fn entry(
        driver: *mut DRIVER_OBJECT,
        _: *const UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: the hosted kernel passes the driver object of this image.
        let driver = unsafe { &mut *driver };
        driver.DriverUnload = Some(unload);
        // SAFETY: a routine of this kind, removed by the unload.
        unsafe { PsSetCreateProcessNotifyRoutine(Some(routine), false) }
    }

    unsafe extern "system" fn unload(_: *const DRIVER_OBJECT) {
        // SAFETY: registered by the entry point.
        let removed = unsafe { PsSetCreateProcessNotifyRoutine(Some(routine), true) };
        assert_eq!(removed, STATUS_SUCCESS);
    }
}

#[test]
fn what_starts_and_ends_at_that_very_moment_is_neither_lost_nor_kept() {
    let machine = unwatched();
    runs_before(&machine, 2000, "/usr/bin/ends");
    runs_before(&machine, 2004, "/usr/bin/stays");
    machine.load(&earlier::IMAGE);
    earlier::hold(&[2000, 2008]);
    thread::scope(|scope| {
        scope.spawn(|| machine.end_process(2000, 0));
        scope.spawn(|| machine.start_process(2008, "/usr/bin/starts"));
        earlier::until_held();
        // Both are under way in a routine that is called before this driver's.
        machine.load(&MONITOR);
        earlier::hold(&[]);
    });
    let (service, running) = snapshotted(&machine);
    let images: Vec<_> = running.into_iter().collect();
    let wanted = [
        (SYSTEM, "System"),
        (CREATOR, "/usr/bin/creator"),
        (2004, "/usr/bin/stays"),
        (2008, "/usr/bin/starts"),
    ];
    assert_eq!(images, wanted.map(|(pid, image)| (pid, image.to_owned())));
    drop(service);
    machine.check();
}
