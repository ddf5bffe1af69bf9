// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pool tags: who holds what memory, as debuggers show it.

use fltport_nt::ex::Tag;

/// The driver's state and everything that has no tag of its own.
pub(crate) const DRIVER: Tag = Tag::new(b"FpDr");
/// Connections.
pub(crate) const CONNECTION: Tag = Tag::new(b"FpCo");
/// Providers.
pub(crate) const PROVIDER: Tag = Tag::new(b"FpPr");
/// The ledger.
pub(crate) const LEDGER: Tag = Tag::new(b"FpLe");
/// Filters, and what they need.
pub(crate) const FILTER: Tag = Tag::new(b"FpFi");
/// Queues of records.
pub(crate) const QUEUE: Tag = Tag::new(b"FpQu");
/// Asynchronous requests.
pub(crate) const PENDING: Tag = Tag::new(b"FpPe");
/// Buffers that live as long as one call.
pub(crate) const BUFFER: Tag = Tag::new(b"FpBu");
