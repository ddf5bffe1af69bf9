// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reader's knowledge: which processes there are, and what of their lives is to be passed on.
//!
//! The tracker turns raw events (a fork, an exec, a thread's end, a held exec, a walk over `/proc`)
//! into sightings for the workers. It never waits for them.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connector::{Event, Kind};
use super::dispatch::Dispatcher;
use super::gate::Arrival;
use super::process::{Image, Origin, Sighting};
use super::procfs::{self, Walked};
use super::statistics::Counters;
use super::threads::Threads;
use super::{ProcessExit, ffi};

/// A process that has executed nothing for so long is reported as a fork.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// For so long after the first walk, in nanoseconds, an exec that shows the image the walk has seen
/// is the one that led to it.
const SETTLING: u64 = 1_000_000_000;

/// Why a walk over `/proc` is compared with what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkReason {
    /// The sensor starts: what runs already is not reported.
    First,
    /// Events were lost.
    Overrun,
    /// Walks are the only source.
    Period,
}

#[derive(Debug)]
struct Tracked {
    serial: u64,
    threads: Threads,
    /// An exec was passed on as held and has not succeeded yet.
    held: bool,
    /// It has begun an exec since it was created.
    executed: bool,
    /// A walk has found it, not a fork event.
    walked: Option<WalkReason>,
    /// From a walk: tells two processes of one pid apart.
    started: Option<u64>,
    /// From a walk, until an event says that it may have changed.
    image: Option<OsString>,
}

impl Tracked {
    fn new(serial: u64) -> Tracked {
        Tracked {
            serial,
            threads: Threads::one(),
            held: false,
            executed: false,
            walked: None,
            started: None,
            image: None,
        }
    }

    fn from_walk(serial: u64, reason: WalkReason, walked: &Walked) -> Tracked {
        Tracked {
            threads: Threads::unknown(),
            walked: Some(reason),
            started: Some(walked.started),
            image: walked.image.clone(),
            ..Tracked::new(serial)
        }
    }
}

struct Grace {
    over: Instant,
    pid: u32,
    serial: u64,
}

/// Every process that is known to live.
pub(super) struct Tracker {
    tracked: HashMap<u32, Tracked>,
    /// In the order of their ends, because each lasts as long as the others.
    graces: VecDeque<Grace>,
    dispatcher: Dispatcher,
    counters: Arc<Counters>,
    exempt: HashSet<u32>,
    serial: u64,
    /// When the last walk ended, in monotonic nanoseconds: events from before it may be known from
    /// it.
    walk_ended: u64,
}

impl Tracker {
    /// A tracker that knows nothing yet. The processes in `exempt` are never held.
    pub(super) fn new(
        dispatcher: Dispatcher,
        counters: Arc<Counters>,
        exempt: HashSet<u32>,
    ) -> Tracker {
        Tracker {
            tracked: HashMap::new(),
            graces: VecDeque::new(),
            dispatcher,
            counters,
            exempt,
            serial: 0,
            walk_ended: 0,
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Takes one event of the process connector into account.
    pub(super) fn event(&mut self, event: Event) {
        match event.kind {
            Kind::Fork {
                parent,
                parent_tgid,
                child,
                child_tgid,
            } => {
                if child == child_tgid {
                    self.fork(child, parent_tgid, parent, event.time);
                } else if let Some(process) = self.tracked.get_mut(&child_tgid) {
                    process.threads.begins(child);
                }
            }
            Kind::Exec { pid } => self.exec(pid, event.time),
            Kind::Exit { tid, pid, status } => self.exit(tid, pid, status),
            Kind::Answer { .. } => {}
        }
    }

    fn fork(&mut self, pid: u32, creating_pid: u32, creating_tid: u32, time: u64) {
        self.counters.forks.add_one();
        // A walk may have met the process before its fork event was read.
        let met = self.tracked.get(&pid).and_then(|known| known.walked);
        let met = met.filter(|_| time < self.walk_ended);
        if met == Some(WalkReason::Overrun) {
            return;
        }
        let origin = if procfs::creates_kernel_threads(creating_pid) {
            Origin::KernelThread
        } else {
            Origin::Forked {
                creating_pid,
                creating_tid,
            }
        };
        self.begin(pid, creating_pid, origin, met.is_some());
        self.give_grace(pid);
    }

    fn begin(&mut self, pid: u32, creator: u32, origin: Origin, corrects: bool) {
        let serial = self.next_serial();
        self.tracked.insert(pid, Tracked::new(serial));
        self.dispatcher
            .forked(pid, creator, origin, serial, corrects);
    }

    /// Makes up the creation of a process whose fork event was lost.
    fn begin_unseen(&mut self, pid: u32, parent: u32) {
        self.counters.made_up_starts.add_one();
        let origin = Origin::Forked {
            creating_pid: parent,
            creating_tid: parent,
        };
        self.begin(pid, parent, origin, false);
    }

    fn give_grace(&mut self, pid: u32) {
        let Some(process) = self.tracked.get(&pid) else {
            return;
        };
        let (over, serial) = (Instant::now() + GRACE, process.serial);
        self.graces.push_back(Grace { over, pid, serial });
    }

    fn exec(&mut self, pid: u32, time: u64) {
        if !self.tracked.contains_key(&pid) {
            let Some(status) = procfs::status(pid) else {
                return;
            };
            self.begin_unseen(pid, status.parent);
        }
        let Some(process) = self.tracked.get_mut(&pid) else {
            return;
        };
        if process.walked == Some(WalkReason::Overrun) && time < self.walk_ended {
            return;
        }
        // A process has its new image a moment before the kernel tells of it: the first walk may
        // have met the image already.
        let first = process.walked == Some(WalkReason::First) && !process.executed;
        if first && time < self.walk_ended.saturating_add(SETTLING) {
            process.executed = true;
            if *self.dispatcher.image_of(pid) == Image::of(pid) {
                return;
            }
        }
        process.threads.executes();
        process.executed = true;
        process.image = None;
        // A short life may end at any moment: what nobody has seen is looked at here and now.
        let held = std::mem::take(&mut process.held);
        let image = (!held).then(|| Image::of(pid));
        self.dispatcher.post(pid, Sighting::Exec { image });
    }

    /// Takes a held exec into account. Everything the connector told before must have been, too.
    pub(super) fn held(&mut self, arrival: Arrival) {
        let Arrival { tid, exec } = arrival;
        // Whatever returns early drops the exec, which lets it through.
        let Some(status) = procfs::status(tid) else {
            return;
        };
        if self.exempt.contains(&status.pid) {
            return;
        }
        if !self.tracked.contains_key(&status.pid) {
            self.begin_unseen(status.pid, status.parent);
        }
        let Some(process) = self.tracked.get_mut(&status.pid) else {
            return;
        };
        process.held = true;
        process.executed = true;
        process.image = None;
        self.dispatcher
            .post(status.pid, Sighting::Held { exec, status });
    }

    fn exit(&mut self, tid: u32, pid: u32, status: u32) {
        let Some(process) = self.tracked.get_mut(&pid) else {
            if tid == pid {
                self.counters.unmatched_exits.add_one();
            }
            return;
        };
        if process.threads.ends(pid, tid) {
            self.end(pid, exit_status(status));
        }
    }

    fn end(&mut self, pid: u32, status: i32) {
        self.tracked.remove(&pid);
        self.dispatcher.post(pid, Sighting::Exit { status });
    }

    /// When the next grace ends.
    pub(super) fn next_grace(&self) -> Option<Instant> {
        self.graces.front().map(|grace| grace.over)
    }

    /// Passes on the graces that are over.
    pub(super) fn end_graces(&mut self, now: Instant) {
        while let Some(grace) = self.graces.pop_front_if(|grace| grace.over <= now) {
            let Grace { pid, serial, .. } = grace;
            let process = self.tracked.get(&pid);
            if process.is_some_and(|known| known.serial == serial && !known.executed) {
                self.dispatcher.post(pid, Sighting::GraceOver { serial });
            }
        }
    }

    /// Makes what is known agree with a walk over `/proc`.
    pub(super) fn reconcile(&mut self, found: &HashMap<u32, Walked>, reason: WalkReason) {
        self.walk_ended = ffi::monotonic_nanoseconds();
        if reason == WalkReason::Overrun {
            self.tracked
                .values_mut()
                .for_each(|known| known.threads = Threads::unknown());
        }
        self.end_missing(found, reason);
        for (pid, walked) in found.iter().filter(|(_, walked)| walked.ended.is_none()) {
            if self.tracked.contains_key(pid) {
                self.compare_image(*pid, walked);
            } else if reason == WalkReason::First {
                self.know_running(*pid, walked);
            } else {
                self.know_new(*pid, walked, found, reason);
            }
        }
    }

    fn end_missing(&mut self, found: &HashMap<u32, Walked>, reason: WalkReason) {
        let status_if_ended = |pid: &u32, known: &Tracked| match found.get(pid) {
            None => Some(ProcessExit::UNKNOWN),
            Some(walked)
                if known
                    .started
                    .is_some_and(|started| started != walked.started) =>
            {
                Some(ProcessExit::UNKNOWN)
            }
            Some(walked) => walked.ended.map(exit_status),
        };
        let ended = self.tracked.iter();
        let ended: Vec<(u32, i32)> = ended
            .filter_map(|(pid, known)| Some((*pid, status_if_ended(pid, known)?)))
            .collect();
        for (pid, status) in ended {
            if reason == WalkReason::Overrun {
                self.counters.made_up_exits.add_one();
            }
            self.end(pid, status);
        }
    }

    fn know_running(&mut self, pid: u32, walked: &Walked) {
        let serial = self.next_serial();
        self.tracked
            .insert(pid, Tracked::from_walk(serial, WalkReason::First, walked));
        let command_line = procfs::command_line(pid);
        let image = Image {
            path: walked.image.clone(),
            command_line,
        };
        let status = procfs::status(pid);
        self.dispatcher.running(pid, serial, image, status);
    }

    fn know_new(
        &mut self,
        pid: u32,
        walked: &Walked,
        found: &HashMap<u32, Walked>,
        reason: WalkReason,
    ) {
        if reason == WalkReason::Overrun {
            self.counters.made_up_starts.add_one();
        }
        let serial = self.next_serial();
        self.tracked
            .insert(pid, Tracked::from_walk(serial, reason, walked));
        let parent = walked.parent;
        let origin = Origin::Forked {
            creating_pid: parent,
            creating_tid: parent,
        };
        self.dispatcher.forked(pid, parent, origin, serial, false);
        let inherited = found.get(&parent).and_then(|parent| parent.image.as_ref());
        if walked.image.as_ref() == inherited {
            self.give_grace(pid);
        } else {
            self.executed_unseen(pid);
        }
    }

    /// A process that runs another image than it did has executed it.
    fn compare_image(&mut self, pid: u32, walked: &Walked) {
        let Some(known) = self.tracked.get(&pid) else {
            return;
        };
        let inherited = || self.dispatcher.image_of(pid).path.clone();
        let before = match &known.image {
            Some(image) => Some(image.clone()),
            None if known.executed => None,
            None => inherited(),
        };
        let differs = before.is_some() && walked.image.is_some() && before != walked.image;
        if differs && !known.held {
            self.executed_unseen(pid);
            if let Some(known) = self.tracked.get_mut(&pid) {
                known.image = walked.image.clone();
            }
        }
    }

    fn executed_unseen(&mut self, pid: u32) {
        if let Some(known) = self.tracked.get_mut(&pid) {
            known.executed = true;
        }
        let image = Some(Image::of(pid));
        self.dispatcher.post(pid, Sighting::Exec { image });
    }
}

/// A status in the form of wait(2) as one number: the exit code, or 128 and the signal that killed.
fn exit_status(status: u32) -> i32 {
    let number = match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    };
    number.cast_signed()
}

#[cfg(test)]
mod tests;
