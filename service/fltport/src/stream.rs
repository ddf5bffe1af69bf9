// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that outlive a connection, as the service sees them: which one, how long, and what has
//! been dealt with.
//!
//! What the program has *dealt with* is acknowledged to the driver; until then the driver keeps it,
//! and sends it again to the connection that goes on with the stream. Two things follow the stream
//! here: up to which number events have come into the queue, so that what is sent again to the same
//! process is not given to the program twice; and up to which number the program has dealt with them.

use crate::event::Event;
use crate::lock::lock;
use fltport_abi::command::StreamRow;
use fltport_abi::hello::{Hello, StreamHello, stream};
use fltport_abi::limits::{MAX_RETENTION_MS, MAX_WINDOW};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest time that a stream is kept without a connection.
pub const MAX_RETENTION: Duration = Duration::from_millis(MAX_RETENTION_MS as u64);

/// So many events at most are dealt with before that is acknowledged.
const EVENTS_AT_ONCE: u64 = 256;

/// A stream's key: 16 bytes that no other product chooses, such as a UUID made for it.
///
/// It is no secret: whoever may connect with the same rights may take the stream over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey([u8; 16]);

impl StreamKey {
    /// The key of these bytes; `None` if all are zero.
    pub const fn new(bytes: [u8; 16]) -> Option<Self> {
        if u128::from_ne_bytes(bytes) == 0 {
            None
        } else {
            Some(StreamKey(bytes))
        }
    }
}

/// When the driver is told that a record has been dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// When the program asks for the next event: it has dealt with those that it took before.
    /// For programs that take events in one thread and are done with one before the next.
    #[default]
    Automatically,
    /// When the program calls [`Client::acknowledge`](crate::Client::acknowledge).
    Explicitly,
}

/// What stream to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamOptions {
    pub(crate) key: StreamKey,
    pub(crate) retention_ms: u32,
    pub(crate) window: u32,
    pub(crate) take_over: bool,
    pub(crate) acknowledge: Acknowledge,
}

impl StreamOptions {
    pub(crate) fn new(key: StreamKey, retention: Duration) -> Self {
        let retention_ms = u32::try_from(retention.as_millis()).unwrap_or(u32::MAX);
        StreamOptions {
            key,
            retention_ms: retention_ms.min(MAX_RETENTION_MS),
            window: 1024 * 1024,
            take_over: false,
            acknowledge: Acknowledge::default(),
        }
    }

    pub(crate) fn set_window(&mut self, bytes: usize) {
        self.window = u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_WINDOW);
    }

    /// The connection context; `former` is the connection that this client had the stream with.
    pub(crate) fn hello(&self, hello: &Hello, former: u32) -> [u8; 120] {
        let take_over = if self.take_over && former == 0 {
            stream::TAKE_OVER
        } else {
            0
        };
        // What was acknowledged the driver knows, and what came beyond that is known here.
        let stream = StreamHello {
            key: self.key.0,
            former,
            flags: stream::RESUME | take_over,
            acknowledged: 0,
            retention_ms: self.retention_ms,
            window: self.window,
            reserved: 0,
        };
        stream.to_bytes(hello)
    }
}

/// A connection's stream as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// The number of the next record.
    pub next_sequence: u64,
    /// The number of the last record that was acknowledged.
    pub acknowledged: u64,
    /// How long it is kept without a connection.
    pub retention: Duration,
    /// Bytes of records that may wait to be acknowledged.
    pub window: u32,
    /// Bytes of records that do.
    pub unacknowledged: u32,
    /// The connection that had it before this one; `None` if it began with this one.
    pub former: Option<u32>,
    /// How often it has changed connections.
    pub resumed: u32,
    /// That connection was alive, and this one has taken the stream over from it.
    pub taken_over: bool,
    /// How many records were sent again, over all connections.
    pub sent_again: u64,
}

impl StreamInfo {
    /// `None` if the connection has no stream.
    pub(crate) fn new(row: &StreamRow) -> Option<Self> {
        (row.window != 0).then(|| StreamInfo {
            next_sequence: row.next_sequence,
            acknowledged: row.acknowledged,
            retention: Duration::from_millis(row.retention_ms.into()),
            window: row.window,
            unacknowledged: row.unacknowledged,
            former: (row.former != 0).then_some(row.former),
            resumed: row.resumed,
            taken_over: row.taken_over != 0,
            sent_again: row.again,
        })
    }
}

/// How far a client's stream has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last number that is in the queue.
    received: AtomicU64,
    dealt: Mutex<Dealt>,
}

#[derive(Debug, Default)]
struct Dealt {
    /// The last number that the program has taken.
    taken: u64,
    /// The last that it had taken when it asked for more.
    done: u64,
    /// Bytes that it has taken since the last acknowledgement.
    bytes: usize,
    /// The last number that was acknowledged.
    acknowledged: u64,
    /// A connection has begun before.
    begun: bool,
    /// How many streams have begun that the program has not been told of: what it takes until then is of
    /// former ones, and their numbers mean others now.
    untold: u32,
}

impl Dealt {
    /// Another stream's numbers count from now on.
    fn forget(&mut self) {
        (self.taken, self.done) = (0, 0);
        (self.bytes, self.acknowledged) = (0, 0);
    }
}

impl Progress {
    /// A connection begins: the number of its first record that is news here. A stream that is new
    /// begins anew.
    pub(crate) fn begin(&self, stream: Option<&StreamInfo>) -> u64 {
        let goes_on = stream.filter(|stream| stream.former.is_some());
        let mut dealt = lock(&self.dealt);
        let Some(stream) = goes_on else {
            dealt.forget();
            dealt.untold += u32::from(dealt.begun);
            dealt.begun = true;
            self.received.store(0, Ordering::Release);
            return 1;
        };
        dealt.begun = true;
        dealt.acknowledged = dealt.acknowledged.max(stream.acknowledged);
        let received = self.received.load(Ordering::Acquire);
        let received = received.max(stream.acknowledged);
        self.received.store(received, Ordering::Release);
        received + 1
    }

    /// These events are in the queue now.
    pub(crate) fn received<'e>(&self, events: impl IntoIterator<Item = &'e Event>) {
        let last = events.into_iter().filter_map(Event::last_sequence).max();
        if let Some(last) = last {
            self.received.fetch_max(last, Ordering::AcqRel);
        }
    }

    /// Whether what the program takes now is of a stream that is over.
    pub(crate) fn is_behind(&self) -> bool {
        lock(&self.dealt).untold != 0
    }

    /// The program has taken this event.
    pub(crate) fn taken(&self, event: &Event) {
        let mut dealt = lock(&self.dealt);
        if matches!(event, Event::Reconnected { .. }) {
            dealt.untold = dealt.untold.saturating_sub(1);
        }
        if let Some(last) = event.last_sequence().filter(|_| dealt.untold == 0) {
            dealt.taken = dealt.taken.max(last);
            dealt.bytes += event.payload_len();
        }
    }

    /// The number that is to be acknowledged now that the program asks for the next event, if any:
    /// not for each event, but before it waits, and before the window is full.
    pub(crate) fn due(&self, window: u32, will_wait: bool) -> Option<u64> {
        let mut dealt = lock(&self.dealt);
        dealt.done = dealt.taken;
        let count = dealt.taken.saturating_sub(dealt.acknowledged);
        let many = count >= EVENTS_AT_ONCE || dealt.bytes >= window as usize / 4;
        if count == 0 || !(will_wait || many) {
            return None;
        }
        dealt.acknowledged = dealt.taken;
        dealt.bytes = 0;
        Some(dealt.taken)
    }

    /// The number that is to be acknowledged at the end, if any: of what the program has asked for more
    /// behind.
    pub(crate) fn due_at_the_end(&self) -> Option<u64> {
        let mut dealt = lock(&self.dealt);
        let done = Some(dealt.done).filter(|done| *done > dealt.acknowledged)?;
        dealt.acknowledged = done;
        Some(done)
    }

    /// An acknowledgement did not reach the driver: it is due again.
    pub(crate) fn not_acknowledged(&self, before: u64) {
        let mut dealt = lock(&self.dealt);
        dealt.acknowledged = dealt.acknowledged.min(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(acknowledged: u64, former: Option<u32>) -> StreamInfo {
        StreamInfo {
            next_sequence: 100,
            acknowledged,
            retention: Duration::ZERO,
            window: 1,
            unacknowledged: 0,
            former,
            resumed: 0,
            taken_over: false,
            sent_again: 0,
        }
    }

    fn missing(last: u64) -> Event {
        Event::Missing { first: last, last }
    }

    #[test]
    fn a_stream_goes_on_behind_what_has_come_and_a_new_one_at_its_beginning() {
        let progress = Progress::default();
        assert_eq!(progress.begin(None), 1);
        assert_eq!(progress.begin(Some(&info(0, None))), 1, "new");
        progress.received(&[missing(1), missing(7)]);
        assert_eq!(
            progress.begin(Some(&info(3, Some(1)))),
            8,
            "in the queue already"
        );
        assert_eq!(
            progress.begin(Some(&info(20, Some(1)))),
            21,
            "another process has been there"
        );
        assert_eq!(
            progress.begin(Some(&info(0, None))),
            1,
            "the retention was over"
        );
    }

    #[test]
    fn what_was_taken_is_acknowledged_before_the_program_waits_or_when_it_is_much() {
        let progress = Progress::default();
        assert_eq!(progress.due(1000, true), None, "nothing yet");
        progress.taken(&missing(3));
        assert_eq!(progress.due(1000, false), None);
        assert_eq!(progress.due(1000, true), Some(3));
        assert_eq!(progress.due(1000, true), None, "done");
        progress.taken(&missing(3 + EVENTS_AT_ONCE));
        assert_eq!(progress.due(1000, false), Some(3 + EVENTS_AT_ONCE));
        progress.not_acknowledged(3);
        assert_eq!(progress.due(1000, true), Some(3 + EVENTS_AT_ONCE));
    }

    #[test]
    fn a_key_is_not_all_zero_and_times_and_sizes_are_cut_to_what_may_be() {
        assert_eq!(StreamKey::new([0; 16]), None);
        let key = StreamKey::new([1; 16]).unwrap();
        let mut options = StreamOptions::new(key, Duration::MAX);
        options.set_window(usize::MAX);
        let parsed = StreamHello::parse(&options.hello(&Hello::new("x", 0, 0), 0));
        assert!(parsed.is_ok_and(|hello| hello.is_some()));
    }
}
