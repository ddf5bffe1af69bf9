// SPDX-License-Identifier: MIT OR Apache-2.0
//! Altitudes: where a filter stands among others. A decimal number of any precision, as text; its
//! integer part is allotted by Microsoft, a fraction is up to the owner.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The group of activity monitors, which the range belongs to.
pub(crate) const GROUP: &str = "FSFilter Activity Monitor";

/// What Microsoft allots to activity monitors.
const FIRST: u32 = 360_000;
const LAST: u32 = 389_999;

/// Whom to ask for an altitude.
pub(crate) const ASK: &str = "fsfcomm@microsoft.com";

/// An altitude of the range of activity monitors, as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Altitude(String);

impl Altitude {
    /// What is installed where none is asked for, and what the driver itself would write.
    pub(crate) fn preset() -> Altitude {
        Altitude("385999".into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Altitude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Altitude {
    fn eq(&self, other: &Altitude) -> bool {
        same(&self.0, &other.0)
    }
}

/// Integer part and fraction without what does not count; `None` if it is no decimal number.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (digits(whole) && digits(fraction)).then(|| {
        (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        )
    })
}

/// Whether two texts are one altitude. What is no number is like nothing.
pub(crate) fn same(one: &str, other: &str) -> bool {
    match (parts(one), parts(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// How a whole number of any length stands to another.
fn compare(whole: &str, to: u32) -> Ordering {
    let to = to.to_string();
    whole.len().cmp(&to.len()).then_with(|| whole.cmp(&to))
}

impl FromStr for Altitude {
    type Err = String;

    fn from_str(text: &str) -> Result<Altitude, String> {
        let Some((whole, _)) = parts(text) else {
            return Err(format!(
                "an altitude is a decimal number, with a fraction or without, as {FIRST} or 385210.5"
            ));
        };
        let below = compare(whole, FIRST) == Ordering::Less;
        let above = compare(whole, LAST) == Ordering::Greater;
        if below || above {
            return Err(format!(
                "activity monitors have the altitudes from {FIRST} to {LAST} (with any fraction); others belong to filters of other groups"
            ));
        }
        Ok(Altitude(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_range_of_activity_monitors() {
        for good in [
            "360000",
            "389999",
            "385210.5",
            "389999.999999999999999999",
            "0385999",
        ] {
            assert!(good.parse::<Altitude>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "385210.",
            ".5",
            "-385210",
            "+385210",
            "385 210",
            "385,210",
            "0x5DFFF",
            "1e6",
            "359999.9",
            "390000",
            "3899990",
            "99999999999999999999999",
            "385210.5.1",
            "３８５２１０",
        ] {
            assert!(bad.parse::<Altitude>().is_err(), "{bad}");
        }
        let error = "328010".parse::<Altitude>().unwrap_err();
        assert!(
            error.contains("360000") && error.contains("389999"),
            "{error}"
        );
    }

    #[test]
    fn zeros_that_do_not_count() {
        assert!(same("385999", "385999.000"));
        assert!(same("0385999.50", "385999.5"));
        assert!(!same("385999.05", "385999.5"));
        assert!(!same("x", "x"));
    }

    proptest! {
        #[test]
        fn what_is_in_the_range_is_taken(whole in 0_u32..1_000_000, fraction in "[0-9]{0,20}") {
            let text = if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") };
            let inside = (FIRST..=LAST).contains(&whole);
            prop_assert_eq!(text.parse::<Altitude>().is_ok(), inside);
            prop_assert_eq!(same(&text, &whole.to_string()), fraction.bytes().all(|b| b == b'0'));
        }
    }
}
