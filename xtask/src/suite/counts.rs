// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counting tests by the lines that close each of cargo's test runs.

use std::ops::AddAssign;

/// Tests that ran, and those that did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    /// Said themselves that they did not run, for want of rights; counted as passed, too, by the
    /// test runner, which knows no better.
    pub(super) skipped: u64,
}

impl Counts {
    /// Takes `test result: ok. 28 passed; 0 failed; 1 ignored; …` apart, and counts a line with
    /// `SKIPPED` and a reason; other lines count nothing.
    pub(super) fn of_line(line: &str) -> Counts {
        let mut counts = Counts::default();
        if line.contains("SKIPPED ") {
            counts.skipped = 1;
            return counts;
        }
        let Some(rest) = line.trim().strip_prefix("test result: ") else {
            return counts;
        };
        let Some((_, numbers)) = rest.split_once(". ") else {
            return counts;
        };
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => counts.passed = number,
                Some("failed") => counts.failed = number,
                Some("ignored") => counts.ignored = number,
                _ => {}
            }
        }
        counts
    }

    /// Tests that ran, whatever came of it.
    pub(super) fn ran(self) -> u64 {
        self.passed + self.failed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_line_is_read() {
        let line =
            "test result: FAILED. 27 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out";
        assert_eq!(
            Counts::of_line(line),
            Counts {
                passed: 27,
                failed: 2,
                ignored: 1,
                skipped: 0
            }
        );
    }

    #[test]
    fn a_test_that_says_it_did_not_run_is_counted() {
        let line = "SKIPPED sensor::watching: it needs root";
        assert_eq!(Counts::of_line(line).skipped, 1);
        let behind_its_name = "test sensor::watching ... SKIPPED sensor: it needs root";
        assert_eq!(Counts::of_line(behind_its_name).skipped, 1);
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Counts::of_line("running 28 tests"), Counts::default());
        assert_eq!(Counts::of_line("test result: ok"), Counts::default());
        assert_eq!(Counts::of_line("3 passed; 1 failed"), Counts::default());
    }
}
