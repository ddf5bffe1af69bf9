// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is sent: the first word says who sent it and as which, all others repeat a stamp, so that
//! the receiver sees any record that is lost, late, torn or of an earlier lap. All of it is written
//! and all of it is read.

use hdrhistogram::Histogram;

use crate::clock;

/// Producers at most.
pub(crate) const PRODUCERS: usize = 2;
/// Where a message's first word has its producer.
const PRODUCER_SHIFT: u32 = 56;
/// Odd, and its bits look like chance: no two messages in a row have stamps that resemble.
pub(crate) const STAMP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The two words that a record is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    id: u64,
    stamp: u64,
}

impl Message {
    /// A message whose stamp follows from its number.
    #[inline]
    pub(crate) fn counted(producer: usize, number: u64) -> Message {
        let id = Message::id(producer, number);
        Message {
            id,
            stamp: id.wrapping_mul(STAMP),
        }
    }

    /// A message whose stamp is a time.
    #[inline]
    pub(crate) fn timed(producer: usize, number: u64, nanoseconds: u64) -> Message {
        let id = Message::id(producer, number);
        Message {
            id,
            stamp: nanoseconds,
        }
    }

    /// The first word of a producer's message `number`.
    #[inline]
    pub(crate) fn id(producer: usize, number: u64) -> u64 {
        (producer as u64) << PRODUCER_SHIFT | number
    }

    /// Makes a record of it.
    #[inline]
    pub(crate) fn fill<const N: usize>(self, record: &mut [u8; N]) {
        let (words, _) = record.as_chunks_mut::<8>();
        for word in words.iter_mut() {
            *word = self.stamp.to_le_bytes();
        }
        if let Some(first) = words.first_mut() {
            *first = self.id.to_le_bytes();
        }
    }

    /// The record by itself.
    #[inline]
    pub(crate) fn bytes<const N: usize>(self) -> [u8; N] {
        let mut record = [0; N];
        self.fill(&mut record);
        record
    }
}

/// Where records arrive.
pub(crate) trait Sink<const N: usize> {
    /// The next record of its producer.
    fn record(&mut self, record: &[u8; N]);
}

/// Counts and checks records: order by producer, and content.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    next: [u64; PRODUCERS],
    received: u64,
    fault: Option<String>,
}

impl Checked {
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The first thing that was wrong.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The stamp of a record that is the next one of its producer.
    #[inline]
    fn take<const N: usize>(&mut self, record: &[u8; N], stamp: impl Fn(u64, u64) -> u64) -> u64 {
        let (words, _) = record.as_chunks::<8>();
        let [first, rest @ ..] = words else {
            return 0;
        };
        let id = u64::from_le_bytes(*first);
        let stamp = stamp(id, rest.first().map_or(0, |word| u64::from_le_bytes(*word)));
        let mut difference = 0;
        for word in rest {
            difference |= u64::from_le_bytes(*word) ^ stamp;
        }
        let producer = (id >> PRODUCER_SHIFT) as usize % PRODUCERS;
        let expected = Message::id(producer, self.next[producer]);
        if id != expected || difference != 0 {
            self.complain(id, expected, difference);
        }
        self.next[producer] = self.next[producer].wrapping_add(1);
        self.received += 1;
        stamp
    }

    #[cold]
    #[inline(never)]
    fn complain(&mut self, id: u64, expected: u64, difference: u64) {
        let received = self.received;
        self.fault.get_or_insert_with(|| {
            if id == expected {
                format!("record {received} ({id:#x}) has wrong content ({difference:#x})")
            } else {
                format!("record {received} is {id:#x} where {expected:#x} was due")
            }
        });
    }
}

impl<const N: usize> Sink<N> for Checked {
    #[inline]
    fn record(&mut self, record: &[u8; N]) {
        self.take(record, |id, _| id.wrapping_mul(STAMP));
    }
}

/// Takes the time that records needed, too: their stamp is the time when they were sent.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) checked: Checked,
    /// Nanoseconds.
    pub(crate) histogram: Histogram<u64>,
}

impl Timed {
    pub(crate) fn new() -> anyhow::Result<Timed> {
        let histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
        Ok(Timed {
            checked: Checked::default(),
            histogram,
        })
    }
}

impl<const N: usize> Sink<N> for Timed {
    fn record(&mut self, record: &[u8; N]) {
        let now = clock::nanoseconds();
        let sent = self.checked.take(record, |_, stamp| stamp);
        self.histogram
            .saturating_record(now.saturating_sub(sent).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_words() {
        let record = Message::timed(1, 2, 3).bytes::<24>();
        let words = [1 << 56 | 2, 3, 3u64].map(u64::to_le_bytes);
        assert_eq!(record.as_slice(), words.as_flattened());
    }

    #[test]
    fn records_in_order_are_right_whoever_sends() {
        let mut sink = Checked::default();
        for (producer, number) in [(0, 0), (1, 0), (1, 1), (0, 1), (1, 2)] {
            sink.record(&Message::counted(producer, number).bytes::<64>());
        }
        assert_eq!(sink.fault(), None);
        assert_eq!(sink.received(), 5);
    }

    #[test]
    fn a_record_that_is_missing_is_seen() {
        let mut sink = Checked::default();
        sink.record(&Message::counted(0, 0).bytes::<64>());
        sink.record(&Message::counted(0, 2).bytes::<64>());
        assert_eq!(sink.fault(), Some("record 1 is 0x2 where 0x1 was due"));
    }

    #[test]
    fn a_word_of_an_earlier_lap_is_seen() {
        for at in 1..8 {
            let mut record = Message::counted(0, 0).bytes::<64>();
            record[at * 8 + 7] ^= 1;
            let mut sink = Checked::default();
            sink.record(&record);
            assert!(sink.fault().unwrap().contains("wrong content"), "word {at}");
        }
    }

    #[test]
    fn times_are_kept() {
        let mut sink = Timed::new().unwrap();
        let sent = clock::nanoseconds() - 1_000_000;
        sink.record(&Message::timed(0, 0, sent).bytes::<64>());
        assert_eq!(sink.checked.fault(), None);
        assert_eq!(sink.histogram.len(), 1);
        assert!(sink.histogram.max() >= 1_000_000);
    }
}
