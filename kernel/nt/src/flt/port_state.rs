// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a client port is connected: who may write its variable, and who closes it.

#[cfg(not(loom))]
use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU8, Ordering},
};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(loom)]
use loom::thread::yield_now as spin_loop;

/// No connection yet: the variable is nobody's.
const EMPTY: u8 = 0;
/// `accept` is writing the variable.
const ACCEPTING: u8 = 1;
/// Connected: the variable is the Filter Manager's.
const OPEN: u8 = 2;
/// Closed, or never to be connected.
const CLOSED: u8 = 3;

/// The state of a client port.
pub(super) struct PortState(AtomicU8);

impl PortState {
    /// Not connected yet.
    pub(super) fn new() -> Self {
        PortState(AtomicU8::new(EMPTY))
    }

    /// Opens it; `write` runs while nobody else touches the variable. False, and `write` does not
    /// run, if it was opened or closed before.
    pub(super) fn open(&self, write: impl FnOnce()) -> bool {
        if self
            .0
            .compare_exchange(EMPTY, ACCEPTING, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        write();
        // Release: who sees OPEN sees what was written.
        self.0.store(OPEN, Ordering::Release);
        true
    }

    /// Whether it is open. Then what `open` wrote is seen, too.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire) == OPEN
    }

    /// Closes it. True for the one caller that ended an open one.
    pub(super) fn close(&self) -> bool {
        loop {
            match self
                .0
                .compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(EMPTY) => {
                    if self
                        .0
                        .compare_exchange(EMPTY, CLOSED, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
                    {
                        return false;
                    }
                }
                // A few instructions of another thread, which cannot wait.
                Err(ACCEPTING) => spin_loop(),
                Err(_) => return false,
            }
        }
    }
}

#[cfg(loom)]
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a model is a test")]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Port {
        state: PortState,
        variable: UnsafeCell<u32>,
    }

    impl Port {
        fn new() -> Arc<Port> {
            Arc::new(Port {
                state: PortState::new(),
                variable: UnsafeCell::new(0),
            })
        }

        fn accept(&self, port: u32) -> bool {
            // SAFETY: nobody else touches it meanwhile. (loom says so if it is not true.)
            let write = |variable: *mut u32| unsafe { *variable = port };
            self.state.open(|| self.variable.with_mut(write))
        }

        /// What is sent through, if it is open.
        fn read(&self) -> u32 {
            // SAFETY: written before it was open. (loom says so if it is not true.)
            self.variable.with(|variable| unsafe { *variable })
        }

        fn close(&self) -> bool {
            let closed = self.state.close();
            assert!(!closed || self.read() == 7, "closed before it was written");
            assert!(!self.state.is_open());
            closed
        }
    }

    #[test]
    fn a_port_is_closed_once_if_it_was_opened_and_never_before_it_was_written() {
        loom::model(|| {
            let port = Port::new();
            let other = port.clone();
            let closing = thread::spawn(move || other.close());
            let accepted = port.accept(7);
            let closed = [port.close(), closing.join().unwrap()];
            let times = closed.iter().filter(|it| **it).count();
            assert_eq!(times, usize::from(accepted));
        });
    }

    #[test]
    fn one_accept_wins_and_who_sees_it_open_sees_its_port() {
        loom::model(|| {
            let port = Port::new();
            let other = port.clone();
            let accepting = thread::spawn(move || other.accept(7));
            let accepted = port.accept(7);
            assert!(!port.state.is_open() || port.read() == 7);
            assert!(accepted != accepting.join().unwrap());
            assert!(port.state.is_open());
        });
    }
}
