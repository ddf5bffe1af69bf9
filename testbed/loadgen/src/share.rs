// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one thread does of a job.

use crate::job::{Job, Progress};
use crate::load::{self, Load};
use crate::messages::MAX_THREADS;
use fltport_client::Provider;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::PoolArc;
use fltport_nt::{NtError, Result};

/// One thread's share of a job.
pub(crate) struct Share<T> {
    /// The provider that does it.
    pub(crate) place: usize,
    pub(crate) progress: PoolArc<Progress>,
    pub(crate) thread: u32,
    /// How many times.
    pub(crate) count: u64,
    /// What the job needs besides.
    pub(crate) what: T,
    run: Run<T>,
}

/// Does a thread's share.
pub(crate) type Run<T> = fn(&Share<T>, &Provider<Load>);

/// IRQL: PASSIVE_LEVEL. Starts a job in which so many threads do something `count` times in all; its
/// number.
pub(crate) fn start<T: Copy + Send + Sync + 'static>(
    load: &Load,
    threads: u32,
    count: u64,
    what: T,
    run: Run<T>,
) -> Result<u32> {
    let _starting = load.begin()?;
    if threads == 0 || threads as usize > MAX_THREADS {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let progress = Progress::new(load.number(), threads)?;
    let number = progress.number;
    let share = |thread| {
        Ok(Share {
            place: load.place,
            progress: progress.clone(),
            thread,
            count: part(count, threads, thread),
            what,
            run,
        })
    };
    let job = Job::in_threads(progress.clone(), threads, share, Share::run)?;
    load.keep(job).map(|()| number)
}

impl<T> Share<T> {
    fn run(&self) {
        if let Ok(provider) = load::provider(self.place) {
            (self.run)(self, &provider);
        }
        self.progress.share_ended();
    }

    /// Whether it is to come to its end early.
    pub(crate) fn is_over(&self, provider: &Provider<Load>) -> bool {
        self.progress.is_cancelled() || provider.handler().is_stopping()
    }
}

/// The part of `count` that falls to one of `threads`.
fn part(count: u64, threads: u32, thread: u32) -> u64 {
    let (each, rest) = match u64::from(threads) {
        0 => (0, 0),
        threads => (count / threads, count % threads),
    };
    each + u64::from(u64::from(thread) < rest)
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn the_parts_are_the_whole() {
        for threads in 1..9 {
            for count in [0, 1, 7, 8, 100_000] {
                let sum: u64 = (0..threads).map(|t| part(count, threads, t)).sum();
                assert_eq!(sum, count, "{threads} threads");
            }
        }
    }
}
