// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport status`: providers, connections, the ledger, the account of requests.

use crate::arguments::Verifier;
use crate::clock;
use crate::failure::Failure;
use crate::json::Json;
use crate::ledger::{self, Names};
use crate::output::Output;
use crate::service::Service;
use crate::state::State;
use crate::{arguments, table};
use fltport::{
    BACKLOG, Client, ConnectionInfo, ENDED, LedgerRow, Outcome, ProviderInfo, RequestRow, rights,
};
use jiff::tz::TimeZone;
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
        output.line(&to_json(&drivers, &state))?;
    } else {
        for line in to_text(&state) {
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

/// Whose account a ledger row is.
fn receiver(row: &LedgerRow) -> String {
    match row.connection {
        BACKLOG => "backlog".into(),
        ENDED => "ended connections".into(),
        number => format!("connection {number}"),
    }
}

fn outcomes(row: &RequestRow) -> impl Iterator<Item = (Outcome, u64)> {
    let all = Outcome::ALL.iter().zip(row.outcomes);
    all.map(|(outcome, n)| (*outcome, n))
}

fn to_text(state: &State) -> Vec<String> {
    let zone = TimeZone::system();
    let mut lines = vec!["providers".to_owned()];
    for provider in &state.providers {
        lines.push(format!(
            "  {} {}, since {}, backlog {} of {} bytes",
            provider.number,
            table::printable(&provider.name),
            clock::date_and_time(provider.since, &zone),
            provider.backlog_used,
            provider.backlog
        ));
    }
    lines.push("connections".into());
    for connection in &state.connections {
        lines.push(format!(
            "  {} {}{}, pid {}, since {}, rights: {}, queue {} of {} bytes (at most {})",
            connection.number,
            table::printable(&connection.name),
            if connection.own { " (this one)" } else { "" },
            connection.pid,
            clock::date_and_time(connection.since, &zone),
            rights_of(connection).join(" "),
            connection.queued,
            connection.capacity,
            connection.queued_peak
        ));
    }
    ledgers(state, &mut lines);
    lines.push("requests".into());
    for row in &state.requests {
        let ended = outcomes(row).filter(|(_, n)| *n > 0);
        let ended: Vec<String> = ended.map(|(outcome, n)| format!("{n} {outcome}")).collect();
        let decider = match row.decider {
            0 => "no decider".into(),
            number => format!("decided by connection {number}"),
        };
        let open = if row.circuit_open != 0 {
            ", circuit open"
        } else {
            ""
        };
        lines.push(format!(
            "  {}/{}: {decider}{open}, {} asked: {}",
            state.names.provider(row.provider),
            state.names.message(row.provider, row.message),
            row.asked,
            if ended.is_empty() {
                "none".into()
            } else {
                ended.join(", ")
            }
        ));
    }
    lines
}

fn ledgers(state: &State, lines: &mut Vec<String>) {
    let mut receivers: Vec<u32> = state.ledger.iter().map(|row| row.connection).collect();
    receivers.sort_unstable();
    receivers.dedup();
    lines.push("ledger".into());
    for number in receivers {
        let rows: Vec<LedgerRow> = state
            .ledger
            .iter()
            .filter(|row| row.connection == number)
            .copied()
            .collect();
        lines.extend(rows.first().map(|row| format!("  {}", receiver(row))));
        let table = ledger::table(&rows, &state.names);
        lines.extend(table.into_iter().map(|line| format!("    {line}")));
    }
}

fn to_json(drivers: &Drivers, state: &State) -> String {
    let mut json = Json::default();
    json.object(|json| {
        drivers.list(json);
        json.key("providers").list(|json| {
            for provider in &state.providers {
                json.object(|json| provider_json(json, provider));
            }
        });
        json.key("connections").list(|json| {
            for connection in &state.connections {
                json.object(|json| connection_json(json, connection));
            }
        });
        json.key("ledger").list(|json| {
            for row in &state.ledger {
                json.object(|json| ledger_json(json, row, &state.names));
            }
        });
        json.key("requests").list(|json| {
            for row in &state.requests {
                json.object(|json| request_json(json, row, &state.names));
            }
        });
    });
    json.take()
}

fn provider_json(json: &mut Json, provider: &ProviderInfo) {
    json.key("number").number(provider.number);
    json.key("name").text(&provider.name);
    json.key("since")
        .text_or_null(clock::utc(provider.since).as_deref());
    json.key("schema_hash")
        .text(&format!("{:016x}", provider.hash));
    json.key("backlog_bytes").number(provider.backlog);
    json.key("backlog_used").number(provider.backlog_used);
}

fn connection_json(json: &mut Json, connection: &ConnectionInfo) {
    json.key("number").number(connection.number);
    json.key("name").text(&connection.name);
    json.key("pid").number(connection.pid);
    json.key("since")
        .text_or_null(clock::utc(connection.since).as_deref());
    json.key("rights").list(|json| {
        rights_of(connection)
            .into_iter()
            .for_each(|right| json.text(right));
    });
    json.key("generation").number(connection.generation);
    json.key("version").number(connection.version);
    json.key("next_sequence").number(connection.next_sequence);
    json.key("queued_bytes").number(connection.queued);
    json.key("queued_peak").number(connection.queued_peak);
    json.key("queue_bytes").number(connection.capacity);
    json.key("own").bool(connection.own);
}

/// A row of the ledger.
pub(crate) fn ledger_json(json: &mut Json, row: &LedgerRow, names: &Names) {
    let connection = json.key("connection");
    match row.connection {
        BACKLOG => connection.text("backlog"),
        ENDED => connection.text("ended"),
        number => connection.number(number),
    }
    json.key("provider").text(&names.provider(row.provider));
    json.key("message")
        .text(&names.message(row.provider, row.message));
    json.key("offered").number(row.offered);
    json.key("delivered").number(row.delivered);
    json.key("in_flight").number(row.in_flight);
    json.key("lost").object(|json| {
        for (cause, count) in ledger::losses(row) {
            json.key(cause.name()).number(count);
        }
    });
    json.key("balances").bool(row.balances());
}

fn request_json(json: &mut Json, row: &RequestRow, names: &Names) {
    json.key("provider").text(&names.provider(row.provider));
    json.key("message")
        .text(&names.message(row.provider, row.message));
    let decider = json.key("decider");
    match row.decider {
        0 => decider.null(),
        number => decider.number(number),
    }
    json.key("circuit_open").bool(row.circuit_open != 0);
    json.key("asked").number(row.asked);
    json.key("outcomes").object(|json| {
        for (outcome, count) in outcomes(row) {
            json.key(outcome.name()).number(count);
        }
    });
}
