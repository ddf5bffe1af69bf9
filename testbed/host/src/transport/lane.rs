// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of one socket may be under way, so that what a peer can make this process hold is
//! bounded.
//!
//! The reader takes a *place* before it reads a request, and the writer gives it back when the
//! completion is written: a peer that asks but does not listen is not read any further. A get that
//! waits holds no place, for it may wait for ever; gets are counted by themselves, until their
//! completion is written, and one too many is refused.

use parking_lot::{Condvar, Mutex};

/// Gets of one socket that may wait or have an unwritten completion.
pub(super) const MAX_GETS: usize = 64;

/// What a completion gives back when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Place,
    Get,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    gets: usize,
    closed: bool,
}

impl Lane {
    pub(super) fn new(places: usize) -> Self {
        Lane {
            state: Mutex::new(State {
                free: places,
                gets: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits for a place; false if the lane has been closed.
    pub(super) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        while state.free == 0 && !state.closed {
            self.changed.wait(&mut state);
        }
        if state.closed {
            return false;
        }
        state.free -= 1;
        true
    }

    /// Turns a place into a get; false if there are too many, and the place is kept.
    pub(super) fn begin_get(&self) -> bool {
        let mut state = self.state.lock();
        if state.gets >= MAX_GETS {
            return false;
        }
        state.gets += 1;
        state.free += 1;
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Gives back what a completion held.
    pub(super) fn leave(&self, held: Held) {
        let mut state = self.state.lock();
        match held {
            Held::Place => state.free += 1,
            Held::Get => state.gets = state.gets.saturating_sub(1),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nobody enters any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}
