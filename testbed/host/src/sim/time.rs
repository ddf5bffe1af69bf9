// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual time, and who waits for it.

use std::collections::BTreeMap;
use std::task::Waker;

/// Where each seed's clock begins: a day after boot, so that no time before it is negative.
const BEGIN: u64 = 24 * 3600 * crate::clock::SECOND;

/// A clock that moves when it is told to.
pub(super) struct Time {
    now: u64,
    /// Who is to be woken when: by deadline, then in the order of their coming.
    waits: BTreeMap<Due, Waker>,
    armed: u64,
}

/// A place in the order of deadlines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    at: u64,
    number: u64,
}

impl Time {
    pub(super) fn new() -> Time {
        Time {
            now: BEGIN,
            waits: BTreeMap::new(),
            armed: 0,
        }
    }

    /// 100 ns since boot.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// 100 ns since the seed began.
    pub(super) fn passed(&self) -> u64 {
        self.now - BEGIN
    }

    /// Wakes `waker` at a moment.
    pub(super) fn arm(&mut self, at: u64, waker: Waker) -> Due {
        self.armed += 1;
        let due = Due {
            at,
            number: self.armed,
        };
        self.waits.insert(due, waker);
        due
    }

    pub(super) fn disarm(&mut self, due: Due) {
        self.waits.remove(&due);
    }

    /// Moves on by some 100 ns.
    pub(super) fn tick(&mut self, ticks: u64) {
        self.now += ticks;
        self.wake_due();
    }

    /// Jumps to the next deadline; false when there is none.
    pub(super) fn jump(&mut self) -> bool {
        let Some((due, _)) = self.waits.first_key_value() else {
            return false;
        };
        self.now = self.now.max(due.at);
        self.wake_due();
        true
    }

    fn wake_due(&mut self) {
        while let Some(first) = self.waits.first_entry()
            && first.key().at <= self.now
        {
            first.remove().wake();
        }
    }
}
