// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stream keeps so that it can outlive its connection: the records that were sent and have
//! not been acknowledged, with their numbers, and how long it waits for its service.
//!
//! A record goes from the queue to the *window* when the sender takes it, and leaves it when the
//! service has acknowledged it: until then it is in flight. When the window is full the sender
//! pauses, and the queue fills.

use crate::connection::Identity;
use crate::queue::Queue;
use fltport_abi::command::StreamRow;
use fltport_abi::frame::RecordHeader;
use fltport_abi::hello::{StreamHello, stream};
use fltport_abi::limits::MIN_WINDOW;
use fltport_abi::status;
use fltport_nt::bindings::STATUS_ACCESS_DENIED;
use fltport_nt::ke::interrupt_time;
use fltport_nt::{NtError, Result};

/// So many records at most are settled while the lock is held.
pub(crate) const SETTLED_AT_ONCE: usize = 1024;

/// See the module. Lies in the receiver, under the lock of the routes.
pub(crate) struct Stream {
    key: [u8; 16],
    /// In 100-nanosecond intervals.
    retention: u64,
    /// What was sent and not acknowledged, oldest first.
    window: Queue,
    /// The place in the window of the next record to be sent again; its end, if there is none.
    again: u64,
    /// The last number that was settled.
    acknowledged: u64,
    /// The last number that the service has acknowledged; what lies up to it is about to be
    /// settled.
    wanted: u64,
    /// The interrupt time at which a stream without a connection is over.
    until: Option<u64>,
    /// It is over, and being taken apart: nobody can have it any more.
    over: bool,
    /// The sender has found the window full.
    paused: bool,
    /// The first connection of the instance that has it: a service that had it with an earlier one
    /// is another instance. (Later numbers are later connections.)
    instance: u32,
    former: u32,
    resumed: u32,
    taken_over: bool,
    sent_again: u64,
}

/// The connection that the instance which says this had the stream with before, if it connects with
/// this number now; 0 if it says none. One that is not earlier was of a former life of the driver; one
/// that is earlier may be as well.
fn former_of(hello: &StreamHello, connection: u32) -> u32 {
    if hello.former < connection {
        hello.former
    } else {
        0
    }
}

/// The connection that it began with, as far as it knows.
fn instance_of(hello: &StreamHello, connection: u32) -> u32 {
    match former_of(hello, connection) {
        0 => connection,
        former => former,
    }
}

/// Whose stream a service that connects gets.
pub(crate) enum Claim {
    /// Nobody's: a new one begins in place of this one.
    New,
    /// The one that it asked for.
    Granted,
}

impl Stream {
    /// IRQL: <= DISPATCH_LEVEL. A new one, as a service wants it that connects with this number.
    #[inline(never)]
    pub(crate) fn new(hello: &StreamHello, connection: u32) -> Result<Self> {
        Ok(Stream {
            key: hello.key,
            retention: u64::from(hello.retention_ms) * 10_000,
            window: Queue::new(hello.window.max(MIN_WINDOW) as usize)?,
            again: 0,
            acknowledged: 0,
            wanted: 0,
            until: None,
            over: false,
            paused: false,
            instance: instance_of(hello, connection),
            former: 0,
            resumed: 0,
            taken_over: false,
            sent_again: 0,
        })
    }

    /// Whether a service that wants the stream of this key means this one.
    pub(crate) fn is(&self, key: &[u8; 16]) -> bool {
        !self.over && self.key == *key
    }

    /// Whether it waits for its service.
    pub(crate) fn is_detached(&self) -> bool {
        self.until.is_some() || self.over
    }

    /// Bytes of memory that its window has.
    pub(crate) fn capacity(&self) -> usize {
        self.window.capacity()
    }

    /// Its connection has ended: whether it goes on without one, from now until its retention is
    /// over.
    pub(crate) fn detach(&mut self) -> bool {
        if self.retention == 0 || self.over {
            return false;
        }
        if self.until.is_none() {
            self.until = Some(interrupt_time().saturating_add(self.retention));
        }
        self.paused = false;
        true
    }

    /// The interrupt time at which it is over, if it waits.
    pub(crate) fn until(&self) -> Option<u64> {
        if self.over { Some(0) } else { self.until }
    }

    /// From now on nobody can have it.
    pub(crate) fn finish(&mut self) {
        self.over = true;
    }

    /// Whether `service`, which says this, may have the stream, whose connection is or was `owner`
    /// and whose next record has the number `next`. `same_process`: both are one process's. It alone can
    /// be the instance that has the stream: a number may be one of a former life of the driver.
    ///
    /// The stream brings the rights along that it was made with: what lies in it was granted to
    /// those. So whoever has fewer does not get it.
    pub(crate) fn claim(
        &self,
        owner: &Identity,
        service: &Identity,
        same_process: bool,
        hello: &StreamHello,
        next: u64,
    ) -> Result<Claim> {
        let former = former_of(hello, service.number);
        if former != 0 && former < self.instance {
            return Err(NtError(status::CONNECTION_ABORTED));
        }
        let is_its_own = former != 0 && same_process;
        let may_take = self.is_detached() || is_its_own || hello.flags & stream::TAKE_OVER != 0;
        if !may_take {
            return Err(NtError(status::CONNECTION_ACTIVE));
        }
        if hello.flags & stream::RESUME == 0 {
            return match self.is_detached() {
                true => Ok(Claim::New),
                false => Err(NtError(status::CONNECTION_ACTIVE)),
            };
        }
        if owner.rights & !service.rights != 0 {
            return Err(NtError(STATUS_ACCESS_DENIED));
        }
        match hello.acknowledged {
            0 => Ok(Claim::Granted),
            point if point >= self.wanted && point < next => Ok(Claim::Granted),
            _ => Err(NtError(status::END_OF_FILE)),
        }
    }

    /// A service whose claim was granted has it from now on, with this connection; `former` had it, of
    /// the same process or not.
    pub(crate) fn resume(
        &mut self,
        hello: &StreamHello,
        connection: u32,
        former: u32,
        same_process: bool,
    ) {
        if former_of(hello, connection) == 0 || !same_process {
            self.instance = connection;
        }
        self.retention = u64::from(hello.retention_ms) * 10_000;
        self.taken_over = self.until.is_none();
        self.until = None;
        self.paused = false;
        self.former = former;
        self.resumed = self.resumed.saturating_add(1);
        self.wanted = self.wanted.max(hello.acknowledged);
        self.again = self.window.start();
    }

    /// The service has dealt with everything up to this number, of those below `next`. Whether
    /// there is anything to settle now.
    pub(crate) fn acknowledge(&mut self, number: u64, next: u64) -> Result<()> {
        if number >= next {
            return Err(NtError(status::END_OF_FILE));
        }
        // Threads that acknowledge may overtake each other: the largest number counts.
        self.wanted = self.wanted.max(number);
        Ok(())
    }

    /// The last record that the service has dealt with, as far as it has said.
    pub(crate) fn read_up_to(&self) -> u64 {
        self.wanted
    }

    /// Takes out of the window what was acknowledged, some of it: `delivered` gets each header.
    /// Whether more is left. A number within a gap counts as the one before it.
    pub(crate) fn settle(&mut self, mut delivered: impl FnMut(&RecordHeader)) -> bool {
        for _ in 0..SETTLED_AT_ONCE {
            let wanted = self.wanted;
            let Some(header) = self.window.front().filter(|h| h.sequence <= wanted) else {
                return false;
            };
            self.window.drop_front();
            self.acknowledged = header.sequence;
            delivered(&header);
        }
        true
    }

    /// After [`Stream::settle`]: whether a sender that paused has room again.
    pub(crate) fn unpause(&mut self) -> bool {
        core::mem::take(&mut self.paused)
    }

    /// The records that must be sent again, with their numbers, as many as fit, until there are
    /// `enough` bytes: how many, and their bytes.
    pub(crate) fn take_again(&mut self, out: &mut [u8], enough: usize) -> (u32, usize) {
        let (mut records, mut at) = (0, 0);
        self.again = self.again.max(self.window.start());
        while let Some(header) = self.window.header_at(self.again).filter(|_| at < enough) {
            let size = header.size as usize;
            let place = out.get_mut(at..).and_then(|out| out.get_mut(..size));
            let Some(place) = place else {
                break;
            };
            self.window.copy_at(self.again, place);
            self.again += size as u64;
            at += size;
            records += 1;
        }
        self.sent_again += u64::from(records);
        (records, at)
    }

    /// Bytes of records that may be sent before the next is acknowledged.
    pub(crate) fn room(&self) -> usize {
        self.window.capacity() - self.window.used()
    }

    /// Keeps records that have been given their numbers; they fit, for they were taken with an eye
    /// on [`Stream::room`]. `paused`: there were more, but no room.
    pub(crate) fn keep(&mut self, records: &[u8], paused: bool) {
        self.window.push_bytes(records);
        self.again = self.window.end();
        self.paused = paused;
    }

    /// What was sent and never acknowledged, to be taken apart.
    pub(crate) fn window(&mut self) -> &mut Queue {
        &mut self.window
    }

    /// For the operator, and for the service itself.
    pub(crate) fn row(&self, next_sequence: u64) -> StreamRow {
        StreamRow {
            next_sequence,
            acknowledged: self.acknowledged,
            retention_ms: (self.retention / 10_000) as u32,
            window: self.window.capacity() as u32,
            unacknowledged: self.window.used() as u32,
            former: self.former,
            resumed: self.resumed,
            taken_over: self.taken_over.into(),
            again: self.sent_again,
            reserved: [0; 2],
        }
    }
}
