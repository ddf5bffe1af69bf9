// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench`: ways out of a kernel, side by side. See docs/benchmarks.md.

mod clock;
mod contestant;
mod contestants;
mod control;
mod drivers;
mod measure;
mod process;
mod record;
mod report;
mod round_trip;
mod series;
mod shared;
mod statistics;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::contestant::Idle;
use crate::contestants::Entry;
use crate::measure::{Budget, Work};
use crate::process::Processors;
use crate::series::{Extent, ROWS};

/// Measures ways out of a kernel, side by side in one go, and tells ratios.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// How often everything is measured; contestants take turns.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each measurement is, after a warm-up of a tenth of that.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Only this contestant; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = contestant)]
    only: Vec<String>,
    /// Only rows with this payload in bytes; may be given several times.
    #[arg(long, value_name = "BYTES")]
    payload: Vec<usize>,
    /// Only rows with that many producers.
    #[arg(long, value_name = "N")]
    producers: Option<usize>,
    /// Only rows with a consumer that does this when idle; may be given several times.
    #[arg(long, value_name = "WHAT")]
    idle: Vec<Idle>,
    /// Two short rounds: to see that it works, and not for figures.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// The folder for results.json and chart.svg.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "target/bench",
        overrides_with = "output"
    )]
    output: PathBuf,
    /// Do without the crate iceoryx2, which is a hundred crates to build.
    #[arg(long)]
    without_iceoryx2: bool,
    /// Only the whole stack, drivers and service library in the hosted kernel: all rows, or those that contain this.
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "")]
    drivers: Option<String>,
    /// List the contestants and measure nothing.
    #[arg(long)]
    list: bool,
    /// Let each contestant bring some records over, in every way that it can, and measure nothing.
    #[arg(long)]
    check: bool,
}

fn seconds(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => bail!("it takes a number from 0.01 to 3600"),
    }
}

fn contestant(text: &str) -> Result<String> {
    let mut names: Vec<&str> = contestants::all()
        .iter()
        .map(|entry| entry.about.name)
        .collect();
    names.extend(contestants::left_out().iter().map(|(name, _)| name));
    if names.contains(&text) {
        return Ok(text.to_string());
    }
    bail!("there are {}", names.join(", "))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.list, arguments.check) {
        (true, _) => list(),
        (false, true) => check(&arguments.only),
        (false, false) => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn extent(arguments: &Arguments) -> Extent {
    let (rounds, seconds, delays) = match arguments.quick {
        true => (2, 0.1, 500),
        false => (arguments.rounds, arguments.seconds, 4000),
    };
    let chosen = !arguments.only.is_empty()
        || !arguments.payload.is_empty()
        || arguments.producers.is_some()
        || !arguments.idle.is_empty();
    let rows = ROWS.into_iter().filter(|row| {
        // Who asks for the drivers gets contestants beside them only if he names some.
        (chosen || arguments.drivers.is_none())
            && (arguments.payload.is_empty() || arguments.payload.contains(&row.payload))
            && (arguments.producers.is_none() || arguments.producers == Some(row.producers))
            && (arguments.idle.is_empty() || arguments.idle.contains(&row.idle))
    });
    let rows = rows.collect();
    let only = arguments.only.clone();
    let drivers = match chosen {
        true => arguments.drivers.clone(),
        false => Some(arguments.drivers.clone().unwrap_or_default()),
    };
    Extent {
        rows,
        rounds,
        seconds,
        warm_up_seconds: seconds / 10.0,
        delays,
        only,
        drivers,
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let shown = std::io::stderr().is_terminal();
    let extent = extent(arguments);
    extent.is_possible()?;
    let results = series::run(&extent, |what| {
        if shown {
            // Nothing depends on whether it can be shown.
            let _ = write!(std::io::stderr(), "\r\x1b[K{what}");
        }
    })?;
    if shown {
        eprintln!();
    }
    print!("{}", report::text(&results));
    for file in report::write(&results, &arguments.output)? {
        println!("{}", file.display());
    }
    match results.errors().count() {
        0 => Ok(()),
        count => bail!("{count} measurements failed, see above"),
    }
}

fn list() -> Result<()> {
    for Entry { about, .. } in contestants::all() {
        println!("{:<12} {}", about.name, about.what);
    }
    for (name, reason) in contestants::left_out() {
        println!("{name:<12} {reason}");
    }
    Ok(())
}

/// Bytes of each producer in a check: more than a ring holds, so that there are laps.
const CHECKED: u64 = 5 << 18;

fn check(only: &[String]) -> Result<()> {
    let processors = Processors::find()?;
    let mut failed = 0;
    for entry in contestants::all() {
        let name = entry.about.name;
        if !only.is_empty() && !only.iter().any(|only| only == name) {
            continue;
        }
        if let Err(error) = (entry.is_possible)() {
            println!("{name}: skipped: {error:#}");
            continue;
        }
        for row in ROWS.iter().filter(|row| row.suits(&entry)) {
            let budget = match row.work {
                Work::Flow => Budget::Records(CHECKED / row.payload as u64),
                Work::Delay => Budget::Records(50),
            };
            let kind = match row.work {
                Work::Flow => "",
                Work::Delay => ", one by one",
            };
            let title = row.title();
            match (entry.measure)(&row.plan(processors, budget), row.payload) {
                Ok(outcome) => println!("{name}: {title}{kind}: {} records", outcome.records),
                Err(error) => {
                    println!("{name}: {title}{kind}: FAILED: {error:#}");
                    failed += 1;
                }
            }
        }
    }
    if failed > 0 {
        bail!("{failed} checks failed, see above");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["bench"], arguments].concat())
    }

    #[test]
    fn arguments_are_as_they_should_be() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn without_arguments_everything_is_measured_five_times() {
        let extent = extent(&parse(&[]).unwrap());
        assert_eq!((extent.rounds, extent.seconds), (5, 1.0));
        assert!(extent.only.is_empty());
    }

    #[test]
    fn quick_is_quick() {
        let extent = extent(&parse(&["--quick", "--only", "pipe"]).unwrap());
        assert_eq!((extent.rounds, extent.seconds), (2, 0.1));
        assert_eq!(extent.only, ["pipe"]);
        assert!(parse(&["--quick", "--rounds", "7"]).is_err());
    }

    #[test]
    fn rows_can_be_chosen() {
        let rows = |arguments: &[&str]| extent(&parse(arguments).unwrap()).rows;
        assert_eq!(rows(&[]), ROWS);
        let chosen = rows(&["--payload", "4096", "--producers", "1", "--idle", "lazy"]);
        assert_eq!(chosen, [series::Row::flow(4096, 1, Idle::Lazy)]);
    }

    #[test]
    fn who_chooses_nothing_is_told_what_there_is() {
        let refused = |arguments: &[&str]| {
            let extent = extent(&parse(arguments).unwrap());
            extent.is_possible().err().map(|error| error.to_string())
        };
        assert_eq!(refused(&[]), None);
        assert_eq!(refused(&["--drivers", "request"]), None);
        let payload = refused(&["--payload", "7"]).unwrap();
        assert!(payload.contains("4 KiB, 1 producer"), "{payload}");
        let row = refused(&["--drivers", "doves"]).unwrap();
        assert!(row.contains("request and answer"), "{row}");
    }

    #[test]
    fn the_whole_stack_takes_part_unless_something_else_is_chosen() {
        let extent = |arguments: &[&str]| extent(&parse(arguments).unwrap());
        assert_eq!(extent(&[]).drivers.as_deref(), Some(""));
        assert_eq!(extent(&["--idle", "lazy"]).drivers, None);
        let only = extent(&["--drivers", "request"]);
        assert_eq!(
            (only.drivers.as_deref(), only.rows.len()),
            (Some("request"), 0)
        );
        let both = extent(&["--drivers", "--only", "fltport-ring"]);
        assert_eq!(
            (both.drivers.as_deref(), both.rows.len()),
            (Some(""), ROWS.len())
        );
    }

    #[test]
    fn who_is_not_there_cannot_be_chosen() {
        let error = parse(&["--only", "doves"]).unwrap_err().to_string();
        assert!(error.contains("lock-ring"), "{error}");
        assert!(parse(&["--seconds", "-1"]).is_err());
        assert!(parse(&["--rounds", "0"]).is_err());
    }
}
