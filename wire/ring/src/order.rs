// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers of a connection's records.

use crate::layout::APART;
use crate::memory::{AtomicU64, Ordering};

/// From where all producers of a connection take the numbers of their records: the only word that every record writes, whatever
/// processor it comes from.
#[derive(Debug)]
pub struct Order {
    _before: [u8; APART],
    next: AtomicU64,
    _behind: [u8; APART],
}

impl Order {
    /// IRQL: any. The first number is this.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Order {
            _before: [0; APART],
            next: AtomicU64::new(first),
            _behind: [0; APART],
        }
    }

    /// IRQL: any. The next `count` numbers are the caller's; the first of them. Whoever takes one
    /// publishes a record of that number, soon and without fail: everybody waits for it.
    #[inline]
    pub fn take(&self, count: u64) -> u64 {
        // Relaxed: records reach the consumer by their rings, and each ring in the order of its numbers.
        self.next.fetch_add(count, Ordering::Relaxed)
    }

    /// IRQL: any. The number that is taken next.
    #[must_use]
    #[inline]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}
