// SPDX-License-Identifier: MIT OR Apache-2.0
//! Driver to service: what `FilterGetMessage` delivers behind the Filter Manager's own header.
//!
//! A frame is a [`FrameHeader`] and either records (a batch of the connection's stream) or one
//! request. Each record is a [`RecordHeader`], a payload and padding to a multiple of 8.
//!
//! **Order.** The records of a connection have sequence numbers 1, 2, 3, … without exception: a
//! number is missing only where a gap record stands for it. A gap record carries the *last* number
//! that it stands for, and says the first.

use crate::account::Cause;
use crate::fixed::Fixed;
use crate::message::DecodeError;

/// The first four bytes of a frame: `FPFR`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FPFR");

/// The first four bytes of a reply: `FPRE`.
pub const REPLY_MAGIC: u32 = u32::from_le_bytes(*b"FPRE");

/// [`FrameHeader::kind`]: a batch of records.
pub const FRAME_RECORDS: u16 = 1;
/// [`FrameHeader::kind`]: one request, to be answered.
pub const FRAME_REQUEST: u16 = 2;

/// [`GapEntry::by`]: nobody took too much.
pub const BLAME_NONE: u16 = u16::MAX;

crate::fixed! {
    /// The start of a frame.
    pub struct FrameHeader: 24 {
        /// [`MAGIC`].
        pub magic: u32,
        /// The protocol version.
        pub version: u16,
        /// [`FRAME_RECORDS`] or [`FRAME_REQUEST`].
        pub kind: u16,
        /// The whole frame in bytes, this header included.
        pub length: u32,
        /// The number of records.
        pub records: u32,
        /// For a request: milliseconds until the requester stops waiting, counted from when it was
        /// sent. Else 0.
        pub deadline_ms: u32,
        /// The connection's number, which the driver never uses twice: a frame cannot belong to
        /// another connection.
        pub connection: u32,
    }

    /// The start of a record.
    pub struct RecordHeader: 32 {
        /// The whole record in bytes: this header, the payload and the padding.
        pub size: u32,
        /// Bytes of the payload.
        pub payload: u32,
        /// The place in the connection's stream; for a request, its id.
        pub sequence: u64,
        /// When it happened: NT system time.
        pub time: i64,
        /// The provider's number; 0 for a gap record.
        pub provider: u16,
        /// The message's number within the provider; 0 for a gap record.
        pub message: u16,
        /// A [`RecordKind`].
        pub kind: u16,
        /// Bytes of the payload's fixed part.
        pub fixed: u16,
    }

    /// The payload of a gap record begins with this; entries follow.
    pub struct GapHeader: 16 {
        /// The first sequence number that it stands for; the record's own number is the last.
        pub first: u64,
        /// The number of entries.
        pub entries: u32,
        /// 0.
        pub reserved: u32,
    }

    /// How many notifications of one type were lost here for one cause.
    pub struct GapEntry: 16 {
        /// How many.
        pub count: u64,
        /// The provider.
        pub provider: u16,
        /// The message type.
        pub message: u16,
        /// A [`Cause`].
        pub cause: u16,
        /// The provider that took too much: the one itself, if it was its own limit; else the one
        /// that had most of the queue. [`BLAME_NONE`] if nobody did.
        pub by: u16,
    }

    /// The payload of an outcome record begins with this; the request's payload, padding to a
    /// multiple of 8, and the reply's payload follow.
    pub struct OutcomeHeader: 24 {
        /// The request's id.
        pub request: u64,
        /// How long the requester waited, in microseconds.
        pub waited_us: u32,
        /// The connection that was asked; 0 if none.
        pub decider: u32,
        /// Bytes of the request's payload.
        pub payload: u32,
        /// Bytes of the reply's payload: the decider's, or the default.
        pub reply: u16,
        /// An [`Outcome`](crate::Outcome).
        pub outcome: u16,
    }

    /// The payload of a record of an asynchronous request begins with this; the request's payload
    /// follows.
    pub struct AsyncRequestHeader: 16 {
        /// The request's id.
        pub request: u64,
        /// Milliseconds until nobody waits any more, counted from the record's time.
        pub deadline_ms: u32,
        /// Bytes of the request's fixed part.
        pub fixed: u32,
    }

    /// The start of a reply, behind the Filter Manager's own header; the reply's payload follows.
    pub struct ReplyHeader: 16 {
        /// [`REPLY_MAGIC`].
        pub magic: u32,
        /// The provider asked by.
        pub provider: u16,
        /// The message answered.
        pub message: u16,
        /// The request's id.
        pub request: u64,
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// A provider's notification.
    Notification = 1,
    /// Losses at this place of the stream.
    Gap = 2,
    /// A request to be answered; only in a frame of its own.
    Request = 3,
    /// How a request ended.
    Outcome = 4,
    /// A part of a provider's present state; for whoever asked for a snapshot.
    Snapshot = 5,
    /// A snapshot is complete: what follows of that provider is live. No payload, no message.
    SnapshotEnd = 6,
    /// A request to be answered by a command; for whoever decides it.
    AsyncRequest = 7,
}

impl RecordKind {
    /// The kind with this number on the wire.
    pub const fn from_wire(number: u16) -> Option<Self> {
        Some(match number {
            1 => RecordKind::Notification,
            2 => RecordKind::Gap,
            3 => RecordKind::Request,
            4 => RecordKind::Outcome,
            5 => RecordKind::Snapshot,
            6 => RecordKind::SnapshotEnd,
            7 => RecordKind::AsyncRequest,
            _ => return None,
        })
    }
}

/// The size of a record with a payload of this length: header, payload, padding.
pub const fn record_size(payload: usize) -> usize {
    RecordHeader::SIZE + payload.next_multiple_of(8)
}

/// A record as it lies in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The header, checked.
    pub header: RecordHeader,
    /// The kind, checked.
    pub kind: RecordKind,
    /// The payload.
    pub payload: &'a [u8],
}

/// A frame, its header checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The header.
    pub header: FrameHeader,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame that fills `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header = FrameHeader::read(bytes).ok_or(DecodeError::TooShort)?;
        let body = bytes
            .get(FrameHeader::SIZE..)
            .ok_or(DecodeError::TooShort)?;
        if header.magic != MAGIC || !matches!(header.kind, FRAME_RECORDS | FRAME_REQUEST) {
            return Err(DecodeError::BadValue);
        }
        if header.length as usize != bytes.len() {
            return Err(DecodeError::OutOfBounds);
        }
        Ok(Frame { header, body })
    }

    /// The records in order. The first error ends the iteration.
    pub fn records(&self) -> Records<'a> {
        Records {
            rest: self.body,
            left: self.header.records,
        }
    }
}

/// The records of a frame.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Record<'a> {
    /// Reads the record that `bytes` begin with; it and what follows.
    #[inline]
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let header = RecordHeader::read(bytes).ok_or(DecodeError::TooShort)?;
        let (record, rest) = bytes
            .split_at_checked(header.size as usize)
            .ok_or(DecodeError::OutOfBounds)?;
        let payload = record
            .get(RecordHeader::SIZE..)
            .and_then(|p| p.get(..header.payload as usize));
        let payload = payload.ok_or(DecodeError::OutOfBounds)?;
        let kind = RecordKind::from_wire(header.kind).ok_or(DecodeError::BadValue)?;
        if header.size as usize != record_size(payload.len())
            || usize::from(header.fixed) > payload.len()
        {
            return Err(DecodeError::BadValue);
        }
        let record = Record {
            header,
            kind,
            payload,
        };
        Ok((record, rest))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, DecodeError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // Bytes behind the last record are an error, told once.
            let trailing = !core::mem::take(&mut self.rest).is_empty();
            return trailing.then_some(Err(DecodeError::OutOfBounds));
        }
        self.left -= 1;
        Some(match Record::split(self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Ok(record)
            }
            Err(error) => {
                (self.left, self.rest) = (0, &[]);
                Err(error)
            }
        })
    }
}

/// A gap record's content.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a> {
    /// The first missing sequence number.
    pub first: u64,
    /// The last one.
    pub last: u64,
    entries: &'a [u8],
}

impl<'a> Gap<'a> {
    /// Reads a record of kind [`RecordKind::Gap`].
    pub fn parse(record: &Record<'a>) -> Result<Self, DecodeError> {
        let header = GapHeader::read(record.payload).ok_or(DecodeError::TooShort)?;
        let entries = record
            .payload
            .get(GapHeader::SIZE..)
            .ok_or(DecodeError::TooShort)?;
        let gap = Gap {
            first: header.first,
            last: record.header.sequence,
            entries,
        };
        let missing = gap
            .last
            .checked_sub(gap.first)
            .and_then(|n| n.checked_add(1))
            .ok_or(DecodeError::BadValue)?;
        let counted = gap
            .entries()
            .try_fold(0_u64, |sum, e| sum.checked_add(e.count));
        let whole = Some(entries.len()) == (header.entries as usize).checked_mul(GapEntry::SIZE);
        if whole && counted == Some(missing) {
            Ok(gap)
        } else {
            Err(DecodeError::BadValue)
        }
    }

    /// What was lost here, by type and cause. Their sum is the number of missing sequence numbers.
    pub fn entries(&self) -> impl Iterator<Item = GapEntry> + 'a {
        self.entries
            .chunks_exact(GapEntry::SIZE)
            .filter_map(GapEntry::read)
    }
}

impl GapEntry {
    /// The cause; `None` for one that this version does not know.
    pub fn cause(&self) -> Option<Cause> {
        Cause::from_wire(self.cause)
    }
}

/// An outcome record's content.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeRecord<'a> {
    /// The header.
    pub header: OutcomeHeader,
    /// What was asked.
    pub request: &'a [u8],
    /// What it was answered with.
    pub reply: &'a [u8],
}

impl<'a> OutcomeRecord<'a> {
    /// Reads a record of kind [`RecordKind::Outcome`].
    pub fn parse(record: &Record<'a>) -> Result<Self, DecodeError> {
        let header = OutcomeHeader::read(record.payload).ok_or(DecodeError::TooShort)?;
        let rest = record
            .payload
            .get(OutcomeHeader::SIZE..)
            .ok_or(DecodeError::TooShort)?;
        let request = rest
            .get(..header.payload as usize)
            .ok_or(DecodeError::OutOfBounds)?;
        let reply = rest
            .get(request.len().next_multiple_of(8)..)
            .ok_or(DecodeError::OutOfBounds)?;
        if reply.len() != usize::from(header.reply) {
            return Err(DecodeError::OutOfBounds);
        }
        Ok(OutcomeRecord {
            header,
            request,
            reply,
        })
    }
}

#[cfg(test)]
mod tests;
