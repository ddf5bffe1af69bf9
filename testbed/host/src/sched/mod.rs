// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one seam between the hosted kernel and whatever runs its threads.
//!
//! Every wait that a driver can see goes through [`block`], every end of a wait through [`wake`],
//! every new thread through [`spawn`], every turn of a spin through [`pause`], and every place
//! where another processor may come first through [`point`]. There are two implementations: the
//! threads and the time of the host system, and a [simulation](crate::sim), whose threads run one
//! at a time in an order that a seed decides. Which one it is depends on the calling thread.

mod live;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::{Condvar, Mutex};

use crate::clock::Deadline;
use crate::processor;
use crate::sim;

/// Where one thread waits. A wake that comes before the wait is kept, several wakes count as one.
#[derive(Default)]
pub struct Waiter {
    state: Mutex<WaiterState>,
    changed: Condvar,
}

#[derive(Default)]
struct WaiterState {
    woken: bool,
    /// The thread of a simulation that waits here.
    sleeper: Option<Waker>,
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

    /// Takes a wake that has come; otherwise remembers whom the next one is for.
    pub(crate) fn take_or_enlist(&self, sleeper: &Waker) -> bool {
        let mut state = self.state.lock();
        let woken = std::mem::take(&mut state.woken);
        state.sleeper = (!woken).then(|| sleeper.clone());
        woken
    }
}

/// Waits until the waiter is woken or the deadline passes; without a deadline, until it is woken.
pub fn block(waiter: &Waiter, deadline: Option<Deadline>) -> Blocked {
    processor::without(|| {
        if sim::is_simulated() {
            sim::block(waiter, deadline)
        } else {
            live::block(waiter, deadline)
        }
    })
}

/// Waits for something that must come: the limit (100 ns) is where a delay counts as a hang. In a
/// simulation only time in which no thread could run counts: one that merely was not chosen does
/// not hang.
pub fn expect(waiter: &Waiter, limit: u64) -> Blocked {
    processor::without(|| {
        if sim::is_simulated() {
            sim::expect(waiter, limit)
        } else {
            live::block(waiter, Some(Deadline::after(limit)))
        }
    })
}

/// Ends the wait of the thread that blocks on this waiter, or the next one that begins. Nothing
/// else runs meanwhile, so it may be called with a lock held.
pub fn wake(waiter: &Waiter) {
    let mut state = waiter.state.lock();
    state.woken = true;
    if let Some(sleeper) = state.sleeper.take() {
        sleeper.wake();
    }
    drop(state);
    waiter.changed.notify_one();
}

/// A thread that was started with [`spawn`]. Dropping it lets the thread run on by itself.
#[derive(Clone)]
pub struct Thread(Arc<End>);

#[derive(Default)]
struct End {
    ended: AtomicBool,
    waiters: Mutex<Vec<Arc<Waiter>>>,
}

impl Thread {
    /// Waits until the thread's closure has returned, or has panicked.
    pub fn join(&self) {
        let waiter = Arc::new(Waiter::new());
        self.0.waiters.lock().push(waiter.clone());
        while !self.0.ended.load(Ordering::Acquire) {
            block(&waiter, None);
        }
    }
}

/// Says that a thread has ended, also when it panics.
struct Ending(Arc<End>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        for waiter in self.0.waiters.lock().drain(..) {
            wake(&waiter);
        }
    }
}

/// Starts a thread: of the host system, or from inside a simulation one of that.
///
/// # Errors
/// The host system has no room for one.
pub fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    let end = Arc::new(End::default());
    let ending = Ending(end.clone());
    let body = move || {
        let _ending = ending;
        body();
    };
    if sim::is_simulated() {
        sim::spawn(name, body);
    } else {
        live::spawn(name, body)?;
    }
    Ok(Thread(end))
}

/// Lets other threads run while the caller spins.
pub fn pause() {
    if sim::is_simulated() {
        sim::pause();
    } else {
        std::thread::yield_now();
    }
}

/// A place where other processors may be faster: a simulation goes on with another thread here, or
/// does not, as its seed says. `what` is part of its trace. At each call of the kernel, and inside
/// one wherever others can see that it is half done; never with a lock of the hosted kernel held.
pub fn point(what: &'static str) {
    sim::point(what);
}
