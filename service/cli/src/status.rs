// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport status`: providers, connections, the ledger, the accounts of requests, and what was
//! refused.

mod json;
mod text;

use crate::arguments;
use crate::arguments::Verifier;
use crate::failure::Failure;
use crate::json::Json;
use crate::output::Output;
use crate::service::Service;
use crate::state::State;
use fltport::{Client, ConnectionInfo, Outcome, Refusal, RefusalRow, rights};
use std::path::Path;
use std::process::ExitCode;

/// Prints it.
pub(crate) fn run(
    socket: Option<&Path>,
    arguments: &arguments::Status,
) -> Result<ExitCode, Failure> {
    let service = Service::find(socket, Verifier::default())?;
    service.tell_what_is_missing();
    let drivers = Drivers::look()?;
    let asked = ask(&service, &drivers);
    let mut output = Output::new();
    if arguments.json {
        drivers.json(&asked, &mut output)?;
    } else {
        drivers.text(&mut output)?;
    }
    // What is known of the drivers is told before it is said why there is no more.
    output.flush()?;
    let (client, state) = asked?;
    if arguments.json {
        output.line(&json::write(&drivers, &state))?;
    } else {
        for line in text::write(&state) {
            output.line(&line)?;
        }
    }
    output.flush()?;
    drop(client);
    service.end()?;
    Ok(ExitCode::SUCCESS)
}

fn ask(service: &Service, drivers: &Drivers) -> Result<(Client, State), Failure> {
    drivers.require_running()?;
    let client = service.connect("fltport status", rights::OBSERVE)?;
    let state = State::ask(&client)?;
    Ok((client, state))
}

/// How the drivers are installed. Nothing where there is no real kernel.
struct Drivers {
    #[cfg(windows)]
    drivers: Vec<crate::survey::Driver>,
}

#[cfg(windows)]
impl Drivers {
    fn look() -> Result<Drivers, Failure> {
        let drivers = crate::survey::drivers(&crate::machine::Machine::new())?;
        Ok(Drivers { drivers })
    }

    fn require_running(&self) -> Result<(), Failure> {
        match self
            .drivers
            .iter()
            .find(|driver| driver.name == crate::driver::COMMON)
        {
            Some(common) => crate::survey::require_running(common),
            None => Ok(()),
        }
    }

    fn text(&self, output: &mut Output) -> Result<(), Failure> {
        for line in crate::survey::to_text(&self.drivers) {
            output.line(&line)?;
        }
        Ok(())
    }

    /// The object, if there will be no other.
    fn json(
        &self,
        asked: &Result<(Client, State), Failure>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let Err(failure) = asked else {
            return Ok(());
        };
        let mut json = Json::default();
        json.object(|json| {
            self.list(json);
            json.key("port_error").text(&failure.to_string());
        });
        Ok(output.line(&json.take())?)
    }

    fn list(&self, json: &mut Json) {
        json.key("drivers").list(|json| {
            for driver in &self.drivers {
                json.object(|json| crate::survey::to_json(json, driver));
            }
        });
    }
}

#[cfg(not(windows))]
impl Drivers {
    fn look() -> Result<Drivers, Failure> {
        Ok(Drivers {})
    }

    fn require_running(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn text(&self, _: &mut Output) -> Result<(), Failure> {
        Ok(())
    }

    fn json(&self, _: &Result<(Client, State), Failure>, _: &mut Output) -> Result<(), Failure> {
        Ok(())
    }

    fn list(&self, _: &mut Json) {}
}

/// The rights as words.
fn rights_of(connection: &ConnectionInfo) -> Vec<&'static str> {
    let all = [
        (rights::OBSERVE, "observe"),
        (rights::DECIDE, "decide"),
        (rights::COMMAND, "command"),
    ];
    let granted = all
        .into_iter()
        .filter(|(bit, _)| connection.rights & bit != 0);
    granted.map(|(_, name)| name).collect()
}

/// How many ended how.
fn outcomes(counts: &[u64; 8]) -> impl Iterator<Item = (Outcome, u64)> {
    let all = Outcome::ALL.iter().zip(counts);
    all.map(|(outcome, n)| (*outcome, *n))
}

/// What was refused, in words.
fn reason(row: &RefusalRow) -> String {
    let known = u16::try_from(row.reason).ok().and_then(Refusal::from_wire);
    known.map_or_else(
        || format!("reason {}", row.reason),
        |refusal| refusal.name().to_owned(),
    )
}
