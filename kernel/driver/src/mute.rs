// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes whose doings a service does not want to hear of: its own and their descendants.

use crate::driver::DRIVER;
use crate::tag;
use fltport_nt::bindings::STATUS_INSUFFICIENT_RESOURCES;
use fltport_nt::ex::{FastMutex, PoolSlice};
use fltport_nt::ke::{Event, EventKind, Timeout};
use fltport_nt::ps::{self, LifetimeNotify, LifetimeObserver};
use fltport_nt::{NtError, Result};

/// Processes that one connection can mute.
const MAX_MUTED: usize = 256;

#[derive(Clone, Copy)]
struct Process {
    pid: u32,
    /// It has ended. Its own last thread may tell of that after this is known, so it stays here
    /// until its place or its number is needed.
    ended: bool,
}

/// A connection's muted processes.
pub(crate) struct Muted {
    processes: PoolSlice<Process>,
    used: usize,
    /// Descendants for which there was no place.
    pub(crate) left_out: u64,
}

impl Muted {
    /// IRQL: <= DISPATCH_LEVEL. The service's own process.
    pub(crate) fn new(service: u32) -> Result<Self> {
        let process = Process {
            pid: service,
            ended: false,
        };
        Ok(Muted {
            processes: PoolSlice::filled(tag::FILTER, MAX_MUTED, process)?,
            used: 1,
            left_out: 0,
        })
    }

    fn known(&self) -> &[Process] {
        self.processes.get(..self.used).unwrap_or(&[])
    }

    /// Whether a thread of this process does a muted process's doings.
    pub(crate) fn contains(&self, pid: u32) -> bool {
        self.known().iter().any(|process| process.pid == pid)
    }

    /// Whether the process that has this number now is muted. One that has ended may have left it to
    /// another, of which somebody tells before this driver is told.
    pub(crate) fn is_alive(&self, pid: u32) -> bool {
        let mut known = self.known().iter();
        known.any(|process| process.pid == pid && !process.ended)
    }

    /// The process of a service that goes on with the stream is muted like that of the former one; if
    /// all places are taken, in that of the oldest, which is the former one's as long as it runs.
    pub(crate) fn succeeded_by(&mut self, service: u32) {
        if !self.is_alive(service) && !self.add(service) {
            self.remove(0);
            self.add(service);
        }
    }

    /// A process was created. That of a muted one is muted; any other is none of those that had its
    /// number before.
    pub(crate) fn began(&mut self, pid: u32, parent: u32, creator: u32) {
        let muted = self.contains(parent) || self.contains(creator);
        let former = self.known().iter().position(|process| process.pid == pid);
        if let Some(former) = former {
            self.remove(former);
        }
        if muted {
            self.add(pid);
        }
    }

    fn remove(&mut self, place: usize) {
        // The others keep their order: the one that ended first goes first.
        let behind = self.processes.get_mut(place..self.used);
        let mut behind = behind.unwrap_or_default().iter_mut();
        let Some(mut gap) = behind.next() else {
            return;
        };
        for process in behind {
            *gap = *process;
            gap = process;
        }
        self.used -= 1;
    }

    /// False, and the process is left out, if all places are taken by processes that run.
    fn add(&mut self, pid: u32) -> bool {
        if self.used == self.processes.len() {
            match self.known().iter().position(|process| process.ended) {
                Some(ended) => self.remove(ended),
                None => {
                    self.left_out += 1;
                    return false;
                }
            }
        }
        if let Some(place) = self.processes.get_mut(self.used) {
            *place = Process { pid, ended: false };
            self.used += 1;
        }
        true
    }

    pub(crate) fn ended(&mut self, pid: u32) {
        let known = self.processes.iter_mut().take(self.used);
        for process in known.filter(|process| process.pid == pid) {
            process.ended = true;
        }
    }
}

/// Whether NT tells of processes: from the first subscription that mutes until the driver is
/// unloaded.
pub(crate) struct Following {
    state: FastMutex<State>,
    /// Set whenever a registration has been tried.
    tried: Event,
}

enum State {
    No,
    /// A thread registers: at PASSIVE_LEVEL, so without the lock.
    Starting,
    Yes(LifetimeNotify<Lifetimes>),
}

impl Following {
    /// IRQL: PASSIVE_LEVEL.
    pub(crate) fn new() -> Result<Self> {
        Ok(Following {
            state: FastMutex::new(tag::DRIVER, State::No)?,
            tried: Event::new(tag::DRIVER, EventKind::Notification)?,
        })
    }

    /// IRQL: PASSIVE_LEVEL. From now on NT tells. Fails with `STATUS_INSUFFICIENT_RESOURCES` if it
    /// takes no more routines.
    pub(crate) fn begin(&self) -> Result<()> {
        loop {
            let former = {
                let mut state = self.state.lock();
                match *state {
                    State::Yes(_) => return Ok(()),
                    State::Starting => State::Starting,
                    State::No => {
                        self.tried.clear();
                        core::mem::replace(&mut *state, State::Starting)
                    }
                }
            };
            if matches!(former, State::No) {
                break;
            }
            // Another subscription registers just now, and NT takes a routine once.
            self.tried.wait(Timeout::from_millis(100));
        }
        let registered = LifetimeNotify::register();
        let failed = registered.is_err();
        *self.state.lock() = registered.map_or(State::No, State::Yes);
        self.tried.set();
        match failed {
            true => Err(NtError(STATUS_INSUFFICIENT_RESOURCES)),
            false => Ok(()),
        }
    }

    /// IRQL: PASSIVE_LEVEL. Nobody subscribes any more. Waits for a routine in flight.
    pub(crate) fn end(&self) {
        let former = core::mem::replace(&mut *self.state.lock(), State::No);
        drop(former);
    }
}

/// What NT tells of.
struct Lifetimes;

impl LifetimeObserver for Lifetimes {
    fn began(pid: u32, parent: u32) {
        let creator = ps::current_process_id();
        if let Some(driver) = DRIVER.get() {
            let mut routes = driver.routes().lock();
            routes
                .muted()
                .for_each(|muted| muted.began(pid, parent, creator));
        }
    }

    fn ended(pid: u32) {
        if let Some(driver) = DRIVER.get() {
            driver
                .routes()
                .lock()
                .muted()
                .for_each(|muted| muted.ended(pid));
        }
    }
}
