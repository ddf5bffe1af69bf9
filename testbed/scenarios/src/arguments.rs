// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::path::PathBuf;

/// Plays scenarios on this system's floor and checks the laws after each. Exits with 1 if one fails,
/// with 2 if they cannot be played.
#[derive(Debug, clap::Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// Print what there is, one line each, and play nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// A scenario of your own, from this file. Can be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// The scenarios to play; all of the list by default.
    pub(crate) names: Vec<String>,
    /// What else this program can be.
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What this program is when a scenario has started it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// A service: takes orders from standard input and answers on standard output, as JSON lines.
    #[command(hide = true)]
    Service(Seat),
}

/// How a service connects.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Seat {
    /// What it calls itself.
    #[arg(long)]
    pub(crate) name: String,
    /// The hosted kernel's socket.
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// Bytes of events that it keeps while it sleeps.
    #[arg(long, default_value_t = 16 * 1024 * 1024)]
    pub(crate) queue: usize,
    /// How many gets it has waiting.
    #[arg(long, default_value_t = 4)]
    pub(crate) gets: u32,
    /// Bytes of its queue in the driver.
    #[arg(long)]
    pub(crate) driver_queue: Option<u32>,
    /// The stream that it has.
    #[arg(long, requires = "journal")]
    pub(crate) stream: Option<String>,
    /// How long the stream is kept without a service, in milliseconds.
    #[arg(long, default_value_t = 30_000)]
    pub(crate) retention: u64,
    /// It takes the stream from the instance that has it.
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Where it writes what of the stream it has dealt with.
    #[arg(long)]
    pub(crate) journal: Option<PathBuf>,
    /// It waits until there is something to connect to.
    #[arg(long)]
    pub(crate) waits: bool,
    /// It does not connect again.
    #[arg(long)]
    pub(crate) once: bool,
    /// It is `fltport watch --json`; where no signal can end it, for so many seconds.
    #[arg(long)]
    pub(crate) watch: Option<u64>,
    /// It is this program in C, which takes simpler orders.
    #[arg(long)]
    pub(crate) program: Option<PathBuf>,
}
