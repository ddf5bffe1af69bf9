// SPDX-License-Identifier: MIT OR Apache-2.0
//! The account of what was refused, for the operator.

use crate::tag;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use fltport_abi::account::{REFUSALS, Refusal};
use fltport_abi::command::RefusalRow;
use fltport_nt::bindings::NTSTATUS;
use fltport_nt::ex::PoolSlice;
use fltport_nt::ke::system_time;
use fltport_nt::{NtError, Result, ps};

/// How often something was refused for one reason, to whom and when the last time.
struct Tally {
    count: AtomicU64,
    pid: AtomicU32,
    last: AtomicI64,
}

impl Tally {
    const fn none() -> Self {
        Tally {
            count: AtomicU64::new(0),
            pid: AtomicU32::new(0),
            last: AtomicI64::new(0),
        }
    }
}

/// A tally for each reason.
pub(crate) struct Refusals(PoolSlice<Tally>);

impl Refusals {
    /// IRQL: <= DISPATCH_LEVEL.
    pub(crate) fn new() -> Result<Self> {
        PoolSlice::filled_with(tag::DRIVER, REFUSALS, Tally::none).map(Refusals)
    }

    /// IRQL: any. Counts a refusal to the current process; the error to answer with.
    pub(crate) fn refuse(&self, reason: Refusal, status: NTSTATUS) -> NtError {
        if let Some(tally) = self.0.get(reason.index()) {
            // Relaxed: only numbers, and each is read alone.
            tally.count.fetch_add(1, Ordering::Relaxed);
            tally.pid.store(ps::current_process_id(), Ordering::Relaxed);
            tally.last.store(system_time(), Ordering::Relaxed);
        }
        NtError(status)
    }

    /// The rows of what has been refused.
    pub(crate) fn rows(&self) -> impl Iterator<Item = RefusalRow> {
        let rows = Refusal::ALL
            .iter()
            .zip(self.0.iter())
            .map(|(reason, tally)| RefusalRow {
                reason: *reason as u32,
                pid: tally.pid.load(Ordering::Relaxed),
                count: tally.count.load(Ordering::Relaxed),
                last: tally.last.load(Ordering::Relaxed),
                reserved: 0,
            });
        rows.filter(|row| row.count != 0)
    }
}
