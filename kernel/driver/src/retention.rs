// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that ends streams whose service has not come back in time. It is started with the
//! first stream, and sleeps until the next one is over.

use crate::driver::Driver;
use crate::tag;
use fltport_abi::limits::MAX_RETENTION_MS;
use fltport_nt::Result;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::{Event, EventKind, Timeout, interrupt_time, wait_any};
use fltport_nt::ps::SystemThread;

/// The thread. Dropping it ends the thread and waits for it.
pub(crate) struct Retention {
    // Dropped after `drop` has told it to stop.
    _thread: SystemThread,
    signals: PoolArc<Signals>,
}

struct Signals {
    driver: PoolArc<Driver>,
    /// A stream has lost its connection, or is over before its time.
    changed: Event,
    stop: Event,
}

impl Retention {
    /// IRQL: PASSIVE_LEVEL. Starts the thread if it does not run yet.
    pub(crate) fn ensure(driver: &PoolArc<Driver>) -> Result<()> {
        let runs = driver.retention().lock().is_some();
        if runs {
            return Ok(());
        }
        let fresh = Retention::start(driver)?;
        // Another service may have been faster; what is not needed is dropped, and joined, after
        // the mutex has been released.
        let spare = {
            let mut place = driver.retention().lock();
            match place.is_some() {
                true => Some(fresh),
                false => place.replace(fresh),
            }
        };
        drop(spare);
        Ok(())
    }

    fn start(driver: &PoolArc<Driver>) -> Result<Self> {
        let signals = PoolArc::new(
            tag::DRIVER,
            Signals {
                driver: driver.clone(),
                changed: Event::new(tag::DRIVER, EventKind::Synchronization)?,
                stop: Event::new(tag::DRIVER, EventKind::Notification)?,
            },
        )?;
        let thread = SystemThread::spawn(tag::DRIVER, signals.clone(), Signals::run)?;
        Ok(Retention {
            _thread: thread,
            signals,
        })
    }

    /// IRQL: <= DISPATCH_LEVEL. Has it look anew which stream is over next.
    pub(crate) fn look(&self) {
        self.signals.changed.set();
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.signals.stop.set();
    }
}

impl Signals {
    fn run(&self) {
        while wait_any([&self.stop, &self.changed], self.until_next()) != Some(0) {
            self.driver.end_streams_that_are_over();
        }
    }

    /// How long to sleep at most: until the next stream is over.
    fn until_next(&self) -> Timeout {
        let next = self.driver.routes().lock().next_stream_to_end();
        let left = next.map_or(u64::MAX, |next| next.saturating_sub(interrupt_time()));
        let ms = left.div_ceil(10_000).min(MAX_RETENTION_MS.into());
        Timeout::from_millis(ms as u32)
    }
}
