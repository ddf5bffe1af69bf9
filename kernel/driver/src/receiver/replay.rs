// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes to a subscriber before what happens from now on: the backlog of its provider, and the
//! snapshot that it asked for.

use super::batch::Batch;
use super::{Receiver, Subscription};
use crate::backlog::Backlog;
use crate::queue::Queue;
use crate::routes::taken_mut;
use crate::screen::Subject;
use fltport_abi::frame::{RecordHeader, RecordKind};
use fltport_abi::interface::BacklogPolicy;
use fltport_nt::ex::PoolBox;

/// A backlog on its way to its first subscriber.
pub(crate) struct Replay {
    pub(crate) backlog: Backlog,
    /// The types that the subscriber wanted; the others have been accounted for.
    pub(crate) types: u64,
    /// The end of the connection's queue when the backlog was taken over: what lies before it is
    /// older than the backlog.
    pub(crate) behind: u64,
}

/// A snapshot on its way to the subscriber that asked for it.
pub(crate) struct KeptSnapshot {
    /// Its records, the end record included.
    pub(crate) records: Queue,
    /// The end of the connection's queue when it became live.
    pub(crate) behind: u64,
}

impl Subscription {
    /// The position in the connection's queue before which what is kept for it comes; `None` if
    /// nothing is.
    fn behind(&self) -> Option<u64> {
        let replay = self.replay.as_ref().map(|replay| replay.behind);
        replay.or_else(|| self.snapshot.as_ref().map(|snapshot| snapshot.behind))
    }

    /// Whether everything that was kept for it has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.replay.is_none() && self.snapshot.is_none()
    }
}

/// The subscription for which the next thing is kept.
fn first_kept(subscriptions: &mut [Option<PoolBox<Subscription>>]) -> Option<&mut Subscription> {
    taken_mut(subscriptions)
        .filter(|s| !s.is_sent())
        .min_by_key(|s| s.behind())
}

impl Receiver {
    /// The backlogs that were taken over, and the snapshots, each with what was queued before;
    /// whether all have been emptied.
    pub(super) fn take_replays(&mut self, batch: &mut Batch<'_>) -> bool {
        while let Some(behind) = first_kept(&mut self.subscriptions).and_then(|s| s.behind()) {
            if !self.take_queue(batch, behind) || !self.take_kept(batch) {
                return false;
            }
        }
        true
    }

    /// The next thing that is kept; whether it has been emptied.
    fn take_kept(&mut self, batch: &mut Batch<'_>) -> bool {
        let muted = self.muted.as_deref();
        let Some(subscription) = first_kept(&mut self.subscriptions) else {
            return true;
        };
        let provider = subscription.provider;
        let (account, screen) = (&mut subscription.account, &mut subscription.screen);
        // It was kept for whoever would come; what that one wants is known now. And how long it took to
        // find that out.
        let mut lets_pass = |header: &RecordHeader, payload: &[u8]| {
            let subject = Subject {
                payload,
                fixed: header.fixed,
                process: None,
            };
            let before = screen.steps;
            let passes = screen.lets_pass(muted, header.message, &subject);
            (passes, screen.steps.wrapping_sub(before) as usize)
        };
        if let Some(Replay { backlog, types, .. }) = &mut subscription.replay {
            let wants = |header: &RecordHeader, payload: &[u8]| {
                let (wanted, steps) = lets_pass(header, payload);
                if !wanted {
                    account.withdrawn(header.message, 1);
                }
                (wanted, steps)
            };
            // The oldest were lost before what was kept, the newest behind it.
            let before = backlog.policy() == BacklogPolicy::KeepNewest;
            let done = (!before || batch.gaps(provider, backlog))
                && batch.take_queue(backlog.queue(), *types, u64::MAX, wants)
                && batch.gaps(provider, backlog);
            if done {
                subscription.replay = None;
            }
            return done;
        }
        if let Some(snapshot) = &mut subscription.snapshot {
            let wants = |header: &RecordHeader, payload: &[u8]| match header.kind
                == RecordKind::Snapshot as u16
            {
                true => lets_pass(header, payload),
                false => (true, 0),
            };
            if !batch.take_queue(&mut snapshot.records, u64::MAX, u64::MAX, wants) {
                return false;
            }
            subscription.snapshot = None;
        }
        true
    }
}
