// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport install`: drivers' files, service entries and instances, as they should be; and what
//! was done is undone if something fails.

mod plan;
mod step;
#[cfg(test)]
pub(crate) mod tests;

use crate::altitude::{ASK, Altitude};
use crate::driver::{self, COMMON, MONITOR, Named};
use crate::failure::Failure;
use crate::machine::{Machine, Start};
use plan::Plan;
pub(crate) use plan::holder as altitude_holder;
use step::Step;

/// What is asked for. What is `None` stays as it is, or is the preset of a first installation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) start: Option<Start>,
    pub(crate) altitude: Option<Altitude>,
    /// The files stay where they are.
    pub(crate) in_place: bool,
    /// The folder that files without a path of their own are in.
    pub(crate) from: String,
    /// Empty: those of this project.
    pub(crate) drivers: Vec<Named>,
}

impl Wish {
    /// The drivers with the paths of their files.
    fn drivers(&self) -> Vec<(String, String)> {
        let own = [COMMON, MONITOR].map(|name| Named {
            name: name.into(),
            path: None,
        });
        let drivers = if self.drivers.is_empty() {
            &own[..]
        } else {
            &self.drivers
        };
        let file = |driver: &Named| match &driver.path {
            Some(path) => path.clone(),
            None => format!(r"{}\{}.sys", self.from, driver.name),
        };
        drivers
            .iter()
            .map(|driver| (driver.name.clone(), file(driver)))
            .collect()
    }
}

/// Installs; the lines to be told.
pub(crate) fn install(machine: &Machine, wish: &Wish) -> Result<Vec<String>, Failure> {
    if !machine.elevated()? {
        return Err(not_elevated());
    }
    let plans = plans(machine, wish)?;
    let steps: Vec<&Step> = plans.iter().flat_map(|plan| &plan.steps).collect();
    step::perform_all(machine, &steps)?;
    Ok(report(&plans))
}

/// What to say to those who may not.
pub(crate) fn not_elevated() -> Failure {
    Failure::new(
        "drivers can be installed, started and stopped by administrators only. Open the terminal with \"Run as administrator\" and try again",
    )
}

/// All plans before the first step, so that what is refused leaves everything as it was.
fn plans(machine: &Machine, wish: &Wish) -> Result<Vec<Plan>, Failure> {
    let drivers = wish.drivers();
    for (index, (name, _)) in drivers.iter().enumerate() {
        if drivers
            .iter()
            .take(index)
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            return Err(Failure::new(format!(
                "{name} is named twice. Name each driver once"
            )));
        }
    }
    let plans: Result<Vec<Plan>, Failure> = drivers
        .iter()
        .map(|(name, path)| plan::plan(machine, wish, name, path))
        .collect();
    let plans = plans?;
    if wish.altitude.is_some() && plans.iter().all(|plan| plan.altitude.is_none()) {
        return Err(Failure::new(
            "none of these drivers is a filter, and only filters have an altitude. Leave --altitude out",
        ));
    }
    let mut filters = plans
        .iter()
        .filter_map(|plan| plan.altitude.as_ref().map(|a| (plan, a)));
    if let Some((first, altitude)) = filters.next()
        && let Some((second, _)) = filters.find(|(_, other)| *other == altitude)
    {
        return Err(Failure::new(format!(
            "{} and {} would have the same altitude, {altitude}. Install them one by one, each with its own --altitude",
            first.name, second.name
        )));
    }
    Ok(plans)
}

fn report(plans: &[Plan]) -> Vec<String> {
    let mut lines = Vec::new();
    for plan in plans {
        let told: Vec<String> = plan.steps.iter().filter_map(Step::tell).collect();
        if plan.steps.is_empty() {
            lines.push(format!("{}: installed already, nothing changed", plan.name));
            continue;
        }
        let what = if plan.new { "installed" } else { "changed" };
        let when = if plan.running {
            "; takes effect with its next start"
        } else {
            ""
        };
        lines.push(format!("{}: {what}{when}", plan.name));
        lines.extend(told.iter().map(|line| format!("  {line}")));
    }
    let written = plans.iter().find(|plan| plan.writes_altitude());
    if let Some(altitude) = written.and_then(|plan| plan.altitude.as_ref()) {
        lines.push(if *altitude == Altitude::preset() {
            format!(
                "note: the altitude {altitude} is for development. For a release, request one from Microsoft ({ASK}) and give it with --altitude."
            )
        } else {
            format!("note: before a release, have the altitude {altitude} allotted by Microsoft ({ASK}).")
        });
    }
    let new: Vec<&str> = plans
        .iter()
        .filter(|plan| plan.new)
        .map(|plan| plan.name.as_str())
        .collect();
    if new.iter().any(|name| !driver::is_own(name)) {
        lines.push(format!("Next: fltport start {}", new.join(" ")));
    } else if !new.is_empty() {
        lines.push("Next: fltport start".into());
    }
    lines
}
