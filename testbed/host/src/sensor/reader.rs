// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that reads the kernel's events, by the process connector and the gate or by walks.
//!
//! It and the threads it starts (the watchdog, the follower of the mounts) have a descriptor table
//! of their own; see `group` for why. All they open they also close; what comes from outside is
//! `stop` alone.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::connector::{Connector, Received};
use super::dispatch::Dispatcher;
use super::ffi::{self, Interest};
use super::gate::Gate;
use super::mounts::{self, Coverage};
use super::sources::{Hold, Sources};
use super::statistics::Counters;
use super::tracker::{Tracker, WalkReason};
use super::{Options, SensorError, Source, procfs};

/// The time between two walks where there is no process connector.
const WALK_PERIOD: Duration = Duration::from_millis(50);

/// How long to wait for the marks. A file system that does not answer must not keep the sensor from
/// starting; it is marked when it does.
const MARKING_LIMIT: Duration = Duration::from_secs(5);

/// What the reader's thread is given.
pub(super) struct Task {
    pub(super) options: Options,
    pub(super) counters: Arc<Counters>,
    pub(super) dispatcher: Dispatcher,
    /// Written to when the sensor ends.
    pub(super) stop: Arc<File>,
    pub(super) faults: Arc<Mutex<Vec<String>>>,
    pub(super) coverage: Arc<Mutex<Coverage>>,
}

/// The sensor's threads, but for the workers.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) reader: Option<JoinHandle<()>>,
    pub(super) mounts: Option<JoinHandle<()>>,
    pub(super) watchdog: Option<JoinHandle<()>>,
}

/// What has come of the start.
pub(super) struct Started {
    pub(super) source: Source,
    pub(super) gate: Option<Arc<Gate>>,
    /// What is missing, and the cure.
    pub(super) missing: Vec<String>,
    pub(super) threads: Threads,
}

/// Starts the reader and its companions; returns when every later event is going to be seen.
pub(super) fn start(task: Task) -> Result<Started, SensorError> {
    let (report, reported) = mpsc::channel();
    let (marked, marks) = mpsc::channel();
    let kept = Arc::clone(&task.stop);
    let run = move |apart| {
        match open(&task, apart, marked) {
            Ok((mut reader, started)) => {
                // Nobody listens only if the starting thread is gone, and `stop` is written to
                // then.
                let _ = report.send(Ok(started));
                if let Err(error) = reader.run(&task.stop) {
                    task.note_fault("the reader", &error);
                }
            }
            Err(error) => drop(report.send(Err(error))),
        }
    };
    let thread = ffi::spawn_apart("sensor-reader", kept, run).map_err(SensorError::Resources)?;
    let gone = |_| SensorError::Resources(io::Error::other("the reader's thread is gone"));
    let mut started = reported.recv().map_err(gone)??;
    started.threads.reader = Some(thread);
    if started.gate.is_some() && marks.recv_timeout(MARKING_LIMIT).is_err() {
        let line = "exec hold: some file systems do not answer and are marked when they do";
        started.missing.push(String::from(line));
    }
    Ok(started)
}

/// Opens the sources, takes note of what runs, and starts the companions.
fn open(
    task: &Task,
    apart: io::Result<()>,
    marked: Sender<()>,
) -> Result<(Reader, Started), SensorError> {
    let Sources {
        connector,
        hold,
        missing,
    } = Sources::open(&task.options, apart, &task.counters)?;
    let mut exempt: HashSet<u32> = task.options.exempt.iter().copied().collect();
    exempt.insert(std::process::id());
    let mut tracker = Tracker::new(task.dispatcher.clone(), Arc::clone(&task.counters), exempt);
    tracker.reconcile(
        &procfs::walk().map_err(SensorError::Procfs)?,
        WalkReason::First,
    );
    let mut threads = Threads::default();
    // However this thread ends, nobody would be let through by it any more.
    let closes = hold.as_ref().map(|hold| ClosesGate(Arc::clone(&hold.gate)));
    if let Some(hold) = &hold {
        threads.watchdog = Some(start_watchdog(task, hold)?);
        // From here on an error must end the watchdog.
        threads.mounts = Some(start_marking(task, hold, marked).inspect_err(|_| {
            hold.gate.finish();
        })?);
    }
    let source = if connector.is_some() {
        Source::Connector
    } else {
        Source::Procfs
    };
    let gate = hold.as_ref().map(|hold| Arc::clone(&hold.gate));
    let counters = Arc::clone(&task.counters);
    let reader = Reader {
        connector,
        hold,
        tracker,
        counters,
        _closes: closes,
    };
    Ok((
        reader,
        Started {
            source,
            gate,
            missing,
            threads,
        },
    ))
}

fn start_watchdog(task: &Task, hold: &Hold) -> Result<JoinHandle<()>, SensorError> {
    let Hold { gate, group } = hold.clone();
    let wakes = Wakes(Arc::clone(&task.stop));
    spawn("sensor-watchdog", move || {
        // If it ends before its time, the others end too, and the group with them.
        let _wakes = wakes;
        gate.watch(&group);
    })
}

fn start_marking(
    task: &Task,
    hold: &Hold,
    marked: Sender<()>,
) -> Result<JoinHandle<()>, SensorError> {
    let Hold { gate, group } = hold.clone();
    let (coverage, stop) = (Arc::clone(&task.coverage), Arc::clone(&task.stop));
    let faults = Arc::clone(&task.faults);
    spawn("sensor-mounts", move || {
        let holds = || !gate.has_given_up();
        let outcome = mounts::follow(&group, &stop, holds, |covered| {
            *coverage.lock().unwrap_or_else(PoisonError::into_inner) = covered;
            // Somebody listens the first time only.
            let _ = marked.send(());
        });
        if let Err(error) = outcome {
            note(&faults, "the follower of the mounts", &error);
        }
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SensorError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(SensorError::Resources)
}

impl Task {
    fn note_fault(&self, who: &str, error: &io::Error) {
        note(&self.faults, who, error);
    }
}

fn note(faults: &Mutex<Vec<String>>, who: &str, error: &io::Error) {
    let fault = format!("{who} has ended: {error}; start the sensor again");
    faults
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(fault);
}

/// Writes to the counter that ends the others.
struct Wakes(Arc<File>);

impl Drop for Wakes {
    fn drop(&mut self) {
        // A counter refuses a write only when it is full, and then it wakes as well.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }
}

/// Closes the gate when it goes.
struct ClosesGate(Arc<Gate>);

impl Drop for ClosesGate {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The thread that reads.
struct Reader {
    connector: Option<Connector>,
    hold: Option<Hold>,
    tracker: Tracker,
    counters: Arc<Counters>,
    _closes: Option<ClosesGate>,
}

impl Reader {
    /// Reads until the sensor ends.
    fn run(&mut self, stop: &File) -> io::Result<()> {
        let Reader {
            connector,
            hold,
            tracker,
            counters,
            ..
        } = self;
        match connector {
            None => walk_until(stop, tracker),
            Some(connector) => Events {
                connector,
                tracker,
                counters,
            }
            .read_until(stop, hold.as_ref()),
        }
    }
}

fn walk_until(stop: &File, tracker: &mut Tracker) -> io::Result<()> {
    loop {
        let wanted = [Interest::Read(stop.as_fd())];
        if let [true] = ffi::wait_readable(wanted, Some(WALK_PERIOD))? {
            return Ok(());
        }
        tracker.reconcile(&procfs::walk()?, WalkReason::Period);
        tracker.end_graces(Instant::now());
    }
}

struct Events<'a> {
    connector: &'a mut Connector,
    tracker: &'a mut Tracker,
    counters: &'a Counters,
}

impl Events<'_> {
    /// Reads before it waits: what came while the connector subscribed does not make it readable.
    fn read_until(&mut self, stop: &File, hold: Option<&Hold>) -> io::Result<()> {
        loop {
            if let Some(hold) = hold {
                hold.gate.round_begins();
            }
            // First what is held, which the watchdog guards from then on, then all that happened
            // before: the thread that is held has told the connector nothing since.
            let read = |hold: &Hold| hold.gate.read(&hold.group);
            let arrivals = hold.map(read).unwrap_or_default();
            self.drain()?;
            for arrival in arrivals {
                self.tracker.held(arrival);
            }
            self.tracker.end_graces(Instant::now());
            if let Some(hold) = hold {
                hold.gate.round_ends();
            }
            if self.wait(stop, hold)? {
                return Ok(());
            }
        }
    }

    /// Waits for events or the end of a grace; true if the sensor ends.
    fn wait(&self, stop: &File, hold: Option<&Hold>) -> io::Result<bool> {
        let next = self.tracker.next_grace();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        let stop = Interest::Read(stop.as_fd());
        let connector = Interest::Read(self.connector.as_fd());
        let [stopped, ..] = match hold {
            Some(hold) => {
                let group = Interest::Read(hold.group.as_fd());
                ffi::wait_readable([stop, connector, group], timeout)?
            }
            None => ffi::wait_readable([stop, connector, stop], timeout)?,
        };
        Ok(stopped)
    }

    /// Reads all that the connector has, and puts right what it has lost.
    fn drain(&mut self) -> io::Result<()> {
        let mut overrun = false;
        loop {
            match self.connector.receive()? {
                Received::Event(event) => self.tracker.event(event),
                Received::Other => {}
                Received::Empty => break,
                Received::Overrun => {
                    self.counters.overruns.add_one();
                    overrun = true;
                }
            }
        }
        if overrun {
            self.tracker
                .reconcile(&procfs::walk()?, WalkReason::Overrun);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Delivery;
    use super::super::{ProcessEvents, ProcessExit, ProcessStart, Verdict};
    use super::*;

    struct Nobody;

    impl ProcessEvents for Nobody {
        fn running(&self, _process: ProcessStart) {}

        fn start(&self, _start: ProcessStart) -> Verdict {
            Verdict::Allow
        }

        fn exit(&self, _exit: ProcessExit) {}
    }

    #[test]
    fn what_came_while_the_connector_subscribed_waits_for_nothing() {
        let counters = Arc::new(Counters::default());
        let delivery = Delivery {
            events: Arc::new(Nobody),
            counters: Arc::clone(&counters),
        };
        let dispatcher = Dispatcher::new(delivery).unwrap();
        let mut tracker = Tracker::new(dispatcher, Arc::clone(&counters), HashSet::new());
        let mut events = Events {
            connector: &mut Connector::that_has_lost([]),
            tracker: &mut tracker,
            counters: &counters,
        };
        // The end of a pipe whose other end is closed is readable.
        let (stop, other) = io::pipe().unwrap();
        drop(other);
        let stop = File::from(std::os::fd::OwnedFd::from(stop));
        events.read_until(&stop, None).unwrap();
        assert_eq!(counters.snapshot().overruns, 1);
    }
}
