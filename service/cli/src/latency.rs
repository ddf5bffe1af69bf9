// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long requesters waited, read from a histogram whose buckets double.

use std::time::Duration;

/// Counts by time: in place n what took less than 2^n microseconds and not less than half of it; in
/// the last place whatever took longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency<'h>(pub(crate) &'h [u64; 32]);

impl Latency<'_> {
    /// How many there are.
    pub(crate) fn count(self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The upper bound of each place; `None` for the last.
    pub(crate) fn bounds(self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let last = self.0.len() - 1;
        let places = self.0.iter().enumerate();
        places.map(move |(n, count)| {
            let bound = (n < last).then(|| Duration::from_micros(1 << n));
            (bound, *count)
        })
    }

    /// So many of a hundred took less than this. `None` without any, or if they took longer than
    /// the histogram can say.
    pub(crate) fn percentile(self, percent: u64) -> Option<Duration> {
        let count = u128::from(self.count());
        // At least one: the hundredth of three is one of them.
        let wanted = (count * u128::from(percent)).div_ceil(100).max(1);
        let mut passed = 0;
        for (bound, n) in self.bounds() {
            passed += u128::from(n);
            if passed >= wanted {
                return bound;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_of_them_and_nearly_all() {
        let mut histogram = [0; 32];
        assert_eq!(Latency(&histogram).percentile(50), None);
        (histogram[4], histogram[10], histogram[31]) = (50, 49, 1);
        let latency = Latency(&histogram);
        assert_eq!(latency.count(), 100);
        assert_eq!(latency.percentile(50), Some(Duration::from_micros(16)));
        assert_eq!(latency.percentile(99), Some(Duration::from_micros(1024)));
        assert_eq!(latency.percentile(100), None);
    }

    proptest! {
        #[test]
        fn it_is_what_sorting_would_say(places in prop::collection::vec(0_usize..31, 1..100), percent in 1_u64..=100) {
            let mut histogram = [0; 32];
            places.iter().for_each(|n| histogram[*n] += 1);
            let mut sorted = places.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() as u64 * percent).div_ceil(100).max(1) as usize;
            let expected = Duration::from_micros(1 << sorted[rank - 1]);
            prop_assert_eq!(Latency(&histogram).percentile(percent), Some(expected));
        }
    }
}
