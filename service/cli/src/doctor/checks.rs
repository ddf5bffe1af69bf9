// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with the machine as a whole, and with the port.

use super::{Examination, Finding, Severity};
use crate::driver::{COMMON, FILTER_MANAGER};
use crate::machine::{Entry, Kind, Start, State};
use crate::survey::Driver;

/// One finding.
pub(super) fn finding(
    severity: Severity,
    id: &'static str,
    driver: Option<&str>,
    [what, why, cure]: [&str; 3],
) -> Finding {
    Finding {
        severity,
        id,
        driver: driver.map(str::to_owned),
        what: what.to_owned(),
        why: why.to_owned(),
        cure: cure.to_owned(),
    }
}

/// The rights of this process, and the Filter Manager.
pub(super) fn machine(examination: &Examination) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !examination.elevated {
        findings.push(finding(
            Severity::Warning,
            "not-elevated",
            None,
            [
                "this terminal is not elevated",
                "drivers can be installed, started and stopped, and the port be reached, by administrators only; some findings may be due to that",
                "Open the terminal with \"Run as administrator\"",
            ],
        ));
    }
    if examination.wine {
        findings.push(finding(
            Severity::Note,
            "signatures-not-judged",
            None,
            [
                "this is Wine, which loads drivers whatever their signature",
                "whether Windows would take these files cannot be known here",
                "Try them on Windows",
            ],
        ));
    }
    findings.extend(filter_manager(examination));
    findings
}

fn filter_manager(examination: &Examination) -> Option<Finding> {
    let why = "filters register with it, and the port through which services are told is its own";
    let (severity, id, what, cure) = match &examination.filter_manager {
        None => (
            Severity::Error,
            "filter-manager-missing",
            "there is no service FltMgr, the Filter Manager",
            "Windows has it always; `sfc /scannow` repairs an installation that lost it. Under Wine a stand-in must be installed",
        ),
        Some((entry, _)) if entry.start == Start::Disabled => (
            Severity::Error,
            "filter-manager-disabled",
            "the Filter Manager, FltMgr, is disabled",
            "`sc config FltMgr start= boot`, and restart the machine",
        ),
        Some((_, condition)) if condition.is_none_or(|c| c.state != State::Running) => (
            Severity::Error,
            "filter-manager-stopped",
            "the Filter Manager, FltMgr, is not running",
            "`sc start FltMgr`",
        ),
        Some(_) => return None,
    };
    Some(finding(
        severity,
        id,
        Some(FILTER_MANAGER),
        [what, why, cure],
    ))
}

/// Under Wine, drivers of one group and one start type share a process, and others cannot reach
/// each other.
pub(super) fn wine(examination: &Examination) -> Vec<Finding> {
    let installed = |driver: &Driver| driver.installed.as_ref().map(|i| i.entry.clone());
    let drivers = &examination.drivers;
    let common = drivers.iter().find(|driver| driver.name == COMMON);
    let Some(common) = common.and_then(installed).filter(|_| examination.wine) else {
        return Vec::new();
    };
    let entries = drivers
        .iter()
        .filter_map(|d| Some((d.name.clone(), installed(d)?)));
    let manager = examination.filter_manager.iter();
    let manager = manager.map(|(entry, _)| (FILTER_MANAGER.to_owned(), entry.clone()));
    let drivers_only = |entry: &Entry| !matches!(entry.kind, Kind::Other(_));
    let apart = entries.chain(manager).filter(|(_, entry)| {
        drivers_only(entry)
            && (entry.start != common.start || !entry.group.eq_ignore_ascii_case(&common.group))
    });
    let tell = |(name, entry): (String, Entry)| {
        let what = format!(
            "its start type is {} and its group \"{}\", unlike those of {COMMON}: {} and \"{}\"",
            entry.start.name(),
            entry.group,
            common.start.name(),
            common.group
        );
        let why = "Wine loads drivers into one process only if they have both in common; others do not find each other";
        let start = common.start.name();
        let cure = if name == FILTER_MANAGER {
            // Wine's sc has no config.
            let key = format!(r"reg add HKLM\System\CurrentControlSet\Services\{name} /f");
            format!(
                "`{key} /v Start /t REG_DWORD /d {}` and `{key} /v Group /d \"{}\"`, and restart Wine",
                common.start.number(),
                common.group
            )
        } else {
            format!("fltport install --start {start} --driver {name}, and restart Wine")
        };
        let texts = [what.as_str(), why, &cure];
        finding(Severity::Error, "apart-under-wine", Some(&name), texts)
    };
    apart.map(tell).collect()
}

/// The port, where the common driver runs.
pub(super) fn port(examination: &Examination) -> Option<Finding> {
    let Some(Err(error)) = &examination.port else {
        return None;
    };
    let (cause, cure) = error
        .split_once(". ")
        .unwrap_or((error, "See the system event log"));
    let what = format!("the driver runs, but its port cannot be reached: {cause}");
    Some(finding(
        Severity::Error,
        "port-unreachable",
        Some(COMMON),
        [
            &what,
            "services get no messages from drivers without it",
            cure,
        ],
    ))
}
