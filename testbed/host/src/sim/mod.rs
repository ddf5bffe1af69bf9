// SPDX-License-Identifier: MIT OR Apache-2.0
//! The deterministic mode: a whole system under a seeded scheduler with virtual time.
//!
//! [`explore`] runs a scenario once for each seed. Inside the scenario everything is as in the live
//! mode, [`Kernel::boot`](crate::Kernel::boot) to shutdown, except that all threads that
//! [`sched::spawn`](crate::sched::spawn) and the kernel itself start are coroutines on one thread
//! of the host system, and time is a number:
//!
//! * One thread runs at a time. Another one may go on whenever the running one calls the kernel,
//!   the user's side of a port, or waits, and inside a call where others can see that it is half
//!   done. Which one is the seed's choice.
//! * When all threads wait, the clock jumps to the next deadline. Now and then it jumps although
//!   some could run: on a busy machine threads are late.
//! * When all threads wait and no deadline is left, nothing can ever happen again: the seed fails
//!   as a deadlock, with a list of who waits and since which call.
//!
//! The same seed gives the same run, in every process that runs the same program:
//! [`Summary::trace`] is a fingerprint of all that was decided. For that a scenario must not ask the
//! host system for time, threads or random numbers, nor let the order of a `HashMap` or an address
//! decide anything.
//!
//! What a driver does between two calls of the kernel is not interleaved; small lock-free parts need
//! a model of their own, in loom for instance.
//!
//! ```
//! use nt_host::{Config, Kernel, sim};
//!
//! let summary = sim::explore(0..20, |seed| {
//!     let kernel = Kernel::boot(Config::default());
//!     // Load drivers, start threads, play services; `seed` may decide what.
//!     assert!(seed < 20);
//!     kernel.shutdown_clean();
//! })
//! .unwrap_or_else(|failure| panic!("{failure}"));
//! assert_eq!(summary.seeds, 20);
//! ```

mod choice;
mod time;
mod world;

use std::fmt;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};

use shuttle::{FailurePersistence, MaxSteps, Runner};

use crate::kernel;
use crate::pages::fault_handler;
use choice::Choice;
use world::{Listener, World};
pub(crate) use world::{
    block, boot, current_kernel, expect, is_simulated, now, pause, point, spawn, thread_id,
};

/// Each thread's stack. Untouched pages cost nothing.
const STACK: usize = 512 * 1024;

/// As many turns as one seed may take; more is a livelock.
const MOST_TURNS: usize = 2_000_000;

/// What a series of seeds amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many seeds were run.
    pub seeds: u64,
    /// How often a thread got its turn.
    pub turns: u64,
    /// How many calls of the kernel were made, and steps inside them that others can see.
    pub calls: u64,
    /// How much virtual time has passed, in units of 100 ns.
    pub time: u64,
    /// A fingerprint of every decision and every call, in order.
    pub trace: u64,
}

/// A seed that failed.
#[derive(Debug)]
pub struct Failure {
    /// Which one. Exploring `seed..seed + 1` fails in the same way.
    pub seed: u64,
    /// What the panic said.
    pub message: String,
    /// The calls that were made last, the latest at the end: thread and function.
    pub last_calls: Vec<(u64, &'static str)>,
    /// The threads that had not ended, each with its last call.
    pub threads: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} fails: {}", self.seed, self.message)?;
        writeln!(f, "  the last calls of the kernel, by thread:")?;
        for (thread, call) in &self.last_calls {
            writeln!(f, "    {thread:>4} {call}")?;
        }
        writeln!(f, "  the threads that had not ended:{}", self.threads)?;
        write!(f, "  the same seed fails in the same way each time")
    }
}

impl std::error::Error for Failure {}

/// One call of the kernel, or of the user's side of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// When: virtual time since the seed began, in units of 100 ns.
    pub time: u64,
    /// The thread's number.
    pub thread: u64,
    /// The thread's name.
    pub name: &'a str,
    /// What was called.
    pub function: &'static str,
}

/// Runs `scenario` under a seeded scheduler, once for each seed; stops at the first that panics.
///
/// Drivers keep their statics between two runs, as they do between two loads on the hosted kernel.
/// A seed that fails leaves its threads and its kernel as they were, and drivers with them: end the
/// process before you use the same drivers again.
///
/// # Errors
/// The first seed whose scenario panicked, or came to a deadlock.
pub fn explore(
    seeds: Range<u64>,
    scenario: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Summary, Failure> {
    run(seeds, scenario, None)
}

/// Runs `scenario` for one seed, and tells of every call of the kernel in their order: what led to
/// a failure.
///
/// # Errors
/// As [`explore`].
pub fn replay(
    seed: u64,
    scenario: impl Fn(u64) + Send + Sync + 'static,
    on_call: impl FnMut(&Call<'_>) + 'static,
) -> Result<Summary, Failure> {
    run(
        seed..seed.saturating_add(1),
        scenario,
        Some(Box::new(on_call)),
    )
}

fn run(
    seeds: Range<u64>,
    scenario: impl Fn(u64) + Send + Sync + 'static,
    listener: Option<Listener>,
) -> Result<Summary, Failure> {
    assert!(
        !is_simulated(),
        "nt-host: a simulation cannot be started from inside another one"
    );
    // Drivers have one set of statics in a process: no live kernel may run beside this one.
    let _turn = kernel::Turn::take();
    fault_handler::install();
    world::keep_panics();
    let world = World::install(seeds, listener);
    let runner = Runner::new(Choice::new(world.clone()), config());
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        runner.run(move || world::run_scenario(&scenario));
    }));
    world.uninstall();
    match outcome {
        Ok(()) => Ok(world.summary()),
        Err(payload) => Err(world.failure(payload.as_ref())),
    }
}

/// Whether the clock of the seed that runs here moves only when nobody can run, so that a thread
/// that is due is never late. Outside of a simulation nothing is punctual.
#[must_use]
pub fn is_punctual() -> bool {
    world::is_punctual()
}

fn config() -> shuttle::Config {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST_TURNS);
    config.silence_warnings = true;
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    config
}
