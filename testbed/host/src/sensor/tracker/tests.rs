// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tracker on made-up events.

use super::super::process::Delivery;
use super::super::{ProcessEvents, ProcessStart, StartCause, Verdict};
use super::*;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Pids no process of this machine has.
const PARENT: u32 = 0x7000_0001;
const CHILD: u32 = 0x7000_0002;

#[derive(Debug, PartialEq)]
enum Seen {
    Start(ProcessStart),
    Exit(ProcessExit),
}

struct Log(Mutex<Sender<Seen>>);

impl ProcessEvents for Log {
    fn running(&self, _process: ProcessStart) {}

    fn start(&self, start: ProcessStart) -> Verdict {
        self.0.lock().unwrap().send(Seen::Start(start)).unwrap();
        Verdict::Allow
    }

    fn exit(&self, exit: ProcessExit) {
        self.0.lock().unwrap().send(Seen::Exit(exit)).unwrap();
    }
}

struct Scene {
    tracker: Tracker,
    counters: Arc<Counters>,
    seen: Receiver<Seen>,
}

impl Scene {
    fn new() -> Scene {
        let (sender, seen) = channel();
        let counters = Arc::new(Counters::default());
        let events = Arc::new(Log(Mutex::new(sender)));
        let delivery = Delivery {
            events,
            counters: Arc::clone(&counters),
        };
        let dispatcher = Dispatcher::new(delivery).unwrap();
        let tracker = Tracker::new(dispatcher, Arc::clone(&counters), HashSet::new());
        Scene {
            tracker,
            counters,
            seen,
        }
    }

    fn event(&mut self, kind: Kind) {
        self.tracker.event(Event {
            kind,
            time: ffi::monotonic_nanoseconds(),
        });
    }

    fn fork(&mut self, child: u32) {
        let parent = PARENT;
        let kind = Kind::Fork {
            parent,
            parent_tgid: parent,
            child,
            child_tgid: child,
        };
        self.event(kind);
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn next_start(&self) -> ProcessStart {
        match self.next() {
            Seen::Start(start) => start,
            other => panic!("a start was due: {other:?}"),
        }
    }

    fn exit_is_next(&self, pid: u32, exit_status: i32) {
        assert_eq!(self.next(), Seen::Exit(ProcessExit { pid, exit_status }));
    }

    fn nothing_is_left(self) {
        self.tracker.dispatcher.stop();
        drop(self.tracker);
        assert_eq!(self.seen.try_iter().collect::<Vec<_>>(), []);
    }
}

fn walked(parent: u32, image: &str) -> Walked {
    Walked {
        parent,
        started: 1,
        ended: None,
        image: Some(image.into()),
    }
}

#[test]
fn a_fork_that_ends_is_a_start_and_an_exit() {
    let mut scene = Scene::new();
    scene.fork(CHILD);
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 0x0300,
    });
    let start = scene.next_start();
    assert_eq!(
        (start.pid, start.creating_pid, start.parent_pid),
        (CHILD, PARENT, PARENT)
    );
    assert_eq!(
        (start.how, start.held),
        (StartCause::ForkWithoutExec, false)
    );
    scene.exit_is_next(CHILD, 3);
    scene.nothing_is_left();
}

#[test]
fn a_fork_is_reported_when_its_grace_is_over_and_only_once() {
    let mut scene = Scene::new();
    scene.fork(CHILD);
    let over = scene.tracker.next_grace().unwrap();
    scene.tracker.end_graces(over - Duration::from_millis(1));
    assert!(scene.tracker.next_grace().is_some());
    scene.tracker.end_graces(over);
    assert_eq!(scene.tracker.next_grace(), None);
    assert_eq!(scene.next_start().how, StartCause::ForkWithoutExec);
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 9,
    });
    scene.exit_is_next(CHILD, 137);
    scene.nothing_is_left();
}

#[test]
fn every_exec_after_the_first_ends_the_image_before() {
    let mut scene = Scene::new();
    scene.fork(CHILD);
    scene.event(Kind::Exec { pid: CHILD });
    let first = scene.next_start();
    assert_eq!((first.how, first.creating_pid), (StartCause::Exec, PARENT));
    scene.event(Kind::Exec { pid: CHILD });
    scene.exit_is_next(CHILD, 0);
    assert_eq!(scene.next_start().creating_pid, CHILD);
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 0,
    });
    scene.exit_is_next(CHILD, 0);
    scene.nothing_is_left();
}

#[test]
fn threads_are_no_processes() {
    let mut scene = Scene::new();
    scene.fork(CHILD);
    scene.event(Kind::Exec { pid: CHILD });
    scene.next_start();
    let (parent, child) = (CHILD, CHILD + 1);
    scene.event(Kind::Fork {
        parent,
        parent_tgid: CHILD,
        child,
        child_tgid: CHILD,
    });
    scene.event(Kind::Exit {
        tid: child,
        pid: CHILD,
        status: 0,
    });
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 0x0100,
    });
    scene.exit_is_next(CHILD, 1);
    scene.nothing_is_left();
}

#[test]
fn a_late_reader_is_not_deceived_by_a_thread_that_executes() {
    let mut scene = Scene::new();
    scene.fork(CHILD);
    scene.event(Kind::Exec { pid: CHILD });
    scene.next_start();
    let (parent, child) = (CHILD, CHILD + 1);
    scene.event(Kind::Fork {
        parent,
        parent_tgid: CHILD,
        child,
        child_tgid: CHILD,
    });
    // The first thread ends, the other takes its place and ends in turn; `/proc` has nothing of it
    // any more.
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 9,
    });
    scene.event(Kind::Exec { pid: CHILD });
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 0x0200,
    });
    scene.exit_is_next(CHILD, 0);
    assert_eq!(scene.next_start().creating_pid, CHILD);
    scene.exit_is_next(CHILD, 2);
    scene.nothing_is_left();
}

#[test]
fn a_kernel_thread_is_nothing_until_it_executes() {
    let mut scene = Scene::new();
    let kthreadd = 2;
    for child in [CHILD, CHILD + 1] {
        let parent = kthreadd;
        scene.event(Kind::Fork {
            parent,
            parent_tgid: parent,
            child,
            child_tgid: child,
        });
    }
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 0,
    });
    scene.event(Kind::Exec { pid: CHILD + 1 });
    assert_eq!(scene.next_start().pid, CHILD + 1);
    scene.nothing_is_left();
}

#[test]
fn a_walk_makes_up_what_was_lost() {
    let mut scene = Scene::new();
    let (lost, shell) = (CHILD + 1, CHILD + 2);
    scene.fork(CHILD);
    scene.event(Kind::Exec { pid: CHILD });
    scene.next_start();
    let found = HashMap::from([
        (PARENT, walked(1, "/bin/sh")),
        (lost, walked(PARENT, "/bin/x")),
        (shell, walked(PARENT, "/bin/sh")),
    ]);
    scene.tracker.reconcile(
        &HashMap::from([(PARENT, walked(1, "/bin/sh"))]),
        WalkReason::First,
    );
    // What was known before the first walk is gone: it ends.
    scene.exit_is_next(CHILD, ProcessExit::UNKNOWN);
    scene.tracker.reconcile(&found, WalkReason::Overrun);
    let start = scene.next_start();
    assert_eq!((start.pid, start.how), (lost, StartCause::Exec));
    // The late events of a process that the walk has met change nothing.
    scene.tracker.event(Event {
        kind: Kind::Exec { pid: lost },
        time: 1,
    });
    let (parent, child) = (PARENT, lost);
    let kind = Kind::Fork {
        parent,
        parent_tgid: parent,
        child,
        child_tgid: child,
    };
    scene.tracker.event(Event { kind, time: 1 });
    scene.tracker.end_graces(Instant::now() + GRACE);
    let start = scene.next_start();
    assert_eq!((start.pid, start.how), (shell, StartCause::ForkWithoutExec));
    assert_eq!(start.image, Some("/bin/sh".into()));
    scene
        .tracker
        .reconcile(&HashMap::new(), WalkReason::Overrun);
    let mut ended = [scene.next(), scene.next(), scene.next()].map(|seen| match seen {
        Seen::Exit(exit) => exit.pid,
        other => panic!("an exit was due: {other:?}"),
    });
    ended.sort_unstable();
    assert_eq!(ended, [PARENT, lost, shell]);
    assert_eq!(scene.counters.snapshot().made_up_starts, 2);
    assert_eq!(scene.counters.snapshot().made_up_exits, 3);
    scene.nothing_is_left();
}

#[test]
fn a_process_met_by_the_first_walk_is_put_right_by_its_fork_event() {
    let mut scene = Scene::new();
    let time = ffi::monotonic_nanoseconds();
    let found = HashMap::from([(CHILD, walked(PARENT, "/bin/sh"))]);
    scene.tracker.reconcile(&found, WalkReason::First);
    let (parent, child) = (PARENT, CHILD);
    let kind = Kind::Fork {
        parent,
        parent_tgid: parent,
        child,
        child_tgid: child,
    };
    scene.tracker.event(Event { kind, time });
    scene.event(Kind::Exit {
        tid: CHILD,
        pid: CHILD,
        status: 0,
    });
    assert_eq!(scene.next_start().creating_pid, PARENT);
    scene.exit_is_next(CHILD, 0);
    scene.nothing_is_left();
}

#[test]
fn a_second_life_of_a_pid_ends_the_first() {
    let mut scene = Scene::new();
    scene.fork(CHILD);
    scene.event(Kind::Exec { pid: CHILD });
    scene.next_start();
    scene.fork(CHILD);
    scene.exit_is_next(CHILD, ProcessExit::UNKNOWN);
    scene.event(Kind::Exec { pid: CHILD });
    assert_eq!(scene.next_start().creating_pid, PARENT);
    assert_eq!(scene.counters.snapshot().made_up_exits, 1);
    scene.nothing_is_left();
}

#[test]
fn walks_alone_show_a_changed_image_and_a_zombie() {
    let mut scene = Scene::new();
    scene.tracker.reconcile(&HashMap::new(), WalkReason::First);
    let mut found = HashMap::from([(CHILD, walked(PARENT, "/bin/a"))]);
    scene.tracker.reconcile(&found, WalkReason::Period);
    assert_eq!(scene.next_start().pid, CHILD);
    scene.tracker.reconcile(&found, WalkReason::Period);
    found.insert(CHILD, walked(PARENT, "/bin/b"));
    scene.tracker.reconcile(&found, WalkReason::Period);
    scene.exit_is_next(CHILD, 0);
    assert_eq!(scene.next_start().creating_pid, CHILD);
    let zombie = Walked {
        ended: Some(0x0700),
        ..walked(PARENT, "/bin/b")
    };
    found.insert(CHILD, zombie);
    scene.tracker.reconcile(&found, WalkReason::Period);
    scene.tracker.reconcile(&found, WalkReason::Period);
    scene.exit_is_next(CHILD, 7);
    scene.nothing_is_left();
}

#[test]
fn statuses_as_numbers() {
    assert_eq!(exit_status(0), 0);
    assert_eq!(exit_status(0x0300), 3);
    assert_eq!(exit_status(9), 137);
    // 0x80: a core was dumped.
    assert_eq!(exit_status(0x8b), 139);
}
