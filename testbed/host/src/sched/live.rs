// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads and the time of the host system.

use std::io;

use super::{Blocked, Waiter};
use crate::clock::Deadline;

pub(super) fn block(waiter: &Waiter, deadline: Option<Deadline>) -> Blocked {
    let mut state = waiter.state.lock();
    loop {
        if std::mem::take(&mut state.woken) {
            return Blocked::Wakened;
        }
        match deadline.map(Deadline::remaining) {
            None => waiter.changed.wait(&mut state),
            Some(remaining) if remaining.is_zero() => return Blocked::TimedOut,
            Some(remaining) => {
                waiter.changed.wait_for(&mut state, remaining);
            }
        }
    }
}

pub(super) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name).spawn(body).map(drop)
}
