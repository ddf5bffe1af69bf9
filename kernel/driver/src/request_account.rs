// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts of requests by who was asked: what became of them, how many wait, and for how long.

use crate::ledger::bit;
use crate::tag;
use fltport_abi::account::{OUTCOMES, Outcome};
use fltport_abi::command::RequestAccountRow;
use fltport_abi::latency::Latency;
use fltport_nt::Result;
use fltport_nt::ex::PoolSlice;

/// The account of one request type with one decider. `asked == sum of outcomes + in_flight` and
/// `latency` has as many as there are outcomes, always: all callers hold the lock of the routes.
#[derive(Clone, Copy, Default)]
struct Counters {
    asked: u64,
    outcomes: [u64; OUTCOMES],
    in_flight: u64,
    in_flight_peak: u64,
    waited_us: u64,
    latency: Latency,
}

/// The accounts of a provider's request types with one decider, or with nobody.
pub(crate) struct Accounts {
    types: u64,
    /// One for each bit of `types`, in their order.
    counters: PoolSlice<Counters>,
}

impl Accounts {
    /// IRQL: <= DISPATCH_LEVEL. Empty accounts of these request types.
    pub(crate) fn new(types: u64) -> Result<Self> {
        let length = types.count_ones() as usize;
        let counters = PoolSlice::filled(tag::LEDGER, length, Counters::default())?;
        Ok(Accounts { types, counters })
    }

    fn of(&mut self, message: u16) -> Option<&mut Counters> {
        let bit = bit(message);
        let place = (self.types & bit.wrapping_sub(1)).count_ones() as usize;
        let known = self.types & bit != 0;
        self.counters.get_mut(place).filter(|_| known)
    }

    /// A request is made.
    pub(crate) fn begin(&mut self, message: u16) {
        if let Some(c) = self.of(message) {
            c.asked += 1;
            c.in_flight += 1;
            c.in_flight_peak = c.in_flight_peak.max(c.in_flight);
        }
    }

    /// One that was made has ended, and took so long.
    pub(crate) fn end(&mut self, message: u16, outcome: Outcome, waited_us: u64) {
        let Some(c) = self.of(message).filter(|c| c.in_flight != 0) else {
            return;
        };
        let Some(count) = c.outcomes.get_mut(outcome.index()) else {
            return;
        };
        *count += 1;
        c.in_flight -= 1;
        c.waited_us = c.waited_us.saturating_add(waited_us);
        c.latency.add(waited_us);
    }

    /// Of what is in flight only so many stay, with these accounts; how many go.
    pub(crate) fn leave(&mut self, message: u16, stay: u64) -> u64 {
        self.of(message).map_or(0, |c| {
            let go = c.in_flight.saturating_sub(stay);
            c.in_flight -= go;
            c.asked -= go;
            go
        })
    }

    /// So many come, that are in flight.
    pub(crate) fn take_over(&mut self, message: u16, come: u64) {
        if let Some(c) = self.of(message) {
            c.in_flight += come;
            c.asked += come;
            c.in_flight_peak = c.in_flight_peak.max(c.in_flight);
        }
    }

    /// Adds the numbers of accounts that are closed; what is in flight in them ends here.
    pub(crate) fn absorb(&mut self, other: &Accounts) {
        for (sum, c) in self.counters.iter_mut().zip(other.counters.iter()) {
            sum.asked += c.asked;
            sum.in_flight += c.in_flight;
            sum.in_flight_peak = sum.in_flight_peak.max(c.in_flight_peak);
            sum.waited_us = sum.waited_us.saturating_add(c.waited_us);
            sum.latency.absorb(&c.latency);
            for (sum, outcomes) in sum.outcomes.iter_mut().zip(c.outcomes) {
                *sum += outcomes;
            }
        }
    }

    /// The rows of the types in `types`, and of those of which there is anything to tell.
    pub(crate) fn rows(
        &self,
        connection: u32,
        provider: u16,
        types: u64,
    ) -> impl Iterator<Item = RequestAccountRow> + '_ {
        (0_u16..64)
            .filter(|message| self.types & bit(*message) != 0)
            .zip(self.counters.iter())
            .filter(move |(message, c)| c.asked != 0 || types & bit(*message) != 0)
            .map(move |(message, c)| RequestAccountRow {
                connection,
                provider,
                message,
                asked: c.asked,
                outcomes: c.outcomes,
                in_flight: c.in_flight,
                in_flight_peak: c.in_flight_peak,
                waited_us: c.waited_us,
                latency: c.latency.0,
            })
    }
}
