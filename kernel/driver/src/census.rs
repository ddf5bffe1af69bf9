// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections exist, and whether the driver is closing: in one word, so that none comes to
//! be behind the unload's back.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering};

/// The driver is closing.
const CLOSING: usize = 1;
/// One connection; the bits above the lowest count them.
const CONNECTION: usize = 2;

/// The connections that exist, in the routes or still held by somebody.
pub(crate) struct Census(AtomicUsize);

impl Census {
    /// None, and open to some.
    pub(crate) fn new() -> Self {
        Census(AtomicUsize::new(0))
    }

    /// Counts a connection, or a connect callback; false once the driver is closing.
    #[must_use = "what is not counted must not be"]
    pub(crate) fn add(&self) -> bool {
        let one_more = |word: usize| (word & CLOSING == 0).then_some(word + CONNECTION);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_ok()
    }

    /// A connection is gone; true if it was the last.
    pub(crate) fn remove(&self) -> bool {
        self.0.fetch_sub(CONNECTION, Ordering::AcqRel) & !CLOSING == CONNECTION
    }

    /// From here on nobody is counted.
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSING, Ordering::AcqRel);
    }

    /// Whether the driver is closing.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSING != 0
    }

    /// Whether no connection exists; for good, once it is closing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) < CONNECTION
    }
}

#[cfg(loom)]
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a model is a test")]
mod models {
    extern crate std;

    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;
    use std::vec::Vec;

    /// A driver to which services connect while it is unloaded, as far as it is about who ends
    /// their connections.
    struct Driver {
        census: Census,
        /// The connections that can be found.
        routes: Mutex<Vec<u32>>,
    }

    impl Driver {
        /// As the connect callback: whether the service is connected when it returns.
        fn connect(&self, number: u32) -> bool {
            if !self.census.add() {
                return false;
            }
            self.routes.lock().unwrap().push(number);
            if self.census.is_closing() {
                self.end(number);
                return false;
            }
            true
        }

        fn end(&self, number: u32) {
            let mut routes = self.routes.lock().unwrap();
            let before = routes.len();
            routes.retain(|other| *other != number);
            let removed = routes.len() < before;
            drop(routes);
            if removed {
                self.census.remove();
            }
        }

        /// As the unload, up to where it takes the filter back.
        fn unload(&self) {
            self.census.close();
            loop {
                let any = self.routes.lock().unwrap().first().copied();
                let Some(number) = any else { break };
                self.end(number);
            }
            while !self.census.is_empty() {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn no_connection_comes_to_be_behind_the_unloads_back() {
        loom::model(|| {
            let driver = Arc::new(Driver {
                census: Census::new(),
                routes: Mutex::new(Vec::new()),
            });
            let connecting = driver.clone();
            let service = thread::spawn(move || connecting.connect(1));
            driver.unload();
            let at_the_end = driver.routes.lock().unwrap().len();
            let was_connected = service.join().unwrap();
            assert_eq!(at_the_end, 0, "the service was connected: {was_connected}");
            assert!(driver.census.is_empty());
            assert!(!driver.census.add(), "counted behind the end");
        });
    }

    #[test]
    fn one_of_those_who_go_is_the_last() {
        loom::model(|| {
            let census = Arc::new(Census::new());
            assert!(census.add() && census.add());
            let other = census.clone();
            let first = thread::spawn(move || other.remove());
            let second = census.remove();
            census.close();
            assert!(first.join().unwrap() != second);
            assert!(census.is_empty() && census.is_closing());
        });
    }
}
