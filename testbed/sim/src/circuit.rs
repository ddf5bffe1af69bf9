// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a decider that misses is left alone: after three misses in a row, and then for five
//! seconds.

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

    /// Somebody asks.
    #[must_use]
    pub fn asking(&self) -> Before {
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
