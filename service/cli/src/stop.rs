// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C, SIGTERM and SIGHUP: the first asks to end in order, the second ends at once, for the
//! first may be waiting for somebody who reads the output no more.

use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Signals this close together are one: a terminal that is closed sends several.
const ONE: Duration = Duration::from_millis(100);

/// How a shell reports an end by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Whether the end has been asked for.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Minds signals from now on; calls `wake` at the first, which must not block.
    pub(crate) fn on_signal(wake: impl Fn() + Send + 'static) -> Result<Stop, Failure> {
        let stop = Stop(Arc::default());
        let asked = stop.0.clone();
        let mut first: Option<Instant> = None;
        let handled = ctrlc::set_handler(move || match first {
            None => {
                first = Some(Instant::now());
                asked.store(true, Ordering::Release);
                wake();
            }
            Some(first) if first.elapsed() < ONE => {}
            // Nothing is said: standard error may be what nobody reads.
            Some(_) => std::process::exit(INTERRUPTED),
        });
        handled.map(|()| stop).map_err(|e| {
            Failure::new(format!(
                "signals cannot be handled: {e}. Raise the limit on threads"
            ))
        })
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
