// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is measured, in which order, and what comes of it. Contestants take turns: each round
//! measures everything once, all contestants of a row one after the other, because a shared machine
//! is another one from minute to minute.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::contestant::{Idle, Setting};
use crate::contestants::{self, Entry};
use crate::drivers;
use crate::measure::{Budget, Outcome, Plan, Work};
use crate::process::Processors;
use crate::round_trip::{self, Times};
use crate::statistics::{Spread, Stratum, median};

/// A row of the table: everything but the contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) payload: usize,
    pub(crate) producers: usize,
    pub(crate) idle: Idle,
}

impl Row {
    pub(crate) const fn flow(payload: usize, producers: usize, idle: Idle) -> Row {
        Row {
            work: Work::Flow,
            payload,
            producers,
            idle,
        }
    }

    pub(crate) const fn delay(idle: Idle) -> Row {
        Row {
            work: Work::Delay,
            payload: 64,
            producers: 1,
            idle,
        }
    }

    /// As a title.
    pub(crate) fn title(&self) -> String {
        let payload = match self.payload {
            len if len.is_multiple_of(1024) => format!("{} KiB", len / 1024),
            len => format!("{len} B"),
        };
        let producers = match self.producers {
            1 => "1 producer".to_string(),
            count => format!("{count} producers"),
        };
        let idle = match self.idle {
            Idle::Sleeps => "consumer sleeps when idle",
            Idle::Spins => "consumer spins a little, then sleeps",
            Idle::Lazy => "consumer polls lazily",
            Idle::Nobody => "nobody draining",
        };
        format!("{payload}, {producers}, {idle}")
    }

    /// Whether a contestant can do it.
    pub(crate) fn suits(&self, entry: &Entry) -> bool {
        let about = &entry.about;
        let is_soon = about.wakes_for_each || self.work == Work::Flow;
        is_soon && about.idle.contains(&self.idle) && self.producers <= about.producers
    }

    pub(crate) fn plan(&self, processors: Processors, budget: Budget) -> Plan {
        let timed = self.work == Work::Delay;
        let setting = Setting {
            producers: self.producers,
            idle: self.idle,
            timed,
        };
        Plan {
            setting,
            work: self.work,
            budget,
            processors,
        }
    }
}

/// All rows.
pub(crate) const ROWS: [Row; 16] = [
    Row::flow(64, 1, Idle::Sleeps),
    Row::flow(64, 1, Idle::Spins),
    Row::flow(64, 1, Idle::Lazy),
    Row::flow(64, 2, Idle::Sleeps),
    Row::flow(64, 2, Idle::Spins),
    Row::flow(64, 2, Idle::Lazy),
    Row::flow(64, 1, Idle::Nobody),
    Row::flow(64, 2, Idle::Nobody),
    Row::flow(256, 1, Idle::Sleeps),
    Row::flow(256, 1, Idle::Lazy),
    Row::flow(256, 2, Idle::Sleeps),
    Row::flow(4096, 1, Idle::Sleeps),
    Row::flow(4096, 1, Idle::Lazy),
    Row::flow(4096, 2, Idle::Sleeps),
    Row::delay(Idle::Sleeps),
    Row::delay(Idle::Spins),
];

/// How much is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) rounds: u32,
    /// Of each measurement.
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
    /// Of which the delay is measured, in each round.
    pub(crate) delays: u64,
    pub(crate) only: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Rows of the whole stack: those whose names contain this.
    pub(crate) drivers: Option<String>,
}

impl Extent {
    /// Whether a contestant takes part.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Whether there is anything to measure.
    ///
    /// # Errors
    /// No row is so, with those that there are.
    pub(crate) fn is_possible(&self) -> Result<()> {
        if let Some(part) = &self.drivers {
            let all: Vec<&str> = drivers::rows(0).iter().map(|row| row.what).collect();
            ensure!(
                !self.driver_rows().is_empty(),
                "no row of the whole stack contains {part}; there are\n  {}",
                all.join("\n  ")
            );
        } else {
            // Delays are those of the first.
            let flows = ROWS.iter().filter(|row| row.work == Work::Flow);
            let titles: Vec<String> = flows.map(Row::title).collect();
            ensure!(
                !self.rows.is_empty(),
                "no row is so; there are\n  {}",
                titles.join("\n  ")
            );
        }
        Ok(())
    }

    fn driver_rows(&self) -> Vec<drivers::Row> {
        let Some(part) = &self.drivers else {
            return Vec::new();
        };
        let mut rows = drivers::rows((self.seconds * 1000.0) as u64);
        rows.retain(|row| row.what.contains(part));
        rows
    }

    fn budget(&self, row: &Row) -> Budget {
        match row.work {
            Work::Delay => Budget::Records(self.delays),
            Work::Flow => Budget::Time {
                warm_up: Duration::from_secs_f64(self.warm_up_seconds),
                measured: Duration::from_secs_f64(self.seconds),
            },
        }
    }
}

/// What the machine is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) used: [usize; 2],
    /// How many processes wanted to run in the last minute before the first measurement.
    pub(crate) load: f64,
}

impl Machine {
    fn of(processors: Processors) -> Machine {
        let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = about.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": "));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Machine {
            load: load.unwrap_or(0.0),
            processor: model.map_or("unknown", |(_, name)| name).to_string(),
            kernel: kernel.trim().to_string(),
            used: [processors.first, processors.second],
        }
    }
}

/// One contestant in one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) contestant: String,
    pub(crate) row: Row,
    /// One a round.
    pub(crate) outcomes: Vec<Outcome>,
    /// Of rounds that failed; without any of these the figures are whole.
    pub(crate) errors: Vec<String>,
}

impl Cell {
    /// Of all rounds, or of those of one stratum.
    pub(crate) fn spread(
        &self,
        stratum: Option<Stratum>,
        figure: impl Fn(&Outcome) -> Option<f64>,
    ) -> Option<Spread> {
        let outcomes = self.outcomes.iter();
        let chosen = outcomes.filter(|outcome| stratum.is_none() || outcome.stratum == stratum);
        Spread::of(&chosen.filter_map(figure).collect::<Vec<f64>>())
    }

    /// Million records a second.
    pub(crate) fn rate(&self, stratum: Option<Stratum>) -> Option<Spread> {
        self.spread(stratum, |outcome| Some(outcome.rate))
    }
}

/// One of the bare means.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bare {
    pub(crate) name: String,
    pub(crate) times: Vec<Times>,
    pub(crate) errors: Vec<String>,
}

/// One row of the whole stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stack {
    pub(crate) row: String,
    pub(crate) unit: String,
    /// One a round.
    pub(crate) figures: Vec<f64>,
    pub(crate) errors: Vec<String>,
}

/// Who does not take part, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) contestant: String,
    pub(crate) reason: String,
}

/// Everything that came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) extent: Extent,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) bare: Vec<Bare>,
    pub(crate) drivers: Vec<Stack>,
}

impl Results {
    pub(crate) fn cell(&self, contestant: &str, row: &Row) -> Option<&Cell> {
        let mut cells = self.cells.iter();
        cells.find(|cell| cell.contestant == contestant && cell.row == *row)
    }

    /// Million records a second, in the middle.
    pub(crate) fn rate(&self, contestant: &str, row: &Row) -> Option<f64> {
        Some(self.cell(contestant, row)?.rate(None)?.median)
    }

    /// In the middle, in its row's unit.
    pub(crate) fn stack(&self, row: &str) -> Option<f64> {
        let stack = self.drivers.iter().find(|stack| stack.row == row)?;
        median(&stack.figures)
    }

    /// All that failed.
    pub(crate) fn errors(&self) -> impl Iterator<Item = String> {
        let cells = self.cells.iter().flat_map(|cell| {
            let title = cell.row.title();
            let errors = cell.errors.iter();
            errors.map(move |error| format!("{}, {title}: {error}", cell.contestant))
        });
        let bare = self.bare.iter().flat_map(|bare| {
            let errors = bare.errors.iter();
            errors.map(move |error| format!("{}: {error}", bare.name))
        });
        let drivers = self.drivers.iter().flat_map(|stack| {
            let errors = stack.errors.iter();
            errors.map(move |error| format!("{}: {error}", stack.row))
        });
        cells.chain(bare).chain(drivers)
    }
}

/// Measures all of it. `tell` hears what is under way.
///
/// # Errors
/// There are not two processors. A measurement that fails is in the results.
pub(crate) fn run(extent: &Extent, tell: impl Fn(&str)) -> Result<Results> {
    let processors = Processors::find()?;
    let (entries, skipped) = contestants(extent);
    let rows = extent.rows.iter().flat_map(|row| {
        let suited = entries.iter().filter(move |entry| row.suits(entry));
        suited.map(move |entry| (*row, *entry))
    });
    let rows: Vec<(Row, Entry)> = rows.collect();
    let mut results = Results {
        machine: Machine::of(processors),
        extent: extent.clone(),
        skipped,
        cells: rows.iter().map(|(row, entry)| empty(row, entry)).collect(),
        bare: bare(extent),
        drivers: Vec::new(),
    };
    let stacks = extent.driver_rows();
    results.drivers = stacks.iter().map(no_figures).collect();
    for round in 1..=extent.rounds {
        for ((row, entry), cell) in rows.iter().zip(&mut results.cells) {
            let name = entry.about.name;
            tell(&format!(
                "round {round} of {}: {}: {name}",
                extent.rounds,
                row.title()
            ));
            let plan = row.plan(processors, extent.budget(row));
            match (entry.measure)(&plan, row.payload) {
                Ok(outcome) => cell.outcomes.push(outcome),
                Err(error) => cell.errors.push(format!("{error:#}")),
            }
        }
        for bare in &mut results.bare {
            tell(&format!(
                "round {round} of {}: round trips: {}",
                extent.rounds, bare.name
            ));
            match times(bare, processors, extent.delays) {
                Ok(times) => bare.times.push(times),
                Err(error) => bare.errors.push(format!("{error:#}")),
            }
        }
        for (row, stack) in stacks.iter().zip(&mut results.drivers) {
            tell(&format!("round {round} of {}: {}", extent.rounds, row.what));
            match row.measure(processors) {
                Ok(figure) => stack.figures.push(figure),
                Err(error) => stack.errors.push(format!("{error:#}")),
            }
        }
    }
    Ok(results)
}

/// Who takes part, and who does not.
fn contestants(extent: &Extent) -> (Vec<Entry>, Vec<Skipped>) {
    let left_out = contestants::left_out().into_iter();
    let left_out = left_out.filter(|(name, _)| extent.includes(name));
    let mut skipped: Vec<Skipped> = left_out
        .map(|(name, reason)| Skipped {
            contestant: name.into(),
            reason: reason.into(),
        })
        .collect();
    let mut entries = contestants::all();
    entries.retain(|entry| extent.includes(entry.about.name));
    entries.retain(|entry| match (entry.is_possible)() {
        Ok(()) => true,
        Err(error) => {
            let (contestant, reason) = (entry.about.name.into(), format!("{error:#}"));
            skipped.push(Skipped { contestant, reason });
            false
        }
    });
    (entries, skipped)
}

fn empty(row: &Row, entry: &Entry) -> Cell {
    Cell {
        contestant: entry.about.name.into(),
        row: *row,
        outcomes: Vec::new(),
        errors: Vec::new(),
    }
}

fn no_figures(row: &drivers::Row) -> Stack {
    Stack {
        row: row.what.into(),
        unit: row.unit.into(),
        figures: Vec::new(),
        errors: Vec::new(),
    }
}

/// The bare means, when there is a contestant to compare with them.
fn bare(extent: &Extent) -> Vec<Bare> {
    let named = round_trip::ALL.iter().filter(|means| {
        let known = contestants::all();
        let is_contestant = known.iter().any(|entry| entry.about.name == means.name);
        !is_contestant || extent.includes(means.name)
    });
    named
        .map(|means| Bare {
            name: means.name.into(),
            times: Vec::new(),
            errors: Vec::new(),
        })
        .collect()
}

fn times(bare: &Bare, processors: Processors, count: u64) -> Result<Times> {
    let means = round_trip::ALL.iter().find(|means| means.name == bare.name);
    (means.context("no such means")?.measure)(processors, count)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measure::Delay;

    /// Results without a measurement: the rate is given for each contestant and row.
    pub(crate) fn made_up(figures: &[(&str, Row, &[f64])]) -> Results {
        let cells = figures.iter().map(|(contestant, row, rates)| Cell {
            contestant: (*contestant).to_string(),
            row: *row,
            outcomes: rates.iter().map(|rate| outcome(row, *rate)).collect(),
            errors: Vec::new(),
        });
        let delay = Delay {
            p50: 5.0,
            p99: 20.0,
            max: 30.0,
        };
        let times = Times {
            one_way: delay,
            round_trip: delay,
        };
        Results {
            machine: Machine {
                processor: "one".into(),
                kernel: "6".into(),
                used: [0, 1],
                load: 0.0,
            },
            extent: Extent {
                rounds: 3,
                seconds: 1.0,
                warm_up_seconds: 0.1,
                delays: 10,
                only: Vec::new(),
                rows: ROWS.to_vec(),
                drivers: None,
            },
            skipped: vec![Skipped {
                contestant: "absent".into(),
                reason: "a cause".into(),
            }],
            cells: cells.collect(),
            bare: vec![Bare {
                name: "futex".into(),
                times: vec![times],
                errors: Vec::new(),
            }],
            drivers: Vec::new(),
        }
    }

    fn outcome(row: &Row, rate: f64) -> Outcome {
        let delay = Delay {
            p50: rate,
            p99: rate * 2.0,
            max: rate * 3.0,
        };
        let near = rate < 100.0;
        Outcome {
            rate,
            records: 1000,
            delay: (row.work == Work::Delay).then_some(delay),
            wakes: Some(1500.0),
            sleeps: 3.0,
            full: 0.0,
            late: 0,
            probes: vec![if near { 150.0 } else { 500.0 }],
            stratum: Some(if near { Stratum::Near } else { Stratum::Far }),
        }
    }

    #[test]
    fn rows_differ() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(!ROWS[..at].contains(row), "{}", row.title());
        }
    }

    #[test]
    fn a_row_has_a_title() {
        let title = Row::flow(4096, 2, Idle::Lazy).title();
        assert_eq!(title, "4 KiB, 2 producers, consumer polls lazily");
    }

    #[test]
    fn strata_are_told_apart() {
        let row = Row::flow(64, 1, Idle::Sleeps);
        let results = made_up(&[("pipe", row, &[1.0, 3.0, 200.0])]);
        let cell = results.cell("pipe", &row).unwrap();
        assert_eq!(cell.rate(None).unwrap().median, 3.0);
        assert_eq!(cell.rate(Some(Stratum::Near)).unwrap().median, 2.0);
        assert_eq!(cell.rate(Some(Stratum::Far)).unwrap().count, 1);
        assert_eq!(cell.rate(Some(Stratum::Mixed)), None);
    }

    #[test]
    fn only_means_only() {
        let mut extent = made_up(&[]).extent;
        assert!(extent.includes("pipe"));
        extent.only = vec!["bpf".into()];
        assert!(!extent.includes("pipe") && extent.includes("bpf"));
    }
}
