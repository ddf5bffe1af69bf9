// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold when a run has come to rest.

use fltport_abi::command::{BACKLOG, LedgerRow};
use nt_host::clock::Deadline;

use crate::plan::MILLISECOND;
use crate::service::{Received, Service};

/// How many times a service looks whether its books have settled.
const LOOKS: u32 = 10_000;

/// Reads until nothing more comes, and compares what came with the ledger: delivered is what was
/// read, lost is what the stream told of.
///
/// # Panics
/// They differ, or never settle.
pub fn settle(service: &mut Service, generator: Option<u32>) {
    let Ok(info) = service.info() else { return };
    for _ in 0..LOOKS {
        match service.receive(Deadline::after(MILLISECOND)) {
            Received::Nothing => {}
            Received::Ended => return,
            Received::Records | Received::Request(_) => continue,
        }
        let Ok(rows) = service.ledger() else { return };
        let own: Vec<&LedgerRow> = rows
            .iter()
            .filter(|row| row.connection == info.connection)
            .collect();
        if own.iter().any(|row| row.in_flight != 0) {
            continue;
        }
        if own.iter().all(|row| agrees(service, row)) {
            return;
        }
    }
    let rows = service.ledger();
    panic!(
        "connection {} of generator {generator:?} does not come to rest: {:?} but {rows:?}",
        info.connection, service.stream
    );
}

fn agrees(service: &Service, row: &LedgerRow) -> bool {
    let got = service.stream.got(row.provider, row.message);
    let told = service.stream.told(row.provider, row.message);
    assert!(
        got <= row.delivered,
        "{got} records were read, but delivered were fewer: {row:?}"
    );
    // Of what a backlog has lost the first reader is told, too.
    got == row.delivered && told >= row.lost_total()
}

/// Everything that was offered is in the books: once for each who observes, or once for nobody.
///
/// # Panics
/// Something is missing.
pub fn nothing_is_missing(service: &Service, generator: u32, notified: u64, observers: u64) {
    let Ok(rows) = service.ledger() else { return };
    let own = rows
        .iter()
        .filter(|row| u32::from(row.provider) == generator && row.message == 1);
    let offered: u64 = own.clone().map(|row| row.offered).sum();
    // What the backlog has passed on is offered again to whom it went.
    let passed_on: u64 = own
        .filter(|row| row.connection == BACKLOG)
        .map(|row| row.delivered)
        .sum();
    let accounted = offered - passed_on;
    assert!(
        (notified..=notified * observers.max(1)).contains(&accounted),
        "{notified} notifications were offered, {accounted} are accounted for: {rows:?}"
    );
}
