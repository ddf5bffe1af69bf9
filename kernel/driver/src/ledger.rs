// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger: for each receiver and message type what was offered, and what became of it; and
//! which losses the receiver has not been told of.

use crate::tag;
use fltport_abi::account::{CAUSES, Cause};
use fltport_abi::command::LedgerRow;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{BLAME_NONE, GapEntry, GapHeader, record_size};
use fltport_abi::interface::ProviderStatistics;
use fltport_nt::Result;
use fltport_nt::ex::PoolSlice;

/// The account of one message type towards one receiver. `offered == delivered + in_flight + sum of
/// lost`, always: every method moves what it moves at once, and all callers hold the lock of the
/// routes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counters {
    offered: u64,
    delivered: u64,
    in_flight: u64,
    in_flight_peak: u64,
    lost: [u64; CAUSES],
}

/// Notifications of one type that were lost.
#[derive(Clone, Copy)]
pub(crate) struct Loss {
    pub(crate) cause: Cause,
    pub(crate) count: u64,
    /// The provider that took too much, or [`BLAME_NONE`].
    pub(crate) by: u16,
}

impl Loss {
    /// Of so many, and nobody took too much.
    pub(crate) const fn new(cause: Cause, count: u64) -> Self {
        let by = BLAME_NONE;
        Loss { cause, count, by }
    }

    /// Of one, because this provider took too much.
    pub(crate) const fn by(cause: Cause, by: u16) -> Self {
        Loss {
            cause,
            count: 1,
            by,
        }
    }
}

/// Losses by cause that have not been reported in the stream yet.
pub(crate) type Losses = [u64; CAUSES];

/// The accounts of all message types of one provider towards one receiver. Indexed by message
/// number.
pub(crate) struct Account {
    counters: PoolSlice<Counters>,
    unreported: Unreported,
}

/// Losses that the stream must still tell of.
pub(crate) struct Unreported {
    losses: PoolSlice<Losses>,
    /// Who is to blame for the last of each.
    blame: PoolSlice<[u16; CAUSES]>,
    total: u64,
}

impl Unreported {
    /// IRQL: <= DISPATCH_LEVEL. For message numbers below `types`.
    pub(crate) fn new(types: usize) -> Result<Self> {
        Ok(Unreported {
            losses: PoolSlice::filled(tag::LEDGER, types, [0; CAUSES])?,
            blame: PoolSlice::filled(tag::LEDGER, types, [BLAME_NONE; CAUSES])?,
            total: 0,
        })
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn add(&mut self, message: u16, loss: Loss) {
        let place = usize::from(message);
        let Loss { cause, count, by } = loss;
        if let (Some(losses), Some(blame)) = (self.losses.get_mut(place), self.blame.get_mut(place))
            && let (Some(sum), Some(last)) =
                (losses.get_mut(cause.index()), blame.get_mut(cause.index()))
        {
            *sum += count;
            *last = by;
            self.total += count;
        }
    }

    /// Passes the losses of these types on.
    pub(crate) fn pass_on(&mut self, types: u64, to: &mut Self) {
        if self.total == 0 {
            return;
        }
        let places = self.losses.iter_mut().zip(self.blame.iter());
        let wanted = (0_u16..).zip(places).filter(|(n, _)| types & bit(*n) != 0);
        for (message, (losses, blame)) in wanted {
            for (cause, (count, by)) in Cause::ALL.iter().zip(losses.iter_mut().zip(blame)) {
                let (cause, count, by) = (*cause, core::mem::take(count), *by);
                if count != 0 {
                    self.total -= count;
                    to.add(message, Loss { cause, count, by });
                }
            }
        }
    }

    /// Takes up to `room` entries out, in the order of message and cause.
    pub(crate) fn take(&mut self, provider: u16, mut room: usize, mut sink: impl FnMut(GapEntry)) {
        if self.total == 0 {
            return;
        }
        let places = self.losses.iter_mut().zip(self.blame.iter());
        for (message, (losses, blame)) in (0_u16..).zip(places) {
            for (cause, (count, by)) in (0_u16..).zip(losses.iter_mut().zip(blame)) {
                if *count == 0 {
                    continue;
                }
                if room == 0 {
                    return;
                }
                room -= 1;
                let count = core::mem::take(count);
                self.total -= count;
                sink(GapEntry {
                    count,
                    provider,
                    message,
                    cause,
                    by: *by,
                });
            }
        }
    }
}

impl Account {
    /// IRQL: <= DISPATCH_LEVEL. Empty accounts for message numbers below `types`.
    #[inline(never)]
    pub(crate) fn new(types: usize) -> Result<Self> {
        let counters = PoolSlice::filled(tag::LEDGER, types, Counters::default())?;
        Ok(Account {
            counters,
            unreported: Unreported::new(types)?,
        })
    }

    pub(crate) fn unreported(&mut self) -> &mut Unreported {
        &mut self.unreported
    }

    fn with(&mut self, message: u16, change: impl FnOnce(&mut Counters)) {
        // A number that the provider did not declare is refused before it gets here.
        if let Some(counters) = self.counters.get_mut(usize::from(message)) {
            change(counters);
        }
    }

    /// Offered and queued.
    pub(crate) fn queued(&mut self, message: u16, count: u64) {
        self.with(message, |c| {
            c.offered += count;
            c.in_flight += count;
            c.in_flight_peak = c.in_flight_peak.max(c.in_flight);
        });
    }

    /// Offered and lost at once; the stream must tell of it.
    pub(crate) fn lost(&mut self, message: u16, loss: Loss) {
        self.lost_untold(message, loss.cause, loss.count);
        self.unreported.add(message, loss);
    }

    /// Offered and lost at once, where there is no stream to tell of it.
    pub(crate) fn lost_untold(&mut self, message: u16, cause: Cause, count: u64) {
        self.with(message, |c| {
            c.offered += count;
            c.add_lost(cause, count);
        });
    }

    /// Queued, now delivered.
    pub(crate) fn delivered(&mut self, message: u16, count: u64) {
        self.with(message, |c| {
            let count = count.min(c.in_flight);
            c.in_flight -= count;
            c.delivered += count;
        });
    }

    /// Queued, but it turns out that it need not have been offered.
    pub(crate) fn withdrawn(&mut self, message: u16, count: u64) {
        self.with(message, |c| {
            let count = count.min(c.in_flight);
            c.in_flight -= count;
            c.offered -= count;
        });
    }

    /// Queued, now lost.
    pub(crate) fn dropped(&mut self, message: u16, cause: Cause, count: u64) {
        self.with(message, |c| {
            let count = count.min(c.in_flight);
            c.in_flight -= count;
            c.add_lost(cause, count);
        });
    }

    /// All that is queued is lost; calls `sink` with each type and how many.
    pub(crate) fn drop_all(&mut self, cause: Cause, mut sink: impl FnMut(u16, u64)) {
        for (message, c) in (0_u16..).zip(self.counters.iter_mut()) {
            let count = core::mem::take(&mut c.in_flight);
            c.add_lost(cause, count);
            if count != 0 {
                sink(message, count);
            }
        }
    }

    pub(crate) fn in_flight(&self, message: u16) -> u64 {
        self.counters
            .get(usize::from(message))
            .map_or(0, |c| c.in_flight)
    }

    /// Whether nothing is queued and nothing is to be reported.
    pub(crate) fn is_settled(&self) -> bool {
        self.unreported.total == 0 && self.counters.iter().all(|c| c.in_flight == 0)
    }

    /// Adds the numbers of one type, of all for 0, to a provider's statistics.
    pub(crate) fn add_to(&self, statistics: &mut ProviderStatistics) {
        let wanted = statistics.message;
        let numbered = (0_u16..).zip(self.counters.iter());
        for (_, c) in numbered.filter(|(message, _)| wanted == 0 || *message == wanted) {
            statistics.offered += c.offered;
            statistics.delivered += c.delivered;
            statistics.in_flight += c.in_flight;
            for (sum, lost) in statistics.lost.iter_mut().zip(c.lost) {
                *sum += lost;
            }
        }
    }

    /// Adds the numbers of an account that is closed.
    pub(crate) fn absorb(&mut self, other: &Account) {
        for (sum, c) in self.counters.iter_mut().zip(other.counters.iter()) {
            sum.offered += c.offered;
            sum.delivered += c.delivered;
            sum.in_flight += c.in_flight;
            sum.in_flight_peak = sum.in_flight_peak.max(c.in_flight_peak);
            for (sum, lost) in sum.lost.iter_mut().zip(c.lost) {
                *sum += lost;
            }
        }
    }

    /// The rows of the types in `types` for the operator.
    pub(crate) fn rows(
        &self,
        connection: u32,
        provider: u16,
        types: u64,
    ) -> impl Iterator<Item = LedgerRow> + '_ {
        (0_u16..)
            .zip(self.counters.iter())
            .filter(move |(message, _)| types & bit(*message) != 0)
            .map(move |(message, c)| LedgerRow {
                connection,
                provider,
                message,
                offered: c.offered,
                delivered: c.delivered,
                in_flight: c.in_flight,
                lost: c.lost,
                in_flight_peak: c.in_flight_peak,
            })
    }
}

impl Counters {
    fn add_lost(&mut self, cause: Cause, count: u64) {
        if let Some(lost) = self.lost.get_mut(cause.index()) {
            *lost += count;
        }
    }
}

/// The bit of a message number in a set.
pub(crate) const fn bit(message: u16) -> u64 {
    if message < 64 { 1 << message } else { 0 }
}

/// The most entries of one gap record; more losses make more gap records.
const MAX_ENTRIES: usize = 24;

/// A gap record's payload while it is put together.
pub(crate) struct Gap {
    bytes: [u8; GapHeader::SIZE + MAX_ENTRIES * GapEntry::SIZE],
    entries: usize,
    total: u64,
}

impl Gap {
    /// Bytes of the largest gap record's payload.
    pub(crate) const MAX_PAYLOAD: usize = GapHeader::SIZE + MAX_ENTRIES * GapEntry::SIZE;

    /// How many entries a gap record of so many bytes in the queue can have; 0 for none at all.
    pub(crate) fn entries_in(room: usize) -> usize {
        // All sizes are multiples of 8, so nothing is padded.
        let entries = room.saturating_sub(record_size(GapHeader::SIZE)) / GapEntry::SIZE;
        entries.min(MAX_ENTRIES)
    }

    /// A gap without entries.
    pub(crate) const fn empty() -> Self {
        Gap {
            bytes: [0; Self::MAX_PAYLOAD],
            entries: 0,
            total: 0,
        }
    }

    /// Takes as many of these losses as there is room for, in a gap of at most `most` entries.
    pub(crate) fn take(&mut self, provider: u16, unreported: &mut Unreported, most: usize) {
        let room = MAX_ENTRIES.min(most).saturating_sub(self.entries);
        unreported.take(provider, room, |entry| {
            let at = GapHeader::SIZE + self.entries * GapEntry::SIZE;
            if self
                .bytes
                .get_mut(at..)
                .and_then(|place| entry.write(place))
                .is_some()
            {
                self.entries += 1;
                self.total += entry.count;
            }
        });
    }

    /// How many losses it tells of: so many sequence numbers are missing.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The payload. The first missing number is filled in when the record is taken from the queue.
    pub(crate) fn payload(&mut self) -> &[u8] {
        let header = GapHeader {
            first: 0,
            entries: self.entries as u32,
            reserved: 0,
        };
        // Always fits: the array begins with room for it.
        let _fits = header.write(&mut self.bytes);
        self.bytes
            .get(..GapHeader::SIZE + self.entries * GapEntry::SIZE)
            .unwrap_or(&[])
    }
}
