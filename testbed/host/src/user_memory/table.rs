// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of users that run or ran a short while ago, and the closed addresses that stand for
//! their buffers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;

use super::UserSlice;
use super::opened::{Behind, OpenPages};
use crate::pages::{self, Circle, PAGE_SIZE, Reservation};
use crate::stack::Stack;

/// Closed addresses in front of a buffer, so that a driver that goes there is found out.
const FRONT: usize = PAGE_SIZE;
/// Closed addresses behind it: as far as a 16-bit length can go wrong.
const GAP: usize = 64 << 10;

/// Calls that are over are remembered up to this many, to tell who uses their buffers.
const REMEMBERED: usize = 1024;

/// Which of a call's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Input,
    Output,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Input => "input buffer",
            Role::Output => "output buffer",
        })
    }
}

/// What a report was made of already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Used {
    Read,
    Written,
    Called,
    CopiedFrom,
    CopiedTo,
}

/// A user's buffer, and the addresses that stand for it.
pub(super) struct Buffer {
    pub(super) call: u64,
    pub(super) role: Role,
    /// Everything that was handed out with it.
    pub(super) span: Range<usize>,
    pub(super) behind: Behind,
    pub(super) opened: OpenPages,
    /// The reports made of it; of each kind one.
    pub(super) reported: Vec<(crate::verifier::Rule, Used)>,
}

/// Bytes that the driver has copied out of user memory.
pub(super) struct Fetched {
    pub(super) end: u64,
    pub(super) stack: Stack,
    /// A report was made of it.
    pub(super) again: bool,
}

/// One callback with user buffers.
pub(super) struct Call {
    /// The service name of the driver.
    pub(super) driver: String,
    /// The id of the process whose buffers they are.
    pub(super) process: u64,
    pub(super) pid: libc::pid_t,
    pub(super) over: bool,
    /// Where its buffers' spans begin.
    buffers: Vec<usize>,
    /// What was copied so far, by address in the user's process; no two overlap.
    pub(super) fetched: BTreeMap<u64, Fetched>,
}

/// All calls and buffers. Addresses are handed out in a circle, so that those of a call that is
/// over stay closed as long as possible.
pub(super) struct Table {
    last_call: u64,
    pub(super) calls: BTreeMap<u64, Call>,
    over: VecDeque<u64>,
    /// By the beginning of their spans.
    buffers: BTreeMap<usize, Buffer>,
    /// Pages of forgotten buffers that were touched and stand open.
    pub(super) strays: OpenPages,
    circle: Circle,
}

impl Table {
    pub(super) const fn new() -> Table {
        Table {
            last_call: 0,
            calls: BTreeMap::new(),
            over: VecDeque::new(),
            buffers: BTreeMap::new(),
            strays: OpenPages::new(),
            circle: Circle::new(),
        }
    }

    /// Begins a call; its number, which is never zero.
    pub(super) fn begin(&mut self, driver: &str, process: u64, pid: libc::pid_t) -> u64 {
        self.last_call += 1;
        let call = Call {
            driver: driver.to_owned(),
            process,
            pid,
            over: false,
            buffers: Vec::with_capacity(2),
            fetched: BTreeMap::new(),
        };
        self.calls.insert(self.last_call, call);
        self.last_call
    }

    /// The address that stands for a buffer of a call; none when there is no room. It has the same
    /// place in its page as the buffer's own.
    pub(super) fn add(
        &mut self,
        space: &Reservation,
        call: u64,
        role: Role,
        slice: &UserSlice,
    ) -> Option<usize> {
        let length = usize::try_from(slice.length).ok()?;
        let in_page = (slice.address % PAGE_SIZE as u64) as usize;
        let size = FRONT + pages::whole_pages(in_page + length)? + GAP;
        let mut circle = self.circle;
        let start = circle.take(space, size, |wanted| self.evict(space, wanted))?;
        self.circle = circle;
        let shadow = start + FRONT + in_page;
        let owner = self.calls.get_mut(&call)?;
        owner.buffers.push(start);
        let behind = Behind {
            shadow: shadow..shadow + length,
            real: slice.address,
            pid: Some(owner.pid),
        };
        let buffer = Buffer {
            call,
            role,
            span: start..start + size,
            behind,
            opened: OpenPages::new(),
            reported: Vec::new(),
        };
        self.buffers.insert(start, buffer);
        Some(shadow)
    }

    /// Forgets the buffers in a range that belong to calls that are over. The end of one that does
    /// not, if there is one.
    fn evict(&mut self, space: &Reservation, range: &Range<usize>) -> Option<usize> {
        self.strays.close(space, &Behind::nothing());
        while let Some(buffer) = self.last_before(range.end) {
            if buffer.span.end <= range.start {
                return None;
            }
            if !self.calls.get(&buffer.call).is_none_or(|call| call.over) {
                return Some(buffer.span.end);
            }
            let start = buffer.span.start;
            self.forget_buffer(space, start);
        }
        None
    }

    fn last_before(&self, end: usize) -> Option<&Buffer> {
        self.buffers.range(..end).next_back().map(|(_, it)| it)
    }

    fn forget_buffer(&mut self, space: &Reservation, start: usize) {
        if let Some(mut buffer) = self.buffers.remove(&start) {
            buffer.opened.close(space, &Behind::nothing());
        }
    }

    /// The buffer that a shadow address belongs to, and its call.
    pub(super) fn at(&mut self, address: usize) -> Option<(&mut Buffer, &mut Call)> {
        let buffer = self.buffers.range_mut(..=address).next_back()?.1;
        if !buffer.span.contains(&address) {
            return None;
        }
        let call = self.calls.get_mut(&buffer.call)?;
        Some((buffer, call))
    }

    /// Closes the open pages of a call. What was touched so far must be where a copy looks, and
    /// what is touched later must see what the copy wrote.
    pub(super) fn settle(&mut self, space: &Reservation, number: u64) {
        for start in self.calls.get(&number).iter().flat_map(|it| &it.buffers) {
            if let Some(buffer) = self.buffers.get_mut(start) {
                buffer.opened.close(space, &buffer.behind);
            }
        }
    }

    /// Ends a call: what was written to its open pages reaches the user, and from now on nothing of
    /// it may be used.
    pub(super) fn end(&mut self, space: &Reservation, number: u64) {
        self.settle(space, number);
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.over = true;
        for start in &call.buffers {
            if let Some(buffer) = self.buffers.get_mut(start) {
                buffer.behind.pid = None;
            }
        }
        self.over.push_back(number);
        while self.over.len() > REMEMBERED {
            let Some(oldest) = self.over.pop_front() else {
                break;
            };
            let forgotten = self.calls.remove(&oldest);
            for start in forgotten.iter().flat_map(|call| &call.buffers) {
                self.forget_buffer(space, *start);
            }
        }
    }
}

impl Call {
    /// Notes that bytes were copied out of user memory. The earlier copy of some of them, if there
    /// was one and it was not reported yet.
    pub(super) fn fetch(
        &mut self,
        bytes: Range<u64>,
        stack: Stack,
    ) -> Option<(Range<u64>, &Stack)> {
        let before = self.fetched.range(..bytes.end).next_back();
        let overlaps = before.filter(|(_, fetched)| fetched.end > bytes.start);
        let Some(start) = overlaps.map(|(start, _)| *start) else {
            let fetched = Fetched {
                end: bytes.end,
                stack,
                again: false,
            };
            self.fetched.insert(bytes.start, fetched);
            return None;
        };
        let fetched = self.fetched.get_mut(&start)?;
        if std::mem::replace(&mut fetched.again, true) {
            return None;
        }
        let twice = bytes.start.max(start)..bytes.end.min(fetched.end);
        Some((twice, &fetched.stack))
    }
}
