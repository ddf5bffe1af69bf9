// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table at the end, and the line of counts below it.

use std::fmt::Write;

use super::counts::Counts;
use super::{Outcome, Record};

/// No step runs there, and a floor that is missing is said.
const OTHER_FLOORS: &str =
    "\nnot tested: the floor Windows (docs/windows.md says how to run the same files there)\n\n";

/// The table, the reasons for what was not tested, and as the last line `N passed, N failed`.
pub(super) fn render(records: &[Record]) -> String {
    let mut text = format!(
        "{:<12} {:<14} {:<12} {:>6} {:>8}\n",
        "step", "floor", "result", "tests", "seconds"
    );
    for record in records {
        let tests = match record.counts.ran() {
            0 => String::new(),
            ran => ran.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<12} {:<14} {:<12} {:>6} {:>8.1}",
            record.step.name.as_str(),
            record.step.floor.name(),
            result(&record.outcome),
            tests,
            record.time.as_secs_f64()
        );
    }
    for record in records {
        if let Outcome::NotTested(reason) = &record.outcome {
            let _ = writeln!(
                text,
                "\nnot tested: {} ({}): {reason}",
                record.step.name.as_str(),
                record.step.floor.name()
            );
        }
    }
    text.push_str(OTHER_FLOORS);
    text.push_str(&closing_line(records));
    text
}

/// In one word or two.
pub(super) fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "FAILED",
        Outcome::NotTested(_) => "not tested",
        Outcome::NotReached => "not reached",
    }
}

/// A step that failed without a failed test (it did not compile, say) counts as one: a failure
/// never ends in `0 failed`.
fn closing_line(records: &[Record]) -> String {
    let mut sum = Counts::default();
    for record in records {
        sum += record.counts;
        if record.outcome == Outcome::Failed && record.counts.failed == 0 {
            sum.failed += 1;
        }
    }
    let passed = sum.passed.saturating_sub(sum.skipped);
    match sum.skipped + sum.ignored {
        0 => format!("{passed} passed, {} failed", sum.failed),
        skipped => format!("{passed} passed, {} failed, {skipped} skipped", sum.failed),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::steps::{Name, STEPS};
    use super::*;

    fn record(name: Name, outcome: Outcome, passed: u64, failed: u64) -> Record {
        let step = STEPS.iter().find(|step| step.name == name);
        let counts = Counts {
            passed,
            failed,
            ..Counts::default()
        };
        Record {
            step: step.expect("a step for every name"),
            outcome,
            counts,
            time: Duration::from_millis(1500),
        }
    }

    #[test]
    fn the_last_line_sums_the_tests() {
        let text = render(&[
            record(Name::Unit, Outcome::Passed, 40, 0),
            record(Name::Integration, Outcome::Failed, 2, 1),
        ]);
        assert_eq!(text.lines().last(), Some("42 passed, 1 failed"));
        assert!(
            text.contains("integration  hosted kernel  FAILED            3      1.5"),
            "{text}"
        );
    }

    #[test]
    fn a_failure_without_a_failed_test_counts_as_one() {
        let text = render(&[
            record(Name::Clippy, Outcome::Failed, 0, 0),
            record(Name::Unit, Outcome::NotReached, 0, 0),
        ]);
        assert_eq!(text.lines().last(), Some("0 passed, 1 failed"));
    }

    #[test]
    fn what_skipped_itself_has_not_passed() {
        let mut skipping = record(Name::Unit, Outcome::Passed, 40, 0);
        skipping.counts.skipped = 3;
        let text = render(&[skipping]);
        assert_eq!(text.lines().last(), Some("37 passed, 0 failed, 3 skipped"));
    }

    #[test]
    fn what_was_not_tested_is_said_with_its_reason() {
        let reason = Outcome::NotTested("no linker".to_string());
        let text = render(&[record(Name::Windows, reason, 0, 0)]);
        assert!(
            text.contains("not tested: windows (Windows build): no linker"),
            "{text}"
        );
        assert!(text.contains("the floor Windows"), "{text}");
        assert_eq!(text.lines().last(), Some("0 passed, 0 failed"));
    }
}
