// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why something can have been lost in a run, and why it cannot.

use fltport_abi::account::Cause;
use fltport_abi::command::{BACKLOG, ENDED, LedgerRow};

use crate::roles::Roles;
use crate::scenario::Shared;
use crate::service::Service;

/// Reads the ledger; `generator` is the number of the client driver's provider.
///
/// # Errors
/// The driver's status.
///
/// # Panics
/// A loss has a cause that it cannot have.
pub fn ledger(
    service: &Service,
    generator: Option<u32>,
    shared: &Shared,
) -> Result<Vec<LedgerRow>, i32> {
    let load = || shared.journal.load();
    let before = load();
    let rows = service.ledger()?;
    // Also one that began, or ended, since.
    let unloads = Roles::is_unloading(before) || before != load();
    for row in &rows {
        let own = generator == Some(row.provider.into()) && row.message == 1;
        for cause in Cause::ALL.iter().filter(|it| row.lost[it.index()] != 0) {
            assert!(
                is_possible(*cause, row, own, unloads, shared),
                "nothing can have been lost for this cause here, {cause:?}: {row:?}"
            );
        }
    }
    Ok(rows)
}

/// Whether something in this row can have been lost so; `own`: it is the generator's notification.
fn is_possible(cause: Cause, row: &LedgerRow, own: bool, unloads: bool, shared: &Shared) -> bool {
    match cause {
        Cause::RingFull => true,
        // Whoever has a backlog passes it on to who observes, and the generator has one type only.
        Cause::NoConnection => row.connection == BACKLOG && !(own && shared.keeps),
        Cause::Disconnected => row.connection == ENDED,
        Cause::ShuttingDown => row.connection == ENDED && unloads,
        Cause::NoMemory => shared.unlucky,
        Cause::TooLarge => row.message == 1 && shared.journal.too_large() != 0,
        // Services observe both drivers, which share their queues.
        Cause::Quota => row.connection != BACKLOG,
        Cause::RateLimit => shared.limits_rates && row.connection != BACKLOG,
        // Nobody waits for readers, and nothing is offered at an interrupt.
        Cause::Timeout | Cause::WrongIrql => false,
    }
}

/// Every notification that was too large was lost for that cause, to each who observes or to
/// nobody.
///
/// # Panics
/// It was not.
pub fn the_too_large_are_counted(rows: &[LedgerRow], generator: u32, too_large: u64, most: u64) {
    let own = rows
        .iter()
        .filter(|row| u32::from(row.provider) == generator && row.message == 1);
    let lost: u64 = own.map(|row| row.lost[Cause::TooLarge.index()]).sum();
    assert!(
        (too_large..=too_large * most.max(1)).contains(&lost),
        "{too_large} notifications were too large, {lost} were lost for that: {rows:?}"
    );
}
