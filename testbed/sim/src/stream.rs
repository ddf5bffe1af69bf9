// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service reads: frames and rings in, records and requests out, and the law that no number
//! is missing without a gap record.

use std::collections::BTreeMap;

use fltport_abi::account::CAUSES;
use fltport_abi::fixed::Fixed;
use nt_host::clock;

use crate::witness::{Seen, Witness, outcome_of};
use fltport_abi::frame::{FRAME_REQUEST, Frame, Gap, Record, RecordHeader, RecordKind};

/// Bytes of the Filter Manager's own header in front of a message.
pub const MESSAGE_HEADER: usize = 16;

/// A request, to be answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Filter Manager's number of the message.
    pub message_id: u64,
    /// The record's header.
    pub header: RecordHeader,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// One connection's stream so far.
#[derive(Debug)]
pub struct Stream {
    next: u64,
    /// Notifications and outcomes received, by provider and message.
    got: BTreeMap<(u16, u16), u64>,
    /// Losses told of, by provider and message, and by cause.
    told: BTreeMap<(u16, u16), [u64; CAUSES]>,
    /// What was read, in its order.
    pub witness: Witness,
    /// Outcome records: the provider, the question, what it says.
    pub outcomes: Vec<(u16, (u64, u16, u64))>,
    /// The service does not read any more: what is taken in now was taken from the driver earlier.
    pub late: bool,
    /// Records come by rings as well, so what frames bring may be ahead.
    pub by_rings: bool,
    /// The service has spoilt its rings: what frames bring says nothing.
    pub spoilt: bool,
    /// What frames have brought and something comes before that is not there, by its first number.
    early: BTreeMap<u64, Vec<u8>>,
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            next: 1,
            got: BTreeMap::new(),
            told: BTreeMap::new(),
            witness: Witness::default(),
            outcomes: Vec::new(),
            late: false,
            by_rings: false,
            spoilt: false,
            early: BTreeMap::new(),
        }
    }
}

impl Stream {
    /// Takes in a message as FilterGetMessage returned it; the request, if it is one.
    ///
    /// # Panics
    /// The message is not what the driver may send, or the stream is broken.
    pub fn take(&mut self, message: &[u8]) -> Option<Request> {
        let message_id = u64::read(&message[8..]).expect("a message header");
        let frame = Frame::parse(&message[MESSAGE_HEADER..]).expect("a frame");
        let mut request = None;
        for record in frame.records() {
            let record = record.expect("a record");
            if frame.header.kind == FRAME_REQUEST {
                request = Some(Request {
                    message_id,
                    header: record.header,
                    payload: record.payload.to_vec(),
                });
            } else if !self.by_rings {
                self.enter(&record);
            } else if !self.spoilt {
                self.hold(&record);
            }
        }
        self.enter_held();
        request
    }

    /// Takes in what was copied from rings; it is what comes next.
    ///
    /// # Panics
    /// The stream is broken.
    pub fn take_batch(&mut self, batch: &[u8]) {
        self.each(batch, Stream::enter);
        self.enter_held();
    }

    /// Keeps a record until what comes before it is there.
    fn hold(&mut self, record: &Record<'_>) {
        let first = first_of(record);
        assert!(
            first >= self.next,
            "{first} came by a frame, and had come before"
        );
        let mut bytes = vec![0; RecordHeader::SIZE];
        record
            .header
            .write(&mut bytes)
            .expect("the header's own size");
        bytes.extend(record.payload);
        bytes.resize(record.header.size as usize, 0);
        let former = self.early.insert(first, bytes);
        assert!(former.is_none(), "{first} came twice");
    }

    fn enter_held(&mut self) {
        while let Some(bytes) = self.early.remove(&self.next) {
            self.each(&bytes, Stream::enter);
        }
    }

    fn each(&mut self, mut records: &[u8], take: impl Fn(&mut Stream, &Record<'_>)) {
        while !records.is_empty() {
            let (record, rest) = Record::split(records).expect("a record");
            take(self, &record);
            records = rest;
        }
    }

    /// The connection has ended. What frames had brought counts as delivered; what comes before it and
    /// is not there was never told to be read, so it must lie in a ring, where `unread` finds it by
    /// its number.
    ///
    /// # Panics
    /// It does not.
    pub fn end(&mut self, mut unread: impl FnMut(u64) -> Vec<u8>) {
        while !self.early.is_empty() {
            let left = unread(self.next);
            assert!(
                !left.is_empty(),
                "{} came neither by a frame nor by a ring, but {:?} did",
                self.next,
                self.early.keys()
            );
            self.each(&left, Stream::pass);
            self.enter_held();
        }
    }

    /// The next record.
    fn enter(&mut self, record: &Record<'_>) {
        let RecordHeader {
            sequence,
            provider,
            message,
            ..
        } = record.header;
        if record.kind == RecordKind::Gap {
            for entry in self.gap(record).entries() {
                let cause = entry.cause().expect("a cause").index();
                let told = self.told.entry((entry.provider, entry.message));
                told.or_default()[cause] += entry.count;
            }
        } else {
            assert_eq!(sequence, self.next, "no number is missing without a gap");
            *self.got.entry((provider, message)).or_default() += 1;
            self.witness_record(record);
        }
        self.next = sequence + 1;
    }

    /// The next record, which was not read in time: it is one that did not come.
    fn pass(&mut self, record: &Record<'_>) {
        let header = record.header;
        if record.kind == RecordKind::Gap {
            let _told_to_others = self.gap(record);
        } else {
            assert_eq!(
                header.sequence, self.next,
                "no number is missing without a gap"
            );
            self.witness_loss(header.provider, header.message, 1);
        }
        self.next = header.sequence + 1;
    }

    fn gap<'a>(&mut self, record: &Record<'a>) -> Gap<'a> {
        let gap = Gap::parse(record).expect("a gap that adds up");
        assert_eq!(
            gap.first, self.next,
            "a gap begins where the stream stopped"
        );
        for entry in gap.entries() {
            self.witness_loss(entry.provider, entry.message, entry.count);
        }
        gap
    }

    fn witness_loss(&mut self, provider: u16, message: u16, count: u64) {
        let seen = match message {
            1 => Seen::Gap(count, 0),
            _ => Seen::Gap(0, count),
        };
        self.witness.saw(provider, seen);
    }

    fn witness_record(&mut self, record: &Record<'_>) {
        let provider = record.header.provider;
        if record.kind == RecordKind::Outcome
            && let Some(said) = outcome_of(record.payload)
        {
            self.outcomes.push((provider, said));
            self.witness.saw(provider, Seen::Outcome(said.0));
        } else if record.header.message == 1
            && let Some(number) = u64::read(record.payload)
        {
            let now = (!self.late).then(clock::unbiased_interrupt_time);
            self.witness.saw(provider, Seen::Blob(number, now));
        }
    }

    /// The number that the next record must have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many records of this provider and message came.
    #[must_use]
    pub fn got(&self, provider: u16, message: u16) -> u64 {
        self.got.get(&(provider, message)).copied().unwrap_or(0)
    }

    /// How many losses it told of.
    #[must_use]
    pub fn told(&self, provider: u16, message: u16) -> u64 {
        self.told_by_cause(provider, message).iter().sum()
    }

    /// The same by cause.
    #[must_use]
    pub fn told_by_cause(&self, provider: u16, message: u16) -> [u64; CAUSES] {
        let told = self.told.get(&(provider, message));
        told.copied().unwrap_or_default()
    }
}

/// The first number that a record stands for.
fn first_of(record: &Record<'_>) -> u64 {
    match record.kind {
        RecordKind::Gap => Gap::parse(record).expect("a gap that adds up").first,
        _ => record.header.sequence,
    }
}
