// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold when a run has come to rest.

use fltport_abi::account::{Cause, Outcome};
use fltport_abi::command::{BACKLOG, ENDED, LedgerRow};
use nt_host::clock::Deadline;

use crate::causes;
use crate::plan::MILLISECOND;
use crate::scenario::Shared;
use crate::service::{Received, Service};

/// How many times a service looks whether its books have settled.
const LOOKS: u32 = 10_000;

/// Reads until nothing more comes, and compares what came with the ledger: delivered is what was
/// read, lost is what the stream told of.
///
/// # Panics
/// They differ, or never settle.
pub fn settle(service: &mut Service, generator: Option<u32>, shared: &Shared) {
    let Ok(info) = service.info() else { return };
    for _ in 0..LOOKS {
        match service.receive(Deadline::after(MILLISECOND)) {
            Received::Nothing => {}
            Received::Ended => return,
            Received::Records | Received::Request(_) => continue,
        }
        let Ok(rows) = causes::ledger(service, generator, shared) else {
            return;
        };
        let own: Vec<&LedgerRow> = rows
            .iter()
            .filter(|row| row.connection == info.connection)
            .collect();
        if own.iter().any(|row| row.in_flight != 0) {
            continue;
        }
        let number = generator.and_then(|it| u16::try_from(it).ok());
        let complete = number.is_none_or(|number| {
            service.stream.witness.is_complete(number, &shared.journal)
                && is_told_all(service, number, &rows, shared)
        });
        if complete && own.iter().all(|row| agrees(service, row, &rows)) {
            return;
        }
    }
    let rows = service.ledger();
    panic!(
        "connection {} of generator {generator:?} does not come to rest: {:?} but {rows:?}",
        info.connection, service.stream
    );
}

/// Whether somebody was told of every loss.
fn is_told_all(service: &Service, generator: u16, rows: &[LedgerRow], shared: &Shared) -> bool {
    let Some(dead) = shared.journal.dead().filter(|_| shared.tells_all) else {
        return true;
    };
    let own = rows
        .iter()
        .filter(|row| row.provider == generator && row.message == 1);
    let lost: u64 = own.map(LedgerRow::lost_total).sum();
    service.stream.told(generator, 1) + dead.told >= lost
}

fn agrees(service: &Service, row: &LedgerRow, rows: &[LedgerRow]) -> bool {
    let got = service.stream.got(row.provider, row.message);
    let told = service.stream.told_by_cause(row.provider, row.message);
    assert!(
        got <= row.delivered,
        "{got} records were read, but delivered were fewer: {row:?}"
    );
    // Of what a backlog has lost the first reader is told, too, and of what the last one was not.
    let also = rows.iter().filter(|it| {
        let same = it.provider == row.provider && it.message == row.message;
        same && (it.connection == BACKLOG || it.connection == ENDED)
    });
    let also: Vec<&LedgerRow> = also.collect();
    for (cause, (told, lost)) in told.iter().zip(row.lost).enumerate() {
        let also: u64 = also.iter().map(|it| it.lost[cause]).sum();
        assert!(
            *told <= lost + also,
            "{told} losses were told of, but there were fewer for {:?}: {row:?} and {also}",
            Cause::ALL[cause]
        );
    }
    got == row.delivered && told.iter().zip(row.lost).all(|(told, lost)| *told >= lost)
}

/// Everything that was offered is in the books: once for each who observes, or once for nobody.
/// `observers` may observe at a time.
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

/// What the books of the dead say was delivered, they have read.
///
/// # Panics
/// They have not.
pub fn the_dead_have_read(service: &Service, generator: u32, shared: &Shared) {
    if !shared.all_read {
        return;
    }
    let before = shared.journal.dead();
    let Ok(rows) = service.ledger() else { return };
    let Some(dead) = before.filter(|_| before == shared.journal.dead()) else {
        return;
    };
    let own = rows.iter().filter(|row| {
        u32::from(row.provider) == generator && row.message == 1 && row.connection == ENDED
    });
    let delivered: u64 = own.map(|row| row.delivered).sum();
    assert_eq!(
        delivered, dead.got,
        "what was delivered to the dead is not what they have read: {rows:?}"
    );
}

/// The accounts of requests are the journal's: exactly, if every question got as far as the common
/// driver.
///
/// # Panics
/// They differ.
pub fn requests_agree(service: &Service, generator: u32, shared: &Shared, exactly: bool) {
    let Ok(rows) = service.requests() else { return };
    let own = rows.iter().find(|row| u32::from(row.provider) == generator);
    let row = own.expect("a row for the generator's question");
    for &outcome in Outcome::ALL.iter() {
        let (all, such) = shared.journal.ends(outcome);
        let counted = row.outcomes[outcome.index()];
        let unasked = outcome == Outcome::NoDecider && !exactly;
        assert!(
            counted == such || unasked && counted <= such,
            "{such} questions ended as {outcome:?}: {row:?}"
        );
        assert!(
            row.asked == all || !exactly && row.asked <= all,
            "{all} questions were asked: {row:?}"
        );
    }
}

/// The accounts of connections that have ended have come to rest.
///
/// # Panics
/// Something is in flight to nobody.
pub fn ended_is_ended(rows: &[LedgerRow]) {
    for row in rows.iter().filter(|row| row.connection == ENDED) {
        assert_eq!(
            row.in_flight, 0,
            "something is in flight to nobody: {row:?}"
        );
    }
}
