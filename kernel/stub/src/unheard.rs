// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications that nobody would hear: counted here, so that they cost next to nothing. The common driver says which
//! they are, and takes the counts out whenever somebody reads its ledger.

use core::sync::atomic::{AtomicU64, Ordering};
use fltport_abi::interface::UNHEARD_ROW;
use fltport_abi::limits::MAX_PAYLOAD;
use fltport_nt::Result;
use fltport_nt::ex::{PoolSlice, Tag};
use fltport_nt::ke::current_irql;
use fltport_nt::linked::DISPATCH_LEVEL;

/// Rows of counters, so that processors seldom meet in one; 4 KiB in all.
pub(crate) const ROWS: usize = 8;
/// Bits of an address within a stack.
const STACK_BITS: u32 = 14;

/// See the module.
pub(crate) struct Unheard {
    /// The types that may be counted: the common driver's to write while it is bound, and 0 without one, or with one that
    /// does not take the counts.
    pub(crate) quiet: AtomicU64,
    pub(crate) counters: PoolSlice<AtomicU64>,
}

impl Unheard {
    /// IRQL: <= DISPATCH_LEVEL. Nothing has been counted.
    pub(crate) fn new(tag: Tag) -> Result<Self> {
        Ok(Unheard {
            quiet: AtomicU64::new(0),
            counters: PoolSlice::filled_with(tag, ROWS * UNHEARD_ROW, || AtomicU64::new(0))?,
        })
    }

    /// IRQL: any. Counts a notification of so many bytes, if nobody would hear it; false if it has to be offered, and so if there
    /// is anything else to be said of it.
    #[inline]
    pub(crate) fn count(&self, message: u16, length: usize) -> bool {
        // Relaxed, as is the count: who reads an old word is as if he had come a moment ago. Whoever knows of a
        // subscription when he calls reads what was written for it.
        let quiet = self.quiet.load(Ordering::Relaxed);
        if quiet.checked_shr(message.into()).unwrap_or(0) & 1 == 0 {
            return false;
        }
        if length > MAX_PAYLOAD || current_irql() > DISPATCH_LEVEL {
            return false;
        }
        let place = row() * UNHEARD_ROW + usize::from(message);
        let counter = self.counters.get(place);
        counter
            .map(|it| it.fetch_add(1, Ordering::Relaxed))
            .is_some()
    }
}

/// The calling thread's row: by its stack, which is at hand on every processor.
#[inline]
fn row() -> usize {
    let here = 0_u8;
    let stack = (&raw const here).addr() >> STACK_BITS;
    // Fibonacci hashing: stacks lie at regular distances.
    let hash = (stack as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> (u64::BITS - ROWS.ilog2())) as usize
}

const _: () = assert!(ROWS.is_power_of_two());
