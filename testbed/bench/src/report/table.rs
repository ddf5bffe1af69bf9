// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table.

use std::fmt::Write;

use super::REFERENCES;
use crate::measure::{Delay, Outcome, Work};
use crate::round_trip::Times;
use crate::series::{Cell, ROWS, Results, Row};
use crate::statistics::{Spread, Stratum, median};

pub(super) fn render(results: &Results) -> String {
    let mut text = String::new();
    head(&mut text, results);
    for row in &ROWS {
        let cells = results
            .cells
            .iter()
            .filter(|cell| cell.row == *row && !cell.outcomes.is_empty());
        let cells: Vec<&Cell> = cells.collect();
        if cells.is_empty() {
            continue;
        }
        let lines = match row.work {
            Work::Flow => flow(results, row, &cells),
            Work::Delay => delay(results, &cells),
        };
        let kind = match row.work {
            Work::Flow => "million records a second",
            Work::Delay => "one way after a pause of 50 us, microseconds",
        };
        put(&mut text, &format!("{} ({kind})", row.title()), lines);
    }
    if results.bare.iter().any(|bare| !bare.times.is_empty()) {
        put(&mut text, "bare means, 64 B (microseconds)", bare(results));
    }
    if results.drivers.iter().any(|row| !row.figures.is_empty()) {
        let title = "the whole stack, 64 B, drivers in the hosted kernel";
        put(&mut text, title, stack(results));
    }
    line(&mut text, "");
    for skipped in &results.skipped {
        line(
            &mut text,
            &format!("{}: skipped: {}", skipped.contestant, skipped.reason),
        );
    }
    for error in results.errors() {
        line(&mut text, &format!("FAILED: {error}"));
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn head(text: &mut String, results: &Results) {
    let machine = &results.machine;
    line(
        text,
        &format!("{}, Linux {}", machine.processor, machine.kernel),
    );
    if machine.load > BUSY {
        let load = number(machine.load);
        let busy = format!("the machine was busy before (load {load}): these figures mean little");
        line(text, &busy);
    }
    let extent = &results.extent;
    let mut counts = [0; 3];
    for outcome in results.cells.iter().flat_map(|cell| &cell.outcomes) {
        if let Some(stratum) = outcome.stratum {
            counts[stratum as usize] += 1;
        }
    }
    let strata = [Stratum::Near, Stratum::Far, Stratum::Mixed];
    let strata = strata.map(|stratum| format!("{} {}", counts[stratum as usize], stratum.name()));
    line(
        text,
        &format!(
            "{} rounds of {} s; processors {} and {}, measurements when they were: {}",
            extent.rounds,
            extent.seconds,
            machine.used[0],
            machine.used[1],
            strata.join(", ")
        ),
    );
}

/// With more than that, somebody else is at work.
const BUSY: f64 = 0.5;

/// A title and a table.
fn put(text: &mut String, title: &str, lines: Vec<Vec<String>>) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    line(text, &format!("\n{title}"));
    for cells in &lines {
        text.push(' ');
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            // Writing to a string does not fail.
            let _ = match column {
                0 => write!(text, " {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        let end = text.trim_end().len();
        text.truncate(end);
        text.push('\n');
    }
}

/// Three digits are enough.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_string(),
        large if large >= 99.95 => format!("{value:.0}"),
        middle if middle >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or("-".to_string(), |spread| {
        format!(
            "{} ({}..{})",
            number(spread.median),
            number(spread.min),
            number(spread.max)
        )
    })
}

fn middle(spread: Option<Spread>) -> String {
    spread.map_or("-".to_string(), |spread| number(spread.median))
}

fn texts(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_string()).collect()
}

fn flow(results: &Results, row: &Row, cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut head = texts(&["", "median (min..max)", "near", "far", "mixed"]);
    head.extend(REFERENCES.map(|name| format!("x {name}")));
    head.extend(texts(&["wakes/M", "sleeps/M", "full/M", "late"]));
    let mut lines = vec![head];
    for cell in cells {
        let rate = cell.rate(None);
        let mut line = vec![cell.contestant.clone(), spread(rate)];
        line.push(middle(cell.rate(Some(Stratum::Near))));
        line.push(middle(cell.rate(Some(Stratum::Far))));
        line.push(middle(cell.rate(Some(Stratum::Mixed))));
        for name in REFERENCES {
            let reference = results.rate(name, row);
            let ratio = rate
                .zip(reference)
                .map(|(rate, reference)| rate.median / reference);
            line.push(ratio.map_or("-".to_string(), number));
        }
        let figure = |figure: fn(&Outcome) -> Option<f64>| middle(cell.spread(None, figure));
        line.push(figure(|outcome| outcome.wakes));
        line.push(figure(|outcome| Some(outcome.sleeps)));
        line.push(figure(|outcome| Some(outcome.full)));
        let late: u64 = cell.outcomes.iter().map(|outcome| outcome.late).sum();
        line.push(late.to_string());
        lines.push(line);
    }
    lines
}

fn delay(results: &Results, cells: &[&Cell]) -> Vec<Vec<String>> {
    let mut lines = vec![texts(&[
        "",
        "p50 (min..max)",
        "p99",
        "x futex",
        "x lock-ring",
    ])];
    let futex = one_way(results, "futex");
    let p50 = |cell: &Cell| cell.spread(None, |outcome| outcome.delay.map(|delay| delay.p50));
    let ring = cells.iter().find(|cell| cell.contestant == "lock-ring");
    let ring = ring.and_then(|cell| p50(cell)).map(|spread| spread.median);
    for cell in cells {
        let here = p50(cell);
        let p99 = cell.spread(None, |outcome| outcome.delay.map(|delay| delay.p99));
        let mut line = vec![cell.contestant.clone(), spread(here), middle(p99)];
        for reference in [futex, ring] {
            let ratio = here
                .zip(reference)
                .map(|(here, reference)| here.median / reference);
            line.push(ratio.map_or("-".to_string(), number));
        }
        lines.push(line);
    }
    lines
}

/// The median of one of the bare means, one way.
pub(super) fn one_way(results: &Results, name: &str) -> Option<f64> {
    means(results, name, |times| times.one_way)
}

/// The same, there and back.
pub(super) fn round_trip(results: &Results, name: &str) -> Option<f64> {
    means(results, name, |times| times.round_trip)
}

fn means(results: &Results, name: &str, way: fn(&Times) -> Delay) -> Option<f64> {
    let bare = results.bare.iter().find(|bare| bare.name == name)?;
    let times = bare.times.iter().map(|times| way(times).p50);
    median(&times.collect::<Vec<f64>>())
}

fn bare(results: &Results) -> Vec<Vec<String>> {
    let head = [
        "",
        "one way p50 (min..max)",
        "p99",
        "round trip p50 (min..max)",
        "p99",
    ];
    let mut lines = vec![texts(&head)];
    for bare in &results.bare {
        let figures = |way: fn(&Times) -> Delay, at: fn(&Delay) -> f64| {
            let figures = bare.times.iter().map(|times| at(&way(times)));
            Spread::of(&figures.collect::<Vec<f64>>())
        };
        lines.push(vec![
            bare.name.clone(),
            spread(figures(|times| times.one_way, |delay| delay.p50)),
            middle(figures(|times| times.one_way, |delay| delay.p99)),
            spread(figures(|times| times.round_trip, |delay| delay.p50)),
            middle(figures(|times| times.round_trip, |delay| delay.p99)),
        ]);
    }
    lines
}

fn stack(results: &Results) -> Vec<Vec<String>> {
    let mut lines = vec![texts(&["", "median (min..max)", "unit"])];
    for row in &results.drivers {
        let figures = spread(Spread::of(&row.figures));
        lines.push(vec![row.row.clone(), figures, row.unit.clone()]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::Idle;
    use crate::series::tests::made_up;

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 0.123, 1.468, 9.996, 45.67, 264.4, 12_345.0].map(number);
        assert_eq!(shown, ["0", "0.12", "1.47", "10.0", "45.7", "264", "12345"]);
    }

    #[test]
    fn a_line_has_the_ratios() {
        let row = Row::flow(64, 1, Idle::Sleeps);
        let results = made_up(&[
            ("lock-ring", row, &[9.0, 10.0, 11.0]),
            ("bare-ring", row, &[40.0, 50.0, 120.0]),
        ]);
        let text = render(&results);
        let line = text
            .lines()
            .find(|line| line.starts_with("  bare-ring "))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words[..8],
            [
                "bare-ring",
                "50.0",
                "(40.0..120)",
                "45.0",
                "120",
                "-",
                "1.00",
                "5.00"
            ]
        );
        assert!(text.contains("absent: skipped: a cause"), "{text}");
    }

    #[test]
    fn delays_are_compared_with_the_futex() {
        let results = made_up(&[("lock-ring", Row::delay(Idle::Sleeps), &[6.0])]);
        let text = render(&results);
        let line = text
            .lines()
            .find(|line| line.starts_with("  lock-ring "))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            ["lock-ring", "6.00", "(6.00..6.00)", "12.0", "1.20", "1.00"]
        );
    }
}
