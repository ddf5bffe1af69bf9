// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the client counts about itself.

use crate::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What this client has seen since it was made, over all its connections.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Statistics { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Statistics {
                Statistics { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Frames taken.
    frames,
    /// Records of the stream, gap records included.
    records,
    /// Of these, records that came by rings.
    ring_records,
    /// How often the thread that reads rings slept because there was nothing in them.
    sleeps,
    /// Requests.
    requests,
    /// Sequence numbers that gap records stand for.
    explained,
    /// Sequence numbers that are missing without explanation.
    missing,
    /// Records whose numbers had been there before; dropped.
    repeated,
    /// Frames of another connection; dropped.
    foreign_frames,
    /// Frames or records that could not be read; dropped.
    damaged,
    /// Messages that are not what their provider's schema says; told as
    /// [`Event::Corrupt`](crate::Event::Corrupt).
    corrupt_records,
    /// Schemas that make no sense; their providers cannot be subscribed to.
    corrupt_schemas,
    /// Gets whose buffer was too small and was made larger.
    grown,
    /// Requests that nobody took before their deadline had passed; dropped.
    overdue,
    /// Connections made after the first.
    reconnects,
}

impl Counters {
    /// Counts a schema that was asked for and makes no sense.
    pub(crate) fn note_schema<T>(&self, asked: &Result<T, Error>) {
        if matches!(asked, Err(Error::Schema(_))) {
            self.corrupt_schemas.add(1);
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}
