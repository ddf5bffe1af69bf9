// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may take how much: rates, shares of a queue, and who took too much.
//!
//! **A provider's share of a queue.** While providers share a connection's queue, none may have more
//! bytes in it than are still free (the dynamic threshold of Choudhury and Hahne, "Dynamic queue
//! length thresholds for shared-memory packet switches", 1998). Nobody has to configure anything:
//! a provider that floods has the half of the queue, a second one the half of what is left, and so
//! there is always room for the quiet ones.

use fltport_nt::ke::interrupt_time;

/// A token in the bucket's own unit, of which a rate of one a second adds one in 100 nanoseconds.
const TOKEN: u64 = 10_000_000;

/// How often something may happen: so many times a second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    rate: u32,
    burst: u32,
    tokens: u64,
    /// The interrupt time up to which tokens have been added.
    filled: u64,
}

impl TokenBucket {
    /// A full one. A `rate` of 0 is no limit; a `burst` of 0 is as many as come in a second.
    pub(crate) const fn new(rate: u32, burst: u32, now: u64) -> Self {
        let burst = if burst == 0 { rate } else { burst };
        TokenBucket {
            rate,
            burst,
            tokens: burst as u64 * TOKEN,
            filled: now,
        }
    }

    /// One that limits nothing.
    pub(crate) const fn unlimited() -> Self {
        Self::new(0, 0, 0)
    }

    /// Times a second; 0 for no limit.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// Times at once.
    pub(crate) fn burst(&self) -> u32 {
        self.burst
    }

    /// IRQL: any. Takes a token if there is one: whether it may happen now.
    pub(crate) fn take(&mut self) -> bool {
        self.rate == 0 || self.take_at(interrupt_time())
    }

    /// As [`TokenBucket::take`], at this interrupt time.
    fn take_at(&mut self, now: u64) -> bool {
        if self.rate == 0 {
            return true;
        }
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let full = u64::from(self.burst) * TOKEN;
        let added = passed.saturating_mul(self.rate.into());
        self.tokens = self.tokens.saturating_add(added).min(full);
        match self.tokens.checked_sub(TOKEN) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// IRQL: any. Gives the token back that was taken for what did not happen after all.
    pub(crate) fn give_back(&mut self) {
        let full = u64::from(self.burst) * TOKEN;
        self.tokens = self.tokens.saturating_add(TOKEN).min(full);
    }
}

/// What one provider takes of one connection's queue, and what became of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Bytes of its records in the queue.
    pub(crate) bytes: usize,
    /// The most that there ever were.
    pub(crate) peak: usize,
    /// Bytes of room that are booked for it.
    pub(crate) booked: usize,
    /// The quota that it declared; 0 for none.
    pub(crate) quota: u32,
    /// Records lost at this connection because of it.
    pub(crate) blamed: u64,
}

impl Usage {
    /// Bytes in the queue that are kept from others: its records, and the room booked for more.
    pub(crate) fn taken(&self) -> usize {
        self.bytes + self.booked
    }

    /// The most that it may have taken, where `free` bytes of `capacity` are free and others share
    /// the queue or do not.
    pub(crate) fn allowed(&self, capacity: usize, free: usize, shared: bool) -> usize {
        let fair = if shared { free } else { capacity };
        match self.quota {
            0 => fair,
            quota => fair.min(quota as usize),
        }
    }

    /// A record of so many bytes has been queued.
    pub(crate) fn queued(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.peak = self.peak.max(self.bytes);
    }

    /// A record of so many bytes has left the queue.
    pub(crate) fn left(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test")]
mod tests {
    extern crate nt_host;
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 3, 1000);
        assert!((0..3).all(|_| bucket.take_at(1000)));
        assert!(!bucket.take_at(1000));
        // A tenth of a second for the next one.
        assert!(!bucket.take_at(1000 + TOKEN / 10 - 1));
        assert!(bucket.take_at(1000 + TOKEN / 10));
        assert!(!bucket.take_at(1000 + TOKEN / 10));
        // However long nothing comes, the burst is all.
        assert_eq!((0..9).filter(|_| bucket.take_at(u64::MAX)).count(), 3);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_is_no_more_than_the_burst() {
        let mut bucket = TokenBucket::new(1, 2, 0);
        bucket.give_back();
        assert_eq!((0..9).filter(|_| bucket.take_at(0)).count(), 2);
        bucket.give_back();
        assert_eq!((0..9).filter(|_| bucket.take_at(0)).count(), 1);
        let mut bucket = TokenBucket::unlimited();
        bucket.give_back();
        assert!(bucket.take_at(0));
    }

    #[test]
    fn without_a_rate_everything_may_happen_and_a_burst_of_none_is_a_seconds() {
        let mut bucket = TokenBucket::unlimited();
        assert!((0..100_000).all(|_| bucket.take_at(0)));
        let mut bucket = TokenBucket::new(7, 0, 0);
        assert_eq!((0..100).filter(|_| bucket.take_at(0)).count(), 7);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = TokenBucket::new(1, 1, 5 * TOKEN);
        assert!(bucket.take_at(5 * TOKEN));
        assert!(!bucket.take_at(0));
        assert!(!bucket.take_at(5 * TOKEN));
        assert!(bucket.take_at(6 * TOKEN));
    }

    proptest! {
        /// In no stretch of time more than the burst and what the rate gives; and who asks no more
        /// often than the rate is never refused.
        #[test]
        fn never_more_than_burst_and_rate(
            rate in 1..=u32::MAX,
            burst in 1..=u32::MAX,
            start in any::<u32>(),
            pauses in prop::collection::vec(0..3 * TOKEN, 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, burst, start.into());
            let mut now = u64::from(start);
            let mut taken = std::vec::Vec::new();
            for pause in pauses {
                now += pause;
                let may = bucket.take_at(now);
                let slow = u128::from(pause) * u128::from(rate) >= u128::from(TOKEN);
                prop_assert!(may || !slow);
                if may {
                    taken.push(now);
                }
                for (before, from) in taken.iter().enumerate() {
                    let count = (taken.len() - before) as u128;
                    let passed = u128::from(now - from);
                    let most = u128::from(burst) * u128::from(TOKEN) + passed * u128::from(rate);
                    prop_assert!(count * u128::from(TOKEN) <= most);
                }
            }
        }

        /// Whatever the floods are, room is left for one that has nothing in the queue yet.
        #[test]
        fn floods_leave_room_for_a_quiet_provider(
            capacity in 10_usize..100_000,
            sizes in prop::collection::vec((0..4_usize, 1..500_usize), 1..2000),
        ) {
            let mut floods = [Usage::default(); 4];
            for (who, size) in sizes {
                let used: usize = floods.iter().map(Usage::taken).sum();
                let free = capacity - used;
                if floods[who].taken() + size <= floods[who].allowed(capacity, free, true) {
                    floods[who].queued(size);
                }
                let used: usize = floods.iter().map(Usage::taken).sum();
                // Nobody has more than was free, but for one record, when its last one came. In the
                // order of these last ones, from behind: what was free then is at most 1, 2, 5 and
                // 13 times what is free now.
                prop_assert!((capacity - used + 500) * 22 >= capacity);
                prop_assert!(floods.iter().all(|it| it.peak == it.bytes));
            }
        }

        #[test]
        fn a_quota_never_gives_more_than_the_share(quota in 1..10_000_u32, free in 0..5_000_usize) {
            let usage = Usage { quota, ..Usage::default() };
            prop_assert!(usage.allowed(5_000, free, true) <= free.min(quota as usize));
            prop_assert_eq!(usage.allowed(5_000, free, false), 5_000.min(quota as usize));
        }
    }
}
