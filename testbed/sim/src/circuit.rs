// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a decider that misses is left alone: after three misses in a row, and then for five
//! seconds.

use std::collections::{BTreeMap, BTreeSet};

use fltport_abi::account::Outcome;
use nt_host::clock;

use crate::plan::MILLISECOND;

/// So many misses open the circuit.
const MISSES: u32 = 3;
/// For so long.
const OPEN_FOR: u64 = 5 * clock::SECOND;
/// Between the driver's look at the clock and ours.
const GRACE: u64 = 50 * MILLISECOND;

/// The circuit as it must be.
#[derive(Default)]
pub struct Circuit {
    misses: u32,
    last_sent: Option<u64>,
    /// Changes with everything that closes it, and with every change of the decider.
    era: u64,
    /// Questions that were missed, in the order in which their ends were written down.
    missed: Vec<u64>,
    /// Questions that have not come to their ends, or whose ends are not written down yet.
    inside: BTreeSet<u64>,
    /// Which service was asked, of questions that were read.
    read_by: BTreeMap<u64, u32>,
    /// Who certainly decides.
    decider: Option<Decider>,
    /// How many lives of the client driver have ended: each has circuits of its own.
    lives: u64,
}

/// The circuit when a service was about to ask for the role.
#[derive(Clone, Copy)]
pub struct Start {
    missed: usize,
    life: u64,
}

/// A service that decides.
struct Decider {
    service: u32,
    provider: u32,
    /// How many questions had been missed when it was about to ask for the role.
    missed_before: usize,
}

/// The circuit when a question was asked.
#[derive(Clone, Copy)]
pub struct Before {
    at: u64,
    era: u64,
    open: bool,
}

impl Circuit {
    /// A service comes, goes, or changes its role.
    pub fn deciders_change(&mut self) {
        self.era += 1;
        self.misses = 0;
    }

    /// A service is about to ask for the role.
    #[must_use]
    pub fn start(&self) -> Start {
        Start {
            missed: self.missed.len(),
            life: self.lives,
        }
    }

    /// This service decides since then.
    pub fn taken(&mut self, service: u32, provider: u32, start: Start) {
        if start.life == self.lives {
            self.decider = Some(Decider {
                service,
                provider,
                missed_before: start.missed,
            });
        }
    }

    /// Forgets the decider if it is none any more.
    pub fn keep(&mut self, decides: impl Fn(u32, u32) -> bool) {
        self.decider = self
            .decider
            .take()
            .filter(|it| decides(it.service, it.provider));
    }

    /// The client driver has been unloaded, or its load has failed.
    pub fn client_has_gone(&mut self) {
        self.lives += 1;
        self.decider = None;
    }

    /// This service has read the question.
    pub fn read(&mut self, question: u64, service: u32) {
        self.read_by.insert(question, service);
    }

    /// How many misses at most can be held against the decider.
    fn held_against(&self, decider: &Decider) -> usize {
        let behind = self.missed.iter().skip(decider.missed_before);
        let asked = |question: &&u64| {
            let reader = self.read_by.get(question);
            reader.is_none_or(|reader| *reader == decider.service)
        };
        // The driver knows the end of a question before it is written down.
        behind.chain(&self.inside).filter(asked).count()
    }

    /// The question has come to its end. The error says that a decider was left alone for what
    /// another one had missed.
    pub fn left(
        &mut self,
        before: Before,
        question: u64,
        outcome: Outcome,
    ) -> Result<(), &'static str> {
        self.inside.remove(&question);
        if outcome == Outcome::Missed {
            self.missed.push(question);
        }
        let decider = self.decider.as_ref().filter(|_| before.era == self.era);
        match decider.filter(|_| outcome == Outcome::CircuitOpen) {
            Some(decider) if self.held_against(decider) < MISSES as usize => {
                Err("a decider that has not missed three is left alone")
            }
            _ => Ok(()),
        }
    }

    /// Somebody asks.
    #[must_use]
    pub fn asking(&mut self, question: u64) -> Before {
        self.inside.insert(question);
        let at = clock::unbiased_interrupt_time();
        let fresh = self
            .last_sent
            .is_some_and(|sent| at + GRACE < sent + OPEN_FOR);
        Before {
            at,
            era: self.era,
            open: fresh && self.misses >= MISSES,
        }
    }

    /// The question has ended. The error says that the decider was asked although it must be left
    /// alone, or left alone for too long.
    pub fn ended(&mut self, before: Before, outcome: Outcome) -> Result<(), &'static str> {
        let same = before.era == self.era;
        match outcome {
            Outcome::Missed => {
                self.misses += u32::from(same);
                self.last_sent = Some(clock::unbiased_interrupt_time());
                if same && before.open {
                    return Err("a decider that had missed three in a row was asked again");
                }
            }
            Outcome::CircuitOpen => {
                let sent = self.last_sent.unwrap_or(0);
                if same && before.at > sent + OPEN_FOR + GRACE {
                    return Err("nobody has asked for five seconds, and still nobody may");
                }
            }
            Outcome::Answered | Outcome::BadReply => self.deciders_change(),
            _ => {}
        }
        Ok(())
    }
}
