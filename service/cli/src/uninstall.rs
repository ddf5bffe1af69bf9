// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport uninstall`: stops drivers, removes their service entries with all that is below, and
//! the files that were copied.

use crate::control;
use crate::driver::{self, is_own};
use crate::failure::Failure;
use crate::install::not_elevated;
use crate::machine::Machine;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Empty: all that this command has installed.
    pub(crate) drivers: Vec<String>,
    pub(crate) keep_files: bool,
}

/// Uninstalls, the clients first. Lines are told as things are done: what was removed stays removed
/// if something fails afterwards, and a second run goes on from there.
pub(crate) fn uninstall(
    machine: &Machine,
    wish: &Wish,
    tell: &mut dyn FnMut(String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !machine.elevated()? {
        return Err(not_elevated());
    }
    let mut names = match &wish.drivers[..] {
        [] => all_of_ours(machine)?,
        named => named.to_vec(),
    };
    names.reverse();
    for name in &names {
        may_be_removed(machine, name)?;
    }
    // One that does not stop does not keep the others.
    let mut failures = Vec::new();
    for name in &names {
        match remove(machine, name, wish.keep_files, tell) {
            Err(Failure::Told(text)) => failures.push(text),
            other => other?,
        }
    }
    match &failures[..] {
        [] => Ok(()),
        texts => Err(Failure::new(texts.join("\n"))),
    }
}

fn all_of_ours(machine: &Machine) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for name in driver::all(machine)? {
        if !driver::is_namesake(machine, &name)? {
            names.push(name);
        }
    }
    Ok(names)
}

fn may_be_removed(machine: &Machine, name: &str) -> Result<(), Failure> {
    if machine.keys(name)?.is_none() {
        return Ok(());
    }
    let image = machine.entry(name)?.map(|entry| entry.image.to_lowercase());
    if image.is_some_and(|image| image.contains(r"\driverstore\filerepository\")) {
        return Err(Failure::new(format!(
            "{name} has been installed from an INF file, by Windows' own means. `pnputil /enum-drivers` names the package, `pnputil /delete-driver oemNN.inf /uninstall` removes it"
        )));
    }
    let own = is_own(name) && !driver::is_namesake(machine, name)?;
    if own || driver::is_marked(machine, name)? {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name} was not installed by this command, which leaves it alone. `sc delete {name}` deletes any service"
    )))
}

fn remove(
    machine: &Machine,
    name: &str,
    keep_files: bool,
    tell: &mut dyn FnMut(String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Either may be there without the other, when somebody has written past the service control
    // manager.
    let known = machine.condition(name)?.is_some();
    if !known && machine.keys(name)?.is_none() {
        return tell(format!("{name}: not installed, nothing to remove"));
    }
    if let Some(failure) = driver::deleted(machine, name)? {
        return Err(failure);
    }
    let stopped = known && control::stop_one(machine, name)?;
    // The file goes before the service, which remembers that it is ours: a run that fails in
    // between can be repeated.
    let copied = driver::copied_file(machine, name)?;
    let copied = match copied {
        Some(path) => machine.read_file(&path)?.map(|_| path),
        None => None,
    };
    if let Some(path) = copied.as_ref().filter(|_| !keep_files) {
        machine.remove_file(path)?;
    }
    if known {
        machine.delete(name)?;
    }
    if let Some(failure) = driver::deleted(machine, name)? {
        return Err(failure);
    }
    if machine.keys(name)?.is_some() {
        // Windows removes it with the service; what remains would be the next one's.
        machine.remove_key(name)?;
    }
    let before = if stopped { "stopped and " } else { "" };
    tell(format!("{name}: {before}removed"))?;
    if let Some(path) = copied {
        let how = if keep_files { "kept" } else { "removed" };
        tell(format!("  {how} {path}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::tests::{install_all, machine};
    use crate::machine::{State, Value};

    fn run(machine: &Machine, wish: &Wish) -> (Vec<String>, Result<(), Failure>) {
        let mut lines = Vec::new();
        let result = uninstall(machine, wish, &mut |line| {
            lines.push(line);
            Ok(())
        });
        (lines, result)
    }

    #[test]
    fn everything_is_gone_and_a_second_run_says_so() {
        let machine = machine();
        let before = machine.contents.borrow().clone();
        install_all(&machine);
        machine.set_state("fltport", State::Running);
        let (lines, result) = run(&machine, &Wish::default());
        result.unwrap();
        assert_eq!(*machine.contents.borrow(), before);
        assert_eq!(lines[0], "other: removed");
        assert!(
            lines.contains(&"fltport: stopped and removed".to_owned()),
            "{lines:?}"
        );
        let (lines, result) = run(&machine, &Wish::default());
        result.unwrap();
        assert!(lines.iter().all(|line| line.ends_with("nothing to remove")));
    }

    #[test]
    fn files_are_kept_if_asked() {
        let machine = machine();
        install_all(&machine);
        let keep = Wish {
            keep_files: true,
            ..Wish::default()
        };
        run(&machine, &keep).1.unwrap();
        let file = machine.drivers_file("fltport");
        assert!(machine.read_file(&file).unwrap().is_some());
        assert!(machine.entry("fltport").unwrap().is_none());
    }

    #[test]
    fn a_driver_that_does_not_stop_is_left_installed() {
        let machine = machine();
        install_all(&machine);
        machine.set_state("fltport", State::Running);
        machine.stuck.borrow_mut().insert("fltport".into());
        let (_, result) = run(&machine, &Wish::default());
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("fltport") && error.contains("in use"),
            "{error}"
        );
        assert!(machine.entry("fltport").unwrap().is_some());
        assert!(machine.entry("process-monitor").unwrap().is_none());
        assert!(
            machine
                .read_file(&machine.drivers_file("fltport"))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn the_services_of_others_are_left_alone() {
        let machine = machine();
        let entry = driver::entry(false, crate::machine::Start::Boot, "tcpip.sys".into());
        machine.create("tcpip", &entry).unwrap();
        let wish = Wish {
            drivers: vec!["tcpip".into()],
            ..Wish::default()
        };
        let error = run(&machine, &wish).1.unwrap_err().to_string();
        assert!(error.contains("leaves it alone"), "{error}");
        assert!(machine.entry("tcpip").unwrap().is_some());
    }

    #[test]
    fn a_program_that_has_the_name_of_a_driver_is_left_alone() {
        let machine = machine();
        install_all(&machine);
        machine.delete("process-monitor").unwrap();
        let mut entry = driver::entry(false, crate::machine::Start::Auto, "monitor.exe".into());
        entry.kind = crate::machine::Kind::Other(0x10);
        machine.create("process-monitor", &entry).unwrap();
        machine.set_state("process-monitor", State::Running);
        let silent = &mut |_| Ok(());
        control::stop(&machine, &[], silent).unwrap();
        let (lines, result) = run(&machine, &Wish::default());
        result.unwrap();
        assert_eq!(lines[0], "other: removed");
        let named = Wish {
            drivers: vec!["process-monitor".into()],
            ..Wish::default()
        };
        let error = run(&machine, &named).1.unwrap_err().to_string();
        assert!(error.contains("leaves it alone"), "{error}");
        let state = machine.condition("process-monitor").unwrap().unwrap().state;
        assert_eq!(state, State::Running);
    }

    #[test]
    fn a_damaged_entry_is_removed_all_the_same() {
        let machine = machine();
        let before = machine.contents.borrow().clone();
        install_all(&machine);
        machine.remove_value("fltport", "Type").unwrap();
        machine.set("other", "Type", &Value::text("x")).unwrap();
        let (lines, result) = run(&machine, &Wish::default());
        result.unwrap();
        assert!(lines.contains(&"fltport: removed".to_owned()), "{lines:?}");
        assert_eq!(*machine.contents.borrow(), before);
    }

    #[test]
    fn a_service_that_is_marked_for_deletion_is_explained() {
        let machine = machine();
        install_all(&machine);
        machine
            .set("process-monitor", "DeleteFlag", &Value::Number(1))
            .unwrap();
        let error = run(&machine, &Wish::default()).1.unwrap_err().to_string();
        assert!(
            error.contains("marked for deletion") && error.contains("restart"),
            "{error}"
        );
    }

    #[test]
    fn what_fails_half_way_is_finished_by_the_next_run() {
        for call in 0.. {
            let machine = machine();
            let before = machine.contents.borrow().clone();
            install_all(&machine);
            machine.fail_at(&[call]);
            let (_, result) = run(&machine, &Wish::default());
            let calls = machine.calls();
            machine.fail_at(&[]);
            if result.is_ok() {
                assert!(call >= calls, "call {call} failed and nobody noticed");
                return;
            }
            run(&machine, &Wish::default()).1.unwrap();
            let after = machine.contents.borrow().clone();
            assert_eq!(after, before, "call {call}");
        }
    }
}
