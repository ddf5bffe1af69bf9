// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a subscription leaves out, and how often it did.

use crate::filter::Filters;
use crate::mute::Muted;
use crate::provider::NO_FIELD;
use fltport_abi::filter::Verdict;
use fltport_abi::fixed::Fixed;
use fltport_nt::ex::{PoolArc, PoolSlice};
use fltport_nt::linked::DISPATCH_LEVEL;
use fltport_nt::{ke, ps};

/// What filters and mutes look at: for a notification its payload, for an outcome the request's.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) payload: &'a [u8],
    /// Bytes of its fixed part.
    pub(crate) fixed: u16,
    /// The process whose thread offers it, where that says anything.
    pub(crate) process: Option<u32>,
}

/// IRQL: <= DISPATCH_LEVEL, before the lock of the routes is taken. The process in whose name the
/// calling thread runs; `None` at DISPATCH_LEVEL, where a deferred routine runs in whatever thread
/// it has interrupted.
pub(crate) fn offering_process() -> Option<u32> {
    (ke::current_irql() < DISPATCH_LEVEL).then(ps::current_process_id)
}

/// What a subscription wants to be left out.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) filters: Option<PoolArc<Filters>>,
    /// Where the first process id of each message type lies, for a subscription that mutes its own
    /// service.
    pub(crate) mute: Option<PoolSlice<u16>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Screen {
    pub(crate) wishes: Wishes,
    /// Records that the filters left out.
    pub(crate) filtered: u64,
    /// Records that were muted.
    pub(crate) muted: u64,
    /// Records that a filter could not judge, and let pass.
    pub(crate) unjudged: u64,
    /// The steps that the filters took for all of them.
    pub(crate) steps: u64,
}

impl Screen {
    /// IRQL: <= DISPATCH_LEVEL. Whether a message is to be offered; counts it if not. `muted` are
    /// the processes that the connection mutes.
    pub(crate) fn lets_pass(
        &mut self,
        muted: Option<&Muted>,
        message: u16,
        subject: &Subject<'_>,
    ) -> bool {
        if let (Some(pid_at), Some(muted)) = (&self.wishes.mute, muted)
            && is_by(muted, pid_at, message, subject)
        {
            self.muted += 1;
            return false;
        }
        let Some(filters) = &self.wishes.filters else {
            return true;
        };
        let (verdict, steps) = filters.judge(message, subject.payload, subject.fixed);
        self.steps = self.steps.wrapping_add(steps.into());
        match verdict {
            Verdict::Wanted => true,
            Verdict::Undecided => {
                self.unjudged += 1;
                true
            }
            Verdict::Unwanted => {
                self.filtered += 1;
                false
            }
        }
    }
}

/// Whether a message is by, or about, one of these processes.
fn is_by(muted: &Muted, pid_at: &[u16], message: u16, subject: &Subject<'_>) -> bool {
    if subject.process.is_some_and(|pid| muted.contains(pid)) {
        return true;
    }
    let place = pid_at.get(usize::from(message)).copied();
    let about = place
        .filter(|at| *at != NO_FIELD && usize::from(*at) + 4 <= usize::from(subject.fixed))
        .and_then(|at| subject.payload.get(usize::from(at)..))
        .and_then(u32::read);
    about.is_some_and(|pid| muted.is_alive(pid))
}
