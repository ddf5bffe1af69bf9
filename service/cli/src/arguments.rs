// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

#[cfg(target_os = "linux")]
use crate::rights::Grant;
use crate::selection::Selection;
#[cfg(windows)]
use crate::setup::{AccessCommand, Control, Doctor, Install, Uninstall};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Shows what drivers tell their service, through fltport.
#[derive(Debug, Parser)]
#[command(name = "fltport", version)]
pub(crate) struct Arguments {
    /// The hosted kernel's socket (Linux). With it, no other host is started. `fltport host` makes the
    /// folder that it lies in if that alone is missing.
    #[cfg_attr(not(unix), arg(hide = true))]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    watch: Watch,
}

/// What to do; `watch` if nothing is said.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show process starts and exits, live, until Ctrl-C; then the ledger.
    Watch(Watch),
    /// Show providers, connections, the ledger and the account of requests.
    Status(Status),
    /// Print the accounts as Prometheus reads them, or serve them over HTTP.
    Metrics(Metrics),
    /// Show what each provider can tell, ask and be told: its messages, their fields and types.
    Providers(Providers),
    /// Print the patterns that the process monitor excludes, one a line.
    Exclusions,
    /// Install the drivers, or change how they are installed. Undone if anything fails.
    #[cfg(windows)]
    Install(Install),
    /// Stop the drivers and remove all that `install` has made.
    #[cfg(windows)]
    Uninstall(Uninstall),
    /// Start the drivers, and wait until they run.
    #[cfg(windows)]
    Start(Control),
    /// Stop the drivers, and wait until they are unloaded.
    #[cfg(windows)]
    Stop(Control),
    /// Show or change who may connect to the common driver, and what he may do at which provider.
    #[cfg(windows)]
    Access(AccessCommand),
    /// Look for what keeps the drivers from running and services from reaching them. Exit code 1 if
    /// there is something.
    #[cfg(windows)]
    Doctor(Doctor),
    /// On Windows: installs, starts, stops, removes or examines the drivers.
    #[cfg(not(windows))]
    #[command(
        hide = true,
        override_usage = "fltport COMMAND (on Windows)",
        disable_help_flag = true,
        aliases = ["uninstall", "start", "stop", "doctor", "access"]
    )]
    Install(Elsewhere),
    /// Run the hosted kernel in the foreground, for services to connect to.
    #[cfg(target_os = "linux")]
    Host(Host),
}

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct Watch {
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Stop by itself after this time: a number and ms, s, m or h; alone it is seconds.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Deny the creation of processes whose image matches: * stands for any characters, ? for one;
    /// without a / it is the file's name alone. May be repeated.
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(crate) deny: Vec<String>,
    /// Have the driver leave out processes whose image matches. Replaces its list. May be repeated.
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(crate) exclude: Vec<String>,
    /// Of messages of this type show only those that the filter is true of; the driver leaves out
    /// the rest. As in: start: image ends '/nc' and pid > 100. PROVIDER/MESSAGE names one
    /// provider's. May be repeated.
    #[arg(long = "where", value_name = "MESSAGE: FILTER", value_parser = Selection::parse)]
    pub(crate) selections: Vec<Selection>,
    /// Have a stream of this name, which outlives this command: started again with it, it goes on
    /// where it stopped, and nothing in between is lost.
    #[arg(long, value_name = "NAME", value_parser = stream_name)]
    pub(crate) stream: Option<String>,
    /// How long the stream is kept after this command has ended, at most 10m; 30s by default. With 0s
    /// nothing is kept, and only a command with --take-over goes on, while this one runs.
    #[arg(long, value_name = "DURATION", value_parser = retention, requires = "stream")]
    pub(crate) retention: Option<Duration>,
    /// Take the stream over from another `fltport watch` that has it.
    #[arg(long, requires = "stream")]
    pub(crate) take_over: bool,
    /// Begin with what is there: the processes that run, as far as the process monitor knows them.
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// What a hosted kernel that this command starts does when a driver breaks a rule.
    #[cfg_attr(not(target_os = "linux"), arg(hide = true))]
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub(crate) verifier: Verifier,
}

/// What the hosted kernel does when a driver breaks a rule of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
pub(crate) enum Verifier {
    /// Print the report at once and go on; the exit code says it at the end
    #[default]
    Report,
    /// Print the report and stop the system: abort, as with a blue screen
    Bugcheck,
    /// Look at nothing, as Windows without Driver Verifier: for measuring
    Off,
}

impl Verifier {
    /// As it is written on the command line.
    #[cfg(target_os = "linux")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verifier::Report => "report",
            Verifier::Bugcheck => "bugcheck",
            Verifier::Off => "off",
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Metrics {
    /// Serve them at this address under /metrics until Ctrl-C. Port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) listen: Option<std::net::SocketAddr>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Providers {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only the provider of this name.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[cfg(target_os = "linux")]
#[derive(Args, Clone, Debug)]
pub(crate) struct Host {
    /// For another fltport that starts its own host: ends with standard input.
    #[arg(long, hide = true)]
    pub(crate) private: bool,
    /// What to do when a driver breaks a rule of the kernel.
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub(crate) verifier: Verifier,
    /// Give a user rights at a provider (* for all others): PROVIDER=SID:RIGHTS, as
    /// *=S-1-22-1-1000:observe for the user with the id 1000. May be repeated. Who is not named for a
    /// provider then has none there, root included.
    #[arg(long = "grant", value_name = "GRANT")]
    pub(crate) grants: Vec<Grant>,
}

/// Whatever stands behind a command of Windows.
#[cfg(not(windows))]
#[derive(Args, Clone, Debug)]
pub(crate) struct Elsewhere {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<std::ffi::OsString>,
}

impl Arguments {
    /// The command, with the default in place. An error if options of `watch` stand before another
    /// command.
    pub(crate) fn command(&self) -> Result<Command, clap::Error> {
        match &self.command {
            None => Ok(Command::Watch(self.watch.clone())),
            Some(command) if self.watch == Watch::default() => Ok(command.clone()),
            Some(_) => Err(<Arguments as clap::CommandFactory>::command().error(
                clap::error::ErrorKind::ArgumentConflict,
                "options must stand behind the command that they are for",
            )),
        }
    }
}

/// A pattern as the driver takes it.
fn pattern(text: &str) -> Result<String, String> {
    let units = text.encode_utf16().count();
    if text.is_empty() {
        return Err("the pattern is empty; it would match nothing".into());
    }
    if units > fltport::glob::MAX_PATTERN {
        let most = fltport::glob::MAX_PATTERN;
        return Err(format!("{units} characters are too many; at most {most}"));
    }
    Ok(text.to_owned())
}

/// The name of a stream.
fn stream_name(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("the name is empty; give the stream one".into()),
        false => Ok(text.to_owned()),
    }
}

/// Where a server listens. Names are not looked up: what they mean may change.
fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port, as in 127.0.0.1:9464 or [::1]:9464".into())
}

/// How long a stream is kept.
fn retention(text: &str) -> Result<Duration, String> {
    let retention = duration(text)?;
    match retention <= fltport::MAX_RETENTION {
        true => Ok(retention),
        false => Err("a stream is kept for 10m at most".into()),
    }
}

/// A number and a unit; a number alone is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(format!(
                "\"{unit}\" is no unit; use ms, s, m or h, as in 5s"
            ));
        }
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "not a number with a unit, as in 5s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds)
        .map_err(|_| "out of range; use a time from 0ms to some years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "s", "5 parsecs", "5d", "-1s", "nan", "1e999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn watch_is_the_default() {
        let parsed = Arguments::try_parse_from(["fltport", "--json", "--for", "1s"]).unwrap();
        assert!(
            matches!(parsed.command(), Ok(Command::Watch(w)) if w.json && w.duration.is_some())
        );
        let parsed = Arguments::try_parse_from(["fltport", "status", "--socket", "/x"]).unwrap();
        assert!(matches!(parsed.command(), Ok(Command::Status(_))));
        assert_eq!(parsed.socket, Some(PathBuf::from("/x")));
        let parsed =
            Arguments::try_parse_from(["fltport", "--socket", "/x", "exclusions"]).unwrap();
        assert!(matches!(parsed.command(), Ok(Command::Exclusions)));
        let parsed = Arguments::try_parse_from(["fltport", "--json", "status"]).unwrap();
        assert!(parsed.command().is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_verifier_is_chosen_by_its_name() {
        for verifier in [Verifier::Report, Verifier::Bugcheck, Verifier::Off] {
            let arguments = ["fltport", "host", "--verifier", verifier.name()];
            let parsed = Arguments::try_parse_from(arguments).unwrap().command();
            assert!(matches!(parsed, Ok(Command::Host(h)) if h.verifier == verifier));
        }
        let parsed = Arguments::try_parse_from(["fltport", "host"]).unwrap();
        assert!(matches!(parsed.command(), Ok(Command::Host(h)) if h.verifier == Verifier::Report));
    }

    #[cfg(not(windows))]
    #[test]
    fn commands_of_windows_are_known_elsewhere() {
        for line in [
            &["fltport", "install", "--start", "boot"][..],
            &["fltport", "uninstall"],
            &["fltport", "start", "x"],
            &["fltport", "stop"],
            &["fltport", "doctor", "--json"],
            &["fltport", "access", "grant", "--sid", "S-1-5-18"],
            &["fltport", "access", "--help"],
        ] {
            let parsed = Arguments::try_parse_from(line).unwrap().command();
            assert!(matches!(parsed, Ok(Command::Install(_))), "{line:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["fltport", "watch", "--deny", ""][..],
            &["fltport", "look"],
            &["fltport", "--verifier", "quiet"],
            &["fltport", "--for"],
            &["fltport", "metrics", "--listen", "localhost:9464"],
        ] {
            assert!(Arguments::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
