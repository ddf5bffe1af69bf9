// SPDX-License-Identifier: MIT OR Apache-2.0

//! The chart: a panel for each row, a bar for each contestant from the left end to its median, a
//! line over it from the least to the greatest, on a logarithmic scale. Plain SVG.

use std::fmt::Write;

use super::table::number;
use crate::measure::Work;
use crate::series::{Cell, ROWS, Results, Row};
use crate::statistics::Spread;

const WIDTH: f64 = 560.0;
const COLUMNS: usize = 2;
const NAMES: f64 = 96.0;
const FIGURES: f64 = 52.0;
const BAR: f64 = 18.0;
const TITLE: f64 = 46.0;
const BELOW: f64 = 34.0;
const HEAD: f64 = 56.0;

/// A bar.
struct Bar<'a> {
    name: &'a str,
    spread: Spread,
}

/// The whole picture.
pub(super) fn draw(results: &Results) -> String {
    let panels: Vec<(&Row, Vec<Bar<'_>>)> = ROWS
        .iter()
        .map(|row| (row, bars(results, row)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let heights = panels.chunks(COLUMNS).map(|panels| {
        let bars = panels.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
        TITLE + bars as f64 * BAR + BELOW
    });
    let heights: Vec<f64> = heights.collect();
    let (width, height) = (WIDTH * COLUMNS as f64, HEAD + heights.iter().sum::<f64>());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        (16.0, 26.0),
        "start",
        "#111111",
        16.0,
        "Ways out of a kernel, side by side",
    );
    text(
        &mut svg,
        (16.0, 44.0),
        "start",
        "#555555",
        11.0,
        &subtitle(results),
    );
    let mut top = HEAD;
    for (panels, height) in panels.chunks(COLUMNS).zip(&heights) {
        for (column, (row, bars)) in panels.iter().enumerate() {
            panel(&mut svg, (column as f64 * WIDTH, top), row, bars);
        }
        top += height;
    }
    svg.push_str("</svg>\n");
    svg
}

fn subtitle(results: &Results) -> String {
    let (machine, extent) = (&results.machine, &results.extent);
    format!(
        "{}, Linux {}; median and range of {} rounds; logarithmic scale",
        machine.processor, machine.kernel, extent.rounds
    )
}

fn bars<'a>(results: &'a Results, row: &Row) -> Vec<Bar<'a>> {
    let bar = |cell: &'a Cell| {
        let spread = match row.work {
            Work::Flow => cell.rate(None),
            Work::Delay => cell.spread(None, |outcome| outcome.delay.map(|delay| delay.p50)),
        };
        let spread = spread.filter(|spread| spread.min > 0.0)?;
        Some(Bar {
            name: &cell.contestant,
            spread,
        })
    };
    let cells = results.cells.iter().filter(|cell| cell.row == *row);
    cells.filter_map(bar).collect()
}

/// Whole powers of ten around all bars.
fn decades(bars: &[Bar<'_>]) -> (f64, f64) {
    let ends = bars
        .iter()
        .flat_map(|bar| [bar.spread.min.log10(), bar.spread.max.log10()]);
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| {
        (low.min(end), high.max(end))
    });
    let low = (low - 0.05).floor();
    (low, high.ceil().max(low + 1.0))
}

fn panel(svg: &mut String, (left, top): (f64, f64), row: &Row, bars: &[Bar<'_>]) {
    let unit = match row.work {
        Work::Flow => "million records a second, more is better",
        Work::Delay => "one way after a pause, median in microseconds, less is better",
    };
    text(
        svg,
        (left + 16.0, top + 20.0),
        "start",
        "#111111",
        13.0,
        &row.title(),
    );
    text(
        svg,
        (left + 16.0, top + 35.0),
        "start",
        "#777777",
        10.0,
        unit,
    );
    let (low, high) = decades(bars);
    let from = left + NAMES + 16.0;
    let length = WIDTH - NAMES - FIGURES - 40.0;
    let at = |value: f64| from + (value.log10() - low) / (high - low) * length;
    let bottom = top + TITLE + bars.len() as f64 * BAR;
    for decade in low as i32..=high as i32 {
        let value = 10f64.powi(decade);
        let x = at(value);
        shape(
            svg,
            &format!(
                "line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#dddddd\"",
                top + TITLE
            ),
        );
        text(
            svg,
            (x, bottom + 13.0),
            "middle",
            "#777777",
            10.0,
            &scale(value),
        );
    }
    for (at_bar, bar) in bars.iter().enumerate() {
        let y = top + TITLE + at_bar as f64 * BAR;
        let (min, middle, max) = (
            at(bar.spread.min),
            at(bar.spread.median),
            at(bar.spread.max),
        );
        let colour = colour(bar.name);
        let (high, centre) = (BAR - 5.0, y + BAR / 2.0);
        shape(
            svg,
            &format!(
                "rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{high}\" fill=\"{colour}\"",
                y + 2.5,
                middle - from
            ),
        );
        shape(
            svg,
            &format!(
                "line x1=\"{min:.1}\" x2=\"{max:.1}\" y1=\"{centre:.1}\" y2=\"{centre:.1}\" stroke=\"#222222\""
            ),
        );
        for end in [min, max] {
            shape(
                svg,
                &format!(
                    "line x1=\"{end:.1}\" x2=\"{end:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#222222\"",
                    centre - 3.0,
                    centre + 3.0
                ),
            );
        }
        text(
            svg,
            (from - 6.0, centre + 4.0),
            "end",
            "#111111",
            11.0,
            bar.name,
        );
        let figure = number(bar.spread.median);
        text(
            svg,
            (max + 6.0, centre + 4.0),
            "start",
            "#111111",
            11.0,
            &figure,
        );
    }
}

/// A number on the scale, without needless digits.
fn scale(value: f64) -> String {
    match value < 1.0 {
        true => format!("{value}"),
        false => format!("{value:.0}"),
    }
}

/// Ours, the limits, all others.
fn colour(name: &str) -> &'static str {
    match name {
        name if name.starts_with("fltport") => "#d1495b",
        "bare-ring" | "tuned-ring" => "#9aa5b1",
        _ => "#5b8db8",
    }
}

fn shape(svg: &mut String, shape: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "<{shape}/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, fill: &str, size: f64, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\" \
         font-size=\"{size}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestant::Idle;
    use crate::series::tests::made_up;

    #[test]
    fn every_contestant_has_a_bar() {
        let row = Row::flow(64, 1, Idle::Sleeps);
        let results = made_up(&[("pipe", row, &[1.0, 2.0]), ("a<b", row, &[50.0])]);
        let svg = draw(&results);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        // And the background.
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.contains(">pipe<") && svg.contains(">a&lt;b<"));
    }

    #[test]
    fn the_scale_has_whole_decades_around_all() {
        let bar = |min, max| Bar {
            name: "x",
            spread: Spread {
                median: min,
                min,
                max,
                count: 2,
            },
        };
        assert_eq!(decades(&[bar(0.7, 1.5), bar(3.0, 264.0)]), (-1.0, 3.0));
        assert_eq!(decades(&[bar(2.0, 3.0)]), (0.0, 1.0));
    }

    #[test]
    fn nothing_measured_is_an_empty_chart() {
        assert!(draw(&made_up(&[])).ends_with("</svg>\n"));
    }
}
