// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual time, and who waits for it.

use std::collections::BTreeMap;
use std::task::Waker;

/// Where each seed's clock begins: a day after boot, so that no time before it is negative.
const BEGIN: u64 = 24 * 3600 * crate::clock::SECOND;

/// Two clocks that move when they are told to.
pub(super) struct Time {
    /// The one that everybody sees.
    seen: Clock,
    /// One that stands still as long as any thread could run.
    idle: Clock,
    armed: u64,
}

struct Clock {
    now: u64,
    /// Who is to be woken when: by deadline, then in the order of their coming.
    waits: BTreeMap<Due, Waker>,
}

/// A place in the order of a clock's deadlines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    at: u64,
    number: u64,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            now: BEGIN,
            waits: BTreeMap::new(),
        }
    }

    fn advance(&mut self, ticks: u64) {
        self.now += ticks;
        while let Some(first) = self.waits.first_entry()
            && first.key().at <= self.now
        {
            first.remove().wake();
        }
    }

    /// How long it is to the next deadline.
    fn next(&self) -> Option<u64> {
        let (due, _) = self.waits.first_key_value()?;
        Some(due.at.saturating_sub(self.now))
    }
}

impl Time {
    pub(super) fn new() -> Time {
        Time {
            seen: Clock::new(),
            idle: Clock::new(),
            armed: 0,
        }
    }

    /// 100 ns since boot.
    pub(super) fn now(&self) -> u64 {
        self.seen.now
    }

    /// The same on the clock that counts only idle time.
    pub(super) fn idle_now(&self) -> u64 {
        self.idle.now
    }

    /// 100 ns since the seed began.
    pub(super) fn passed(&self) -> u64 {
        self.seen.now - BEGIN
    }

    /// Wakes `waker` at a moment.
    pub(super) fn arm(&mut self, at: u64, waker: Waker) -> Due {
        let due = self.due(at);
        self.seen.waits.insert(due, waker);
        due
    }

    /// The same by the clock that counts only idle time.
    pub(super) fn arm_idle(&mut self, at: u64, waker: Waker) -> Due {
        let due = self.due(at);
        self.idle.waits.insert(due, waker);
        due
    }

    fn due(&mut self, at: u64) -> Due {
        self.armed += 1;
        Due {
            at,
            number: self.armed,
        }
    }

    /// Wakes nobody at that moment any more.
    pub(super) fn disarm(&mut self, due: Due) {
        self.seen.waits.remove(&due);
        self.idle.waits.remove(&due);
    }

    /// Moves on by some 100 ns, because somebody does something.
    pub(super) fn tick(&mut self, ticks: u64) {
        self.seen.advance(ticks);
    }

    /// Moves on to the next deadline, although somebody could do something.
    pub(super) fn be_late(&mut self) {
        if let Some(ticks) = self.seen.next() {
            self.seen.advance(ticks);
        }
    }

    /// Moves on to the next deadline, as nobody can do anything; false when there is none.
    pub(super) fn jump(&mut self) -> bool {
        let next = match (self.seen.next(), self.idle.next()) {
            (Some(seen), Some(idle)) => seen.min(idle),
            (Some(next), None) | (None, Some(next)) => next,
            (None, None) => return false,
        };
        self.seen.advance(next);
        self.idle.advance(next);
        true
    }
}
