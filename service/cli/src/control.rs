// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport start` and `fltport stop`: the common driver first, and last.

use crate::driver::{self, OWN};
use crate::explain;
use crate::failure::Failure;
use crate::install::not_elevated;
use crate::machine::{Condition, Machine, State};
use std::time::Duration;

/// How long a driver may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the service control manager is asked meanwhile, as its documentation has it done.
const STEP: Duration = Duration::from_millis(50);

/// `ERROR_SERVICE_ALREADY_RUNNING`: of a service that runs or starts, but also the error that stands
/// for [`IMAGE_ALREADY_LOADED`].
const ALREADY_RUNNING: u32 = 1056;

/// `STATUS_IMAGE_ALREADY_LOADED`
const IMAGE_ALREADY_LOADED: u32 = 0xC000_010E;

/// `ERROR_SERVICE_NOT_ACTIVE`
const NOT_ACTIVE: u32 = 1062;

type Tell<'t> = &'t mut dyn FnMut(String) -> Result<(), Failure>;

/// Starts these drivers, in order; without any, those of this project that are installed.
pub(crate) fn start(machine: &Machine, named: &[String], tell: Tell<'_>) -> Result<(), Failure> {
    let names = chosen(machine, named)?;
    if names.is_empty() {
        return Err(Failure::new(
            "no driver is installed. Install them: fltport install",
        ));
    }
    for name in names {
        start_dependencies(machine, &name, tell)?;
        if start_one(machine, &name)? {
            tell(format!("{name}: started"))?;
        } else {
            tell(format!("{name}: running already"))?;
        }
    }
    Ok(())
}

/// Stops these drivers, in order; without any, those of this project that are installed, the common
/// driver last.
pub(crate) fn stop(machine: &Machine, named: &[String], tell: Tell<'_>) -> Result<(), Failure> {
    let mut names = chosen(machine, named)?;
    if named.is_empty() {
        names.reverse();
    }
    if names.is_empty() {
        return tell("no driver is installed, nothing to stop".into());
    }
    // One that does not stop does not keep the others.
    let mut failures = Vec::new();
    for name in names {
        match stop_one(machine, &name) {
            Ok(true) => tell(format!("{name}: stopped"))?,
            Ok(false) => tell(format!("{name}: not running"))?,
            Err(Failure::Told(text)) => failures.push(text),
            Err(other) => return Err(other),
        }
    }
    match &failures[..] {
        [] => Ok(()),
        texts => Err(Failure::new(texts.join("\n"))),
    }
}

fn chosen(machine: &Machine, named: &[String]) -> Result<Vec<String>, Failure> {
    if !machine.elevated()? {
        return Err(not_elevated());
    }
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let mut installed = Vec::new();
    for name in OWN {
        if machine.condition(name)?.is_some() && !driver::is_namesake(machine, name)? {
            installed.push(name.to_owned());
        }
    }
    Ok(installed)
}

fn condition(machine: &Machine, name: &str) -> Result<Condition, Failure> {
    machine.condition(name)?.ok_or_else(|| {
        let which = if driver::is_preset(name) {
            String::new()
        } else {
            format!(" --driver {name}")
        };
        Failure::new(format!(
            "{name} is not installed. Install it: fltport install{which}; `fltport status` lists what is"
        ))
    })
}

/// The state that comes after `passing`, or that one if it does not end in time.
fn settle(machine: &Machine, name: &str, passing: State) -> Result<Condition, Failure> {
    let mut left = PATIENCE;
    loop {
        let now = condition(machine, name)?;
        if now.state != passing || left.is_zero() {
            return Ok(now);
        }
        machine.pause(STEP);
        left = left.saturating_sub(STEP);
    }
}

/// Starts what a driver depends on. On Windows the service control manager would do it; that of Wine
/// does not.
fn start_dependencies(machine: &Machine, name: &str, tell: Tell<'_>) -> Result<(), Failure> {
    let dependencies = machine.entry(name)?.map(|entry| entry.dependencies);
    for dependency in dependencies.unwrap_or_default() {
        // What does not exist is for the service control manager to mind, or not.
        if machine.condition(&dependency)?.is_some() && start_one(machine, &dependency)? {
            tell(format!("{dependency}: started"))?;
        }
    }
    Ok(())
}

/// Starts a driver and waits until it runs; whether it had to be started.
fn start_one(machine: &Machine, name: &str) -> Result<bool, Failure> {
    // One that is stopping has to be through with it.
    settle(machine, name, State::Stopping)?;
    if condition(machine, name)?.state == State::Running {
        return Ok(false);
    }
    let asked = machine.start(name);
    if let Err(code) = asked
        && code != ALREADY_RUNNING
    {
        return Err(not_started(name, code));
    }
    let then = settle(machine, name, State::Starting)?;
    match then.state {
        // Not by us if somebody else was faster.
        State::Running => Ok(asked.is_ok()),
        State::Stopped if asked.is_err() => Err(not_started(name, IMAGE_ALREADY_LOADED)),
        State::Stopped if then.exit_code != 0 => Err(not_started(name, then.exit_code)),
        State::Stopped => Err(Failure::new(format!(
            "{name} has stopped again, without saying why. Look at the system event log"
        ))),
        _ => Err(Failure::new(format!(
            "{name} has not started within {} s: it hangs in its initialisation. Look at it with a debugger, or restart the machine",
            PATIENCE.as_secs()
        ))),
    }
}

fn not_started(name: &str, code: u32) -> Failure {
    let explained = explain::start(code);
    Failure::new(format!("{name} cannot be started: {explained}"))
}

/// Stops a driver and waits until it is unloaded; whether it had to be stopped.
pub(crate) fn stop_one(machine: &Machine, name: &str) -> Result<bool, Failure> {
    settle(machine, name, State::Starting)?;
    match condition(machine, name)?.state {
        State::Stopped => return Ok(false),
        State::Stopping => {}
        _ => match machine.stop(name) {
            // It has stopped by itself, or somebody else was faster.
            Err(trouble) if trouble.code == NOT_ACTIVE => return Ok(false),
            asked => asked?,
        },
    }
    match settle(machine, name, State::Stopping)?.state {
        State::Stopped => Ok(true),
        State::Stopping => Err(Failure::new(format!(
            "{name} has been asked to stop and is still in use after {} s: a program has its device or port open, or another driver holds it. End what uses it (`fltport status` lists the connections); the driver then stops by itself",
            PATIENCE.as_secs()
        ))),
        other => Err(Failure::new(format!(
            "{name} has not stopped, it is {}. It may refuse to be unloaded; restart the machine",
            other.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::tests::{install_all, machine};

    fn told(
        what: impl FnOnce(Tell<'_>) -> Result<(), Failure>,
    ) -> (Vec<String>, Result<(), Failure>) {
        let mut lines = Vec::new();
        let result = what(&mut |line| {
            lines.push(line);
            Ok(())
        });
        (lines, result)
    }

    #[test]
    fn the_common_driver_starts_first_and_stops_last() {
        let machine = machine();
        install_all(&machine);
        let (lines, result) = told(|tell| start(&machine, &[], tell));
        result.unwrap();
        assert_eq!(lines, ["fltport: started", "process-monitor: started"]);
        let (lines, _) = told(|tell| start(&machine, &[], tell));
        assert_eq!(
            lines,
            [
                "fltport: running already",
                "process-monitor: running already"
            ]
        );
        let (lines, result) = told(|tell| stop(&machine, &[], tell));
        result.unwrap();
        assert_eq!(lines, ["process-monitor: stopped", "fltport: stopped"]);
        let (lines, _) = told(|tell| stop(&machine, &[], tell));
        assert_eq!(
            lines,
            ["process-monitor: not running", "fltport: not running"]
        );
    }

    #[test]
    fn what_a_driver_depends_on_is_started_before_it() {
        let machine = machine();
        install_all(&machine);
        let entry = driver::entry(false, crate::machine::Start::Demand, "fltmgr.sys".into());
        machine.create("FltMgr", &entry).unwrap();
        let (lines, result) = told(|tell| start(&machine, &[], tell));
        result.unwrap();
        assert_eq!(
            lines,
            [
                "FltMgr: started",
                "fltport: started",
                "process-monitor: started"
            ]
        );
    }

    #[test]
    fn a_start_that_fails_is_explained() {
        let machine = machine();
        let (_, result) = told(|tell| start(&machine, &[], tell));
        assert!(result.unwrap_err().to_string().contains("fltport install"));
        let (lines, result) = told(|tell| stop(&machine, &[], tell));
        assert!(result.is_ok() && lines[0].ends_with("nothing to stop"));
        install_all(&machine);
        machine
            .start_errors
            .borrow_mut()
            .insert("process-monitor".into(), 577);
        let (lines, result) = told(|tell| start(&machine, &[], tell));
        assert_eq!(lines, ["fltport: started"]);
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("signature") && error.contains("testsigning"),
            "{error}"
        );
        let (_, result) = told(|tell| start(&machine, &["loadgen".into()], tell));
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("loadgen is not installed")
        );
    }

    #[test]
    fn what_is_said_to_run_already_is_looked_at() {
        let machine = machine();
        install_all(&machine);
        // Somebody else starts it, and it comes up.
        machine.set_state("fltport", State::Starting);
        let (lines, result) = told(|tell| start(&machine, &["fltport".into()], tell));
        result.unwrap();
        assert_eq!(lines, ["fltport: running already"]);
        // Its image is loaded, but not by this service.
        machine
            .start_errors
            .borrow_mut()
            .insert("other".into(), 1056);
        let (_, result) = told(|tell| start(&machine, &["other".into()], tell));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("under another service"), "{error}");
    }

    #[test]
    fn one_that_has_stopped_meanwhile_is_no_failure() {
        let machine = machine();
        install_all(&machine);
        machine.set_state("fltport", State::Running);
        machine
            .stop_errors
            .borrow_mut()
            .insert("fltport".into(), 1062);
        let (lines, result) = told(|tell| stop(&machine, &["fltport".into()], tell));
        result.unwrap();
        assert_eq!(lines, ["fltport: not running"]);
    }

    #[test]
    fn nobody_is_waited_for_without_end() {
        let machine = machine();
        install_all(&machine);
        machine.stuck.borrow_mut().insert("fltport".into());
        let (_, result) = told(|tell| start(&machine, &[], tell));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("within 30 s"), "{error}");
        let (_, result) = told(|tell| start(&machine, &[], tell));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("within 30 s"), "{error}");
        machine.set_state("fltport", State::Other(7));
        let (_, result) = told(|tell| start(&machine, &["fltport".into()], tell));
        assert!(result.is_err());
        machine.set_state("fltport", State::Running);
        let (_, result) = told(|tell| stop(&machine, &["fltport".into()], tell));
        assert!(result.unwrap_err().to_string().contains("still in use"));
    }
}
