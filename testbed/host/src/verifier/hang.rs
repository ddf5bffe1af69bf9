// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits to which NT gives no limit. The hosted kernel gives up after a while, so that a driver's
//! deadlock becomes a report and not a hang.

use std::sync::atomic::Ordering;

use crate::kernel;
use crate::sched::{self, Blocked, Waiter};

/// Waits until `done`, whose changes wake `waiter`; false if nothing
/// changes for longer than a wait may take.
pub(crate) fn wait_until(waiter: &Waiter, done: impl Fn() -> bool) -> bool {
    let limit = kernel::state().hang_limit.load(Ordering::Relaxed);
    while !done() {
        if sched::expect(waiter, limit) == Blocked::TimedOut {
            return done();
        }
    }
    true
}
