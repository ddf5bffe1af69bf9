// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport doctor`: looks at all that must be right for the drivers to run and services to reach
//! them, and says what is not, why it matters and what to do.

mod access;
mod checks;
mod drivers;
#[cfg(test)]
mod tests;

use crate::access::Access;
use crate::driver::{COMMON, FILTER_MANAGER, is_own};
use crate::failure::Failure;
use crate::json::Json;
use crate::machine::{Condition, Entry, Machine, State};
use crate::survey::{self, Driver, File};
use fltport::RefusalRow;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Something does not work.
    Error,
    /// Something will not work in some case.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// A name for programs, which stays.
    pub(crate) id: &'static str,
    pub(crate) driver: Option<String>,
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity.name())?;
        if let Some(driver) = &self.driver {
            write!(f, "{driver}: ")?;
        }
        write!(
            f,
            "{}\n  why:  {}\n  cure: {}",
            self.what, self.why, self.cure
        )
    }
}

/// All that is judged.
#[derive(Clone, Debug)]
pub(crate) struct Examination {
    pub(crate) elevated: bool,
    pub(crate) wine: bool,
    /// The options of code integrity, where they are known.
    pub(crate) code_integrity: Option<u32>,
    /// The Filter Manager's service.
    pub(crate) filter_manager: Option<(Entry, Option<Condition>)>,
    pub(crate) drivers: Vec<Driver>,
    /// The drivers of this project whose file is not the one beside this program.
    pub(crate) different: Vec<String>,
    /// Who may what; none if the driver is not installed.
    pub(crate) access: Option<Access>,
    /// What a connection to the port ended with, if one was tried: what the driver has refused.
    pub(crate) port: Option<Result<Vec<RefusalRow>, String>>,
}

impl Examination {
    /// Looks at the machine, and at the files in `folder`, where this program is. `connect` tries the
    /// port; it is called if the common driver runs.
    pub(crate) fn of(
        machine: &Machine,
        folder: &str,
        connect: impl FnOnce() -> Result<Vec<RefusalRow>, String>,
    ) -> Result<Examination, Failure> {
        let filter_manager = match machine.entry(FILTER_MANAGER)? {
            Some(entry) => Some((entry, machine.condition(FILTER_MANAGER)?)),
            None => None,
        };
        let running = machine
            .condition(COMMON)?
            .is_some_and(|c| c.state == State::Running);
        let drivers = survey::drivers(machine)?;
        let access = match machine.entry(COMMON)? {
            Some(_) => Some(Access::look(machine)?),
            None => None,
        };
        Ok(Examination {
            elevated: machine.elevated()?,
            wine: machine.is_wine(),
            code_integrity: machine.code_integrity(),
            filter_manager,
            different: different(machine, folder, &drivers)?,
            drivers,
            access,
            port: running.then(connect),
        })
    }

    /// What is to be said, the worst first.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = checks::machine(self);
        for driver in &self.drivers {
            findings.extend(drivers::driver(self, driver));
        }
        findings.extend(checks::wine(self));
        findings.extend(checks::port(self));
        findings.extend(access::configuration(self));
        if let Some(Ok(rows)) = &self.port {
            findings.extend(access::refusals(rows));
        }
        findings.sort_by_key(|finding| finding.severity);
        findings
    }
}

/// Of this project's drivers: those that are there twice, and not the same.
fn different(machine: &Machine, folder: &str, drivers: &[Driver]) -> Result<Vec<String>, Failure> {
    let mut different = Vec::new();
    for driver in drivers.iter().filter(|driver| is_own(&driver.name)) {
        let Some(installed) = &driver.installed else {
            continue;
        };
        if let File::Missing | File::Unreadable(_) = installed.file {
            continue;
        }
        let beside = machine.read_file(&format!(r"{folder}\{}.sys", driver.name))?;
        let used = machine.read_file(&installed.path)?;
        if beside.is_some() && beside != used {
            different.push(driver.name.clone());
        }
    }
    Ok(different)
}

/// Whether there is no error.
pub(crate) fn is_healthy(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.severity != Severity::Error)
}

pub(crate) fn to_text(findings: &[Finding]) -> Vec<String> {
    let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let errors = count(Severity::Error);
    let warnings = count(Severity::Warning);
    lines.push(match (errors, warnings) {
        (0, 0) => "healthy: no errors, no warnings".into(),
        (0, _) => format!("healthy, with {}", counted(warnings, "warning")),
        (_, 0) => format!("not healthy: {}", counted(errors, "error")),
        _ => format!(
            "not healthy: {}, {}",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    });
    lines
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

pub(crate) fn to_json(findings: &[Finding], drivers: &[Driver]) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.key("healthy").bool(is_healthy(findings));
        json.key("findings").list(|json| {
            for finding in findings {
                json.object(|json| {
                    json.key("severity").text(finding.severity.name());
                    json.key("id").text(finding.id);
                    json.key("driver").text_or_null(finding.driver.as_deref());
                    json.key("what").text(&finding.what);
                    json.key("why").text(&finding.why);
                    json.key("cure").text(&finding.cure);
                });
            }
        });
        json.key("drivers").list(|json| {
            for driver in drivers {
                json.object(|json| survey::to_json(json, driver));
            }
        });
    });
    json.take()
}
