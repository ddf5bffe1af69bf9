// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays scenarios, one after the other, each on a floor that is bare at its beginning, and checks
//! the laws at its end.

mod report;
mod stage;

use crate::floor::Floor;
use crate::language::{Scenario, Step};
use anyhow::Result;
use report::{Report, Result as Played};
use stage::Stage;
use std::time::Instant;

/// Plays all of them; whether all went well.
pub(crate) fn all(scenarios: &[Scenario]) -> Result<bool> {
    let mut report = Report::new(Floor::name());
    for scenario in scenarios {
        let begun = Instant::now();
        let played = play(scenario);
        report.add(scenario, begun.elapsed(), played)?;
    }
    report.end()
}

fn play(scenario: &Scenario) -> Played {
    let mut stage = match Stage::open(scenario) {
        Ok(stage) => stage,
        Err(error) => return Played::Failed(format!("{error:#}")),
    };
    let steps = steps(scenario, &mut stage);
    // Also if a step failed: what is left on the stage may say why.
    match (steps, stage.close()) {
        (Ok(None), Ok(measured)) => Played::Ok(measured),
        (Ok(Some(reason)), Ok(_)) => Played::NotHere(reason),
        (Ok(_), Err(law)) => Played::Failed(format!("{law:#}")),
        (Err(step), Ok(_)) => Played::Failed(format!("{step:#}")),
        (Err(step), Err(law)) => Played::Failed(format!("{step:#}; then {law:#}")),
    }
}

/// Does the steps; the reason if one cannot be done on this floor.
fn steps(scenario: &Scenario, stage: &mut Stage) -> Result<Option<String>> {
    if let Some(reason) = stage.lacks_watchers() {
        return Ok(Some(reason.to_owned()));
    }
    for step in scenario.steps() {
        if let Some(reason) = Stage::lacks_from_the_beginning(step) {
            return Ok(Some(not_here(step, reason)));
        }
    }
    for part in &scenario.parts {
        for round in 0..part.times {
            for step in &part.steps {
                let done = stage.act(step).map_err(|error| {
                    let round = match part.times {
                        1 => String::new(),
                        _ => format!(" in round {}", round + 1),
                    };
                    error.context(format!("line {}{round}, `{}`", step.line, step.text))
                })?;
                if let Some(reason) = done {
                    return Ok(Some(not_here(step, &reason)));
                }
            }
        }
    }
    Ok(None)
}

fn not_here(step: &Step, reason: &str) -> String {
    format!("line {}, `{}`: {reason}", step.line, step.text)
}
