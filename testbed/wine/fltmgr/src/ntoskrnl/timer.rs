// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers with a DPC. Wine would call the routine itself, from a thread of its own, and its timers
//! deadlock if one is set anew while that call ends. Timers without a DPC stay Wine's.
//!
//! Nobody can wait for a timer with a DPC here: its object is not signalled.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use fltport_nt::bindings::{KTIMER, KeCancelTimer, KeSetTimerEx};
use fltport_nt::ke::SpinLock;

use super::dpc::{self, Dpc};
use super::time;
use crate::event::{Event, Kind};
use crate::work;

const MILLISECOND: u64 = 10_000;

struct Timers {
    /// What is set, soonest first: when, the timer.
    due: BTreeSet<(u64, usize)>,
    /// All that were set with a DPC the last time, by their addresses.
    known: BTreeMap<usize, Setting>,
    /// Wakes the thread that waits for the first; there is one while it exists.
    wake: Option<alloc::sync::Arc<Event>>,
}

#[derive(Clone, Copy)]
struct Setting {
    dpc: usize,
    period: u64,
    /// When it is due, if it is set.
    due: Option<u64>,
}

static TIMERS: SpinLock<Timers> = SpinLock::new(Timers {
    due: BTreeSet::new(),
    known: BTreeMap::new(),
    wake: None,
});

impl Timers {
    /// Takes a timer back; whether it was set.
    fn clear(&mut self, timer: usize) -> bool {
        let due = self.known.get_mut(&timer).and_then(|it| it.due.take());
        due.is_some_and(|due| self.due.remove(&(due, timer)))
    }

    /// Takes a timer back for good: it is Wine's from now on. Whether it was set.
    fn forget(&mut self, timer: usize) -> bool {
        let was_set = self.clear(timer);
        self.known.remove(&timer);
        was_set
    }

    fn set(&mut self, timer: usize, setting: Setting) {
        self.due.extend(setting.due.map(|due| (due, timer)));
        self.known.insert(timer, setting);
    }

    /// Takes the DPCs of all timers that are due; those with a period are set anew.
    fn expire(&mut self, now: u64) -> Vec<usize> {
        let mut dpcs = Vec::new();
        while let Some((due, timer)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.clear(timer);
            let Some(setting) = self.known.get(&timer).copied() else {
                continue;
            };
            dpcs.push(setting.dpc);
            if setting.period > 0 {
                let due = Some(due.saturating_add(setting.period));
                self.set(timer, Setting { due, ..setting });
            }
        }
        dpcs
    }
}

pub(super) unsafe extern "system" fn set(
    timer: *mut KTIMER,
    due: i64,
    period: i32,
    dpc: *mut Dpc,
) -> bool {
    if dpc.is_null() {
        let was_set = TIMERS.lock().forget(timer as usize);
        // SAFETY: the caller passes an initialised timer. Wine's own function.
        return unsafe { KeSetTimerEx(timer, due, period, core::ptr::null()) } || was_set;
    }
    let now = time::interrupt_time();
    let wait = match due {
        relative if relative <= 0 => relative.unsigned_abs(),
        absolute => (absolute - time::system_time()).max(0).unsigned_abs(),
    };
    let setting = Setting {
        dpc: dpc as usize,
        period: u64::from(period.max(0).unsigned_abs()) * MILLISECOND,
        due: Some(now.saturating_add(wait)),
    };
    let mut timers = TIMERS.lock();
    let was_set = timers.clear(timer as usize);
    timers.set(timer as usize, setting);
    let running = timers.wake.clone();
    if running.is_none() {
        timers.wake = Some(alloc::sync::Arc::new(Event::of(Kind::Synchronization)));
    }
    drop(timers);
    match running {
        Some(wake) => wake.set(),
        None => work::queue(run),
    }
    was_set
}

pub(super) unsafe extern "system" fn cancel(timer: *mut KTIMER) -> bool {
    let mut timers = TIMERS.lock();
    if timers.known.contains_key(&(timer as usize)) {
        return timers.clear(timer as usize);
    }
    drop(timers);
    // SAFETY: the caller passes an initialised timer. Wine's own function.
    unsafe { KeCancelTimer(timer) }
}

/// Waits for timers and queues their DPCs, until none is set.
fn run() {
    loop {
        let mut timers = TIMERS.lock();
        let now = time::interrupt_time();
        let dpcs = timers.expire(now);
        let first = timers.due.first().map(|(due, _)| *due);
        let wake = match first {
            Some(_) => timers.wake.clone(),
            None if dpcs.is_empty() => timers.wake.take().and(None),
            None => None,
        };
        drop(timers);
        if dpcs.is_empty() && first.is_none() {
            return;
        }
        for dpc in dpcs {
            // SAFETY: the driver keeps its DPC as long as its timer is set, which it was a moment
            // ago; NT, too, may queue it while the driver cancels the timer.
            unsafe {
                dpc::insert(
                    dpc as *mut Dpc,
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                )
            };
        }
        if let (Some(wake), Some(due)) = (wake, first) {
            wake.wait(Some(due.saturating_sub(now)));
        }
    }
}
