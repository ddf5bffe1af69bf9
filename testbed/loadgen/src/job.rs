// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job: threads or a DPC that do their share, and one account of what they did.

use crate::deferred::Burst;
use crate::load::TAG;
use crate::messages::{JobReport, MAX_THREADS};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use fltport_abi::account::Outcome;
use fltport_nt::Result;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::{Dpc, Event, EventKind, Timeout, interrupt_time};
use fltport_nt::ps::SystemThread;

/// A job that has been started. Dropping it (IRQL: PASSIVE_LEVEL) ends it and waits for it.
pub(crate) struct Job {
    // Waited for, after `drop` has told them to end.
    _threads: [Option<SystemThread>; MAX_THREADS],
    _dpc: Option<Dpc<Burst>>,
    progress: PoolArc<Progress>,
}

/// What a job's threads share, and what is told of it.
pub(crate) struct Progress {
    /// The job.
    pub(crate) number: u32,
    /// Shares that have not come to their end.
    running: AtomicU32,
    cancelled: AtomicBool,
    ended: Event,
    begun: u64,
    elapsed: AtomicU64,
    counts: Counts,
}

/// Counters of a [`JobReport`].
#[derive(Default)]
struct Counts {
    done: AtomicU64,
    refused: AtomicU64,
    answered: AtomicU64,
    missed: AtomicU64,
    defaulted: AtomicU64,
    disconnected: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
    unbooked: AtomicU64,
    longest: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Job {
    /// IRQL: PASSIVE_LEVEL. A job whose shares are done by system threads: `share` makes what the
    /// thread of this number runs.
    pub(crate) fn in_threads<T: Send + Sync + 'static>(
        progress: PoolArc<Progress>,
        count: u32,
        share: impl Fn(u32) -> Result<T>,
        run: fn(&T),
    ) -> Result<Job> {
        let mut job = Job {
            _threads: [const { None }; MAX_THREADS],
            _dpc: None,
            progress,
        };
        for (place, number) in job._threads.iter_mut().zip(0..count) {
            // An error drops the job, which waits for the threads that run already.
            let context = PoolArc::new(TAG, share(number)?)?;
            *place = Some(SystemThread::spawn(TAG, context, run)?);
        }
        Ok(job)
    }

    /// A job that a DPC does.
    pub(crate) fn in_a_dpc(progress: PoolArc<Progress>, dpc: Dpc<Burst>) -> Job {
        Job {
            _threads: [const { None }; MAX_THREADS],
            _dpc: Some(dpc),
            progress,
        }
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> &PoolArc<Progress> {
        &self.progress
    }

    /// IRQL: any. Whether all shares have come to their end.
    pub(crate) fn has_ended(&self) -> bool {
        self.progress.running.load(Ordering::Acquire) == 0
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.progress.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Progress {
    /// IRQL: <= DISPATCH_LEVEL. Of a job with so many shares.
    pub(crate) fn new(number: u32, shares: u32) -> Result<PoolArc<Self>> {
        let progress = Progress {
            number,
            running: AtomicU32::new(shares),
            cancelled: AtomicBool::new(false),
            ended: Event::new(TAG, EventKind::Notification)?,
            begun: interrupt_time(),
            elapsed: AtomicU64::new(0),
            counts: Counts::default(),
        };
        PoolArc::new(TAG, progress)
    }

    /// IRQL: any. Whether its shares are to come to their end early.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// IRQL: <= DISPATCH_LEVEL. A notification has been offered.
    pub(crate) fn offered(&self, told: Result<()>) {
        add(&self.counts.done);
        if told.is_err() {
            add(&self.counts.refused);
        }
    }

    /// IRQL: any. There was no room to be booked.
    pub(crate) fn unbooked(&self) {
        add(&self.counts.unbooked);
    }

    /// IRQL: any. A question has been answered, in so many 100-nanosecond intervals; whether by
    /// what belongs to it.
    pub(crate) fn asked(&self, outcome: Outcome, right: bool, took: u64) {
        let counts = &self.counts;
        add(&counts.done);
        add(match outcome {
            Outcome::Answered => &counts.answered,
            Outcome::Missed => &counts.missed,
            Outcome::NoDecider | Outcome::CircuitOpen => &counts.defaulted,
            Outcome::Disconnected => &counts.disconnected,
            Outcome::FromDecider | Outcome::BadReply | Outcome::Failed => &counts.failed,
        });
        if !right {
            add(&counts.wrong);
        }
        counts.longest.fetch_max(took, Ordering::Relaxed);
    }

    /// IRQL: <= DISPATCH_LEVEL. A share has come to its end.
    pub(crate) fn share_ended(&self) {
        let elapsed = interrupt_time().saturating_sub(self.begun);
        self.elapsed.fetch_max(elapsed, Ordering::Relaxed);
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ended.set();
        }
    }

    /// IRQL: <= APC_LEVEL. Waits for the end; the account, or `None` if the time was over first.
    pub(crate) fn wait(&self, timeout: Timeout) -> Option<JobReport> {
        let counts = &self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.ended.wait(timeout).then(|| JobReport {
            done: read(&counts.done),
            refused: read(&counts.refused),
            answered: read(&counts.answered),
            missed: read(&counts.missed),
            defaulted: read(&counts.defaulted),
            disconnected: read(&counts.disconnected),
            failed: read(&counts.failed),
            wrong: read(&counts.wrong),
            unbooked: read(&counts.unbooked),
            longest_us: read(&counts.longest) / 10,
            elapsed_us: read(&self.elapsed) / 10,
        })
    }
}
