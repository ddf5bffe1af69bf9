// SPDX-License-Identifier: MIT OR Apache-2.0
//! How to connect.

use crate::stream::{Acknowledge, StreamKey, StreamOptions};
use fltport_abi::command::Limits;
use fltport_abi::hello::rights;
use fltport_abi::limits::{MAX_QUEUE, MAX_RING, MIN_QUEUE, MIN_RING, PORT_NAME};
use std::time::Duration;

/// How to connect, to be changed where the defaults do not fit.
///
/// ```
/// use std::time::Duration;
/// let options = fltport::Options::new("my-service")
///     .rights(fltport::rights::OBSERVE)
///     .backoff(Duration::from_millis(100), Duration::from_secs(30));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) name: String,
    pub(crate) rights: u32,
    pub(crate) port_name: String,
    pub(crate) outstanding_gets: u32,
    pub(crate) buffer: usize,
    pub(crate) queue: usize,
    pub(crate) limits: Limits,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) reconnect: bool,
    pub(crate) patience: Duration,
    pub(crate) stream: Option<StreamOptions>,
    /// Bytes of the ring of each processor, 0 for what the driver thinks fit; `None` for no rings.
    pub(crate) rings: Option<u32>,
    spin: Duration,
    #[cfg(unix)]
    pub(crate) socket: Option<std::path::PathBuf>,
}

/// How long to look on before sleeping: less than a sleep and a wake-up cost.
const SPIN: Duration = Duration::from_micros(20);

/// Leaves the driver's defaults.
pub(crate) const NO_LIMITS: Limits = Limits {
    queue: 0,
    rate: 0,
    burst: 0,
    reserved: 0,
};

impl Options {
    /// The defaults, for a service that calls itself `name` (at most 48 bytes; shown to operators,
    /// trusted for nothing).
    pub fn new(name: impl Into<String>) -> Self {
        Options {
            name: name.into(),
            rights: rights::ALL,
            port_name: PORT_NAME.to_owned(),
            outstanding_gets: 4,
            buffer: fltport_abi::limits::MAX_FRAME + crate::envelope::ENVELOPE,
            queue: 16 * 1024 * 1024,
            limits: NO_LIMITS,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            reconnect: true,
            patience: Duration::from_secs(10),
            stream: None,
            rings: Some(0),
            spin: SPIN,
            #[cfg(unix)]
            socket: None,
        }
    }

    /// The rights to ask for: [`rights`](crate::rights) bits. All by default. The driver refuses
    /// the connection if one of them may not be had.
    #[must_use]
    pub fn rights(mut self, rights: u32) -> Self {
        self.rights = rights;
        self
    }

    /// The server port's name; that of `fltport.sys` by default.
    #[must_use]
    pub fn port_name(mut self, name: impl Into<String>) -> Self {
        self.port_name = name.into();
        self
    }

    /// How many gets to have waiting at the port (1 to 32); 4 by default.
    #[must_use]
    pub fn outstanding_gets(mut self, gets: u32) -> Self {
        self.outstanding_gets = gets.clamp(1, 32);
        self
    }

    /// The size of a get's buffer in bytes. The default holds the largest frame; a smaller one
    /// grows when a message does not fit.
    #[must_use]
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes.clamp(64, crate::connection::MAX_BUFFER);
        self
    }

    /// Bytes of events to keep for a program that is slow to take them; 16 MiB by default. When it
    /// is full the client takes no more messages from the driver, whose own queue then fills, and
    /// what is lost there is told by a gap.
    #[must_use]
    pub fn queue(mut self, bytes: usize) -> Self {
        self.queue = bytes.max(1);
        self
    }

    /// Bytes of records that the driver's queue for this connection is to hold, 64 KiB to 16 MiB; 1
    /// MiB by default. A driver that does not know this, and a stream that goes on, have what they
    /// have; [`ConnectionInfo::capacity`](crate::ConnectionInfo) tells.
    #[must_use]
    pub fn driver_queue(mut self, bytes: u32) -> Self {
        self.limits.queue = bytes.clamp(MIN_QUEUE, MAX_QUEUE);
        self
    }

    /// How many records a second to take at most, and how many at once (0: as many as in a second).
    /// What is beyond that is lost, and told by a gap. No limit by default.
    #[must_use]
    pub fn rate(mut self, per_second: u32, burst: u32) -> Self {
        (self.limits.rate, self.limits.burst) = (per_second, burst);
        self
    }

    /// Whether notifications are to come by rings, in memory that the driver shares with this process; yes by default.
    /// Where that is not possible they come by the port; [`Client::transport`](crate::Client::transport)
    /// tells. A [stream](Options::stream) has none. Of this and [`Options::ring_size`], which asks for rings, too, what
    /// is called last holds.
    #[must_use]
    pub fn rings(mut self, wanted: bool) -> Self {
        self.rings = wanted.then_some(self.rings.unwrap_or(0));
        self
    }

    /// Bytes of the ring of each processor, 64 KiB to 16 MiB, rounded up to a power of two; by default the driver
    /// decides. A driver that has not so much memory for rings gives none. Who sets a size wants rings, also behind
    /// `rings(false)`; `rings(false)` behind it holds, and forgets the size.
    #[must_use]
    pub fn ring_size(mut self, bytes: u32) -> Self {
        self.rings = Some(bytes.clamp(MIN_RING, MAX_RING));
        self
    }

    /// How long the thread that reads rings looks on when nothing is in them before it sleeps; 20 microseconds by default.
    /// More makes for fewer wake-ups and costs a processor's time; where there is one processor only it
    /// sleeps at once. Of this one to four microseconds pass between two looks when only little was there, so that a steady flow
    /// comes in batches.
    #[must_use]
    pub fn spin_before_sleep(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// How long to look on, on this machine.
    pub(crate) fn spin(&self) -> Duration {
        match std::thread::available_parallelism() {
            Ok(processors) if processors.get() > 1 => self.spin,
            _ => Duration::ZERO,
        }
    }

    /// The wait before the first attempt to connect again, and the longest one; 100 ms and 10 s by
    /// default.
    #[must_use]
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff = (initial, max);
        self
    }

    /// Whether to connect again when the connection ends; yes by default. Without,
    /// [`Event::Disconnected`](crate::Event::Disconnected) is the last event.
    #[must_use]
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How long to wait for the hosted kernel's answer to connecting and to a command; 10 s by
    /// default. On Windows the answer comes from the driver itself, within the call.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Have a stream that outlives the connection: for `retention` (at most ten minutes) after it
    /// ended, the driver keeps what was not acknowledged and goes on collecting, and whoever connects
    /// with the same key and the same rights goes on there. With [`Duration::ZERO`] the stream is over
    /// with its connection, and can only be taken over from a running instance. Without a stream, what
    /// is in flight when a connection ends is lost.
    #[must_use]
    pub fn stream(mut self, key: StreamKey, retention: Duration) -> Self {
        self.stream = Some(StreamOptions::new(key, retention));
        self
    }

    /// Bytes of records that the driver may send before the first of them is acknowledged; 1 MiB by
    /// default, at least 128 KiB and at most 16 MiB. For a stream; call it after
    /// [`Options::stream`], as the two below.
    #[must_use]
    pub fn window(mut self, bytes: usize) -> Self {
        if let Some(stream) = &mut self.stream {
            stream.set_window(bytes);
        }
        self
    }

    /// Take the stream over if another instance has it: that one is told
    /// ([`Event::TakenOver`](crate::Event::TakenOver)) and its requests are asked here. No by default:
    /// then connecting fails with [`Error::StreamInUse`](crate::Error::StreamInUse).
    #[must_use]
    pub fn take_over(mut self, take_over: bool) -> Self {
        if let Some(stream) = &mut self.stream {
            stream.take_over = take_over;
        }
        self
    }

    /// When the driver is told that a record of the stream has been dealt with.
    #[must_use]
    pub fn acknowledge(mut self, when: Acknowledge) -> Self {
        if let Some(stream) = &mut self.stream {
            stream.acknowledge = when;
        }
        self
    }

    /// The hosted kernel's socket; by default [`socket_path`](crate::socket_path) says where.
    #[cfg(unix)]
    #[must_use]
    pub fn socket(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// Where it will be looked for, as errors name it.
    pub(crate) fn place(&self) -> String {
        #[cfg(unix)]
        return self.socket_path().display().to_string();
        #[cfg(not(unix))]
        return self.port_name.clone();
    }

    #[cfg(unix)]
    pub(crate) fn socket_path(&self) -> std::path::PathBuf {
        self.socket.clone().unwrap_or_else(crate::socket_path)
    }
}
