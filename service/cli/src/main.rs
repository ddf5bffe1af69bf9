// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `fltport`: watches what drivers tell, and shows how the common driver is doing.
//!
//! On Windows it talks to `fltport.sys`. On Linux it talks to a hosted kernel in a process of its
//! own: one that runs already (`fltport host`), or one that it starts for itself and takes down
//! with it.

#![deny(unsafe_code)]

#[cfg(any(windows, test))]
mod access;
#[cfg(any(windows, test))]
mod altitude;
mod arguments;
mod clock;
#[cfg(any(windows, test))]
mod control;
mod decider;
#[cfg(any(windows, test))]
mod doctor;
#[cfg(any(windows, test))]
mod driver;
mod exclusions;
#[cfg(any(windows, test))]
mod explain;
mod failure;
#[cfg(target_os = "linux")]
mod host;
#[cfg(any(windows, test))]
mod image;
#[cfg(any(windows, test))]
mod install;
mod json;
mod latency;
mod ledger;
#[cfg(any(windows, test))]
mod machine;
mod metrics;
mod narrator;
mod output;
mod plain;
#[cfg(target_os = "linux")]
mod private_host;
mod providers;
#[cfg(any(windows, test))]
mod report;
#[cfg(any(windows, target_os = "linux", test))]
mod rights;
mod selection;
mod service;
#[cfg(any(windows, test))]
mod setup;
mod state;
mod status;
mod stop;
#[cfg(any(windows, test))]
mod survey;
mod table;
#[cfg(any(windows, test))]
mod uninstall;
mod watch;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let socket = arguments.socket.as_deref();
    match arguments.command().unwrap_or_else(|error| error.exit()) {
        Command::Watch(watch) => watch::run(socket, &watch),
        Command::Status(status) => status::run(socket, &status),
        Command::Providers(providers) => providers::run(socket, &providers),
        Command::Metrics(metrics) => metrics::run(socket, &metrics),
        Command::Exclusions => exclusions::run(socket),
        #[cfg(windows)]
        command => on_windows(&command),
        #[cfg(not(windows))]
        Command::Install(_) => Err(Failure::new(
            "drivers are installed on Windows; here there is nothing to install: `fltport watch` runs them in a hosted kernel of its own, and `fltport host --grant` says who may what",
        )),
        #[cfg(target_os = "linux")]
        Command::Host(host) => host::run(socket, &host),
    }
}

/// The commands that there are for drivers of a real kernel.
#[cfg(windows)]
fn on_windows(command: &Command) -> Result<ExitCode, Failure> {
    let machine = machine::Machine::new();
    let mut output = output::Output::new();
    let mut report = report::Report::new(|line: &str| {
        output.line(line)?;
        output.flush()
    });
    let mut tell = |line: String| {
        report.line(&line);
        Ok(())
    };
    let done = match command {
        Command::Install(install) => install.run(&machine, &mut tell),
        Command::Uninstall(uninstall) => uninstall.run(&machine, &mut tell),
        Command::Start(control) => control.start(&machine, &mut tell),
        Command::Stop(control) => control.stop(&machine, &mut tell),
        Command::Access(access) => access.run(&machine, &mut tell),
        Command::Doctor(doctor) => {
            let healthy = doctor.run(&machine, service::try_port, &mut tell);
            return Ok(if report.end(healthy)? {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Watch(_)
        | Command::Status(_)
        | Command::Metrics(_)
        | Command::Providers(_)
        | Command::Exclusions => Ok(()),
    };
    report.end(done).map(|()| ExitCode::SUCCESS)
}
