// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said of the scenarios: a line for each, and a sum.

use super::stage;
use crate::language::Scenario;
use crate::orders::Numbers;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// How a scenario ended.
pub(super) enum Result {
    /// With these numbers.
    Ok(BTreeMap<String, Numbers>),
    /// For this reason it cannot be played on this floor.
    NotHere(String),
    /// For this reason.
    Failed(String),
}

/// The report of one floor.
pub(super) struct Report {
    floor: &'static str,
    played: usize,
    failed: Vec<String>,
    missing: Vec<(String, String)>,
}

impl Report {
    pub(super) fn new(floor: &'static str) -> Report {
        Report {
            floor,
            played: 0,
            failed: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Adds a scenario, and says so.
    pub(super) fn add(
        &mut self,
        scenario: &Scenario,
        took: Duration,
        result: Result,
    ) -> anyhow::Result<()> {
        let name = &scenario.name;
        let (verdict, what) = match result {
            Result::Ok(measured) => {
                self.played += 1;
                ("ok", line(&measured))
            }
            Result::NotHere(reason) => {
                self.missing.push((name.clone(), reason.clone()));
                ("not on this floor", reason)
            }
            Result::Failed(reason) => {
                self.played += 1;
                self.failed.push(name.clone());
                ("FAILED", reason)
            }
        };
        let mut stdout = std::io::stdout().lock();
        let seconds = took.as_secs_f32();
        writeln!(
            stdout,
            "{}: {name}: {verdict} ({seconds:.1} s): {what}",
            self.floor
        )?;
        Ok(stdout.flush()?)
    }

    /// Says the sum; whether all went well.
    pub(super) fn end(self) -> anyhow::Result<bool> {
        let mut stdout = std::io::stdout().lock();
        let (played, floor, missing) = (self.played, self.floor, self.missing.len());
        write!(
            stdout,
            "{played} scenarios on {floor}, {missing} not on this floor"
        )?;
        for (name, reason) in &self.missing {
            write!(stdout, "\n  {name}: {reason}")?;
        }
        if !self.failed.is_empty() {
            write!(
                stdout,
                "\n{} FAILED: {}",
                self.failed.len(),
                self.failed.join(", ")
            )?;
        }
        writeln!(stdout)?;
        Ok(self.failed.is_empty())
    }
}

fn line(measured: &BTreeMap<String, Numbers>) -> String {
    let parts: Vec<String> = measured
        .iter()
        .filter(|(_, numbers)| numbers.values().any(|number| *number != 0))
        .map(|(what, numbers)| format!("{what}: {}", stage::list(numbers)))
        .collect();
    parts.join("; ")
}
