// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long requests took: a histogram with buckets of powers of two.

/// How many buckets there are.
pub const BUCKETS: usize = 32;

/// A histogram of times in microseconds. Bucket n counts those below 2^n and not below the half of
/// it (bucket 0 those below one microsecond); the last one has all that took longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency(pub [u64; BUCKETS]);

/// The bucket of a time.
pub const fn bucket(microseconds: u64) -> usize {
    let bits = (u64::BITS - microseconds.leading_zeros()) as usize;
    if bits < BUCKETS { bits } else { BUCKETS - 1 }
}

/// The time below which everything in a bucket, and in those before it, lies; `None` for the last
/// one, which has no end.
pub const fn upper_bound(bucket: usize) -> Option<u64> {
    if bucket + 1 < BUCKETS {
        Some(1 << bucket)
    } else {
        None
    }
}

impl Latency {
    /// Nothing yet.
    pub const EMPTY: Self = Latency([0; BUCKETS]);

    /// Counts one.
    pub fn add(&mut self, microseconds: u64) {
        if let Some(count) = self.0.get_mut(bucket(microseconds)) {
            *count += 1;
        }
    }

    /// Adds what another one counted.
    pub fn absorb(&mut self, other: &Latency) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn the_edges_of_the_buckets() {
        for (time, expected) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            ((1 << 30) - 1, 30),
            (1 << 30, 31),
            (u64::MAX, 31),
        ] {
            assert_eq!(bucket(time), expected, "{time}");
        }
        assert_eq!(upper_bound(30), Some(1 << 30));
        assert_eq!(upper_bound(31), None);
    }

    /// Times of every magnitude.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        let time = (0_u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift);
        proptest::collection::vec(time, 0..200)
    }

    fn counted(times: &[u64]) -> Latency {
        let mut latency = Latency::EMPTY;
        times.iter().for_each(|time| latency.add(*time));
        latency
    }

    proptest! {
        #[test]
        fn every_time_is_in_its_bucket(time in any::<u64>(), shift in 0_u32..64) {
            let time = time >> shift;
            let n = bucket(time);
            if let Some(bound) = upper_bound(n) {
                prop_assert!(time < bound);
            }
            if let Some(below) = n.checked_sub(1).and_then(upper_bound) {
                prop_assert!(time >= below);
            }
        }

        #[test]
        fn two_histograms_added_are_one_of_both(first in times(), second in times()) {
            let mut sum = counted(&first);
            sum.absorb(&counted(&second));
            let both: Vec<u64> = first.iter().chain(&second).copied().collect();
            prop_assert_eq!(sum, counted(&both));
            prop_assert_eq!(sum.total(), both.len() as u64);
        }
    }
}
