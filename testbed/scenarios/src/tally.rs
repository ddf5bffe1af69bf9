// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service has been told, counted, and whether it came in order.

use crate::orders::Numbers;
use fltport::{Cause, Loss, Record};
use fltport_abi::Message;
use fltport_abi::command::{BACKLOG, LedgerRow};
use fltport_abi::{process_monitor, registry_monitor};
use loadgen::messages::{Begun, Blob, Deed, Early, Ended, Object, PROVIDERS, Tick};
use std::collections::BTreeMap;

/// The counts of one service, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    numbers: Numbers,
    /// The threads of each provider's jobs; the early ones are thread 0 of job 0.
    threads: BTreeMap<(u16, u32, u32), Thread>,
    gaps: u64,
    /// What is known of each provider's objects.
    objects: BTreeMap<u16, Known>,
}

/// What is known of a provider's objects.
#[derive(Debug, Default)]
struct Known {
    /// Object, version, and how many gaps had been told then.
    versions: BTreeMap<u64, (u64, u64)>,
    /// There was a snapshot: what was not in it was not there.
    complete: bool,
}

/// How far one thread of a job has come.
#[derive(Debug)]
struct Thread {
    next: u64,
    /// How many gaps had been told when its last one came.
    gaps: u64,
}

impl Tally {
    /// Adds to the count of this name.
    pub(crate) fn add(&mut self, name: &str, count: u64) {
        match self.numbers.get_mut(name) {
            Some(number) => *number += count,
            None => {
                self.numbers.insert(name.to_owned(), count);
            }
        }
    }

    /// All counts, with those that are always there.
    pub(crate) fn numbers(&self) -> Numbers {
        let mut numbers = self.numbers.clone();
        for name in [
            "ticks",
            "blobs",
            "early",
            "lost",
            "dispatch",
            "disordered",
            "skipped",
            "unannounced",
            "damaged",
            "missing",
            "objects",
            "reported",
            "snapshots",
            "begun",
            "ended",
            "deeds",
            "lost-begun",
            "lost-ended",
            "requests",
            "answered",
            "kept",
            "disconnected",
            "reconnected",
        ] {
            numbers.entry(name.to_owned()).or_default();
        }
        for place in 1..=PROVIDERS.len() {
            for name in ["ticks-of", "blobs-of", "lost-of", "lost-by"] {
                numbers.entry(format!("{name}-{place}")).or_default();
            }
        }
        let known = |name: &str| numbers.get(name).copied().unwrap_or(0);
        let accounted = known("ticks") + known("blobs") + known("early") + known("lost");
        numbers.insert("accounted".to_owned(), accounted);
        numbers
    }

    /// A notification.
    pub(crate) fn told(&mut self, record: &Record) {
        self.add("since-gap", 1);
        let name = provider_of(record).unwrap_or_default();
        let Some(place) = place_of(name) else {
            self.told_by_another(name, record.message());
            return;
        };
        let provider = record.provider();
        let counted = match record.message() {
            Tick::NUMBER => record.decode::<Tick>().map(|tick| {
                self.add("ticks", 1);
                self.add(&format!("ticks-of-{place}"), 1);
                self.add("dispatch", u64::from(tick.irql >= 2));
                self.in_order((provider, tick.job, tick.thread), tick.number);
            }),
            Blob::NUMBER => record.decode::<Blob<'_>>().map(|blob| {
                let intact = blob.data.iter().all(|byte| *byte == blob.number as u8);
                self.add("blobs", 1);
                self.add(&format!("blobs-of-{place}"), 1);
                self.add("damaged", u64::from(!intact));
                self.in_order((provider, blob.job, blob.thread), blob.number);
            }),
            Object::NUMBER => record.decode::<Object>().map(|object| {
                self.add("objects", 1);
                self.changed(provider, &object);
            }),
            Begun::NUMBER => record.decode::<Begun>().map(|_| self.add("begun", 1)),
            Deed::NUMBER => record.decode::<Deed>().map(|_| self.add("deeds", 1)),
            Ended::NUMBER => record.decode::<Ended>().map(|_| self.add("ended", 1)),
            Early::NUMBER => record.decode::<Early>().map(|early| {
                self.add("early", 1);
                self.in_order((provider, 0, 0), early.number);
            }),
            _ => Ok(()),
        };
        self.add("damaged", u64::from(counted.is_err()));
    }

    /// An object as it is when a snapshot is taken.
    pub(crate) fn reported(&mut self, record: &Record) {
        self.add("reported", 1);
        match record.decode::<Object>() {
            Ok(object) => {
                let known = self.objects.entry(record.provider()).or_default();
                let now = (object.version, self.gaps);
                known.versions.insert(object.number, now);
            }
            Err(_) => self.add("damaged", 1),
        }
    }

    /// A provider's snapshot is complete.
    pub(crate) fn snapshot_ended(&mut self, provider: u16) {
        self.add("snapshots", 1);
        self.objects.entry(provider).or_default().complete = true;
    }

    /// An object has changed: from the version that is known to the next one, unless a gap says that
    /// something was lost in between.
    fn changed(&mut self, provider: u16, object: &Object) {
        let gaps = self.gaps;
        let known = self.objects.entry(provider).or_default();
        let before = known.versions.insert(object.number, (object.version, gaps));
        let before = before.or(known.complete.then_some((0, 0)));
        let Some((version, gaps_then)) = before else {
            return;
        };
        self.add("disordered", u64::from(object.version <= version));
        let skipped = object.version.saturating_sub(version + 1);
        self.add("skipped", skipped);
        if gaps_then == gaps {
            self.add("unannounced", skipped);
        }
    }

    /// A notification of another driver, counted by its name: `value-set`.
    fn told_by_another(&mut self, provider: &str, message: u16) {
        let known = [&registry_monitor::PROVIDER, &process_monitor::PROVIDER];
        let provider = known.into_iter().find(|known| known.name == provider);
        let mut messages = provider.into_iter().flat_map(|known| known.messages);
        match messages.find(|known| known.number == message) {
            Some(message) => self.add(message.name, 1),
            None => self.add("unknown", 1),
        }
    }

    /// A number of the thread of a provider's job.
    pub(crate) fn in_order(&mut self, thread: (u16, u32, u32), number: u64) {
        let now = Thread {
            next: number + 1,
            gaps: self.gaps,
        };
        // Whoever comes in the middle of a job has missed its beginning, which is no loss.
        let first = Thread {
            next: 0,
            gaps: u64::MAX,
        };
        let before = self.threads.insert(thread, now).unwrap_or(first);
        let skipped = number.saturating_sub(before.next);
        self.add("skipped", skipped);
        self.add("disordered", u64::from(number < before.next));
        // What is missing was lost between these two, so that is where the stream must say so.
        if before.gaps == self.gaps {
            self.add("unannounced", skipped);
        }
    }

    /// A new connection or another load generator: its numbers begin anew.
    pub(crate) fn begin_anew(&mut self) {
        self.threads.clear();
        self.objects.clear();
    }

    /// Losses that the stream tells of.
    pub(crate) fn gap(&mut self, losses: &[Loss]) {
        self.gaps += 1;
        self.numbers.insert("since-gap".to_owned(), 0);
        self.add("gaps", 1);
        for loss in losses {
            self.add("lost", loss.count);
            let cause = loss.cause.map_or("another cause", Cause::name);
            self.add(&lost_by(cause), loss.count);
            if let Some(message) = loss.message_name() {
                self.add(&format!("lost-{message}"), loss.count);
            }
            for (what, provider) in [("of", loss.provider_name()), ("by", loss.by_name())] {
                if let Some(place) = provider.and_then(place_of) {
                    self.add(&format!("lost-{what}-{place}"), loss.count);
                }
            }
        }
    }
}

/// The name of the provider that a record comes from.
pub(crate) fn provider_of(record: &Record) -> Option<&str> {
    record.schema().map(|schema| schema.provider.as_str())
}

/// Which of the load generator's providers has this name, counted from 1.
pub(crate) fn place_of(provider: &str) -> Option<usize> {
    let place = PROVIDERS.iter().position(|it| it.name == provider)?;
    Some(place + 1)
}

/// The name of the count of what was lost by this cause.
fn lost_by(cause: &str) -> String {
    format!("lost-{}", cause.to_lowercase().replace(' ', "-"))
}

/// The sums of a ledger. `unbalanced` counts the rows that break the law; what is kept for nobody in
/// particular is `kept`, and not in flight.
pub(crate) fn sums(rows: &[LedgerRow]) -> Numbers {
    let mut sums = Tally::default();
    sums.add("rows", rows.len() as u64);
    for name in [
        "offered",
        "delivered",
        "in-flight",
        "lost-in-all",
        "unbalanced",
    ] {
        sums.add(name, 0);
    }
    for row in rows {
        sums.add("offered", row.offered);
        sums.add("delivered", row.delivered);
        let kept = row.connection == BACKLOG;
        sums.add(if kept { "kept" } else { "in-flight" }, row.in_flight);
        sums.add("lost-in-all", row.lost_total());
        sums.add("unbalanced", u64::from(!row.balances()));
        for (cause, lost) in Cause::ALL.iter().zip(row.lost).filter(|(_, n)| *n > 0) {
            sums.add(&lost_by(cause.name()), lost);
        }
    }
    sums.numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_within_a_thread_of_a_job() {
        let mut tally = Tally::default();
        for (job, thread, number) in [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0), (1, 0, 5)] {
            tally.in_order((1, job, thread), number);
        }
        let numbers = tally.numbers();
        assert_eq!((numbers["disordered"], numbers["skipped"]), (0, 3));
        tally.in_order((1, 1, 0), 5);
        assert_eq!(tally.numbers()["disordered"], 1);
    }

    #[test]
    fn what_is_missing_is_announced_where_it_was_lost() {
        let mut tally = Tally::default();
        // Subscribed in the middle.
        tally.in_order((1, 1, 0), 5);
        tally.gap(&[]);
        tally.in_order((1, 1, 0), 7);
        tally.in_order((1, 1, 1), 3);
        assert_eq!(tally.numbers()["unannounced"], 0);
        // Too late.
        tally.in_order((1, 1, 0), 9);
        tally.gap(&[]);
        assert_eq!(tally.numbers()["unannounced"], 1);
    }

    #[test]
    fn a_row_that_does_not_balance_is_counted() {
        let mut row = LedgerRow {
            connection: 1,
            provider: 1,
            message: 1,
            offered: 10,
            delivered: 7,
            in_flight: 1,
            lost: [0; 10],
            in_flight_peak: 0,
        };
        assert_eq!(sums(&[row])["unbalanced"], 1);
        row.lost[Cause::RingFull.index()] = 2;
        let sums = sums(&[row]);
        assert_eq!((sums["unbalanced"], sums["lost-ring-full"]), (0, 2));
    }
}
