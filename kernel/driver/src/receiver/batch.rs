// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame's records on their way out of queues and backlogs.

use super::gap_header;
use crate::backlog::Backlog;
use crate::ledger::{Gap, bit};
use crate::queue::Queue;
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{RecordHeader, RecordKind, record_size};
use fltport_nt::ex::PoolArc;
use fltport_ring::Order;

/// A batch is closed when it has this many bytes, to bound the time under the lock; a larger record
/// travels alone.
pub(super) const BATCH_BYTES: usize = 32 * 1024;

/// So many bytes of records that are not wanted are looked at for one batch, and steps of filters made, to
/// bound the same time: either takes about a nanosecond.
pub(super) const MAX_PASSED_OVER: usize = 64 * 1024;

/// Records on their way into a frame, where they get their sequence numbers.
pub(super) struct Batch<'o> {
    pub(super) out: &'o mut [u8],
    pub(super) at: usize,
    pub(super) records: u32,
    pub(super) order: PoolArc<Order>,
    /// Bytes of records that were looked at and are not wanted, and steps of filters.
    pub(super) passed_over: usize,
}

impl Batch<'_> {
    pub(super) fn has_room(&self, payload: usize) -> bool {
        self.at < BATCH_BYTES && record_size(payload) <= self.out.len() - self.at
    }

    /// Moves records of these types that are wanted out of the queue, up to this position; whether
    /// there are none left. `wants` says that, and in how many steps it found out.
    pub(super) fn take_queue(
        &mut self,
        queue: &mut Queue,
        types: u64,
        until: u64,
        mut wants: impl FnMut(&RecordHeader, &[u8]) -> (bool, usize),
    ) -> bool {
        while let Some(header) = queue.front().filter(|_| queue.start() < until) {
            if self.passed_over >= MAX_PASSED_OVER {
                return false;
            }
            if header.kind != RecordKind::Gap as u16 && types & bit(header.message) == 0 {
                self.passed_over += header.size as usize;
                queue.drop_front();
                continue;
            }
            if !self.has_room(header.payload as usize) {
                return false;
            }
            let at = self.at;
            if !self.out.get_mut(at..).is_some_and(|place| queue.pop(place)) {
                return false;
            }
            let payload =
                at + RecordHeader::SIZE..at + RecordHeader::SIZE + header.payload as usize;
            let (wanted, steps) = wants(&header, self.out.get(payload).unwrap_or(&[]));
            self.passed_over += steps;
            if wanted {
                self.number(header);
            } else {
                self.passed_over += header.size as usize;
            }
        }
        true
    }

    /// Tells what a backlog lost; whether all of it could be told.
    pub(super) fn gaps(&mut self, provider: u16, backlog: &mut Backlog) -> bool {
        while backlog.unreported().total() != 0 {
            if !self.has_room(Gap::MAX_PAYLOAD) {
                return false;
            }
            let mut gap = Gap::empty();
            gap.take(provider, backlog.unreported(), usize::MAX);
            self.gap(&mut gap);
        }
        true
    }

    pub(super) fn gap(&mut self, gap: &mut Gap) {
        let header = gap_header(gap);
        let payload = gap.payload();
        let Some(place) = self
            .out
            .get_mut(self.at..)
            .and_then(|out| out.get_mut(..header.size as usize))
        else {
            return;
        };
        place.fill(0);
        let Some((start, rest)) = place.split_at_mut_checked(RecordHeader::SIZE) else {
            return;
        };
        if header.write(start).is_some() && rest.len() >= payload.len() {
            rest.iter_mut()
                .zip(payload)
                .for_each(|(to, from)| *to = *from);
            self.number(header);
        }
    }

    /// Gives the record at the end its place in the stream.
    pub(super) fn number(&mut self, header: RecordHeader) {
        let Some(place) = self.out.get_mut(self.at..) else {
            return;
        };
        let is_gap = header.kind == RecordKind::Gap as u16;
        let count = if is_gap { header.sequence.max(1) } else { 1 };
        let first = self.order.take(count);
        let last = first + count - 1;
        if is_gap && let Some(payload) = place.get_mut(RecordHeader::SIZE..) {
            // GapHeader::first is the payload's first field; it fits, for the record is there.
            let _fits = first.write(payload);
        }
        let _fits = RecordHeader {
            sequence: last,
            ..header
        }
        .write(place);
        self.at += header.size as usize;
        self.records += 1;
    }
}

// Not under loom: the order's counter is one of its models' there.
#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::tag;
    use nt_host::{Config, Kernel};

    /// What a filter takes long for is as much work as many records that are passed over.
    #[test]
    fn of_records_that_take_long_to_judge_few_are_judged_for_one_batch() {
        // For its pool.
        let kernel = Kernel::boot(Config::default());
        for wanted in [false, true] {
            let mut queue = Queue::new(16 * 1024).unwrap();
            let header = RecordHeader {
                size: record_size(0) as u32,
                payload: 0,
                sequence: 0,
                time: 0,
                provider: 1,
                message: 1,
                kind: RecordKind::Notification as u16,
                fixed: 0,
            };
            while queue.push(&header, &[]) {}
            let (mut out, mut judged) = ([0; BATCH_BYTES], 0);
            let mut batch = Batch {
                out: &mut out,
                at: 0,
                records: 0,
                order: PoolArc::new(tag::CONNECTION, Order::new(1)).unwrap(),
                passed_over: 0,
            };
            let emptied = batch.take_queue(&mut queue, u64::MAX, u64::MAX, |_, _| {
                judged += 1;
                (wanted, fltport_abi::filter::MAX_STEPS as usize)
            });
            assert!(!emptied && judged <= 4, "{judged}");
            assert_eq!(batch.records, if wanted { judged } else { 0 });
        }
        drop(kernel);
    }

    /// A backlog of eight megabytes of types that its first subscriber does not want is not passed over
    /// while the lock is held, all at once.
    #[test]
    fn of_types_that_nobody_wants_a_bounded_number_is_passed_over_for_one_batch() {
        // For its pool.
        let kernel = Kernel::boot(Config::default());
        let mut queue = Queue::new(16 * MAX_PASSED_OVER).unwrap();
        let header = |message| RecordHeader {
            size: record_size(0) as u32,
            payload: 0,
            sequence: 0,
            time: 0,
            provider: 1,
            message,
            kind: RecordKind::Notification as u16,
            fixed: 0,
        };
        while queue.free() > 2 * record_size(0) {
            assert!(queue.push(&header(2), &[]));
        }
        assert!(queue.push(&header(1), &[]));
        let (mut out, mut batches) = ([0; 1024], 1);
        loop {
            let before = queue.used();
            let mut batch = Batch {
                out: &mut out,
                at: 0,
                records: 0,
                order: PoolArc::new(tag::CONNECTION, Order::new(1)).unwrap(),
                passed_over: 0,
            };
            let emptied = batch.take_queue(&mut queue, bit(1), u64::MAX, |_, _| (true, 0));
            assert!(before - queue.used() <= MAX_PASSED_OVER + 2 * record_size(0));
            if emptied {
                assert_eq!((batch.records, batches), (1, 16));
                break;
            }
            assert!(batch.passed_over >= MAX_PASSED_OVER && batch.records == 0);
            batches += 1;
        }
        drop(queue);
        drop(kernel);
    }
}
