// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts what several gets brought, in whatever order they completed, back into the order of the
//! stream, and finds what is missing.
//!
//! Every item stands for a span of sequence numbers: a record for its own, a gap record for those
//! it explains. A hole is declared only when nothing can fill it any more: every get that was
//! waiting when the hole showed has since completed with something else, or nothing has come for a
//! long time.
//!
//! With rings only a part of the stream comes by gets. Records in rings are not held here, for they wait where they
//! are: [`Resequencer::advance`] says that some were read, [`Resequencer::judge_with_rings`] is told
//! which comes next there. A hole in front of either may be filled by a frame on its way, or by a processor
//! that has taken a number and not published yet, of which nothing can be seen. So time decides, or that very many
//! frames have come, all of whose records are held meanwhile.

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

    /// The number that is expected.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether there are items behind a hole.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Everything before this number has come by rings.
    pub(crate) fn advance(&mut self, next: u64, out: &mut Vec<Step<T>>) {
        self.next = self.next.max(next);
        self.release(out);
    }

    /// A frame with records has come while there are rings.
    pub(crate) fn note_frame(&mut self) {
        if let Some(hole) = &mut self.hole {
            hole.completions = hole.completions.saturating_add(1);
        }
    }

    /// Nobody has looked for a while whether the hole is filled: it has all the time again.
    pub(crate) fn forgive(&mut self) {
        self.hole = None;
    }

    /// With rings, declares what is overdue: `front` is the first number in them, if there is one. Whether
    /// something was declared.
    pub(crate) fn judge_with_rings(
        &mut self,
        front: Option<u64>,
        now: Instant,
        out: &mut Vec<Step<T>>,
    ) -> bool {
        let held = self.held.first_key_value().map(|(first, _)| *first);
        let end = held.into_iter().chain(front).min();
        let Some(end) = end.filter(|end| *end > self.next) else {
            self.hole = None;
            return false;
        };
        let first = self.next;
        let hole = self.hole_at(first, 0, now);
        if now.saturating_duration_since(hole.since) < PATIENCE && hole.completions < COMPLETIONS {
            return false;
        }
        self.declare(end, out);
        self.hole = None;
        true
    }

    /// The hole that begins at this number, which is a new one if it has not been seen before.
    fn hole_at(&mut self, first: u64, waiting: u64, now: Instant) -> &Hole {
        if self.hole.as_ref().is_some_and(|hole| hole.first != first) {
            self.hole = None;
        }
        self.hole.get_or_insert(Hole {
            first,
            suspects: waiting,
            since: now,
            completions: 0,
        })
    }

    /// What is missing up to before `end` will not come.
    fn declare(&mut self, end: u64, out: &mut Vec<Step<T>>) {
        let (first, last) = (self.next, end - 1);
        out.push(Step::Missing { first, last });
        self.next = end;
        self.release(out);
    }

    /// Declares what is overdue.
    pub(crate) fn judge(&mut self, waiting: u64, now: Instant, out: &mut Vec<Step<T>>) {
        while let Some((&end, _)) = self.held.first_key_value() {
            let first = self.next;
            let hole = self.hole_at(first, waiting, now);
            let in_time = now.saturating_duration_since(hole.since) < PATIENCE;
            if hole.suspects != 0 && in_time && hole.completions < COMPLETIONS {
                return;
            }
            self.declare(end, out);
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
