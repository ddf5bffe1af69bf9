// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger as a table.

use fltport::{Cause, Client, LedgerRow, Schema};
use std::collections::BTreeMap;
use std::sync::Arc;
use unicode_width::UnicodeWidthStr;

/// Columns for the names, if none of them needs more.
const NAMES: usize = 28;

/// The names of providers and messages.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<u16, (String, Option<Arc<Schema>>)>);

impl Names {
    /// Asks the driver.
    pub(crate) fn ask(client: &Client) -> Result<Names, fltport::Error> {
        let mut names = BTreeMap::new();
        for provider in client.providers()? {
            // It may have gone since; then its number has to do.
            let schema = client.schema(&provider.name).ok();
            names.insert(provider.number, (provider.name, schema));
        }
        Ok(Names(names))
    }

    pub(crate) fn provider(&self, number: u16) -> String {
        let known = self.0.get(&number);
        known.map_or_else(|| number.to_string(), |(name, _)| name.clone())
    }

    pub(crate) fn message(&self, provider: u16, number: u16) -> String {
        let schema = self
            .0
            .get(&provider)
            .and_then(|(_, schema)| schema.as_ref());
        let message = schema.and_then(|s| s.message(number));
        message.map_or_else(|| number.to_string(), |m| m.name.clone())
    }
}

/// Losses with a count, by cause.
pub(crate) fn losses(row: &LedgerRow) -> impl Iterator<Item = (Cause, u64)> {
    let causes = Cause::ALL.iter().zip(row.lost);
    causes.filter(|(_, n)| *n > 0).map(|(cause, n)| (*cause, n))
}

/// The rows of which something was offered as lines of a table: header, rows, and whether all of
/// them balance.
pub(crate) fn table(rows: &[LedgerRow], names: &Names) -> Vec<String> {
    let used = |row: &&LedgerRow| row.offered > 0 || !row.balances();
    let rows: Vec<&LedgerRow> = rows.iter().filter(used).collect();
    if rows.is_empty() {
        return vec!["ledger: nothing was offered".into()];
    }
    let head = ["message", "offered", "delivered", "lost", "in flight", ""];
    let mut cells = vec![head.map(str::to_owned)];
    for row in &rows {
        let message = names.message(row.provider, row.message);
        let lost: Vec<String> = losses(row).map(|(c, n)| format!("{n} {c}")).collect();
        let mut notes = lost.join(", ");
        if !row.balances() {
            notes.push_str(" DOES NOT BALANCE");
        }
        cells.push([
            format!("{}/{message}", names.provider(row.provider)),
            row.offered.to_string(),
            row.delivered.to_string(),
            row.lost_total().to_string(),
            row.in_flight.to_string(),
            notes,
        ]);
    }
    let widest = cells.iter().map(|[message, ..]| message.width()).max();
    let width = widest.unwrap_or(0).max(NAMES);
    let mut lines: Vec<String> = cells.iter().map(|c| format_line(c, width)).collect();
    let balance = if rows.iter().all(|row| row.balances()) {
        "the ledger balances: offered = delivered + lost + in flight"
    } else {
        "THE LEDGER DOES NOT BALANCE: offered is not delivered + lost + in flight"
    };
    lines.push(balance.into());
    lines
}

fn format_line(cells: &[String; 6], width: usize) -> String {
    let [message, offered, delivered, lost, in_flight, notes] = cells;
    let missing = width.saturating_sub(message.width());
    let line = format!(
        "{message}{:missing$} {offered:>9} {delivered:>9} {lost:>9} {in_flight:>9}  {notes}",
        ""
    );
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_and_an_imbalance_shouts() {
        let mut row = LedgerRow {
            connection: 1,
            provider: 1,
            message: 2,
            offered: 10,
            delivered: 6,
            in_flight: 1,
            lost: [0; 10],
            in_flight_peak: 0,
        };
        row.lost[Cause::RingFull.index()] = 3;
        let lines = table(&[row], &Names::default());
        assert!(lines[1].starts_with("1/2 "), "{lines:?}");
        assert!(lines[1].ends_with("3 ring full"), "{lines:?}");
        assert!(lines[2].starts_with("the ledger balances"));
        row.offered = 11;
        let lines = table(&[row], &Names::default());
        assert!(lines[1].contains("DOES NOT BALANCE") && lines[2].contains("DOES NOT BALANCE"));
        assert_eq!(table(&[], &Names::default()).len(), 1);
        (row.offered, row.delivered, row.in_flight, row.lost) = (0, 0, 0, [0; 10]);
        assert_eq!(table(&[row], &Names::default()).len(), 1);
    }
    #[test]
    fn columns_stand_below_each_other_whatever_the_names() {
        let long = "a-provider-with-quite-a-long-name".to_owned();
        let names = Names(BTreeMap::from([
            (1, (long, None)),
            (2, ("日本".into(), None)),
        ]));
        let row = |provider| LedgerRow {
            connection: 1,
            provider,
            message: 2,
            offered: 7,
            delivered: 7,
            in_flight: 0,
            lost: [0; 10],
            in_flight_peak: 0,
        };
        let lines = table(&[row(1), row(2)], &names);
        let widths: Vec<usize> = lines[..3].iter().map(|l| l.width()).collect();
        assert_eq!(widths, [widths[0]; 3], "{lines:#?}");
    }
}
