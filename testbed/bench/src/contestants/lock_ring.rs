// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring for many producers, of the kind that drivers ship: room is reserved under a spin lock,
//! with a header that says *busy*; the record is written outside the lock, and then the header says
//! that it is complete. The consumer stops at a busy header.
//!
//! The wake-up is right, which in this kind is easily missed twice: a consumer that leaves at a busy
//! header must look at that header again, because the position was moved long before; and both sides
//! need a full fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};
use crate::shared::Line;
use crate::shared::bell::Bell;
use crate::shared::lock::SpinLock;
use crate::shared::memory::{Data, Shareable, Shared};

pub(crate) struct LockRing;

/// Two words: the length of the record, and its state.
const HEADER: usize = 8;
const BUSY: u32 = 0;
const COMPLETE: u32 = 1;
/// No record, but the unused end of the ring.
const PADDING: u32 = 2;

/// Bytes ever reserved, and bytes ever given back.
#[repr(C)]
struct Words {
    lock: Line<SpinLock>,
    reserved: Line<AtomicU64>,
    consumed: Line<AtomicU64>,
    bell: Line<Bell>,
}

// SAFETY: atomics and padding.
unsafe impl Shareable for Words {}

pub(crate) struct Ring {
    words: Shared<Words>,
    data: Data,
}

pub(crate) struct Producer {
    ring: Arc<Ring>,
    wakes: u64,
}

pub(crate) struct Consumer {
    ring: Arc<Ring>,
    consumed: u64,
}

impl Contestant for LockRing {
    const ABOUT: About = About {
        name: "lock-ring",
        what: "a ring with busy and complete headers, reserved under a spin lock; futex",
        idle: &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Ring>;
    type Sender<const N: usize> = Producer;
    type Receiver<const N: usize> = Consumer;

    fn set_up<const N: usize>(_: &Setting) -> Result<Arc<Ring>> {
        Ok(Arc::new(Ring {
            words: Shared::new()?,
            data: Data::new(RING)?,
        }))
    }

    fn sender<const N: usize>(ring: Arc<Ring>, _: usize) -> Result<Producer> {
        Ok(Producer { ring, wakes: 0 })
    }

    fn receiver<const N: usize>(ring: Arc<Ring>) -> Result<Consumer> {
        Ok(Consumer { ring, consumed: 0 })
    }

    fn share<const N: usize>(ring: &Arc<Ring>) -> Result<Arc<Ring>> {
        Ok(Arc::clone(ring))
    }
}

impl Ring {
    /// The two words of the header at a position.
    ///
    /// # Safety
    /// As [`Data::word`]: there is a header, or the caller may make one there.
    #[inline]
    unsafe fn header(&self, position: u64) -> [&std::sync::atomic::AtomicU32; 2] {
        let offset = position as usize % RING;
        // SAFETY: as the caller says.
        let len = unsafe { self.data.word(offset) };
        // SAFETY: as the caller says.
        let state = unsafe { self.data.word(offset + 4) };
        [len, state]
    }

    /// The position of a new busy header, with room for a record of `len` bytes behind it.
    #[inline]
    fn reserve(&self, len: usize) -> Option<u64> {
        let size = (HEADER + len).next_multiple_of(HEADER);
        let _held = self.words.lock.acquire();
        let mut position = self.words.reserved.load(Ordering::Relaxed);
        let left = RING - position as usize % RING;
        let padding = if left < size { left } else { 0 };
        let consumed = self.words.consumed.load(Ordering::Acquire);
        let used = (position - consumed) as usize;
        if RING - used < padding + size {
            return None;
        }
        if padding > 0 {
            // SAFETY: there is room, and nobody else makes headers while the lock is held.
            let [padded, state] = unsafe { self.header(position) };
            padded.store((padding - HEADER) as u32, Ordering::Relaxed);
            state.store(PADDING, Ordering::Relaxed);
            position += padding as u64;
        }
        // SAFETY: likewise.
        let [length, state] = unsafe { self.header(position) };
        length.store(len as u32, Ordering::Relaxed);
        state.store(BUSY, Ordering::Relaxed);
        let end = position + size as u64;
        self.words.reserved.store(end, Ordering::Release);
        Some(position)
    }

    /// The length and the state of what comes next. `None` if nothing is reserved.
    #[inline]
    fn next(&self, consumed: u64) -> Option<(usize, u32)> {
        if self.words.reserved.load(Ordering::Acquire) == consumed {
            return None;
        }
        // SAFETY: what is reserved begins with a header.
        let [length, state] = unsafe { self.header(consumed) };
        let state = state.load(Ordering::Acquire);
        Some((length.load(Ordering::Relaxed) as usize, state))
    }
}

impl<const N: usize> Sender<N> for Producer {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        let Some(position) = self.ring.reserve(N) else {
            return Ok(false);
        };
        let offset = position as usize % RING + HEADER;
        // SAFETY: reserved by us, and the consumer stops at the busy header.
        unsafe { self.ring.data.fill::<N>(offset, message) };
        // SAFETY: our header.
        let [_, state] = unsafe { self.ring.header(position) };
        state.store(COMPLETE, Ordering::Release);
        self.wakes += u64::from(self.ring.words.bell.ring()?);
        Ok(true)
    }

    fn wakes(&self) -> Option<u64> {
        Some(self.wakes)
    }
}

impl<const N: usize> Receiver<N> for Consumer {
    #[inline]
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut taken = 0;
        while taken < (RING / N) as u64
            && let Some((len, state)) = self.ring.next(self.consumed)
            && state != BUSY
        {
            if state == COMPLETE {
                let offset = self.consumed as usize % RING + HEADER;
                // SAFETY: complete, and not given back.
                sink.record(unsafe { self.ring.data.record::<N>(offset) });
                taken += 1;
            }
            self.consumed += (HEADER + len).next_multiple_of(HEADER) as u64;
            let consumed = &self.ring.words.consumed;
            consumed.store(self.consumed, Ordering::Release);
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        // A busy header is not ready: who completes it will ring.
        let is_ready = || {
            let next = self.ring.next(self.consumed);
            next.is_some_and(|(_, state)| state != BUSY)
        };
        self.ring.words.bell.wait(patience, is_ready)
    }

    fn skip(&mut self) -> Result<()> {
        self.consumed = self.ring.words.reserved.load(Ordering::Acquire);
        let consumed = &self.ring.words.consumed;
        consumed.store(self.consumed, Ordering::Release);
        Ok(())
    }
}
