// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system's worker threads.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::driver::Driver;
use crate::kernel::State;
use crate::ps;
use crate::sched::{self, Blocked, Waiter};
use crate::verifier::attribution;

/// As many workers as there can be.
const MOST_WORKERS: usize = 64;

/// Something to be done by a worker thread.
struct Job {
    driver: Option<Arc<Driver>>,
    body: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Tables {
    jobs: VecDeque<Job>,
    idle: Vec<Arc<Waiter>>,
    workers: usize,
    /// The drivers whose jobs are queued or run, one entry for each job.
    busy: Vec<Option<Arc<Driver>>>,
    drains: Vec<Arc<Waiter>>,
    closed: bool,
}

/// The work queue of one kernel.
#[derive(Default)]
pub(crate) struct WorkQueue(Mutex<Tables>);

impl WorkQueue {
    /// Queues a job.
    pub(crate) fn push(
        &self,
        state: &Arc<State>,
        driver: Option<Arc<Driver>>,
        body: Box<dyn FnOnce() + Send>,
    ) {
        let mut tables = self.0.lock();
        tables.busy.push(driver.clone());
        tables.jobs.push_back(Job { driver, body });
        if let Some(idle) = tables.idle.pop() {
            sched::wake(&idle);
            return;
        }
        if tables.workers >= MOST_WORKERS {
            return;
        }
        tables.workers += 1;
        drop(tables);
        let worker_state = state.clone();
        let system = state.processes.system();
        let body = move || worker_state.work_queue.serve();
        if ps::thread::start(state, system, None, body).is_err() {
            self.0.lock().workers -= 1;
        }
    }

    /// Does jobs until the queue is closed.
    fn serve(&self) {
        let waiter = Arc::new(Waiter::new());
        let mut tables = self.0.lock();
        while !tables.closed {
            if let Some(job) = tables.jobs.pop_front() {
                drop(tables);
                (job.body)();
                tables = self.0.lock();
                tables.done(job.driver.as_ref());
            } else {
                tables.idle.push(waiter.clone());
                drop(tables);
                sched::block(&waiter, None);
                tables = self.0.lock();
            }
        }
    }

    /// Waits until no job of `driver` is queued or runs; false if that takes longer than `limit`
    /// (100 ns) from one end of a job to the next.
    pub(crate) fn drain(&self, driver: &Arc<Driver>, limit: u64) -> bool {
        let waiter = Arc::new(Waiter::new());
        self.0.lock().drains.push(waiter.clone());
        let mut drained = false;
        loop {
            if !self.0.lock().is_busy_with(driver) {
                drained = true;
                break;
            }
            if sched::expect(&waiter, limit) == Blocked::TimedOut {
                break;
            }
        }
        self.0
            .lock()
            .drains
            .retain(|other| !Arc::ptr_eq(other, &waiter));
        drained
    }

    /// Lets the workers end.
    pub(crate) fn close(&self) {
        let mut tables = self.0.lock();
        tables.closed = true;
        tables.jobs.clear();
        for idle in std::mem::take(&mut tables.idle) {
            sched::wake(&idle);
        }
    }
}

impl Tables {
    fn is_busy_with(&self, driver: &Arc<Driver>) -> bool {
        self.busy
            .iter()
            .any(|busy| attribution::is(busy.as_ref(), driver))
    }

    fn done(&mut self, driver: Option<&Arc<Driver>>) {
        let same = |busy: &Option<Arc<Driver>>| match (busy, driver) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if let Some(index) = self.busy.iter().position(same) {
            self.busy.swap_remove(index);
        }
        self.drains.iter().for_each(|drain| sched::wake(drain));
    }
}
