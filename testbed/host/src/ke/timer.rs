// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers, and the thread that serves them and all deferred procedure calls, so that DPCs run one
//! after another, as on a machine with one processor.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::dpc::{Due, QueuedBy};
use super::header::{Header, kind};
use crate::abi::{KDPC, KTIMER, TIMER_TYPE};
use crate::clock::{self, Deadline};
use crate::driver::Driver;
use crate::entry::nt;
use crate::irql::{self, DISPATCH_LEVEL};
use crate::kernel::{self, State};
use crate::ps;
use crate::sched::{self, Waiter};
use crate::stack::Stack;
use crate::verifier::attribution;
use crate::verifier::{Report, Rule};

/// The value of NotificationTimer.
const NOTIFICATION_TIMER: TIMER_TYPE = 0;
const MILLISECOND: u64 = 10_000;

struct Timer {
    header: Header,
    due: Deadline,
    period: u64,
    dpc: usize,
    driver: Option<Arc<Driver>>,
    /// Where it was set.
    stack: Arc<Stack>,
}

#[derive(Default)]
struct Tables {
    timers: Vec<Timer>,
    served: bool,
    closed: bool,
    /// DPCs queued or running, in their order.
    pending: VecDeque<Due>,
    /// Whether the first of them runs. Its memory is the driver's again.
    runs: bool,
    /// How many DPCs have run.
    done: u64,
    /// Who waits until how many have.
    flushes: Vec<(u64, Arc<Waiter>)>,
}

/// The timers of one kernel.
#[derive(Default)]
pub(crate) struct Timers {
    tables: Mutex<Tables>,
    changed: Waiter,
}

impl Timers {
    fn set(&self, state: &Arc<State>, timer: Timer) -> bool {
        let mut tables = self.tables.lock();
        let was_set = tables.remove(timer.header.address()).is_some();
        timer.header.set_signal_state(0);
        tables.timers.push(timer);
        self.have_served(state, tables);
        was_set
    }

    /// Queues a DPC; false if it is queued already.
    pub(super) fn queue(&self, state: &Arc<State>, due: Due) -> bool {
        let mut tables = self.tables.lock();
        let queued = tables.queue(due);
        self.have_served(state, tables);
        queued
    }

    /// Wakes the thread that serves all this, or starts it.
    fn have_served(&self, state: &Arc<State>, mut tables: MutexGuard<'_, Tables>) {
        let start = !std::mem::replace(&mut tables.served, true);
        drop(tables);
        sched::wake(&self.changed);
        if start {
            let inner = state.clone();
            let system = state.processes.system();
            let body = move || inner.timers.serve(&inner);
            if ps::thread::start(state, system, None, body).is_err() {
                self.tables.lock().served = false;
            }
        }
    }

    fn cancel(&self, address: usize) -> bool {
        self.tables.lock().remove(address).is_some()
    }

    /// Whether a timer within a range of memory is set, or a DPC in it queued or to be queued. NT
    /// takes a DPC off its queue before it calls the routine, which may free it.
    pub(crate) fn is_set_within(&self, range: std::ops::Range<usize>) -> bool {
        let tables = self.tables.lock();
        tables
            .timers
            .iter()
            .any(|timer| range.contains(&timer.header.address()) || range.contains(&timer.dpc))
            || tables
                .pending
                .iter()
                .skip(usize::from(tables.runs))
                .any(|due| range.contains(&due.dpc))
    }

    /// Cancels the timers within memory that is freed, and those whose DPC lies there: neither may
    /// be looked at any more.
    pub(crate) fn forget_within(&self, range: &std::ops::Range<usize>) {
        self.tables.lock().timers.retain(|timer| {
            !range.contains(&timer.header.address()) && !range.contains(&timer.dpc)
        });
    }

    /// Reports the timers that `driver` left set, and cancels them; and its DPCs that are queued
    /// or run.
    pub(crate) fn report_left_by(&self, driver: &Arc<Driver>) {
        let mut tables = self.tables.lock();
        let of_driver = |timer: &mut Timer| attribution::is(timer.driver.as_ref(), driver);
        let left: Vec<Timer> = tables.timers.extract_if(.., of_driver).collect();
        let of_driver = |due: &&Due| attribution::is(due.driver.as_ref(), driver);
        let queued: Vec<Due> = tables.pending.iter().filter(of_driver).cloned().collect();
        drop(tables);
        for timer in left {
            Report::new(Rule::TimerLeft)
                .driver(Some(driver.name()))
                .function("KeSetTimerEx")
                .expected("KeCancelTimer before the driver is unloaded")
                .found(format!("the timer at {:#x} is set", timer.header.address()))
                .made_at(Stack::clone(&timer.stack))
                .file();
        }
        for due in queued {
            Report::new(Rule::DpcLeft)
                .driver(Some(driver.name()))
                .function(due.by.function())
                .expected(due.by.expected())
                .found(format!("the DPC at {:#x} is queued or runs", due.dpc))
                .detail(due.by.detail())
                .made_at(Stack::clone(&due.stack))
                .file();
        }
    }

    /// Lets the thread end.
    pub(crate) fn close(&self) {
        self.tables.lock().closed = true;
        sched::wake(&self.changed);
    }

    fn serve(&self, state: &State) {
        loop {
            let mut tables = self.tables.lock();
            if tables.closed {
                return;
            }
            tables.expire(state);
            let next = tables.timers.iter().map(|timer| timer.due).min();
            let due = tables.pending.front().cloned();
            tables.runs = due.is_some();
            drop(tables);
            let Some(due) = due else {
                sched::block(&self.changed, next);
                continue;
            };
            due.run();
            let mut tables = self.tables.lock();
            tables.runs = false;
            tables.pending.pop_front();
            tables.done += 1;
            for (wanted, flush) in &tables.flushes {
                if tables.done >= *wanted {
                    sched::wake(flush);
                }
            }
        }
    }

    /// Waits until the DPCs that are queued now have run, and the one that runs. At DISPATCH_LEVEL,
    /// where nobody may wait and the caller may be a DPC itself, it does not.
    pub(super) fn flush(&self) {
        if irql::current() >= DISPATCH_LEVEL {
            return;
        }
        let waiter = Arc::new(Waiter::new());
        let mut tables = self.tables.lock();
        let wanted = tables.done + tables.pending.len() as u64;
        tables.flushes.push((wanted, waiter.clone()));
        while tables.done < wanted {
            drop(tables);
            sched::block(&waiter, None);
            tables = self.tables.lock();
        }
        tables
            .flushes
            .retain(|(_, other)| !Arc::ptr_eq(other, &waiter));
    }
}

impl Tables {
    fn remove(&mut self, address: usize) -> Option<Timer> {
        let index = self
            .timers
            .iter()
            .position(|timer| timer.header.address() == address)?;
        Some(self.timers.swap_remove(index))
    }

    /// Queues a DPC; false if it is queued already. One that runs is not.
    fn queue(&mut self, due: Due) -> bool {
        let mut queued = self.pending.iter().skip(usize::from(self.runs));
        let is_new = !queued.any(|other| other.dpc == due.dpc);
        if is_new {
            self.pending.push_back(due);
        }
        is_new
    }

    /// Signals the timers whose time has come and queues their DPCs. Under the lock, so that a timer
    /// is not touched after KeCancelTimer has returned.
    fn expire(&mut self, state: &State) {
        let now = Deadline(clock::unbiased_interrupt_time());
        let mut expired: Vec<Timer> = self
            .timers
            .extract_if(.., |timer| timer.due <= now)
            .collect();
        expired.sort_by_key(|timer| timer.due);
        for mut timer in expired {
            state.dispatcher.signal(timer.header);
            // False means that it has not run since the timer queued it last, as on NT.
            let _queued = timer.deferred().map(|due| self.queue(due));
            if timer.period > 0 {
                timer.due = Deadline(timer.due.0 + timer.period);
                self.timers.push(timer);
            }
        }
    }
}

impl Timer {
    /// The DPC that it queues.
    fn deferred(&self) -> Option<Due> {
        let dpc = self.dpc as *const KDPC;
        if dpc.is_null() {
            return None;
        }
        let by = QueuedBy::Timer;
        // SAFETY: the driver keeps the DPC as long as the timer is set.
        unsafe { Due::new(dpc, by, self.driver.clone(), self.stack.clone()) }
    }
}

nt! {
    /// Initialises a timer in place.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeInitializeTimerEx(timer: *mut KTIMER, kind: TIMER_TYPE) {
        let kind = if kind == NOTIFICATION_TIMER {
            kind::NOTIFICATION_TIMER
        } else {
            kind::SYNCHRONIZATION_TIMER
        };
        if kernel::state().timers.cancel(timer as usize) {
            Report::new(Rule::TimerLeft)
                .expected("a timer that is not set")
                .found("a timer that is set was initialised again")
                .file();
        }
        // SAFETY: the caller passes memory for a timer, of which the header is the first part.
        unsafe { Header::initialize(timer.cast(), kind, size_of::<KTIMER>(), 0) };
    }

    /// Sets a timer: due at a time (negative: relative to now), then every `period` milliseconds
    /// unless that is zero. Returns whether it was set before.
    simplified = "one thread expires all timers and runs their DPCs one after the other; an absolute \
        time is converted once, so that a later step of the wall clock does not move it; a time is \
        not rounded up to a tick of the clock";
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeSetTimerEx(
        timer: *mut KTIMER,
        due: i64,
        period: i32,
        dpc: *const KDPC,
    ) -> bool {
        // SAFETY: the caller passes a timer.
        let Some(header) = (unsafe { Header::at(timer.cast_const().cast()) }) else {
            return false;
        };
        let state = kernel::state();
        let timer = Timer {
            header,
            due: Deadline::from_timeout(due),
            period: u64::from(period.unsigned_abs()) * MILLISECOND,
            dpc: dpc as usize,
            driver: attribution::responsible(),
            stack: Arc::new(Stack::capture()),
        };
        state.timers.set(&state, timer)
    }

    /// Stops a timer; returns whether it was set. Its DPC may still be queued: KeFlushQueuedDpcs.
    max_irql = DISPATCH_LEVEL;
    pub unsafe fn KeCancelTimer(timer: *mut KTIMER) -> bool {
        kernel::state().timers.cancel(timer as usize)
    }
}
