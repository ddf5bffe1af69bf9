// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications from deferred procedure calls, at DISPATCH_LEVEL.

use crate::flood::tick;
use crate::job::{Job, Progress};
use crate::load::{self, Load, TAG};
use crate::messages::Defer;
use core::sync::atomic::{AtomicU64, Ordering};
use fltport_nt::Result;
use fltport_nt::ex::PoolArc;
use fltport_nt::ke::{Dpc, DpcHandle, Timeout};

/// How many notifications one DPC sends: a DPC should be brief.
const BATCH: u64 = 16;

/// What the DPC does again and again until all are sent. The DPC is never queued twice at a time.
pub(crate) struct Burst {
    progress: PoolArc<Progress>,
    count: u64,
    sent: AtomicU64,
    by_timer: bool,
}

/// IRQL: PASSIVE_LEVEL. Starts the job; its number.
pub(crate) fn start(load: &Load, defer: &Defer) -> Result<u32> {
    let _starting = load.begin()?;
    let progress = Progress::new(load.number(), 1)?;
    let number = progress.number;
    let burst = Burst {
        progress: progress.clone(),
        count: defer.count,
        sent: AtomicU64::new(0),
        by_timer: defer.by_timer,
    };
    let dpc = Dpc::new(TAG, PoolArc::new(TAG, burst)?, Burst::run)?;
    queue(dpc.handle(), defer.by_timer);
    load.keep(Job::in_a_dpc(progress, dpc)).map(|()| number)
}

fn queue(dpc: DpcHandle<'_, Burst>, by_timer: bool) {
    if by_timer {
        dpc.queue_after(Timeout::from_millis(0));
    } else {
        dpc.queue();
    }
}

impl Burst {
    fn run(&self, dpc: DpcHandle<'_, Burst>) {
        let from = self.sent.load(Ordering::Relaxed);
        let to = self.count.min(from.saturating_add(BATCH));
        let Ok(provider) = load::provider() else {
            return self.progress.share_ended();
        };
        for number in from..to {
            let told = provider.notify(&tick(&self.progress, 0, number));
            self.progress.offered(told);
        }
        self.sent.store(to, Ordering::Relaxed);
        let ends = self.progress.is_cancelled() || provider.handler().is_stopping();
        if to == self.count || ends {
            self.progress.share_ended();
        } else {
            queue(dpc, self.by_timer);
        }
    }
}
