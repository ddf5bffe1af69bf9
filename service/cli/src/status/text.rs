// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state as lines for people.

use super::{outcomes, reason, rights_of};
use crate::latency::Latency;
use crate::ledger;
use crate::state::State;
use crate::{clock, table};
use fltport::{BACKLOG, ENDED, LedgerRow, RequestAccountRow, UsageRow};
use jiff::tz::TimeZone;
use std::time::Duration;

/// Whose account a row is.
fn receiver(connection: u32) -> String {
    match connection {
        BACKLOG => "backlog".into(),
        ENDED => "ended connections".into(),
        number => format!("connection {number}"),
    }
}

pub(super) fn write(state: &State) -> Vec<String> {
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
            "  {} {}{}, pid {}, since {}, rights: {}, queue {} of {} bytes (at most {}){}",
            connection.number,
            table::printable(&connection.name),
            match (connection.own, connection.waits) {
                (true, _) => " (this one)",
                (_, true) => " (ended; its stream waits for it)",
                _ => "",
            },
            connection.pid,
            clock::date_and_time(connection.since, &zone),
            rights_of(connection).join(" "),
            connection.queued,
            connection.capacity,
            connection.queued_peak,
            rings(state, connection.number)
        ));
    }
    usage(state, &mut lines);
    ledgers(state, &mut lines);
    requests(state, &mut lines);
    refusals(state, &mut lines);
    lines
}

/// A connection's rings, together; its queue alone says that it has none.
fn rings(state: &State, connection: u32) -> String {
    let rings: Vec<_> = state.rings_of(connection).collect();
    let Some(first) = rings.first() else {
        return String::new();
    };
    let used: u64 = rings.iter().map(|row| u64::from(row.used)).sum();
    let peak = rings.iter().map(|row| row.peak).max().unwrap_or(0);
    let nonsense: u64 = rings.iter().map(|row| row.nonsense).sum();
    let mut text = match rings.len() {
        1 => format!(
            ", 1 ring of {} bytes, {used} used (at most {peak})",
            first.capacity
        ),
        count => format!(
            ", {count} rings of {} bytes, {used} used (at most {peak} of one)",
            first.capacity
        ),
    };
    if nonsense > 0 {
        text.push_str(&format!(
            ", CLAIMED {nonsense} times to have read what it cannot have"
        ));
    }
    text
}

/// Who takes what of which connection: whatever there is something to tell of.
fn usage(state: &State, lines: &mut Vec<String>) {
    let told = |row: &&UsageRow| {
        row.connection != BACKLOG
            && (row.bytes_peak | row.booked) as u64
                | row.blamed
                | row.filtered
                | row.muted
                | row.unjudged
                | row.not_muted
                != 0
    };
    let rows: Vec<&UsageRow> = state.usage.iter().filter(told).collect();
    if rows.is_empty() {
        return;
    }
    lines.push("usage".into());
    for row in rows {
        let provider = u16::try_from(row.provider).unwrap_or(u16::MAX);
        let mut line = format!(
            "  {}: {} has {} bytes in the queue (at most {}, {} allowed)",
            receiver(row.connection),
            state.names.provider(provider),
            row.bytes,
            row.bytes_peak,
            row.bytes_allowed
        );
        for (count, what) in [
            (u64::from(row.booked), "bytes booked"),
            (row.filtered, "left out by filters"),
            (row.muted, "muted"),
            (row.unjudged, "passed because judging them took too long"),
            (row.not_muted, "processes too many to be muted"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        if row.blamed > 0 {
            line.push_str(&format!(", TOOK TOO MUCH: {} lost for it", row.blamed));
        }
        lines.push(line);
    }
}

fn requests(state: &State, lines: &mut Vec<String>) {
    lines.push("requests".into());
    for row in &state.requests {
        let ended = outcomes(&row.outcomes).filter(|(_, n)| *n > 0);
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
        let of_type =
            |a: &&RequestAccountRow| (a.provider, a.message) == (row.provider, row.message);
        let accounts = state
            .accounts
            .iter()
            .filter(of_type)
            .filter(|a| a.asked > 0);
        lines.extend(accounts.map(|account| format!("    {}", waited(account))));
    }
}

/// How long one decider had requesters wait.
fn waited(row: &RequestAccountRow) -> String {
    let latency = Latency(&row.latency);
    let within = |percent| match latency.percentile(percent) {
        Some(bound) => format!("within {bound:?}"),
        None => "longer than can be said".to_owned(),
    };
    let mean = row.waited_us.checked_div(latency.count()).unwrap_or(0);
    let who = match row.connection {
        BACKLOG => "nobody asked".to_owned(),
        number => receiver(number),
    };
    format!(
        "{who}: {} asked, {} in flight (at most {}), waited {:?} on average, half of them {}, 99 of 100 {}",
        row.asked,
        row.in_flight,
        row.in_flight_peak,
        Duration::from_micros(mean),
        within(50),
        within(99)
    )
}

fn refusals(state: &State, lines: &mut Vec<String>) {
    let rows: Vec<_> = state.refusals.iter().filter(|row| row.count > 0).collect();
    if rows.is_empty() {
        return;
    }
    let zone = TimeZone::system();
    lines.push("refused".into());
    for row in rows {
        lines.push(format!(
            "  {}: {}, the last one to pid {}, {}",
            reason(row),
            row.count,
            row.pid,
            clock::date_and_time(fltport::Time(row.last), &zone)
        ));
    }
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
        lines.extend(
            rows.first()
                .map(|row| format!("  {}", receiver(row.connection))),
        );
        let table = ledger::table(&rows, &state.names);
        lines.extend(table.into_iter().map(|line| format!("    {line}")));
    }
}
