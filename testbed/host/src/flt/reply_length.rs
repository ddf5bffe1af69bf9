// SPDX-License-Identifier: MIT OR Apache-2.0
//! The traps of FltSendMessage's ReplyLength.
//!
//! Its page says that the length counts the FILTER_REPLY_HEADER; it does not, and the reply lies at
//! the start of the buffer without one. And it is in and out: after a shorter reply the variable
//! holds that reply's length, which the next call takes for the size of its buffer.

use std::collections::BTreeMap;

use fltmgr::FilterId;

use crate::verifier::{Report, Rule};

/// The bytes of a FILTER_REPLY_HEADER.
const HEADER: usize = 16;
/// After so many replies that are shorter than the buffer by just a header, it is no accident.
const SUSPICIOUS: u32 = 3;
/// As many length variables as are remembered.
const MOST_VARIABLES: usize = 256;

/// A reply buffer and its length, as a driver passes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyBuffer {
    /// The address of the buffer.
    pub(super) buffer: usize,
    /// The address of the variable that holds its length.
    pub(super) length: usize,
    /// The length.
    pub(super) capacity: usize,
}

/// What a call left in a length variable.
struct Written {
    buffer: usize,
    capacity: usize,
    written: usize,
}

/// A length that looks as if an earlier reply had left it in the variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stale {
    /// The length at that earlier call.
    former: usize,
}

impl Stale {
    /// The reply was longer than `reply` has room for.
    pub(super) fn report(self, reply: ReplyBuffer) -> Report {
        Report::new(Rule::ReplyLengthStale)
            .expected(format!(
                "*ReplyLength is set to the {} bytes of the buffer before each call",
                self.former
            ))
            .found(format!(
                "{} bytes, as an earlier reply has left it; this reply is longer",
                reply.capacity
            ))
            .detail("ReplyLength is in and out: a longer reply fails with STATUS_BUFFER_OVERFLOW")
    }
}

/// What is known of the replies so far.
#[derive(Default)]
pub(super) struct ReplyLengths {
    /// By the address of the length variable.
    written: BTreeMap<usize, Written>,
    /// By filter and capacity: how many replies were short by just a header; `None` once one was
    /// not, or it was reported.
    short_by_header: BTreeMap<(FilterId, usize), Option<u32>>,
}

impl ReplyLengths {
    /// A message is sent with a reply buffer. If its length is what an earlier reply has left in
    /// the variable: the length that was given then. That is a suspicion only; a driver may want
    /// no more than so many bytes this time.
    pub(super) fn suspect(&self, reply: ReplyBuffer) -> Option<Stale> {
        let last = self.written.get(&reply.length)?;
        let stale = last.buffer == reply.buffer
            && last.written < last.capacity
            && last.written == reply.capacity;
        stale.then_some(Stale {
            former: last.capacity,
        })
    }

    /// A reply of `written` bytes came: the report if all of them lack just a header.
    pub(super) fn end(
        &mut self,
        filter: FilterId,
        reply: ReplyBuffer,
        written: usize,
    ) -> Option<Report> {
        let last = Written {
            buffer: reply.buffer,
            capacity: reply.capacity,
            written,
        };
        self.written.insert(reply.length, last);
        if self.written.len() > MOST_VARIABLES {
            self.written.pop_first();
        }
        let key = (filter, reply.capacity);
        let count = self.short_by_header.entry(key).or_insert(Some(0));
        if written + HEADER != reply.capacity {
            *count = None;
        }
        let seen = count.as_mut()?;
        *seen += 1;
        if *seen < SUSPICIOUS {
            return None;
        }
        *count = None;
        Some(counts_header(reply.capacity, written))
    }

    /// A filter is gone.
    pub(super) fn forget(&mut self, filter: FilterId) {
        self.short_by_header
            .retain(|(known, _), _| *known != filter);
    }
}

fn counts_header(capacity: usize, written: usize) -> Report {
    Report::new(Rule::ReplyLengthCountsHeader)
        .expected("*ReplyLength counts the reply's payload only, which begins at offset 0")
        .found(format!(
            "{capacity} bytes, and replies of {written}: just a FILTER_REPLY_HEADER less"
        ))
        .detail(
            "the page of FltSendMessage says otherwise and is wrong: no header is delivered, so a \
             driver that reads its reply behind one reads what was there before",
        )
}
