// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of this Linux machine, as they start and end, for NT's process callbacks.
//!
//! A [`Sensor`] watches every process of the machine and tells a [`ProcessEvents`] of each start
//! and exit, in order for each process. While a start is being delivered the exec itself is held by
//! the kernel, so that a callback may refuse it. Two sources make this exact, and both need root:
//!
//! * the *process connector* tells every fork, exec and exit;
//! * *fanotify* permission events hold an exec until it is answered.
//!
//! Where one is missing the sensor sees less and says so ([`Sensor::capabilities`]): without
//! fanotify nothing is held, without the connector it walks over `/proc` and misses short lives.
//!
//! Holding execs means that a fault here could freeze the machine. So every hold has a deadline
//! that a separate thread enforces, every way in which the sensor or its process can end lets
//! everything through, and the process that holds cannot be stopped by the terminal nor dump core
//! meanwhile. `docs/linux-process-events.md` has the semantics in full.
//!
//! The parts, in the order in which an event passes them: `connector`, `group` and `procfs`
//! (sources), `gate` (the holds and their watchdog), `reader` (the thread that reads them),
//! `tracker` (what is known of which process), `dispatch` (a queue for each process, and workers),
//! `process` (what is delivered).

#![deny(unsafe_code)]

mod capabilities;
mod command_line;
mod connector;
mod dispatch;
mod exec_call;
mod executable;
#[allow(unsafe_code)]
mod ffi;
mod gate;
mod group;
mod mounts;
mod process;
mod procfs;
mod reader;
mod safeguard;
mod sources;
mod statistics;
#[cfg(test)]
mod tests;
mod threads;
mod tracker;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::capabilities::{Capabilities, Source};
pub use self::statistics::Statistics;

use self::dispatch::Dispatcher;
use self::gate::Gate;
use self::mounts::Coverage;
use self::process::Delivery;
use self::reader::{Started, Task, Threads};
use self::safeguard::Safeguard;
use self::statistics::Counters;

/// Receives the starts and exits of processes.
///
/// Starts and exits come on worker threads: for one process in order and one at a time, for different
/// processes side by side. None may drop the [`Sensor`], which waits for them.
pub trait ProcessEvents: Send + Sync + 'static {
    /// A process ran already when the sensor started. All of them are told of before
    /// [`Sensor::start`] returns, in a thread of the sensor; it must not block.
    fn running(&self, process: ProcessStart);

    /// A process has a new image: its first exec, or a later one that replaces its image, or it
    /// lives on as a fork of its creator. It may block, for several seconds if it must: only this
    /// process waits.
    ///
    /// If [`ProcessStart::held`] is set, [`Verdict::Deny`] makes the exec fail with EPERM;
    /// otherwise the verdict changes nothing and a refusal is counted as late. A panic counts as
    /// [`Verdict::Allow`].
    fn start(&self, start: ProcessStart) -> Verdict;

    /// A process has ended, or its image was replaced. Every start is followed by one exit; so are
    /// the processes that ran already when the sensor started.
    fn exit(&self, exit: ProcessExit);
}

/// The answer to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The exec goes on.
    Allow,
    /// The exec fails with EPERM.
    Deny,
}

/// What made a process a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartCause {
    /// It executes a program.
    Exec,
    /// It is a copy of its creator and has ended, or gone on for a second, without executing a
    /// program.
    ForkWithoutExec,
    /// Nobody knows: it ran before.
    RanBefore,
}

/// The start of a process, or of a new image in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStart {
    /// The process.
    pub pid: u32,
    /// Its parent at this moment: its creator, unless that has ended or made another one the
    /// parent.
    pub parent_pid: u32,
    /// The process that created it. The process itself if the exec replaces an image that was
    /// reported.
    pub creating_pid: u32,
    /// The thread that created it, or that called exec if `creating_pid` is the process itself.
    pub creating_tid: u32,
    /// The real user id, before the exec changes it; `None` if the process had ended by then.
    pub uid: Option<u32>,
    /// The path of the program: for a script the script, not its interpreter, if the exec was held.
    /// `None` if the process had ended before it could be looked at.
    pub image: Option<OsString>,
    /// The arguments in one line, separated by blanks; those that are empty or contain blanks or
    /// quotation marks are quoted as on Windows. At most 64 KiB of arguments. `None` if unreadable.
    pub command_line: Option<OsString>,
    /// The exec waits for the verdict.
    pub held: bool,
    /// What made it a new process.
    pub how: StartCause,
}

/// The end of a process, or of an image that was replaced (with status 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessExit {
    /// The process.
    pub pid: u32,
    /// The exit code; 128 and the signal's number for a process that a signal has killed;
    /// [`ProcessExit::UNKNOWN`] if nobody has seen it.
    pub exit_status: i32,
}

impl ProcessExit {
    /// The status of a process whose end was noticed only afterwards.
    pub const UNKNOWN: i32 = -1;
}

/// Which sources the sensor may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// The best there are.
    #[default]
    Auto,
    /// The process connector without holding; an error if there is none.
    ConnectorOnly,
    /// Walks over `/proc`.
    Procfs,
}

/// How a sensor works.
#[derive(Clone, Debug)]
pub struct Options {
    /// No exec is held for longer than this, whatever the callback does. At least 10 milliseconds.
    pub hold_cap: Duration,
    /// Processes that are never held; their starts are reported all the same. This process is
    /// always one.
    pub exempt: Vec<u32>,
    /// Which sources to use.
    pub source: SourceChoice,
    /// How many bytes of events may wait for the reader; what is beyond is lost and made up from
    /// `/proc`.
    pub buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hold_cap: Duration::from_secs(5),
            exempt: Vec::new(),
            source: SourceChoice::Auto,
            buffer_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Why a sensor cannot start.
#[derive(Debug)]
pub enum SensorError {
    /// The process connector was demanded and there is none; why, and what helps.
    NoConnector(String),
    /// `/proc` cannot be read. Mount it: `mount -t proc proc /proc`.
    Procfs(io::Error),
    /// The system gives no thread or descriptor. Raise the limits (`ulimit -u`, `ulimit -n`).
    Resources(io::Error),
}

impl fmt::Display for SensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SensorError::NoConnector(reason) => write!(f, "no process connector: {reason}"),
            SensorError::Procfs(error) => {
                write!(
                    f,
                    "/proc cannot be read ({error}): mount it with `mount -t proc proc /proc`"
                )
            }
            SensorError::Resources(error) => {
                write!(
                    f,
                    "no thread or descriptor ({error}): raise `ulimit -u` and `ulimit -n`"
                )
            }
        }
    }
}

impl std::error::Error for SensorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SensorError::NoConnector(_) => None,
            SensorError::Procfs(error) | SensorError::Resources(error) => Some(error),
        }
    }
}

/// A running sensor. Dropping it stops it.
pub struct Sensor {
    gate: Option<Arc<Gate>>,
    stop: Arc<File>,
    threads: Threads,
    dispatcher: Dispatcher,
    coverage: Arc<Mutex<Coverage>>,
    counters: Arc<Counters>,
    source: Source,
    /// What is missing, and the cure.
    missing: Vec<String>,
    /// What has gone wrong since the start.
    faults: Arc<Mutex<Vec<String>>>,
    /// Goes last: until then execs may be held.
    _safeguard: Option<Safeguard>,
}

impl Sensor {
    /// Starts to watch. When this returns, every later start and exit is going to be delivered.
    ///
    /// # Errors
    ///
    /// See [`SensorError`]. A source that is missing is an error only if it was demanded.
    pub fn start(options: Options, events: Arc<dyn ProcessEvents>) -> Result<Sensor, SensorError> {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(ffi::event_counter().map_err(SensorError::Resources)?);
        // Until the kernel holds nothing, from before the first mark.
        let safeguard = (options.source == SourceChoice::Auto).then(Safeguard::new);
        let delivery = Delivery {
            events,
            counters: Arc::clone(&counters),
        };
        let dispatcher = Dispatcher::new(delivery).map_err(SensorError::Resources)?;
        let (faults, coverage) = (Arc::default(), Arc::default());
        let task = Task {
            options,
            counters: Arc::clone(&counters),
            dispatcher: dispatcher.clone(),
            stop: Arc::clone(&stop),
            faults: Arc::clone(&faults),
            coverage: Arc::clone(&coverage),
        };
        let started = match reader::start(task) {
            Ok(started) => started,
            Err(error) => {
                dispatcher.stop();
                return Err(error);
            }
        };
        let Started {
            source,
            gate,
            missing,
            threads,
        } = started;
        let _safeguard = safeguard.filter(|_| gate.is_some());
        Ok(Sensor {
            gate,
            stop,
            threads,
            dispatcher,
            coverage,
            counters,
            source,
            missing,
            faults,
            _safeguard,
        })
    }

    /// What this sensor can see and hold at this moment, and what it cannot and why.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let coverage = self
            .coverage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let holding = self.gate.as_ref().map(|gate| !gate.has_given_up());
        let mut missing = self.missing.clone();
        missing.extend(
            self.faults
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned(),
        );
        Capabilities::new(self.source, holding, coverage, missing)
    }

    /// What was counted so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.counters.snapshot()
    }

    /// Ends the sensor: takes the marks off, lets everything through that is held, waits for the
    /// callbacks that run, and joins the threads. What is still queued is not delivered. No
    /// callback runs afterwards.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.close();
        }
        // An event counter refuses a write only when it is full, and then it wakes as well.
        let _ = (&*self.stop).write(&1u64.to_ne_bytes());
        // A panic there has closed the gate already; there is nothing to add here.
        let _ = self.threads.reader.take().map(JoinHandle::join);
        let _ = self.threads.mounts.take().map(JoinHandle::join);
        self.dispatcher.stop();
        if let Some(gate) = &self.gate {
            gate.finish();
        }
        let _ = self.threads.watchdog.take().map(JoinHandle::join);
    }
}
