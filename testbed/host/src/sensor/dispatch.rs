// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers: each process's sightings in order and one at a time, different processes side by side.
//!
//! A process has a slot with its queue. A slot with work stands in the line of ready slots once; a
//! worker takes its first sighting and its state out, works without the lock, and puts the state
//! back. Workers are added while there is more work than idle workers, because a callback may
//! block; idle ones end. They are made by a thread of their own, the foreman, because a thread has
//! the descriptors of the one that makes it, and the reader's are not the program's (see `group`).
//!
//! Lock order: `table`, then an image cell. No callback runs, and nothing is dropped that may
//! answer an exec, under `table`.

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::process::{self, Birth, Delivery, Image, ImageCell, Origin, Process, Sighting};
use super::procfs::Status;
use super::{ProcessStart, StartCause};

/// So many callbacks may block at once; what comes then waits (and is let through by the watchdog).
const MOST_WORKERS: usize = 256;
/// The foreman and two workers do not end, so that work never depends on a thread that cannot be
/// made.
const LASTING: usize = 3;
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// The workers and their work.
#[derive(Clone)]
pub(super) struct Dispatcher(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// Work has come, or the end.
    work: Condvar,
    /// A worker is wanted, or the end has come.
    hire: Condvar,
    /// A worker has ended.
    ended: Condvar,
    delivery: Delivery,
}

#[derive(Default)]
struct Table {
    slots: HashMap<u32, Slot>,
    ready: VecDeque<u32>,
    /// The threads there are, the foreman and those that are wanted included.
    workers: usize,
    wanted: usize,
    idle: usize,
    stopping: bool,
}

#[derive(Default)]
struct Slot {
    queue: VecDeque<Sighting>,
    /// In the line, or in a worker's hands.
    scheduled: bool,
    process: Option<Process>,
    /// The image of the latest process of this pid.
    image: ImageCell,
}

impl Dispatcher {
    /// Starts the foreman and the lasting workers.
    pub(super) fn new(delivery: Delivery) -> std::io::Result<Dispatcher> {
        let shared = Arc::new(Shared {
            table: Mutex::default(),
            work: Condvar::new(),
            hire: Condvar::new(),
            ended: Condvar::new(),
            delivery,
        });
        let dispatcher = Dispatcher(Arc::clone(&shared));
        shared.table().workers += LASTING;
        let foreman = shared.start_thread("sensor-foreman", Shared::lead);
        let workers = (1..LASTING).map(|_| shared.start_thread("sensor-worker", Shared::work));
        // All are tried, so that each gives its place back if it cannot be had.
        match workers.fold(foreman, |before, now| before.and(now)) {
            Ok(()) => Ok(dispatcher),
            Err(error) => {
                dispatcher.stop();
                Err(error)
            }
        }
    }

    /// A process that runs `image` is known from now on; `status` unless it has just ended.
    pub(super) fn running(&self, pid: u32, serial: u64, image: Image, status: Option<Status>) {
        // Here and now: when the sensor has started, all that ran are known.
        if let Some(status) = status {
            self.0.delivery.running(ProcessStart {
                pid,
                parent_pid: status.parent,
                creating_pid: 0,
                creating_tid: 0,
                uid: Some(status.uid),
                image: image.path.clone(),
                command_line: image.command_line.clone(),
                held: false,
                how: StartCause::RanBefore,
            });
        }
        let image = ImageCell::new(Arc::new(image));
        let birth = Birth {
            origin: Origin::Running,
            serial,
            corrects: false,
            image,
        };
        self.born(pid, birth);
    }

    /// A process was created and runs what `creator` runs at this moment.
    pub(super) fn forked(
        &self,
        pid: u32,
        creator: u32,
        origin: Origin,
        serial: u64,
        corrects: bool,
    ) {
        let image = ImageCell::new(self.image_of(creator));
        self.born(
            pid,
            Birth {
                origin,
                serial,
                corrects,
                image,
            },
        );
    }

    fn born(&self, pid: u32, birth: Birth) {
        self.0.table().slots.entry(pid).or_default().image = birth.image.clone();
        self.post(pid, Sighting::Birth(birth));
    }

    /// What a process runs, as far as it is known.
    pub(super) fn image_of(&self, pid: u32) -> Arc<Image> {
        self.0
            .table()
            .slots
            .get(&pid)
            .map(|slot| slot.image.get())
            .unwrap_or_default()
    }

    /// Queues a sighting. Never waits for a callback.
    pub(super) fn post(&self, pid: u32, sighting: Sighting) {
        let mut table = self.0.table();
        if table.stopping {
            drop(table);
            drop(sighting);
            return;
        }
        let slot = table.slots.entry(pid).or_default();
        slot.queue.push_back(sighting);
        if slot.scheduled {
            return;
        }
        slot.scheduled = true;
        table.ready.push_back(pid);
        let unserved = table.idle + table.wanted < table.ready.len();
        if unserved && table.workers < MOST_WORKERS {
            table.workers += 1;
            table.wanted += 1;
            self.0.hire.notify_one();
        }
        drop(table);
        self.0.work.notify_one();
    }

    /// Drops what is queued, which lets held execs through, and waits for the callbacks that run.
    pub(super) fn stop(&self) {
        let mut table = self.0.table();
        table.stopping = true;
        table.ready.clear();
        let slots = std::mem::take(&mut table.slots);
        drop(table);
        drop(slots);
        self.0.work.notify_all();
        self.0.hire.notify_all();
        let mut table = self.0.table();
        while table.workers > 0 {
            table = self
                .0
                .ended
                .wait(table)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A worker's place in the count, given back when its thread ends, by a panic too.
struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.table().workers -= 1;
        self.0.ended.notify_all();
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // No code under this lock can leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that the table counts already; takes the count back if it cannot be had.
    fn start_thread(self: &Arc<Self>, name: &str, run: fn(&Arc<Shared>)) -> std::io::Result<()> {
        let seat = Seat(Arc::clone(self));
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || run(&seat.0)).map(drop)
    }

    /// The foreman.
    fn lead(self: &Arc<Self>) {
        let mut table = self.table();
        while !table.stopping {
            if table.wanted == 0 {
                table = self
                    .hire
                    .wait(table)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            table.wanted -= 1;
            drop(table);
            // If there is no thread to be had, the work waits for a worker that is busy now, and
            // the watchdog guards what is held.
            let _ = self.start_thread("sensor-worker", Shared::work);
            table = self.table();
        }
        table.workers -= std::mem::take(&mut table.wanted);
    }

    /// A worker.
    fn work(self: &Arc<Self>) {
        let mut table = self.table();
        while !table.stopping {
            let Some(pid) = table.ready.pop_front() else {
                match self.wait(table) {
                    Some(woken) => table = woken,
                    None => return,
                }
                continue;
            };
            let Some(slot) = table.slots.get_mut(&pid) else {
                continue;
            };
            let (sighting, mut process) = (slot.queue.pop_front(), slot.process.take());
            drop(table);
            if let Some(sighting) = sighting {
                process::witness(&mut process, pid, sighting, &self.delivery);
            }
            table = self.table();
            table.put_back(pid, process);
        }
    }

    /// Waits for work; `None` if there was none for long and this worker is not needed.
    fn wait<'a>(&'a self, mut table: MutexGuard<'a, Table>) -> Option<MutexGuard<'a, Table>> {
        table.idle += 1;
        let result = self.work.wait_timeout(table, IDLE_LIMIT);
        let (mut table, timeout) = result.unwrap_or_else(PoisonError::into_inner);
        table.idle -= 1;
        let spare = table.workers > LASTING;
        (!(timeout.timed_out() && spare && table.ready.is_empty())).then_some(table)
    }
}

impl Table {
    fn put_back(&mut self, pid: u32, process: Option<Process>) {
        let Some(slot) = self.slots.get_mut(&pid) else {
            return;
        };
        slot.process = process;
        if !slot.queue.is_empty() {
            self.ready.push_back(pid);
            return;
        }
        slot.scheduled = false;
        if slot.process.is_none() {
            self.slots.remove(&pid);
        }
    }
}
