// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate and its watchdog alone, on one marked file, so that nothing else on the machine is
//! held.

use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use super::super::ffi::{Interest, wait_readable};
use super::super::gate::Arrival;
use super::super::group::Group;
use super::*;

/// A gate on one program, read by this thread. It has no table of its own, which does no harm as
/// long as the watchdog lives.
struct Watched {
    gate: Arc<Gate>,
    group: Arc<Group>,
    counters: Arc<Counters>,
    watchdog: Option<JoinHandle<()>>,
    program: PathBuf,
    _directory: Directory,
}

impl Watched {
    fn new(name: &str, cap: Duration) -> Watched {
        let directory = Directory::new(name);
        let program = directory.copy_of_true(name);
        let counters = Arc::new(Counters::default());
        let gate = Arc::new(Gate::new(cap, Arc::clone(&counters)));
        let group = Arc::new(Group::new().unwrap());
        let (watching, watched) = (Arc::clone(&gate), Arc::clone(&group));
        let watchdog = Some(thread::spawn(move || watching.watch(&watched)));
        group.mark_file(&program).unwrap();
        Watched {
            gate,
            group,
            counters,
            watchdog,
            program,
            _directory: directory,
        }
    }

    fn run(&self) -> JoinHandle<io::Result<bool>> {
        let program = self.program.clone();
        thread::spawn(move || {
            Command::new(program)
                .status()
                .map(|status| status.success())
        })
    }

    fn arrival(&self) -> Arrival {
        self.wait_for_exec();
        self.gate.read(&self.group).pop().unwrap()
    }

    fn wait_for_exec(&self) {
        let ready = wait_readable([Interest::Read(self.group.as_fd())], Some(LIMIT)).unwrap();
        assert_eq!(ready, [true]);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gate.finish();
        self.watchdog.take().unwrap().join().unwrap();
    }
}

#[test]
fn an_exec_waits_for_its_verdict() {
    needs_root!();
    let watched = Watched::new("gate-verdict", LIMIT);
    let refused = watched.run();
    let Arrival { exec, tid } = watched.arrival();
    assert_ne!(tid, 0);
    assert!(exec.is_held());
    assert!(!refused.is_finished());
    assert_eq!(exec.path().as_deref(), Some(watched.program.as_os_str()));
    assert!(exec.answer(Verdict::Deny));
    let error = refused.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let allowed = watched.run();
    assert!(watched.arrival().exec.answer(Verdict::Allow));
    assert!(allowed.join().unwrap().unwrap());
}

#[test]
fn a_dropped_exec_goes_on() {
    needs_root!();
    let watched = Watched::new("gate-drop", LIMIT);
    let running = watched.run();
    drop(watched.arrival());
    assert!(running.join().unwrap().unwrap());
    assert_eq!(watched.counters.snapshot().watchdog_releases, 0);
}

#[test]
fn the_watchdog_answers_at_the_cap() {
    needs_root!();
    let watched = Watched::new("gate-watchdog", Duration::from_millis(100));
    let running = watched.run();
    let Arrival { exec, .. } = watched.arrival();
    assert!(running.join().unwrap().unwrap());
    assert!(!exec.is_held());
    assert!(!exec.answer(Verdict::Deny));
    assert_eq!(watched.counters.snapshot().watchdog_releases, 1);
}

#[test]
fn what_a_stuck_reader_does_not_read_goes_on() {
    needs_root!();
    let watched = Watched::new("gate-stuck", Duration::from_millis(100));
    watched.gate.round_begins();
    let running = watched.run();
    assert!(running.join().unwrap().unwrap());
    assert!(watched.gate.has_given_up());
    assert_eq!(watched.counters.snapshot().reader_stalls, 1);
}

#[test]
fn closing_lets_everything_through_and_later_execs_too() {
    needs_root!();
    let watched = Watched::new("gate-close", LIMIT);
    let read = watched.run();
    let Arrival { exec, .. } = watched.arrival();
    let unread = watched.run();
    watched.wait_for_exec();
    watched.gate.close();
    assert!(read.join().unwrap().unwrap());
    assert!(unread.join().unwrap().unwrap());
    assert!(!exec.is_held());
    // The file is still marked; the watchdog answers for the reader that has gone.
    assert!(watched.run().join().unwrap().unwrap());
}
