// SPDX-License-Identifier: MIT OR Apache-2.0

//! The whole stack: a client driver in the hosted kernel, without its verifier, the common driver, and
//! services in a process of their own. What a notification costs who sends it, how many reach a
//! typed handler, and how long single ones and requests take.

mod generator;
mod machine;
mod services;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::measure::Delay;
use crate::process::{self, Processors};
use crate::shared::Line;
use crate::shared::memory::{Shareable, Shared};
use crate::statistics::median;

/// Nothing in one measurement takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured in one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Notifications without a loss for so many milliseconds.
    Flow(u64),
    /// What one costs its sender, in bursts that everybody has room for.
    Cost,
    /// The same when no room is left.
    Full,
    /// One after a pause.
    Delay,
    /// Requests and their answers.
    Ask,
    /// Bytes of pool memory; with the verifier, which counts.
    Memory,
}

/// A machine.
#[derive(Debug, Clone, Copy)]
struct Stage {
    work: Work,
    providers: usize,
    /// Connections that subscribe to the first provider, and others.
    subscribed: usize,
    others: usize,
}

/// What the processes tell each other. All begins as zero.
#[derive(Debug)]
#[repr(C)]
struct Page {
    /// The port is there.
    up: Line<AtomicU32>,
    /// So many connections are.
    connected: Line<AtomicU32>,
    stop: Line<AtomicU32>,
    gone: Line<AtomicU32>,
    /// How far each service is.
    received: [Line<AtomicU64>; generator::MOST],
}

// SAFETY: atomics and padding.
unsafe impl Shareable for Page {}

/// Waits until it is so.
fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > end {
            bail!("{what}: waited in vain");
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// What came of a machine.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Figures {
    /// Million records a second, nanoseconds a call, or bytes.
    figure: f64,
    delay: Option<Delay>,
}

fn measure(stage: Stage, processors: Processors) -> Result<Figures> {
    let page = Shared::<Page>::new()?;
    let name = format!("fltport-bench-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let socket = folder.join("host.sock");
    let deadline = Instant::now() + 2 * PATIENCE;
    let services = process::start(|| services::run(&stage, &page, &socket, processors))?;
    let machine = process::start(|| machine::run(&stage, &page, &socket, processors))?;
    let figures = machine.outcome::<Figures>(deadline);
    page.stop.store(1, Ordering::Release);
    let delay = services.outcome::<Option<Delay>>(deadline);
    // What is left is of use to nobody.
    let _left = std::fs::remove_dir_all(&folder);
    let mut figures = figures?;
    figures.delay = figures.delay.or(delay?);
    Ok(figures)
}

/// A row: the machine, and what its figure is.
struct Row {
    what: String,
    stage: Stage,
    unit: &'static str,
}

fn rows(milliseconds: u64) -> Vec<Row> {
    let stage = |work, providers, subscribed, others| Stage {
        work,
        providers,
        subscribed,
        others,
    };
    let mut rows = Vec::new();
    let mut row = |what: String, stage: Stage, unit| rows.push(Row { what, stage, unit });
    let flow = Work::Flow(milliseconds);
    row(
        "notify() to typed handler".into(),
        stage(flow, 1, 1, 0),
        "M/s",
    );
    row(
        "idle to handler, p50".into(),
        stage(Work::Delay, 1, 1, 0),
        "us",
    );
    row(
        "request and answer, p50".into(),
        stage(Work::Ask, 1, 1, 0),
        "us",
    );
    row(
        "notify, nobody connected".into(),
        stage(Work::Cost, 1, 0, 0),
        "ns",
    );
    row(
        "notify, nobody subscribed".into(),
        stage(Work::Cost, 1, 0, 1),
        "ns",
    );
    row("notify, ring full".into(), stage(Work::Full, 1, 1, 0), "ns");
    for providers in [1, 2, 4, 8] {
        let what = format!("notify, 1 subscribed, of {providers} providers");
        row(what, stage(Work::Cost, providers, 1, 0), "ns");
    }
    for others in [1, 8, 31] {
        let what = format!("notify, 1 subscribed, {others} not");
        row(what, stage(Work::Cost, 1, 1, others), "ns");
    }
    for subscribed in [2, 4, 8] {
        let what = format!("notify, {subscribed} subscribed");
        row(what, stage(Work::Cost, 1, subscribed, 0), "ns");
    }
    row(
        "pool, no connection".into(),
        stage(Work::Memory, 1, 0, 0),
        "KiB",
    );
    row(
        "pool, a connection, rings not in it".into(),
        stage(Work::Memory, 1, 1, 0),
        "KiB",
    );
    row(
        "pool, two connections".into(),
        stage(Work::Memory, 1, 2, 0),
        "KiB",
    );
    rows
}

/// Measures the rows whose names contain `only` so many times, and prints medians, least and greatest.
pub(crate) fn run(rounds: u32, seconds: f64, only: &str) -> Result<()> {
    let processors = Processors::find()?;
    let mut rows = rows((seconds * 1000.0) as u64);
    rows.retain(|row| row.what.contains(only));
    let mut figures = vec![Vec::new(); rows.len()];
    for round in 1..=rounds {
        for (row, figures) in rows.iter().zip(&mut figures) {
            eprintln!("round {round} of {rounds}: {}", row.what);
            match measure(row.stage, processors) {
                Ok(found) => figures.push(found.delay.map_or(found.figure, |delay| delay.p50)),
                Err(error) => eprintln!("  failed: {error:#}"),
            }
        }
    }
    for (Row { what, unit, .. }, figures) in rows.iter().zip(&figures) {
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        let middle = median(figures).unwrap_or(0.0);
        println!("{what:<44}{middle:>10.2} {unit:<4} ({least:.2}..{most:.2})");
    }
    Ok(())
}
