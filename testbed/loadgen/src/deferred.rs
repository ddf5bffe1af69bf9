// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications from deferred procedure calls, at DISPATCH_LEVEL.

use crate::flood::tick;
use crate::job::{Job, Progress};
use crate::load::{self, Load, TAG};
use crate::messages::Defer;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fltport_nt::Result;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::{Dpc, DpcHandle};

/// How many notifications one DPC sends: a DPC should be brief.
const BATCH: u64 = 32;

/// How often the timer queues it, in milliseconds.
const PERIOD_MS: u16 = 1;

/// What the DPC does again and again until all are sent. It is one DPC, so it does not run twice at a
/// time.
pub(crate) struct Burst {
    /// The provider that does it.
    place: usize,
    progress: PoolArc<Progress>,
    count: u64,
    sent: AtomicU64,
    by_timer: bool,
    ended: AtomicBool,
}

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, defer: &Defer) -> Result<u32> {
    let _starting = load.begin()?;
    let progress = Progress::new(load.number(), 1)?;
    let number = progress.number;
    let burst = Burst {
        place: load.place,
        progress: progress.clone(),
        count: defer.count,
        sent: AtomicU64::new(0),
        by_timer: defer.by_timer,
        ended: AtomicBool::new(false),
    };
    let dpc = Dpc::new(TAG, PoolArc::new(TAG, burst)?, Burst::run)?;
    if defer.by_timer {
        dpc.handle().queue_every(PERIOD_MS);
    } else {
        dpc.handle().queue();
    }
    load.keep(Job::in_a_dpc(progress, dpc)).map(|()| number)
}

impl Burst {
    fn run(&self, dpc: DpcHandle<'_, Burst>) {
        // The timer goes on until the job is forgotten.
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        if self.send() {
            self.ended.store(true, Ordering::Relaxed);
            self.progress.share_ended();
        } else if !self.by_timer {
            dpc.queue();
        }
    }

    /// Sends some; whether it has come to the end.
    fn send(&self) -> bool {
        let from = self.sent.load(Ordering::Relaxed);
        let to = self.count.min(from.saturating_add(BATCH));
        let Ok(provider) = load::provider(self.place) else {
            return true;
        };
        if self.progress.is_cancelled() || provider.handler().is_stopping() {
            return true;
        }
        for number in from..to {
            let told = provider.notify(&tick(&self.progress, 0, number));
            self.progress.offered(told);
        }
        self.sent.store(to, Ordering::Relaxed);
        to == self.count
    }
}
