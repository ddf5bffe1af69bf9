// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state as one JSON object.

use super::{Drivers, outcomes, reason, rights_of};
use crate::clock;
use crate::json::Json;
use crate::latency::Latency;
use crate::ledger::{self, Names};
use crate::state::{State, receiver};
use fltport::{
    BACKLOG, ConnectionInfo, ENDED, LedgerRow, ProviderInfo, RefusalRow, RequestAccountRow,
    RequestRow, RingUsageRow, Time, UsageRow,
};

pub(super) fn write(drivers: &Drivers, state: &State) -> String {
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
        json.key("request_accounts").list(|json| {
            for row in &state.accounts {
                json.object(|json| account_json(json, row, &state.names));
            }
        });
        json.key("usage").list(|json| {
            for row in &state.usage {
                json.object(|json| usage_json(json, row, &state.names));
            }
        });
        json.key("rings").list(|json| {
            for row in &state.rings {
                json.object(|json| ring_json(json, row));
            }
        });
        json.key("refusals").list(|json| {
            for row in &state.refusals {
                json.object(|json| refusal_json(json, row));
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
    json.key("waits").bool(connection.waits);
}

/// Whose account a row is: a number, or a word.
fn connection_of(json: &mut Json, connection: u32) {
    let place = json.key("connection");
    match connection {
        BACKLOG | ENDED => place.text(&receiver(connection)),
        number => place.number(number),
    }
}

/// A row of the ledger.
fn ledger_json(json: &mut Json, row: &LedgerRow, names: &Names) {
    connection_of(json, row.connection);
    json.key("provider").text(&names.provider(row.provider));
    json.key("message")
        .text(&names.message(row.provider, row.message));
    json.key("offered").number(row.offered);
    json.key("delivered").number(row.delivered);
    json.key("in_flight").number(row.in_flight);
    json.key("in_flight_peak").number(row.in_flight_peak);
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
        for (outcome, count) in outcomes(&row.outcomes) {
            json.key(outcome.name()).number(count);
        }
    });
}

fn account_json(json: &mut Json, row: &RequestAccountRow, names: &Names) {
    connection_of(json, row.connection);
    json.key("provider").text(&names.provider(row.provider));
    json.key("message")
        .text(&names.message(row.provider, row.message));
    json.key("asked").number(row.asked);
    json.key("in_flight").number(row.in_flight);
    json.key("in_flight_peak").number(row.in_flight_peak);
    json.key("outcomes").object(|json| {
        for (outcome, count) in outcomes(&row.outcomes) {
            json.key(outcome.name()).number(count);
        }
    });
    json.key("waited_us").number(row.waited_us);
    // Buckets with a count only; the bound is exclusive, and null means longer than all others.
    json.key("latency").list(|json| {
        for (bound, count) in Latency(&row.latency).bounds().filter(|(_, n)| *n > 0) {
            json.object(|json| {
                let place = json.key("below_us");
                match bound {
                    Some(bound) => place.number(bound.as_micros() as i128),
                    None => place.null(),
                }
                json.key("count").number(count);
            });
        }
    });
}

fn usage_json(json: &mut Json, row: &UsageRow, names: &Names) {
    connection_of(json, row.connection);
    let provider = u16::try_from(row.provider).unwrap_or(u16::MAX);
    json.key("provider").text(&names.provider(provider));
    json.key("queued_bytes").number(row.bytes);
    json.key("queued_peak").number(row.bytes_peak);
    json.key("allowed_bytes").number(row.bytes_allowed);
    json.key("booked_bytes").number(row.booked);
    json.key("rate").number(row.rate);
    json.key("burst").number(row.burst);
    json.key("blamed").number(row.blamed);
    json.key("filtered").number(row.filtered);
    json.key("muted").number(row.muted);
    json.key("unjudged").number(row.unjudged);
    json.key("not_muted").number(row.not_muted);
}

fn ring_json(json: &mut Json, row: &RingUsageRow) {
    json.key("connection").number(row.connection);
    json.key("processor").number(row.processor);
    json.key("ring_bytes").number(row.capacity);
    json.key("used_bytes").number(row.used);
    json.key("used_peak").number(row.peak);
    json.key("records").number(row.records);
    json.key("nonsense").number(row.nonsense);
}

fn refusal_json(json: &mut Json, row: &RefusalRow) {
    json.key("reason").text(&reason(row));
    json.key("count").number(row.count);
    json.key("last_pid").number(row.pid);
    json.key("last")
        .text_or_null(clock::utc(Time(row.last)).as_deref());
}
