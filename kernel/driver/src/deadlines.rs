// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that completes asynchronous requests which nobody answers: at their deadline, or as
//! soon as it is known. It sleeps until the next one is over.

use crate::asynchronous::{Cursor, Step};
use crate::driver::Driver;
use crate::tag;
use fltport_abi::limits::MAX_DEADLINE_MS;
use fltport_nt::Result;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::{Event, EventKind, Timeout, interrupt_time, wait_any};
use fltport_nt::ps::SystemThread;

/// When the thread wakes. In the routes, under their lock.
pub(crate) struct Alarm {
    at: u64,
    event: Option<PoolArc<Event>>,
}

impl Alarm {
    pub(crate) const fn new() -> Self {
        Alarm {
            at: u64::MAX,
            event: None,
        }
    }

    /// There is something to do at this time (interrupt time): wakes the thread if it would sleep
    /// longer.
    pub(crate) fn set_before(&mut self, time: u64) {
        if time < self.at {
            self.at = time;
            if let Some(event) = &self.event {
                event.set();
            }
        }
    }
}

/// The thread. Dropping it ends the thread and waits for it.
pub(crate) struct Deadlines {
    // Dropped after `drop` has told it to stop.
    _thread: SystemThread,
    signals: PoolArc<Signals>,
}

struct Signals {
    driver: PoolArc<Driver>,
    alarm: PoolArc<Event>,
    stop: Event,
}

impl Deadlines {
    /// IRQL: PASSIVE_LEVEL, from DriverEntry. Starts the thread.
    pub(crate) fn start(driver: &PoolArc<Driver>) -> Result<Self> {
        let alarm = Event::new(tag::PENDING, EventKind::Synchronization)?;
        let alarm = PoolArc::new(tag::PENDING, alarm)?;
        let stop = Event::new(tag::PENDING, EventKind::Notification)?;
        let signals = Signals {
            driver: driver.clone(),
            alarm: alarm.clone(),
            stop,
        };
        let signals = PoolArc::new(tag::PENDING, signals)?;
        let thread = SystemThread::spawn(tag::PENDING, signals.clone(), Signals::run)?;
        driver.routes().lock().alarm.event = Some(alarm);
        Ok(Deadlines {
            _thread: thread,
            signals,
        })
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.signals.stop.set();
    }
}

impl Signals {
    fn run(&self) {
        loop {
            let next = self.complete_what_is_over();
            let left = next.saturating_sub(interrupt_time()).div_ceil(10_000);
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let timeout = Timeout::from_millis(left.min(MAX_DEADLINE_MS));
            if wait_any([&self.stop, &self.alarm], timeout) == Some(0) {
                return;
            }
        }
    }

    /// Completes what is over; when there will be more.
    fn complete_what_is_over(&self) -> u64 {
        let routes = self.driver.routes();
        // While it is awake, whatever comes sets the event, for it may come behind the walk.
        routes.lock().alarm.at = u64::MAX;
        let mut cursor = Cursor::default();
        let mut next = u64::MAX;
        loop {
            let step = routes.lock().step(&mut cursor, &mut next);
            match step {
                Step::Ended(ended) => ended.complete(),
                Step::More => {}
                Step::End => break,
            }
        }
        let mut routes = routes.lock();
        routes.alarm.at = routes.alarm.at.min(next);
        routes.alarm.at
    }
}
