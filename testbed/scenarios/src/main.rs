// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scenarios`: one list of scenarios, and two floors on which it is played.
//!
//! A scenario is a file of a few lines (`list/*.scenario`, [`language`]). It loads drivers, has
//! services connect, lets them and the load generator do what they do, and says what must come of
//! it. The same files are played
//!
//! * on Linux in the hosted kernel, with the drivers linked in ([`floor`], hosted);
//! * on Windows, and so under Wine, with the `.sys` files that the service control manager loads.
//!
//! Services are processes of their own on both floors, of this same program, so that one can be
//! killed. After each scenario the ledger must balance, every stream must have been continuous, and
//! on the hosted kernel no driver may have broken a rule of NT. What a floor cannot carry is said,
//! with the reason, never passed over.
//!
//! Notifications come to the services by rings; with the environment variable `SCENARIOS_WITHOUT_RINGS`
//! they come by the port. With `SCENARIOS_WATCHER` services that do nothing but watch are the program
//! that it names: `examples/ring-watcher`, in C.

#![deny(unsafe_code)]

mod arguments;
mod cast;
mod floor;
mod journal;
mod language;
mod list;
mod operator;
mod orders;
mod pass;
mod play;
mod registry;
mod service;
mod status;
mod talk;
mod tally;
mod watching;

use arguments::{Arguments, Role};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::Service(seat)) => service::run(&seat).map(|()| true),
        None if arguments.list => list::print().map(|()| true),
        None => list::chosen(&arguments).and_then(|scenarios| play::all(&scenarios)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scenarios: {error:#}");
            ExitCode::from(2)
        }
    }
}
