// SPDX-License-Identifier: MIT OR Apache-2.0

//! Medians and spreads.

use serde::{Deserialize, Serialize};

/// Whether the two processors were near to each other, sharing a cache, or far; a virtual machine's
/// processors move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stratum {
    Near,
    Far,
    /// In between, or one before and the other after.
    Mixed,
}

/// A spinning round trip of near processors takes less, in nanoseconds.
const NEAR: f64 = 250.0;
/// One of far processors takes more.
const FAR: f64 = 400.0;

impl Stratum {
    /// By the probes before and after a measurement. `None` if there were none.
    pub(crate) fn of(probes: &[f64]) -> Option<Stratum> {
        if probes.is_empty() {
            return None;
        }
        Some(if probes.iter().all(|probe| *probe < NEAR) {
            Stratum::Near
        } else if probes.iter().all(|probe| *probe > FAR) {
            Stratum::Far
        } else {
            Stratum::Mixed
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Stratum::Near => "near",
            Stratum::Far => "far",
            Stratum::Mixed => "mixed",
        }
    }
}

/// The middle one; the mean of the two in the middle if there are two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((upper + lower) / 2.0)
}

/// A median with its spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        Some(Spread {
            median: median(values)?,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            count: values.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_spread_has_its_ends() {
        let spread = Spread::of(&[2.0, 8.0, 4.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (2.0, 4.0, 8.0));
        assert_eq!(spread.count, 3);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn processors_are_near_or_far_if_both_probes_say_so() {
        assert_eq!(Stratum::of(&[]), None);
        assert_eq!(Stratum::of(&[130.0, 170.0]), Some(Stratum::Near));
        assert_eq!(Stratum::of(&[500.0, 401.0]), Some(Stratum::Far));
        assert_eq!(Stratum::of(&[130.0, 500.0]), Some(Stratum::Mixed));
        assert_eq!(Stratum::of(&[300.0]), Some(Stratum::Mixed));
    }
}
