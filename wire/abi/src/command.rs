// SPDX-License-Identifier: MIT OR Apache-2.0
//! Service to driver: what `FilterSendMessage` carries. A [`CommandHeader`], then the command's
//! payload; the result comes back in the output buffer.
//!
//! Commands to the common driver itself have provider number 0 and one of the numbers in [`own`].
//! All others go to the provider, under the number of one of its own command messages.
//!
//! Lists are paged: the payload is a [`Page`], the result as many rows as fit into the output
//! buffer. An empty result is the end, and so is one that left room for another row: a list that
//! fits is of one moment, while between two pages things go on, and rows move.

use crate::account::{CAUSES, OUTCOMES};
use crate::fixed::Fixed;
use crate::latency::Latency;

/// The first four bytes of a command: `FPCM`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FPCM");

/// The common driver's own commands. Result rows are given in brackets.
///
/// Of [`SUBSCRIBE`](own::SUBSCRIBE), [`SUBSCRIBE_FILTERED`](own::SUBSCRIBE_FILTERED) and
/// [`LIMITS`](own::LIMITS) a connection can have two running at a time; more are refused with
/// `STATUS_INSUFFICIENT_RESOURCES`.
pub mod own {
    /// Who am I, what may I do? No payload. \[one [`ConnectionRow`](super::ConnectionRow)\]
    pub const INFO: u16 = 1;
    /// The providers. \[[`ProviderRow`](super::ProviderRow)\]
    pub const PROVIDERS: u16 = 2;
    /// A provider's schema: the payload is its number as `u32`. \[the encoded schema\]
    pub const SCHEMA: u16 = 3;
    /// Subscribe: the payload is a [`Subscription`](super::Subscription), which replaces this
    /// connection's former one to the same provider. \[nothing\]
    pub const SUBSCRIBE: u16 = 4;
    /// The connections. \[[`ConnectionRow`](super::ConnectionRow)\]
    pub const CONNECTIONS: u16 = 5;
    /// The ledger. \[[`LedgerRow`](super::LedgerRow)\]
    pub const LEDGER: u16 = 6;
    /// The account of requests. \[[`RequestRow`](super::RequestRow)\]
    pub const REQUESTS: u16 = 7;
    /// What this driver knows beyond the commands above, all of which every driver knows. No
    /// payload. \[one [`FeaturesRow`](super::FeaturesRow)\]
    pub const FEATURES: u16 = 8;
    /// Everything up to a sequence number has been dealt with: the payload is it, as `u64`.
    /// \[nothing\]
    pub const ACKNOWLEDGE: u16 = 9;
    /// What each provider takes of each connection. \[[`UsageRow`](super::UsageRow)\]
    pub const USAGE: u16 = 10;
    /// The account of requests by who was asked. \[[`RequestAccountRow`](super::RequestAccountRow)\]
    pub const REQUEST_ACCOUNTS: u16 = 11;
    /// What a request is answered with when nobody does: the payload is the provider's number and the
    /// message's, each as `u32`. \[the reply; nothing if none was declared\]
    pub const DEFAULT_REPLY: u16 = 12;
    /// Answers an asynchronous request: the payload is a
    /// [`ReplyHeader`](crate::frame::ReplyHeader) and the reply. \[nothing\]
    pub const ANSWER: u16 = 13;
    /// What was refused, and why. \[[`RefusalRow`](super::RefusalRow)\]
    pub const REFUSALS: u16 = 14;
    /// Sets this connection's limits: the payload is [`Limits`](super::Limits). \[nothing\]
    pub const LIMITS: u16 = 15;
    /// Subscribe with filters: the payload is a
    /// [`FilteredSubscription`](super::FilteredSubscription), behind it so many bytes of filters.
    /// \[nothing\]
    pub const SUBSCRIBE_FILTERED: u16 = 16;
    /// This connection's stream. No payload. \[one [`StreamRow`](super::StreamRow)\]
    pub const STREAM: u16 = 17;
    /// From now on records come through rings in memory that is mapped into this process, and by messages only
    /// what cannot: the payload is a [`RingsWanted`](super::RingsWanted). Once for a connection, before it subscribes.
    /// \[one [`RingsRow`](super::RingsRow)\]
    pub const RINGS: u16 = 18;
    /// How connections' rings are used. \[[`RingUsageRow`](super::RingUsageRow)\]
    pub const RING_USAGE: u16 = 19;
}

crate::fixed! {
    /// The start of a command.
    pub struct CommandHeader: 16 {
        /// [`MAGIC`].
        pub magic: u32,
        /// The protocol version.
        pub version: u16,
        /// The command's number.
        pub command: u16,
        /// The provider that it is for; 0 for the common driver.
        pub provider: u32,
        /// Bytes of the payload that follows; exactly the rest of the buffer.
        pub payload: u32,
    }

    /// Which rows of a list.
    pub struct Page: 8 {
        /// The number of rows to skip.
        pub skip: u32,
        /// 0.
        pub reserved: u32,
    }

    /// What a connection wants of a provider.
    pub struct Subscription: 24 {
        /// The provider's number.
        pub provider: u32,
        /// 0.
        pub reserved: u32,
        /// Bit n: the notifications, and the outcomes of requests, with number n. Needs
        /// [`rights::OBSERVE`](crate::hello::rights::OBSERVE).
        pub observe: u64,
        /// Bit n: be the decider for requests with number n. Needs
        /// [`rights::DECIDE`](crate::hello::rights::DECIDE), and that nobody else is.
        pub decide: u64,
    }

    /// What a connection wants of a provider, with filters.
    pub struct FilteredSubscription: 40 {
        /// The provider's number.
        pub provider: u32,
        /// [`flags`] bits.
        pub flags: u32,
        /// As in [`Subscription`].
        pub observe: u64,
        /// As in [`Subscription`].
        pub decide: u64,
        /// The hash of the schema that the filters were made for; 0 if there are none.
        pub hash: u64,
        /// Bytes of filters that follow; at most [`MAX_FILTER`](crate::limits::MAX_FILTER).
        pub filters: u32,
        /// 0.
        pub reserved: u32,
    }

    /// What a connection asks of its queue.
    pub struct Limits: 16 {
        /// Bytes that its queue is to hold: from [`MIN_QUEUE`](crate::limits::MIN_QUEUE) to
        /// [`MAX_QUEUE`](crate::limits::MAX_QUEUE), or 0 to leave it. Only before anything is in it.
        pub queue: u32,
        /// Records a second that it takes at most; 0 for no limit.
        pub rate: u32,
        /// How many may come at once, for a `rate`; 0 for as many as in a second.
        pub burst: u32,
        /// 0.
        pub reserved: u32,
    }

    /// What a service wants of its rings.
    pub struct RingsWanted: 16 {
        /// Bytes of the ring of each processor; 0 for what the driver thinks fit.
        pub capacity: u32,
        /// 0.
        pub reserved: u32,
        /// A handle of an event in the calling process, which is set when there is something to read and the
        /// service has said that it sleeps.
        pub event: u64,
    }

    /// Where a connection's rings are, in the process that asked for them. `fltport-ring` says what lies there.
    pub struct RingsRow: 32 {
        /// The address of the data, which can only be read.
        pub data: u64,
        /// The address of the consumer's words.
        pub consumer: u64,
        /// Bytes of the data.
        pub data_size: u32,
        /// Bytes of the consumer's words.
        pub consumer_size: u32,
        /// 0.
        pub reserved: u64,
    }

    /// How a connection uses one of its rings.
    pub struct RingUsageRow: 40 {
        /// The connection.
        pub connection: u32,
        /// The processor whose ring it is.
        pub processor: u32,
        /// Bytes of it.
        pub capacity: u32,
        /// Bytes that hold what has not been read.
        pub used: u32,
        /// The most that there ever were.
        pub peak: u32,
        /// 0.
        pub reserved: u32,
        /// Records that went through it.
        pub records: u64,
        /// How often the service claimed to have read what it cannot have.
        pub nonsense: u64,
    }

    /// What a driver knows.
    pub struct FeaturesRow: 32 {
        /// [`features`] bits.
        pub features: u64,
        /// The newest protocol version that it speaks.
        pub version: u16,
        /// The oldest one.
        pub min_version: u16,
        /// The major version of its interface for client drivers.
        pub interface: u32,
        /// Bytes of that interface's function table, which tell its revision.
        pub interface_size: u32,
        /// Services that can be connected at one time.
        pub max_connections: u32,
        /// Providers that can be registered at one time.
        pub max_providers: u32,
        /// 0.
        pub reserved: u32,
    }

    /// What one provider takes of one connection.
    pub struct UsageRow: 80 {
        /// The connection; [`BACKLOG`] for what the provider may do as a whole.
        pub connection: u32,
        /// The provider.
        pub provider: u32,
        /// Bytes of its records in the queue.
        pub bytes: u32,
        /// The most that there ever were.
        pub bytes_peak: u32,
        /// The most that there may be now: its quota, or its fair share.
        pub bytes_allowed: u32,
        /// Bytes of room that are booked for it.
        pub booked: u32,
        /// Notifications a second that it may offer; 0 for no limit.
        pub rate: u32,
        /// How many may come at once.
        pub burst: u32,
        /// Records lost at this connection, its own and others', because this provider took too
        /// much.
        pub blamed: u64,
        /// Records that its subscription's filters left out; they were not offered.
        pub filtered: u64,
        /// Records that were muted: the service's own doing; they were not offered.
        pub muted: u64,
        /// Records that a filter let pass because judging them took too long, or because they are
        /// not what their schema says.
        pub unjudged: u64,
        /// Descendants of the service's process that could not be muted, because it had too many; of
        /// the connection as a whole.
        pub not_muted: u64,
        /// 0.
        pub reserved: u64,
    }

    /// The account of one request type with one decider. At every moment `asked` is the sum of
    /// `outcomes` and `in_flight`, and `latency` has as many as there are outcomes.
    pub struct RequestAccountRow: 360 {
        /// The connection that was asked, or would have been (its own process asked, its circuit was
        /// open); [`BACKLOG`] for requests without a decider, [`ENDED`] for all connections that have
        /// ended, together. A request whose decider went away and that another one was asked then is
        /// in the accounts of both.
        pub connection: u32,
        /// The provider.
        pub provider: u16,
        /// The request type.
        pub message: u16,
        /// Requests made.
        pub asked: u64,
        /// Of these ended, by [`Outcome`](crate::Outcome).
        pub outcomes: [u64; 8],
        /// Not ended yet.
        pub in_flight: u64,
        /// The most that ever were in flight.
        pub in_flight_peak: u64,
        /// The sum of the times that requesters waited, in microseconds.
        pub waited_us: u64,
        /// How long requesters waited: a [`Latency`].
        pub latency: [u64; 32],
    }

    /// How often something was refused.
    pub struct RefusalRow: 32 {
        /// A [`Refusal`](crate::account::Refusal).
        pub reason: u32,
        /// The process that was refused last.
        pub pid: u32,
        /// How often.
        pub count: u64,
        /// When the last time: NT system time.
        pub last: i64,
        /// 0.
        pub reserved: u64,
    }

    /// A connection's stream.
    pub struct StreamRow: 64 {
        /// The number of the next record.
        pub next_sequence: u64,
        /// The number of the last record that was acknowledged.
        pub acknowledged: u64,
        /// How long the stream is kept without a connection, in milliseconds; 0 if it is not.
        pub retention_ms: u32,
        /// Bytes of records that may wait to be acknowledged.
        pub window: u32,
        /// Bytes of records that do.
        pub unacknowledged: u32,
        /// The connection that had the stream before; 0 if it is a new one.
        pub former: u32,
        /// How often the stream changed hands.
        pub resumed: u32,
        /// 1 if the former connection was alive: it was taken over.
        pub taken_over: u32,
        /// The records that were sent again.
        pub again: u64,
        /// 0.
        pub reserved: [u64; 2],
    }

    /// One provider.
    pub struct ProviderRow: 64 {
        /// Its number.
        pub provider: u32,
        /// Bytes of its encoded schema.
        pub schema: u32,
        /// The schema's hash.
        pub hash: u64,
        /// Bytes of backlog that it declared; 0 for none.
        pub backlog: u32,
        /// Bytes of backlog in use.
        pub backlog_used: u32,
        /// When it registered: NT system time.
        pub since: i64,
        /// Its name, UTF-8 padded with zero bytes.
        pub name: [u8; 32],
    }

    /// One connection.
    pub struct ConnectionRow: 96 {
        /// Its number; never used twice.
        pub connection: u32,
        /// The process that connected.
        pub pid: u32,
        /// When: NT system time.
        pub since: i64,
        /// The rights that it was granted.
        pub rights: u32,
        /// How many times that service had connected before, as it says.
        pub generation: u32,
        /// The sequence number of the next record of its stream.
        pub next_sequence: u64,
        /// Bytes in its queue.
        pub queued: u32,
        /// The most bytes that were ever in its queue.
        pub queued_peak: u32,
        /// Bytes that its queue can hold.
        pub capacity: u32,
        /// The protocol version that was agreed on.
        pub version: u16,
        /// 1 in the row of the connection that asks; 2 in that of a stream that waits for its service
        /// to come back, which services of protocol version 1 are not shown.
        pub own: u16,
        /// The service's name for itself, UTF-8 padded with zero bytes.
        pub name: [u8; 48],
    }

    /// The account of one message type towards one receiver. At rest
    /// `offered == delivered + in_flight + sum of lost`, in every row.
    pub struct LedgerRow: 120 {
        /// The connection; [`BACKLOG`] for the provider's backlog, [`ENDED`] for all connections
        /// that have ended, together.
        pub connection: u32,
        /// The provider.
        pub provider: u16,
        /// The message type.
        pub message: u16,
        /// Offered to this receiver.
        pub offered: u64,
        /// Delivered: handed to a waiting `FilterGetMessage`, or from the backlog to a connection.
        pub delivered: u64,
        /// Queued.
        pub in_flight: u64,
        /// Lost, by [`Cause`](crate::Cause).
        pub lost: [u64; 10],
        /// The most that were ever queued.
        pub in_flight_peak: u64,
    }

    /// The account of one request type.
    pub struct RequestRow: 88 {
        /// The provider.
        pub provider: u16,
        /// The request type.
        pub message: u16,
        /// The decider's connection; 0 if there is none.
        pub decider: u32,
        /// Requests made.
        pub asked: u64,
        /// Of these ended, by [`Outcome`](crate::Outcome); the rest is in flight.
        pub outcomes: [u64; 8],
        /// 1 while the circuit is open.
        pub circuit_open: u64,
    }
}

/// [`FilteredSubscription::flags`].
pub mod flags {
    /// Have the provider report its present state first.
    pub const SNAPSHOT: u32 = 1;
    /// Leave out what this service's process and its descendants caused.
    pub const MUTE_SELF: u32 = 2;
    /// All of them.
    pub const ALL: u32 = SNAPSHOT | MUTE_SELF;
}

/// [`FeaturesRow::features`].
pub mod features {
    /// Streams that outlive a connection: [`StreamHello`](crate::hello::StreamHello),
    /// [`own::ACKNOWLEDGE`](super::own::ACKNOWLEDGE), [`own::STREAM`](super::own::STREAM).
    pub const STREAMS: u64 = 1;
    /// Filters: [`own::SUBSCRIBE_FILTERED`](super::own::SUBSCRIBE_FILTERED).
    pub const FILTERS: u64 = 2;
    /// [`flags::SNAPSHOT`](super::flags::SNAPSHOT).
    pub const SNAPSHOTS: u64 = 4;
    /// [`flags::MUTE_SELF`](super::flags::MUTE_SELF).
    pub const MUTE: u64 = 8;
    /// Asynchronous requests: [`own::ANSWER`](super::own::ANSWER).
    pub const ASYNCHRONOUS: u64 = 16;
    /// [`own::LIMITS`](super::own::LIMITS), [`own::USAGE`](super::own::USAGE).
    pub const LIMITS: u64 = 32;
    /// [`own::REQUEST_ACCOUNTS`](super::own::REQUEST_ACCOUNTS),
    /// [`own::DEFAULT_REPLY`](super::own::DEFAULT_REPLY).
    pub const REQUEST_ACCOUNTS: u64 = 64;
    /// [`own::REFUSALS`](super::own::REFUSALS).
    pub const REFUSALS: u64 = 128;
    /// [`own::RINGS`](super::own::RINGS), [`own::RING_USAGE`](super::own::RING_USAGE).
    pub const RINGS: u64 = 256;
}

const _: () = assert!(
    CAUSES == 10 && OUTCOMES == 8,
    "the rows above have room for exactly these"
);

/// [`LedgerRow::connection`] of a provider's backlog.
pub const BACKLOG: u32 = 0;
/// [`LedgerRow::connection`] of all connections that have ended.
pub const ENDED: u32 = u32::MAX;

impl RequestAccountRow {
    /// Whether the account adds up.
    pub fn balances(&self) -> bool {
        let ended = self
            .outcomes
            .iter()
            .fold(0, |sum: u64, n| sum.saturating_add(*n));
        self.asked == ended.saturating_add(self.in_flight) && Latency(self.latency).total() == ended
    }
}

impl LedgerRow {
    /// Lost for any cause.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Whether the account adds up.
    pub fn balances(&self) -> bool {
        self.offered
            == self
                .delivered
                .saturating_add(self.in_flight)
                .saturating_add(self.lost_total())
    }
}

/// A command, its header checked.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The header.
    pub header: CommandHeader,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Command<'a> {
    /// Reads a command that fills `bytes`. `None` if it is not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = CommandHeader::read(bytes)?;
        let payload = bytes.get(CommandHeader::SIZE..)?;
        let sane = header.magic == MAGIC && header.payload as usize == payload.len();
        sane.then_some(Command { header, payload })
    }
}

impl CommandHeader {
    /// A header of the oldest version: it has looked the same ever since, so every driver takes it.
    pub fn new(provider: u32, command: u16, payload: usize) -> Self {
        let payload = u32::try_from(payload).unwrap_or(u32::MAX);
        CommandHeader {
            magic: MAGIC,
            version: crate::limits::MIN_PROTOCOL_VERSION,
            command,
            provider,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_and_bad_lengths() {
        let mut bytes = [0; 18];
        CommandHeader::new(3, 6, 2).write(&mut bytes).unwrap();
        assert_eq!(bytes[..16], *b"FPCM\x01\0\x06\0\x03\0\0\0\x02\0\0\0");
        assert_eq!(Command::parse(&bytes).unwrap().payload, [0, 0]);
        for n in (0..18).chain([19]) {
            let mut other = [0; 19];
            other[..18].copy_from_slice(&bytes);
            assert!(Command::parse(&other[..n]).is_none(), "{n} bytes");
        }
    }

    #[test]
    fn a_row_balances_or_not() {
        let mut row = LedgerRow {
            connection: 1,
            provider: 1,
            message: 1,
            offered: 6,
            delivered: 2,
            in_flight: 1,
            lost: [1; 10],
            in_flight_peak: 0,
        };
        assert!(!row.balances());
        row.offered = 13;
        assert!(row.balances());
    }
}
