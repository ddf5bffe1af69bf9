// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `fltport`: watches what drivers tell, and shows how the common driver is doing.
//!
//! On Windows it talks to `fltport.sys`. On Linux it talks to a hosted kernel in a process of its
//! own: one that runs already (`fltport host`), or one that it starts for itself and takes down
//! with it.

#![deny(unsafe_code)]

mod arguments;
mod clock;
mod decider;
mod exclusions;
mod failure;
#[cfg(target_os = "linux")]
mod host;
mod json;
mod ledger;
mod narrator;
mod output;
#[cfg(target_os = "linux")]
mod private_host;
mod service;
mod status;
mod stop;
mod table;
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
        Command::Exclusions => exclusions::run(socket),
        #[cfg(target_os = "linux")]
        Command::Host(host) => host::run(socket, &host),
    }
}
