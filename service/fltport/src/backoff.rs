// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long to wait before the next attempt to connect: twice as long each time, up to a cap, and
//! never quite the same, so that many services do not come back in step.

use std::time::Duration;

/// A sequence of waits.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    attempt: u32,
    random: u64,
}

impl Backoff {
    /// `seed` decides the jitter.
    pub(crate) fn new(initial: Duration, max: Duration, seed: u64) -> Self {
        let initial = initial.max(Duration::from_millis(1));
        Backoff {
            initial,
            max: max.max(initial),
            attempt: 0,
            random: seed | 1,
        }
    }

    /// Begins anew: the last attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait: between half and all of the exponential step.
    pub(crate) fn next(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        let step = self.initial.saturating_mul(factor).min(self.max);
        self.attempt = self.attempt.saturating_add(1).min(31);
        // xorshift64: jitter needs no better.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        step / 2 + (step / 2).mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_leave_their_half() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(5));
        for seed in 0..200 {
            let mut backoff = Backoff::new(initial, max, seed);
            for attempt in 0..40_u32 {
                let step = initial.saturating_mul(1 << attempt.min(20)).min(max);
                let wait = backoff.next();
                assert!(wait >= step / 2 && wait <= step, "{attempt}: {wait:?}");
            }
            backoff.reset();
            assert!(backoff.next() <= initial);
        }
    }

    #[test]
    fn two_services_do_not_come_back_in_step() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
            [(); 4].map(|()| backoff.next())
        };
        assert_ne!(waits(3), waits(4));
    }

    #[test]
    fn nonsense_is_made_sense_of() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO, 0);
        assert!(backoff.next() > Duration::ZERO);
        assert!(backoff.next() <= Duration::from_millis(1));
    }
}
