// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one seam between the hosted kernel and whatever runs its threads.
//!
//! Every wait that a driver can see goes through [`block`], every end of a wait through [`wake`],
//! every new thread through [`spawn`], every turn of a spin through [`pause`]. Today these are
//! the threads of the host system.

use std::io;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::clock::Deadline;

/// Where one thread waits. A wake that comes before the wait is kept, several wakes count as one.
#[derive(Default)]
pub struct Waiter {
    woken: Mutex<bool>,
    changed: Condvar,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Somebody called [`wake`].
    Wakened,
    /// The deadline passed first.
    TimedOut,
}

impl Waiter {
    /// A waiter that nobody has woken.
    #[must_use]
    pub fn new() -> Waiter {
        Waiter::default()
    }
}

/// Waits until the waiter is woken or the deadline passes; without a deadline, until it is woken.
pub fn block(waiter: &Waiter, deadline: Option<Deadline>) -> Blocked {
    let mut woken = waiter.woken.lock();
    loop {
        if std::mem::take(&mut *woken) {
            return Blocked::Wakened;
        }
        match deadline.map(Deadline::remaining) {
            None => waiter.changed.wait(&mut woken),
            Some(remaining) if remaining.is_zero() => return Blocked::TimedOut,
            Some(remaining) => {
                waiter.changed.wait_for(&mut woken, remaining);
            }
        }
    }
}

/// Ends the wait of the thread that blocks on this waiter, or the next one that begins.
pub fn wake(waiter: &Waiter) {
    *waiter.woken.lock() = true;
    waiter.changed.notify_one();
}

/// Starts a thread. Fails when the host system has no room for one.
pub fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body)
}

/// Lets other threads run while the caller spins.
pub fn pause() {
    std::thread::yield_now();
}
