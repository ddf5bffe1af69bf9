// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events between the thread that reads the port and the program.
//!
//! The reading thread never waits for the program: it looks at [`EventQueue::is_full`] before it
//! posts the next get, so the queue exceeds its bound by at most what the gets at the port bring.
//! Requests count as the rest does. Those whose deadline has passed are forgotten, for nobody waits
//! for an answer to them; but not those that have a place in the stream, which is dealt with when they
//! are taken.

use crate::edge::Signal;
use crate::event::Event;
use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    /// There is something to take, or no more will come.
    any: AtomicBool,
    /// Something has been taken since gets were held back.
    refill: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<(Event, usize)>,
    stream: VecDeque<(Event, usize)>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
    /// To be set when there is something to take.
    listener: Option<Arc<Signal>>,
    /// To be set when there is room again.
    wants_room: Option<Arc<Signal>>,
    /// Gets are held back until something has been taken.
    holds_gets: bool,
}

impl State {
    fn pop(&mut self) -> Option<Event> {
        let next = self.requests.pop_front();
        let (event, size) = next.or_else(|| self.stream.pop_front())?;
        self.bytes = self.bytes.saturating_sub(size);
        Some(event)
    }

    fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.stream.is_empty()
    }
}

fn set(signal: Option<Arc<Signal>>) {
    if let Some(signal) = signal {
        // An event can be set as long as it exists.
        let _set = signal.set();
    }
}

impl EventQueue {
    pub(crate) fn new(bound: usize) -> Self {
        EventQueue {
            bound,
            state: Mutex::default(),
            ready: Condvar::new(),
            any: AtomicBool::new(false),
            refill: AtomicBool::new(false),
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
        self.wake(state);
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
        self.taken(state);
        count
    }

    /// Something has been taken.
    fn taken(&self, mut state: MutexGuard<'_, State>) {
        let any = state.closed || !state.is_empty();
        self.any.store(any, Ordering::Release);
        if std::mem::take(&mut state.holds_gets) {
            self.refill.store(true, Ordering::Release);
        }
        // Not for every event: who fills it does so by the batch.
        if state.wants_room.is_some() && state.bytes <= self.bound / 2 {
            let wants_room = state.wants_room.take();
            drop(state);
            set(wants_room);
        }
    }

    /// Something has come, or nothing more will.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let any = state.closed || !state.is_empty();
        self.any.store(any, Ordering::Release);
        let (waker, listener) = (state.waker.take(), state.listener.clone());
        drop(state);
        self.ready.notify_all();
        set(listener);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No more events will come; those that are there may still be taken.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        self.wake(state);
    }

    /// Whether there is something to take, or no more will come.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// From now on this signal is set when something comes.
    pub(crate) fn listen(&self, listener: Option<&Arc<Signal>>) {
        lock(&self.state).listener = listener.cloned();
    }

    /// Whether it holds no event.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).is_empty()
    }

    /// Whether gets are to be held back, because it holds as much as it should when so many bytes are added that
    /// lie elsewhere. Then [`EventQueue::is_refill_due`] says when to ask again.
    pub(crate) fn holds_gets(&self, bytes: usize) -> bool {
        let mut state = lock(&self.state);
        let is_full = state.bytes.saturating_add(bytes) >= self.bound;
        state.holds_gets |= is_full;
        is_full
    }

    /// Whether gets were held back and something has been taken since; says so once.
    #[inline]
    pub(crate) fn is_refill_due(&self) -> bool {
        self.refill.load(Ordering::Acquire) && self.refill.swap(false, Ordering::AcqRel)
    }

    /// Whether it holds as much as it should; then this signal is set when there is room again.
    pub(crate) fn is_full_for(&self, signal: &Arc<Signal>) -> bool {
        let mut state = lock(&self.state);
        let is_full = state.bytes >= self.bound;
        state.wants_room = is_full.then(|| signal.clone());
        is_full
    }

    /// The next event; `None` at the deadline, or at once when no more will come.
    pub(crate) fn pop(&self, deadline: Instant) -> Option<Event> {
        let mut state = lock(&self.state);
        loop {
            if let Some(event) = state.pop() {
                self.taken(state);
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
        state.closed && state.is_empty()
    }

    /// The next event, `None` when no more will come; wakes the task when there is one. One task at
    /// a time.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = lock(&self.state);
        match state.pop() {
            Some(event) => {
                self.taken(state);
                Poll::Ready(Some(event))
            }
            None if state.closed => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
