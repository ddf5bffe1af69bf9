// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications from system threads.

use crate::job::{Job, Progress};
use crate::load::{self, Load, TAG};
use crate::messages::{Blob, Flood, MAX_THREADS, Tick};
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_client::Provider;
use fltport_nt::bindings::STATUS_INVALID_PARAMETER;
use fltport_nt::ex::{PoolArc, PoolBytes};
use fltport_nt::ke::current_irql;
use fltport_nt::{NtError, Result};

/// One thread's share.
struct Share {
    /// The provider that does it.
    place: usize,
    progress: PoolArc<Progress>,
    thread: u32,
    count: u64,
    bytes: usize,
}

/// The part of `count` that falls to one of `threads`.
pub(crate) fn part(count: u64, threads: u32, thread: u32) -> u64 {
    let (each, rest) = match u64::from(threads) {
        0 => (0, 0),
        threads => (count / threads, count % threads),
    };
    each + u64::from(u64::from(thread) < rest)
}

/// Whether a job can have so many threads.
pub(crate) fn check_threads(threads: u32) -> Result<()> {
    if threads == 0 || threads as usize > MAX_THREADS {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    Ok(())
}

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, flood: &Flood) -> Result<u32> {
    let _starting = load.begin()?;
    check_threads(flood.threads)?;
    if flood.bytes as usize > MAX_PAYLOAD {
        return Err(NtError(STATUS_INVALID_PARAMETER));
    }
    let progress = Progress::new(load.number(), flood.threads)?;
    let number = progress.number;
    let share = |thread| {
        Ok(Share {
            place: load.place,
            progress: progress.clone(),
            thread,
            count: part(flood.count, flood.threads, thread),
            bytes: flood.bytes as usize,
        })
    };
    let job = Job::in_threads(progress.clone(), flood.threads, share, Share::run)?;
    load.keep(job).map(|()| number)
}

impl Share {
    fn run(&self) {
        if let Ok(provider) = load::provider(self.place) {
            self.send(&provider);
        }
        self.progress.share_ended();
    }

    fn send(&self, provider: &Provider<Load>) {
        let Ok(mut data) = PoolBytes::zeroed(TAG, self.bytes) else {
            return;
        };
        for number in 0..self.count {
            if self.progress.is_cancelled() || provider.handler().is_stopping() {
                return;
            }
            let told = if self.bytes == 0 {
                provider.notify(&tick(&self.progress, self.thread, number))
            } else {
                data.fill(number as u8);
                provider.notify(&Blob {
                    number,
                    job: self.progress.number,
                    thread: self.thread,
                    data: &data,
                })
            };
            self.progress.offered(told);
        }
    }
}

/// IRQL: any. A tick, sent here and now.
pub(crate) fn tick(progress: &Progress, thread: u32, number: u64) -> Tick {
    Tick {
        number,
        job: progress.number,
        thread,
        irql: current_irql().into(),
        reserved: 0,
    }
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
