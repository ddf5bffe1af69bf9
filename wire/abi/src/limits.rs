// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bounds that both sides rely on. Sizes are in bytes.

/// The name of the server port that `fltport.sys` listens on.
pub const PORT_NAME: &str = "\\FltPort";

/// The version of this protocol: frames, hello and commands.
pub const PROTOCOL_VERSION: u16 = 2;

/// The oldest version of it that is still spoken.
pub const MIN_PROTOCOL_VERSION: u16 = 1;

/// Providers that can be registered at one time.
pub const MAX_PROVIDERS: usize = 16;

/// Message numbers go from 1 to this, so that a set of messages fits into 64 bits.
pub const MAX_MESSAGE_NUMBER: u16 = 63;

/// Services that can be connected at one time, and streams that wait for theirs.
pub const MAX_CONNECTIONS: usize = 32;

/// So many of these are for administrators only.
pub const ADMINISTRATORS_PLACES: usize = 8;

/// The largest frame that the driver sends, header included. A service that posts buffers of this
/// size (and the Filter Manager's 16-byte header) never meets "buffer too small".
pub const MAX_FRAME: usize = 64 * 1024;

/// The largest payload of one notification.
pub const MAX_PAYLOAD: usize = 60 * 1024;

/// The largest payload of one request; smaller than [`MAX_PAYLOAD`], because the outcome record
/// that observers get carries the request and its reply.
pub const MAX_REQUEST: usize = 48 * 1024;

/// The largest payload of a reply.
pub const MAX_REPLY: usize = 4 * 1024;

/// The largest command, header included, and the largest result of one.
pub const MAX_COMMAND: usize = 64 * 1024;

/// The longest provider name, in bytes of UTF-8.
pub const MAX_PROVIDER_NAME: usize = 32;

/// The longest service name that a hello may carry, in bytes of UTF-8.
pub const MAX_SERVICE_NAME: usize = 48;

/// The largest encoded schema of one provider.
pub const MAX_SCHEMA: usize = 16 * 1024;

/// The longest time that a request may wait, in milliseconds.
pub const MAX_DEADLINE_MS: u32 = 60_000;

/// The longest time that a stream outlives its connection, in milliseconds.
pub const MAX_RETENTION_MS: u32 = 600_000;

/// Bytes of records that a stream keeps at most until they are acknowledged.
pub const MAX_WINDOW: u32 = 16 * 1024 * 1024;

/// The least that a stream keeps: the largest record and more.
pub const MIN_WINDOW: u32 = 128 * 1024;

/// Bytes that all streams together may keep; those that are no administrator's, the half of it.
pub const MAX_WINDOWS: usize = 64 * 1024 * 1024;

/// The longest connection context.
pub const MAX_HELLO: usize = 4096;

/// The smallest and the largest queue of a connection.
pub const MIN_QUEUE: u32 = 64 * 1024;
/// See [`MIN_QUEUE`].
pub const MAX_QUEUE: u32 = 16 * 1024 * 1024;

/// Bytes beyond which no connection may choose a larger queue or rings, for all queues and rings together. What
/// connections begin with is far less.
pub const MAX_QUEUES: usize = 128 * 1024 * 1024;

/// The smallest and the largest ring of a connection.
pub const MIN_RING: u32 = 64 * 1024;
/// See [`MIN_RING`].
pub const MAX_RING: u32 = 16 * 1024 * 1024;

/// Bytes of a ring, if the service does not say how many: this, or its part of [`DEFAULT_RINGS`] if that is less.
pub const DEFAULT_RING: u32 = 1024 * 1024;
/// Bytes of all rings of a connection together, if the service does not say; but each has at least [`MIN_RING`].
pub const DEFAULT_RINGS: u32 = 8 * 1024 * 1024;

/// The most that a snapshot may hold.
pub const MAX_SNAPSHOT: usize = 8 * 1024 * 1024;

/// Bookings that a provider can have at one time.
pub const MAX_BOOKINGS: usize = 4096;

/// Asynchronous requests of a provider that can be pending at one time.
pub const MAX_PENDING: usize = 4096;

/// The largest filter of one subscription, in bytes, and the most predicates in it.
pub const MAX_FILTER: usize = 8 * 1024;
/// See [`MAX_FILTER`].
pub const MAX_PREDICATES: usize = 64;
