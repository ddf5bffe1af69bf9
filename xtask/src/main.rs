// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask`: the project's own chores.
#![forbid(unsafe_code)]

mod bench;
mod bindings;
mod command;
mod coverage;
mod functions;
mod fuzz;
mod provision;
mod sanitize;
mod sim;
mod suite;
mod windows;
mod wine;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The project's own chores. `cargo xtask test` is the one that matters.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Bindings(bindings::Arguments),
    Functions(functions::Arguments),
    Windows(windows::Arguments),
    Wine(wine::Arguments),
    Sim(sim::Arguments),
    Bench(bench::Arguments),
    Fuzz(fuzz::Arguments),
    Sanitize(sanitize::Arguments),
    Test(suite::Arguments),
    Coverage(coverage::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let workspace = Workspace::locate();
    let outcome = match arguments.chore {
        Chore::Bindings(arguments) => bindings::run(&workspace, &arguments),
        Chore::Functions(arguments) => functions::run(&workspace, &arguments),
        Chore::Windows(arguments) => windows::run(&workspace, &arguments),
        Chore::Wine(arguments) => wine::run(&workspace, &arguments),
        Chore::Sim(arguments) => sim::run(&workspace, &arguments),
        Chore::Bench(arguments) => bench::run(&workspace, &arguments),
        Chore::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Chore::Sanitize(arguments) => sanitize::run(&workspace, &arguments),
        Chore::Test(arguments) => suite::run(&workspace, &arguments),
        Chore::Coverage(arguments) => coverage::run(&workspace, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
