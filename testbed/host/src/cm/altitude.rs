// SPDX-License-Identifier: MIT OR Apache-2.0
//! Altitudes: decimal numbers of any precision, as texts.

use std::cmp::Ordering;

/// An altitude. Greater ones are called first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Altitude {
    /// Without zeros in front.
    integer: String,
    /// Without zeros behind.
    fraction: String,
}

impl Altitude {
    /// Reads a number as `360000` or `360000.5`.
    pub(crate) fn parse(text: &str) -> Option<Altitude> {
        let (integer, fraction) = match text.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (text, ""),
        };
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if integer.is_empty() || !is_number(integer) || !is_number(fraction) {
            return None;
        }
        Some(Altitude {
            integer: integer.trim_start_matches('0').to_owned(),
            fraction: fraction.trim_end_matches('0').to_owned(),
        })
    }
}

impl Ord for Altitude {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_integer = self.integer.len().cmp(&other.integer.len());
        by_integer
            .then_with(|| self.integer.cmp(&other.integer))
            .then_with(|| self.fraction.cmp(&other.fraction))
    }
}

impl PartialOrd for Altitude {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn altitudes_are_compared_as_numbers() {
        let rising = [
            "0",
            "9",
            "10",
            "360000",
            "360000.05",
            "360000.5",
            "360001",
            "1000000",
        ];
        for pair in rising.windows(2) {
            let [low, high] = [pair[0], pair[1]].map(|text| Altitude::parse(text).unwrap());
            assert!(low < high, "{pair:?}");
        }
        let same = ["7", "007", "7.0", "07.000"].map(|text| Altitude::parse(text).unwrap());
        assert!(same.iter().all(|each| *each == same[0]));
    }

    #[test]
    fn what_is_no_number_is_no_altitude() {
        for text in ["", ".", "5.", ".5", "-1", "1e5", "1.2.3", "360 000", "x"] {
            assert_eq!(Altitude::parse(text), None, "{text:?}");
        }
    }
}
