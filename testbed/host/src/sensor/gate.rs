// SPDX-License-Identifier: MIT OR Apache-2.0
//! The execs that are being held, and the watchdog that lets none of them wait for ever.
//!
//! A fanotify permission event holds a thread inside `execve` until someone writes an answer to the
//! group. Every event is entered here in the moment it is read, with its deadline. Whoever comes
//! first decides: the worker with the callback's verdict, the watchdog at the deadline, or the end
//! of the sensor. What goes wrong lets the exec through. The watchdog's thread writes the answers,
//! because it is one of those that have the group's descriptor.
//!
//! Locks: `state` before the group's. No callback runs under it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Verdict;
use super::executable::FileId;
use super::group::{Executed, Group, Opened};
use super::statistics::Counters;

/// How often a closed gate looks for an exec that was on its way when the marks were taken off.
const CLOSED_PERIOD: Duration = Duration::from_millis(50);

/// The holds of one group, and the decisions about them.
#[derive(Debug)]
pub(super) struct Gate {
    cap: Duration,
    state: Mutex<State>,
    /// There is something for the watchdog to do.
    changed: Condvar,
    born: Instant,
    /// When the reader began its present round, in milliseconds since `born`, plus one; 0 while it
    /// waits for events.
    round_began: AtomicU64,
    given_up: AtomicBool,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is held any more; what still arrives is let through.
    closed: bool,
    /// The watchdog may end.
    finished: bool,
    next: u64,
    /// The deadlines of the undecided, by order of arrival, which is the order of deadlines too.
    undecided: BTreeMap<u64, Instant>,
    /// Decided and not answered yet.
    decided: Vec<(u64, Verdict)>,
    /// Nobody looks at these files any more.
    dropped: Vec<u64>,
}

/// What the reader gets for one event.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The thread in `execve`; 0 if its namespace hides it.
    pub(super) tid: u32,
    pub(super) exec: HeldExec,
}

impl Gate {
    /// A gate that lets an exec through after `cap`, whatever happens.
    pub(super) fn new(cap: Duration, counters: Arc<Counters>) -> Gate {
        Gate {
            cap,
            state: Mutex::default(),
            changed: Condvar::new(),
            born: Instant::now(),
            round_began: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            counters,
        }
    }

    /// Whether the gate holds nothing any more because the reader stood still.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Reads the execs that wait to be held. Those that need no verdict are let through here: what
    /// comes when too many are held, or when the gate is closed.
    pub(super) fn read(self: &Arc<Self>, group: &Group) -> Vec<Arrival> {
        match group.read() {
            Ok(opened) => opened
                .into_iter()
                .filter_map(|one| self.admit(group, one))
                .collect(),
            Err(_) => {
                self.counters.lost_holds.add_one();
                Vec::new()
            }
        }
    }

    fn admit(self: &Arc<Self>, group: &Group, opened: Opened) -> Option<Arrival> {
        let tid = opened.tid;
        let mut state = self.state();
        if state.closed || self.has_given_up() {
            group.let_through(opened);
            return None;
        }
        let id = state.next;
        state.next += 1;
        match group.keep(id, opened) {
            Ok(file) => {
                let first = state.undecided.is_empty();
                state.undecided.insert(id, Instant::now() + self.cap);
                drop(state);
                if first {
                    self.changed.notify_all();
                }
                Some(Arrival {
                    tid,
                    exec: HeldExec {
                        gate: Arc::clone(self),
                        id,
                        tid,
                        file,
                    },
                })
            }
            Err(opened) => {
                // It is not held, so its success is reported by the connector alone.
                self.counters.crowded_releases.add_one();
                group.let_through(opened);
                None
            }
        }
    }

    /// Decides about a held exec; false if that has been done before.
    fn decide(&self, id: u64, verdict: Verdict) -> bool {
        let mut state = self.state();
        let undecided = state.undecided.remove(&id).is_some();
        if undecided {
            if verdict == Verdict::Deny {
                self.counters.denied.add_one();
            }
            state.decided.push((id, verdict));
            self.changed.notify_all();
        }
        undecided
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under this lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader begins to work on what has arrived.
    pub(super) fn round_begins(&self) {
        self.round_began.store(self.now(), Ordering::Release);
    }

    /// The reader waits for events again.
    pub(super) fn round_ends(&self) {
        self.round_began.store(0, Ordering::Release);
    }

    fn now(&self) -> u64 {
        (self.born.elapsed().as_millis() as u64).saturating_add(1)
    }

    /// The watchdog: writes the answers and lets through what is overdue, until the gate is
    /// finished.
    pub(super) fn watch(&self, group: &Group) {
        let mut state = self.state();
        loop {
            self.decide_overdue(&mut state);
            state.answer_all(group);
            if state.finished {
                return;
            }
            let closed = state.closed;
            drop(state);
            self.watch_reader(group, closed);
            state = self.state();
            let idle = state.decided.is_empty() && state.dropped.is_empty();
            if idle && !state.finished && state.closed == closed {
                let wait = self.wait_limit(&state);
                let result = self.changed.wait_timeout(state, wait);
                state = result.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn wait_limit(&self, state: &State) -> Duration {
        let until = |deadline: &Instant| deadline.saturating_duration_since(Instant::now());
        let period = if state.closed {
            CLOSED_PERIOD
        } else {
            self.cap
        };
        state.undecided.values().next().map_or(period, until)
    }

    fn decide_overdue(&self, state: &mut State) {
        let now = Instant::now();
        while let Some(first) = state.undecided.first_entry() {
            if *first.get() > now && !state.closed {
                break;
            }
            if !state.closed {
                self.counters.watchdog_releases.add_one();
            }
            state.decided.push((*first.key(), Verdict::Allow));
            first.remove();
        }
    }

    /// Lets through what the reader does not read: because it has ended, or because it is stuck.
    fn watch_reader(&self, group: &Group, closed: bool) {
        let began = self.round_began.load(Ordering::Acquire);
        let stuck = began != 0 && self.now().saturating_sub(began) > self.cap.as_millis() as u64;
        if !closed && stuck && !self.given_up.swap(true, Ordering::AcqRel) {
            self.counters.reader_stalls.add_one();
        }
        if closed || self.has_given_up() {
            group.unmark();
            group.release_unread();
        }
    }

    /// Lets every exec through, read or not, now and later.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Ends the watchdog.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.closed = true;
        state.finished = true;
        self.changed.notify_all();
    }
}

impl State {
    fn answer_all(&mut self, group: &Group) {
        self.decided
            .drain(..)
            .for_each(|(id, verdict)| group.answer(id, verdict));
        self.dropped.drain(..).for_each(|id| group.forget(id));
    }
}

/// One exec that is being held. Dropping it lets the exec through.
#[derive(Debug)]
#[must_use = "dropping it lets the exec through"]
pub(super) struct HeldExec {
    gate: Arc<Gate>,
    id: u64,
    tid: u32,
    file: Executed,
}

impl HeldExec {
    /// The thread in `execve`.
    pub(super) fn tid(&self) -> u32 {
        self.tid
    }

    /// Opens the file that is being executed.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.file.access)
    }

    /// The path of that file.
    pub(super) fn path(&self) -> Option<OsString> {
        self.file.path.clone()
    }

    /// Whether that file is the one with this identity.
    pub(super) fn is_of(&self, id: FileId) -> bool {
        self.file.id == Some(id)
    }

    /// Whether the exec still waits for the verdict.
    pub(super) fn is_held(&self) -> bool {
        self.gate.state().undecided.contains_key(&self.id)
    }

    /// Decides; false if the exec has been let through before.
    pub(super) fn answer(self, verdict: Verdict) -> bool {
        self.gate.decide(self.id, verdict)
    }
}

impl Drop for HeldExec {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.undecided.remove(&self.id).is_some() {
            state.decided.push((self.id, Verdict::Allow));
        }
        state.dropped.push(self.id);
        self.gate.changed.notify_all();
    }
}
