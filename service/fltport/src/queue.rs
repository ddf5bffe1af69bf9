// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events between the thread that reads the port and the program.
//!
//! The reading thread never waits for the program: it looks at [`EventQueue::is_full`] before it
//! posts the next get, so the queue exceeds its bound by at most what the gets at the port bring.
//! Requests count as the rest does. Those whose deadline has passed are forgotten, for nobody waits
//! for an answer to them; but not those that have a place in the stream, which is dealt with when they
//! are taken.

use crate::event::Event;
use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What an event costs beside its payload, roughly.
const OVERHEAD: usize = 160;

/// See the module.
#[derive(Debug)]
pub(crate) struct EventQueue {
    bound: usize,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<(Event, usize)>,
    stream: VecDeque<(Event, usize)>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

impl State {
    fn pop(&mut self) -> Option<Event> {
        let next = self.requests.pop_front();
        let (event, size) = next.or_else(|| self.stream.pop_front())?;
        self.bytes = self.bytes.saturating_sub(size);
        Some(event)
    }
}

impl EventQueue {
    pub(crate) fn new(bound: usize) -> Self {
        EventQueue {
            bound,
            state: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    /// Puts in events whose payloads have `bytes` bytes together.
    pub(crate) fn push(&self, events: impl IntoIterator<Item = (Event, usize)>) {
        let mut state = lock(&self.state);
        for (event, bytes) in events {
            let size = bytes + OVERHEAD;
            state.bytes += size;
            match event {
                Event::Request(ref request) if !request.is_asynchronous() => {
                    state.requests.push_back((event, size))
                }
                _ => state.stream.push_back((event, size)),
            }
        }
        Self::wake(state, &self.ready);
    }

    /// Drops the requests whose deadline has passed; returns how many.
    pub(crate) fn forget_overdue(&self) -> u64 {
        let mut state = lock(&self.state);
        let (mut count, mut bytes) = (0, 0);
        state.requests.retain(|(event, size)| {
            let overdue = matches!(event, Event::Request(r) if r.remaining().is_zero());
            if overdue {
                count += 1;
                bytes += size;
            }
            !overdue
        });
        state.bytes = state.bytes.saturating_sub(bytes);
        count
    }

    fn wake(mut state: std::sync::MutexGuard<'_, State>, ready: &Condvar) {
        let waker = state.waker.take();
        drop(state);
        ready.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No more events will come; those that are there may still be taken.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        Self::wake(state, &self.ready);
    }

    /// Whether it holds no event.
    pub(crate) fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.requests.is_empty() && state.stream.is_empty()
    }

    /// Whether it holds as much as it should.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.state).bytes >= self.bound
    }

    /// The next event; `None` at the deadline, or at once when no more will come.
    pub(crate) fn pop(&self, deadline: Instant) -> Option<Event> {
        let mut state = lock(&self.state);
        loop {
            if let Some(event) = state.pop() {
                return Some(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            let waited = self.ready.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether no event is there and none will come.
    pub(crate) fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.closed && state.requests.is_empty() && state.stream.is_empty()
    }

    /// The next event, `None` when no more will come; wakes the task when there is one. One task at
    /// a time.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = lock(&self.state);
        match state.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
