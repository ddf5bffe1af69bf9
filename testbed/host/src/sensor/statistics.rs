// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the sensor has counted since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the live counters and the snapshot of them from one list.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// A snapshot of the sensor's counters; each counts from the sensor's start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl Statistics {
            /// Every counter by name, in the order of declaration.
            #[must_use]
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }

        /// The live counters.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> Statistics {
                Statistics { $($name: self.$name.get(),)+ }
            }
        }
    };
}

counters! {
    /// Processes created, as the process connector told it (threads are not counted).
    forks,
    /// Starts delivered, of every kind.
    starts,
    /// Exits delivered, of every kind, those of replaced images included.
    exits,
    /// Execs that were held while their start was being delivered.
    held,
    /// Execs that were refused because the callback said so.
    denied,
    /// Execs let through by the watchdog because the verdict took longer than the hold cap.
    watchdog_releases,
    /// Execs let through at once because too many were held already.
    crowded_releases,
    /// Execs the kernel refused because no descriptor was free to report them with.
    lost_holds,
    /// Verdicts of refusal that came too late: the exec had been let through already.
    late_denials,
    /// Times the kernel dropped process events because the sensor's buffer was full.
    overruns,
    /// Starts made up from `/proc` after an overrun.
    made_up_starts,
    /// Exits made up from `/proc`, or from a second life of the same pid, after an overrun.
    made_up_exits,
    /// Exits of processes the sensor knew nothing of; nothing is delivered for them.
    unmatched_exits,
    /// Callbacks that panicked; a start counts as allowed then.
    callback_panics,
    /// Times the reader stood still for longer than the hold cap, so that holding was given up.
    reader_stalls,
}

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        // Relaxed: a count publishes nothing else.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
