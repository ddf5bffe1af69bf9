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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    stage: Stage,
}

/// The names of rows that are held against others.
pub(crate) mod names {
    pub(crate) const FLOW: &str = "notify() to typed handler";
    pub(crate) const DELAY: &str = "idle to handler, p50";
    pub(crate) const ASK: &str = "request and answer, p50";
    pub(crate) const UNHEARD: &str = "notify, nobody subscribed";
    pub(crate) const FULL: &str = "notify, ring full";
    pub(crate) const ONE: &str = "notify, 1 subscribed";
    pub(crate) const EIGHT_PROVIDERS: &str = "notify, 1 subscribed, of 8 providers";
    pub(crate) const OTHERS: &str = "notify, 1 subscribed, 31 not";
    pub(crate) const EIGHT: &str = "notify, 8 subscribed";
    pub(crate) const POOL: &str = "pool, no connection";
}

/// All of them; a flow takes so many milliseconds.
pub(crate) fn rows(milliseconds: u64) -> Vec<Row> {
    let row = |what, unit, work, [providers, subscribed, others]: [usize; 3]| Row {
        what,
        unit,
        stage: Stage {
            work,
            providers,
            subscribed,
            others,
        },
    };
    let cost = |what, machine| row(what, "ns", Work::Cost, machine);
    let pool = |what, machine| row(what, "KiB", Work::Memory, machine);
    vec![
        row(names::FLOW, "M/s", Work::Flow(milliseconds), [1, 1, 0]),
        row(names::DELAY, "us", Work::Delay, [1, 1, 0]),
        row(names::ASK, "us", Work::Ask, [1, 1, 0]),
        cost("notify, nobody connected", [1, 0, 0]),
        cost(names::UNHEARD, [1, 0, 1]),
        row(names::FULL, "ns", Work::Full, [1, 1, 0]),
        cost(names::ONE, [1, 1, 0]),
        cost("notify, 1 subscribed, of 2 providers", [2, 1, 0]),
        cost("notify, 1 subscribed, of 4 providers", [4, 1, 0]),
        cost(names::EIGHT_PROVIDERS, [8, 1, 0]),
        cost("notify, 1 subscribed, 1 not", [1, 1, 1]),
        cost("notify, 1 subscribed, 8 not", [1, 1, 8]),
        cost(names::OTHERS, [1, 1, 31]),
        cost("notify, 2 subscribed", [1, 2, 0]),
        cost("notify, 4 subscribed", [1, 4, 0]),
        cost(names::EIGHT, [1, 8, 0]),
        pool(names::POOL, [1, 0, 0]),
        pool("pool, a connection, rings not in it", [1, 1, 0]),
        pool("pool, two connections", [1, 2, 0]),
    ]
}

impl Row {
    /// One figure, in the row's unit.
    ///
    /// # Errors
    /// It did not come to an end, or a driver broke a rule.
    pub(crate) fn measure(&self, processors: Processors) -> Result<f64> {
        let found = measure(self.stage, processors)?;
        Ok(found.delay.map_or(found.figure, |delay| delay.p50))
    }
}
