// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that install and run drivers, as they stand on the command line. Windows only; what
//! they do is in the modules of their names.

use crate::access;
use crate::altitude::Altitude;
use crate::driver::{self, Named};
use crate::failure::Failure;
use crate::machine::{Machine, Start};
use crate::rights::{self, Rights};
use crate::{control, doctor, install, uninstall};
use clap::{Args, Subcommand};
use fltport::RefusalRow;
use std::path::{Path, PathBuf};

/// A line to be told at once: what has been done is known, whatever comes after it.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(String) -> Result<(), Failure>;

#[derive(Args, Clone, Debug)]
pub(crate) struct Install {
    /// When the drivers are started. Stays as it is if nothing is said; at first, demand.
    #[arg(long, value_enum, value_name = "WHEN")]
    start: Option<Start>,
    /// The filter's altitude: 360000 to 389999, with a fraction or without. Stays as it is if
    /// nothing is said; at first, 385999. One for a release is requested from Microsoft.
    #[arg(long, value_name = "NUMBER")]
    altitude: Option<Altitude>,
    /// Where the .sys files are; without it, beside this program.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Leave the files where they are, instead of copying them to System32\drivers.
    #[arg(long)]
    in_place: bool,
    /// A driver to install: NAME (its file is NAME.sys) or NAME=PATH. May be repeated; without it,
    /// fltport and process-monitor.
    #[arg(long = "driver", value_name = "DRIVER")]
    drivers: Vec<Named>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Uninstall {
    /// Drivers to remove; without any, all that this command has installed.
    #[arg(value_name = "DRIVER", value_parser = driver::name)]
    drivers: Vec<String>,
    /// Leave the copied files in System32\drivers.
    #[arg(long)]
    keep_files: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Control {
    /// Drivers, in this order; without any, fltport and process-monitor, the latter to be stopped
    /// first.
    #[arg(value_name = "DRIVER", value_parser = driver::name)]
    drivers: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Doctor {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AccessCommand {
    #[command(subcommand)]
    what: Option<AccessChange>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum AccessChange {
    /// List who may what. So does `access` alone.
    List {
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Give a user, group or service rights at a provider, besides those that it has.
    Grant {
        #[command(flatten)]
        whom: Whom,
        /// observe, decide, command, several of them with commas between, or all.
        #[arg(long)]
        rights: Rights,
    },
    /// Take rights from a user, group or service.
    Revoke {
        #[command(flatten)]
        whom: Whom,
        /// As for grant; without it, all that it has.
        #[arg(long)]
        rights: Option<Rights>,
    },
    /// Remove what is configured for a provider: the others' rights, or the default, hold for it.
    Reset {
        /// The provider; without it, those that have no rights of their own.
        #[arg(long, value_name = "NAME", value_parser = rights::provider, default_value = rights::OTHERS)]
        provider: String,
    },
}

#[derive(Args, Clone, Debug)]
struct Whom {
    /// The provider; without it, those that have no rights of their own.
    #[arg(long, value_name = "NAME", value_parser = rights::provider, default_value = rights::OTHERS)]
    provider: String,
    /// A user, group or service, as S-1-5-32-545.
    #[arg(long, value_parser = rights::sid)]
    sid: String,
}

/// The path in full, as a text.
fn full(path: &Path) -> Result<String, Failure> {
    let full = std::path::absolute(path).map_err(|error| {
        Failure::new(format!(
            "{} is no path: {error}. Name another",
            path.display()
        ))
    })?;
    match full.to_str() {
        Some(text) => Ok(plain(text)),
        None => Err(Failure::new(format!(
            "{} is no text in Unicode. Move the files to another folder",
            full.display()
        ))),
    }
}

/// A path without the prefix that turns off the parsing of paths: it is nothing to the kernel, and
/// hides that a path leads to the network.
fn plain(path: &str) -> String {
    match path.strip_prefix(r"\\?\UNC\") {
        Some(share) => format!(r"\\{share}"),
        None => path.strip_prefix(r"\\?\").unwrap_or(path).to_owned(),
    }
}

/// The folder of this program.
fn own_folder() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("it is not known where this program is: {error}. Name the folder of the drivers with --from")))?;
    Ok(program.parent().map_or_else(PathBuf::new, Path::to_owned))
}

impl Install {
    fn wish(&self) -> Result<install::Wish, Failure> {
        let from = match &self.from {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        };
        let mut drivers = self.drivers.clone();
        for driver in &mut drivers {
            if let Some(path) = &driver.path {
                driver.path = Some(full(Path::new(path))?);
            }
        }
        Ok(install::Wish {
            start: self.start,
            altitude: self.altitude.clone(),
            in_place: self.in_place,
            from: full(&from)?.trim_end_matches('\\').to_owned(),
            drivers,
        })
    }

    pub(crate) fn run(&self, machine: &Machine, tell: Tell<'_>) -> Result<(), Failure> {
        install::install(machine, &self.wish()?)?
            .into_iter()
            .try_for_each(tell)
    }
}

impl Uninstall {
    pub(crate) fn run(&self, machine: &Machine, tell: Tell<'_>) -> Result<(), Failure> {
        let wish = uninstall::Wish {
            drivers: self.drivers.clone(),
            keep_files: self.keep_files,
        };
        uninstall::uninstall(machine, &wish, tell)
    }
}

impl Control {
    pub(crate) fn start(&self, machine: &Machine, tell: Tell<'_>) -> Result<(), Failure> {
        control::start(machine, &self.drivers, tell)
    }

    pub(crate) fn stop(&self, machine: &Machine, tell: Tell<'_>) -> Result<(), Failure> {
        control::stop(machine, &self.drivers, tell)
    }
}

impl AccessCommand {
    pub(crate) fn run(&self, machine: &Machine, tell: Tell<'_>) -> Result<(), Failure> {
        match &self.what {
            None => access::list(machine, self.json, tell),
            Some(AccessChange::List { json }) => access::list(machine, self.json || *json, tell),
            Some(AccessChange::Grant { whom, rights }) => {
                access::grant(machine, &whom.provider, &whom.sid, *rights, tell)
            }
            Some(AccessChange::Revoke { whom, rights }) => {
                access::revoke(machine, &whom.provider, &whom.sid, *rights, tell)
            }
            Some(AccessChange::Reset { provider }) => access::reset(machine, provider, tell),
        }
    }
}

impl Doctor {
    /// Whether there is no error. `connect` tries the port.
    pub(crate) fn run(
        &self,
        machine: &Machine,
        connect: impl FnOnce() -> Result<Vec<RefusalRow>, String>,
        tell: Tell<'_>,
    ) -> Result<bool, Failure> {
        let examination = doctor::Examination::of(machine, &full(&own_folder()?)?, connect)?;
        let findings = examination.findings();
        if self.json {
            tell(doctor::to_json(&findings, &examination.drivers))?;
        } else {
            doctor::to_text(&findings).into_iter().try_for_each(tell)?;
        }
        Ok(doctor::is_healthy(&findings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, Subcommand)]
    enum Command {
        Install(Install),
        Uninstall(Uninstall),
        Start(Control),
        Doctor(Doctor),
        Access(AccessCommand),
    }

    fn parse(line: &str) -> Result<Command, String> {
        let words = std::iter::once("fltport").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.command)
    }

    #[test]
    fn the_command_lines() {
        let line = "install --start boot --altitude 385000.5 --from kit --driver fltport --driver x=y.sys --in-place";
        let Ok(Command::Install(install)) = parse(line) else {
            panic!("{line}");
        };
        let wish = install.wish().unwrap();
        assert_eq!(wish.start, Some(Start::Boot));
        assert_eq!(wish.altitude.unwrap().as_str(), "385000.5");
        assert!(wish.in_place && wish.from.ends_with("kit"));
        assert!(wish.drivers[1].path.as_ref().unwrap().ends_with("y.sys"));
        assert!(wish.drivers[1].path.as_ref().unwrap().len() > "y.sys".len());
        assert!(
            matches!(parse("uninstall --keep-files a b"), Ok(Command::Uninstall(u)) if u.keep_files && u.drivers.len() == 2)
        );
        assert!(matches!(parse("start"), Ok(Command::Start(c)) if c.drivers.is_empty()));
        assert!(matches!(parse("doctor --json"), Ok(Command::Doctor(d)) if d.json));
        assert!(matches!(parse("access --json"), Ok(Command::Access(a)) if a.json));
        let list = parse("access list --json");
        assert!(
            matches!(list, Ok(Command::Access(a)) if matches!(a.what, Some(AccessChange::List { json: true })))
        );
        let line = "access grant --sid S-1-5-32-545 --rights observe,decide";
        let Ok(Command::Access(access)) = parse(line) else {
            panic!("{line}");
        };
        let machine = install::tests::machine();
        install::tests::install_all(&machine);
        let mut told = Vec::new();
        let mut tell = |line| {
            told.push(line);
            Ok(())
        };
        access.run(&machine, &mut tell).unwrap();
        let Ok(Command::Access(access)) = parse("access revoke --sid s-1-5-32-545") else {
            unreachable!();
        };
        access.run(&machine, &mut tell).unwrap();
        let Ok(Command::Access(access)) = parse("access reset --provider x") else {
            unreachable!();
        };
        access.run(&machine, &mut tell).unwrap();
        assert!(told[0].contains("may observe, decide"), "{told:?}");
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for (line, hint) in [
            ("install --altitude 328000", "360000"),
            ("install --altitude high", "decimal number"),
            ("install --start disabled", "demand"),
            ("install --driver a/b", "letters"),
            ("install --driver x=", "path"),
            ("uninstall a\\b", "letters"),
            ("access grant --sid Users --rights all", "S-1-5-32-545"),
            ("access grant --sid S-1-5-18 --rights write", "observe"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn paths_without_their_prefix() {
        for (path, expected) in [
            (r"C:\kit", r"C:\kit"),
            (r"\\?\C:\kit", r"C:\kit"),
            (r"\\?\UNC\server\share\kit", r"\\server\share\kit"),
            (r"\\server\share\kit", r"\\server\share\kit"),
        ] {
            assert_eq!(plain(path), expected);
        }
    }

    #[test]
    fn doctor_tells_text_and_json() {
        let machine = Machine::new();
        for json in [false, true] {
            let mut lines = Vec::new();
            let mut tell = |line| {
                lines.push(line);
                Ok(())
            };
            let none = || Ok(Vec::new());
            let healthy = Doctor { json }.run(&machine, none, &mut tell).unwrap();
            assert!(!healthy);
            assert_eq!(lines[0].starts_with('{'), json);
        }
    }

    #[test]
    fn what_was_done_is_told() {
        let machine = install::tests::machine();
        let mut lines = Vec::new();
        let mut tell = |line| {
            lines.push(line);
            Ok(())
        };
        let Ok(Command::Install(mut install)) = parse("install") else {
            unreachable!();
        };
        let path = r"C:\kit\other.sys".to_owned();
        install.drivers = vec![Named {
            name: "other".into(),
            path: None,
        }];
        install.from = Some("elsewhere".into());
        assert!(install.run(&machine, &mut tell).is_err());
        let wish = install::Wish {
            drivers: vec![Named {
                name: "other".into(),
                path: Some(path),
            }],
            ..install::Wish::default()
        };
        install::install(&machine, &wish).unwrap();
        let control = Control {
            drivers: vec!["other".into()],
        };
        control.start(&machine, &mut tell).unwrap();
        control.stop(&machine, &mut tell).unwrap();
        let uninstall = Uninstall {
            drivers: vec!["other".into()],
            keep_files: false,
        };
        uninstall.run(&machine, &mut tell).unwrap();
        assert_eq!(
            lines[..3],
            ["other: started", "other: stopped", "other: removed"]
        );
    }
}
