// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts what several gets brought, in whatever order they completed, back into the order of the
//! stream, and finds what is missing.
//!
//! Every item stands for a span of sequence numbers: a record for its own, a gap record for those
//! it explains. A hole is declared only when nothing can fill it any more: every get that was
//! waiting when the hole showed has since completed with something else, or nothing has come for a
//! long time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a hole may stay open while other gets are still waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many gets may bring something else while a hole stays open: what is held back meanwhile
/// stays bounded, whatever the other side sends.
const COMPLETIONS: u32 = 1024;

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// The next item.
    Item(T),
    /// These numbers are missing and no gap record explains them.
    Missing { first: u64, last: u64 },
    /// An item whose numbers have been there before.
    Repeated,
}

/// The state between two completed gets.
#[derive(Debug)]
pub(crate) struct Resequencer<T> {
    next: u64,
    held: BTreeMap<u64, (u64, T)>,
    hole: Option<Hole>,
}

/// The hole before the first item that is held.
#[derive(Debug)]
struct Hole {
    /// Its first number.
    first: u64,
    /// Bit n: the get in slot n was waiting when the hole showed, and has not completed since.
    suspects: u64,
    since: Instant,
    /// Gets that have completed since.
    completions: u32,
}

impl<T> Resequencer<T> {
    /// Expects this number first.
    pub(crate) fn new(next: u64) -> Self {
        Resequencer {
            next,
            held: BTreeMap::new(),
            hole: None,
        }
    }

    /// An item with the numbers `first` to `last`.
    pub(crate) fn push(&mut self, first: u64, last: u64, item: T, out: &mut Vec<Step<T>>) {
        if first < self.next || last < first || self.held.contains_key(&first) {
            out.push(Step::Repeated);
        } else if first == self.next {
            self.next = last.saturating_add(1);
            out.push(Step::Item(item));
            self.release(out);
        } else {
            self.held.insert(first, (last, item));
        }
    }

    fn release(&mut self, out: &mut Vec<Step<T>>) {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > self.next {
                return;
            }
            let (first, (last, item)) = entry.remove_entry();
            if first < self.next {
                out.push(Step::Repeated);
            } else {
                self.next = last.saturating_add(1);
                out.push(Step::Item(item));
            }
        }
    }

    /// After everything of the get in `slot` has been pushed: `waiting` are the slots of the other
    /// gets at the port.
    pub(crate) fn completed(
        &mut self,
        slot: u32,
        waiting: u64,
        now: Instant,
        out: &mut Vec<Step<T>>,
    ) {
        if let Some(hole) = &mut self.hole {
            hole.suspects &= !(1 << (slot % 64));
            hole.completions = hole.completions.saturating_add(1);
        }
        self.judge(waiting, now, out);
    }

    /// Declares what is overdue.
    pub(crate) fn judge(&mut self, waiting: u64, now: Instant, out: &mut Vec<Step<T>>) {
        while let Some((&end, _)) = self.held.first_key_value() {
            let first = self.next;
            let hole = match &self.hole {
                Some(hole) if hole.first == first => hole,
                _ => self.hole.insert(Hole {
                    first,
                    suspects: waiting,
                    since: now,
                    completions: 0,
                }),
            };
            let in_time = now.saturating_duration_since(hole.since) < PATIENCE;
            if hole.suspects != 0 && in_time && hole.completions < COMPLETIONS {
                return;
            }
            let last = end - 1;
            out.push(Step::Missing { first, last });
            self.next = end;
            self.release(out);
        }
        self.hole = None;
    }

    /// How long to wait for another get before judging again; `None` while there is no hole.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        let hole = self.hole.as_ref()?;
        Some((hole.since + PATIENCE).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests;
