// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fake driver answers to commands.

use super::records::{bytes, encode, provider_change, schema};
use super::{Connection, Driver};
use fltport_abi::command::{
    Command, ConnectionRow, FeaturesRow, FilteredSubscription, LedgerRow, Page, ProviderRow,
    RequestRow, Subscription, features, own,
};
use fltport_abi::fixed::{Fixed, name_to_bytes};
use fltport_abi::limits::MAX_COMMAND;
use fltport_abi::message::Message;
use fltport_abi::process_monitor::{
    Exclusions, ExclusionsSet, GetExclusions, PROVIDER, SetExclusions,
};
use fltport_abi::{TextList, status};
use std::sync::atomic::Ordering;

/// Rows of the ledger: three pages.
pub(crate) const LEDGER_ROWS: usize = 2 * (MAX_COMMAND / LedgerRow::SIZE) + 1;

pub(super) fn command(driver: &Driver, connection: &Connection, input: &[u8]) -> (i32, Vec<u8>) {
    let Some(command) = Command::parse(input) else {
        return (status::INVALID_DEVICE_REQUEST, Vec::new());
    };
    match (command.header.provider, command.header.command) {
        (0, own::INFO) => {
            let mut state = connection.state.lock().unwrap();
            let gets = state.gets.len();
            state.gets_at_first_info.get_or_insert(gets);
            (0, bytes(&connection_row(connection)))
        }
        (0, own::FEATURES) if driver.rings.load(Ordering::Acquire) != 0 => {
            let all_zero = FeaturesRow::read(&[0; FeaturesRow::SIZE]).unwrap();
            let row = FeaturesRow {
                features: features::RINGS,
                ..all_zero
            };
            (0, bytes(&row))
        }
        (0, own::PROVIDERS) => (0, page(command.payload, &[provider_row()])),
        (0, own::SCHEMA) if command.payload == [1, 0, 0, 0] => {
            let other = driver.schema.lock().unwrap().clone();
            (0, other.unwrap_or_else(schema))
        }
        (0, own::SUBSCRIBE) => {
            let status = *driver.subscribe_status.lock().unwrap();
            if std::mem::take(&mut connection.state.lock().unwrap().register_while_subscribing) {
                connection.stream(&[provider_change(1, "process-monitor", true)]);
            }
            if status == 0 {
                let subscription = Subscription::read(command.payload).unwrap();
                connection
                    .state
                    .lock()
                    .unwrap()
                    .subscriptions
                    .push(subscription);
            }
            (status, Vec::new())
        }
        (0, own::SUBSCRIBE_FILTERED) => {
            let status = *driver.subscribe_status.lock().unwrap();
            if status == 0 {
                let wanted = FilteredSubscription::read(command.payload).unwrap();
                let filters = command.payload[FilteredSubscription::SIZE..].to_vec();
                let mut state = connection.state.lock().unwrap();
                state.filtered.push((wanted, filters));
                state.subscriptions.push(Subscription {
                    provider: wanted.provider,
                    reserved: 0,
                    observe: wanted.observe,
                    decide: wanted.decide,
                });
            }
            (status, Vec::new())
        }
        (0, own::STREAM) => (0, bytes(&driver.streams.lock().unwrap().unwrap())),
        (0, own::ACKNOWLEDGE) => {
            let number = u64::read(command.payload).unwrap();
            connection.state.lock().unwrap().acknowledged.push(number);
            (0, Vec::new())
        }
        (0, own::ANSWER) => {
            let mut state = connection.state.lock().unwrap();
            state.answers.push(command.payload.to_vec());
            (state.reply_status, Vec::new())
        }
        (0, own::CONNECTIONS) => (0, page(command.payload, &[connection_row(connection)])),
        (0, own::LEDGER) => (0, page(command.payload, &vec![ledger_row(); LEDGER_ROWS])),
        (0, own::REQUESTS) => (0, page::<RequestRow>(command.payload, &[])),
        (1, 6) => set_exclusions(driver, command.payload),
        (1, 7) => exclusions(driver, command.payload),
        (0, _) => (status::INVALID_DEVICE_REQUEST, Vec::new()),
        _ => (status::NOT_FOUND, Vec::new()),
    }
}

fn set_exclusions(driver: &Driver, payload: &[u8]) -> (i32, Vec<u8>) {
    let list = SetExclusions::decode(payload).unwrap();
    let images: Vec<String> = list.images.iter().map(|t| t.to_string()).collect();
    let count = images.len() as u32;
    *driver.exclusions.lock().unwrap() = images;
    (0, encode(&ExclusionsSet { count }))
}

fn exclusions(driver: &Driver, payload: &[u8]) -> (i32, Vec<u8>) {
    GetExclusions::decode(payload).unwrap();
    let images = driver.exclusions.lock().unwrap();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let images = TextList::Strings(&images);
    (0, encode(&Exclusions { images }))
}

/// As many rows as fit, as the driver does it.
fn page<R: Fixed>(payload: &[u8], rows: &[R]) -> Vec<u8> {
    let skip = Page::read(payload).unwrap().skip as usize;
    rows.iter()
        .skip(skip)
        .take(MAX_COMMAND / R::SIZE)
        .flat_map(bytes)
        .collect()
}

fn provider_row() -> ProviderRow {
    ProviderRow {
        provider: 1,
        schema: 100,
        hash: PROVIDER.hash(),
        backlog: 0,
        backlog_used: 0,
        since: 1,
        name: name_to_bytes("process-monitor").unwrap(),
    }
}

fn connection_row(connection: &Connection) -> ConnectionRow {
    ConnectionRow {
        connection: connection.number,
        pid: std::process::id(),
        since: 1,
        rights: connection.hello.rights,
        generation: connection.hello.generation,
        next_sequence: 1,
        queued: 0,
        queued_peak: 0,
        capacity: 1,
        version: 1,
        own: 1,
        name: connection.hello.name,
    }
}

fn ledger_row() -> LedgerRow {
    LedgerRow {
        connection: 1,
        provider: 1,
        message: 1,
        offered: 3,
        delivered: 2,
        in_flight: 1,
        lost: [0; 10],
        in_flight_peak: 0,
    }
}
