// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one connection has read of the generator, compared with what was offered: order, place and
//! completeness.

use std::collections::BTreeMap;

use fltport_abi::account::Outcome;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::OutcomeHeader;

use nt_host::clock;

use crate::journal::Journal;

/// Something in a stream, in its order.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// A notification with this number of the journal, read at this moment; none if that was too
    /// late to count.
    Blob(u64, Option<u64>),
    /// The outcome of the question with this number.
    Outcome(u64),
    /// A gap record that tells of so many lost notifications and outcomes.
    Gap(u64, u64),
}

/// What an outcome record says: the question's number, the outcome, and the reply.
#[must_use]
pub fn outcome_of(payload: &[u8]) -> Option<(u64, u16, u64)> {
    let header = OutcomeHeader::read(payload)?;
    let question = payload.get(OutcomeHeader::SIZE..)?;
    let number = u64::read(question)?;
    let reply = question.get((header.payload as usize).next_multiple_of(8)..)?;
    Some((number, header.outcome, u64::read(reply)?))
}

/// The numbers that were given while a service certainly observed: from `since` to `until`, both
/// excluded.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: u64,
    until: u64,
    /// When it was opened.
    at: u64,
}

/// One connection's view.
#[derive(Debug, Default)]
pub struct Witness {
    windows: Vec<Window>,
    /// Notifications and outcomes, by provider.
    seen: BTreeMap<u16, Vec<Seen>>,
}

impl Witness {
    /// Something was read of this provider.
    pub fn saw(&mut self, provider: u16, seen: Seen) {
        self.seen.entry(provider).or_default().push(seen);
    }

    /// The driver has confirmed the subscription; `last` is the last number that was given.
    pub fn observes(&mut self, last: u64) {
        self.windows.push(Window {
            since: last,
            until: u64::MAX,
            at: clock::unbiased_interrupt_time(),
        });
    }

    /// The subscription is about to end.
    pub fn stops(&mut self, last: u64) {
        if let Some(window) = self.windows.last_mut() {
            window.until = window.until.min(last + 1);
        }
    }

    fn window_of(&self, number: u64) -> Option<usize> {
        self.windows
            .iter()
            .position(|it| it.since < number && number < it.until)
    }

    /// How many notifications and outcomes were lost to it that it has been told of.
    fn told(&self, provider: u16) -> (u64, u64) {
        let mut told = (0, 0);
        for seen in self.seen.get(&provider).into_iter().flatten() {
            if let Seen::Gap(blobs, outcomes) = seen {
                told.0 += blobs;
                told.1 += outcomes;
            }
        }
        told
    }

    /// Whether everything that was offered while it observed was read or told of by now.
    #[must_use]
    pub fn is_complete(&self, provider: u16, journal: &Journal) -> bool {
        let Some(window) = self.open_window() else {
            return true;
        };
        let outcomes = self.count(provider, |seen| match seen {
            Seen::Outcome(number) => *number > window.since,
            _ => false,
        });
        self.has_all_until(provider, journal, u64::MAX)
            && outcomes + self.told(provider).1 >= journal.concluded_since(window.since)
    }

    /// Whether every notification that had been offered at this moment, while it observed, was read or
    /// told of by now.
    #[must_use]
    pub fn has_all_until(&self, provider: u16, journal: &Journal, moment: u64) -> bool {
        let Some(window) = self.open_window() else {
            return true;
        };
        let blobs = self.count(provider, |seen| match seen {
            Seen::Blob(number, _) => *number > window.since,
            _ => false,
        });
        blobs + self.told(provider).0 >= journal.offered_since_until(window.since, moment)
    }

    fn open_window(&self) -> Option<&Window> {
        self.windows.last().filter(|it| it.until == u64::MAX)
    }

    fn count(&self, provider: u16, is_such: impl Fn(&Seen) -> bool) -> u64 {
        let seen = self.seen.get(&provider).into_iter().flatten();
        seen.filter(|seen| is_such(seen)).count() as u64
    }

    /// What one thread offers comes once and in its order; what it offered between two records that
    /// came was told of between them; and nothing that came was long on its way.
    ///
    /// # Panics
    /// Something is not so.
    pub fn check(&self, provider: u16, journal: &Journal, limit: Option<u64>) {
        // For each thread the last number, and what the stream had told of until then.
        let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut told = 0;
        for seen in self.seen.get(&provider).into_iter().flatten() {
            match *seen {
                Seen::Gap(blobs, _) => told += blobs,
                Seen::Outcome(_) => {}
                Seen::Blob(number, read) => {
                    let (thread, offered) = journal.offer(number);
                    let former = last.insert(thread, (number, told));
                    if let Some((former, told_then)) = former {
                        assert!(former < number, "{number} came behind {former}");
                        self.check_between(journal, thread, (former, number), told - told_then);
                    }
                    if let (Some(limit), Some(read)) = (limit, read) {
                        let took = read.saturating_sub(offered.max(self.opened_before(read)));
                        assert!(took <= limit, "{number} was {took} of 100 ns on its way");
                    }
                }
            }
        }
    }

    /// When the last window was opened before this moment: a backlog comes then.
    fn opened_before(&self, moment: u64) -> u64 {
        let opened = self.windows.iter().map(|window| window.at);
        // Read before the subscription had returned: no delay at all.
        opened.filter(|at| *at <= moment).max().unwrap_or(moment)
    }

    /// The numbers of notifications that were read.
    pub fn numbers(&self, provider: u16) -> impl Iterator<Item = u64> {
        let seen = self.seen.get(&provider).into_iter().flatten();
        seen.filter_map(|seen| match seen {
            Seen::Blob(number, _) => Some(*number),
            _ => None,
        })
    }

    fn check_between(&self, journal: &Journal, thread: u32, ends: (u64, u64), told: u64) {
        let window = self.window_of(ends.0);
        if window.is_some() && window == self.window_of(ends.1) {
            let lost = journal.offered_between(thread, ends);
            assert!(
                lost <= told,
                "{lost} notifications between {ends:?} did not come, and {told} were told of"
            );
        }
    }
}

/// Whether an outcome record says what the requester was told.
#[must_use]
pub fn agrees(said: (u16, u64), outcome: Outcome, reply: u64) -> bool {
    said == (outcome as u16, reply)
}
