// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring for many producers, of the kind that drivers ship: room is reserved under a spin lock,
//! with a header that says *busy*; the record is written outside the lock, and then the header says
//! that it is complete. The consumer stops at a busy header.
//!
//! The wake-up is right, which in this kind is easily missed twice: a consumer that leaves at a busy
//! header must look at that header again, because the position was moved long before; and both sides
//! need a full fence.
//!
//! Once as it is, and once with what a record of ours carries, number and time, and with a consumer that looks away for a
//! moment when it has caught up, as ours does: what is left between the two is the ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use fltport_ring::look_away;

use crate::clock::{self, Counter};
use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};
use crate::shared::Line;
use crate::shared::bell::Bell;
use crate::shared::lock::SpinLock;
use crate::shared::memory::{Data, Shareable, Shared};

pub(crate) struct LockRing<const FULL: bool>;

/// Two words: the length of the record, and its state.
const LEAN: usize = 8;
/// And number, time, and room for whose and which message it is.
const FULL_HEADER: usize = 32;
/// Where number and time are in it.
const NUMBER: usize = 8;
const TIME: usize = 16;
/// With full headers the consumer looks away as ours does: as if this were the room of its batches.
const BATCH: usize = 32 * 1024;

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
    /// Records ever reserved. Guarded by the lock.
    records: Line<AtomicU64>,
}

// SAFETY: atomics and padding.
unsafe impl Shareable for Words {}

pub(crate) struct Ring<const FULL: bool> {
    words: Shared<Words>,
    data: Data,
    counter: Counter,
}

pub(crate) struct Producer<const FULL: bool> {
    ring: Arc<Ring<FULL>>,
    wakes: u64,
}

pub(crate) struct Consumer<const FULL: bool> {
    ring: Arc<Ring<FULL>>,
    consumed: u64,
    /// The number of the next record.
    next: u64,
    /// The time of the last one.
    time: i64,
    /// When to look again, if not at once.
    due: Option<u64>,
}

impl<const FULL: bool> Contestant for LockRing<FULL> {
    const ABOUT: About = About {
        name: if FULL { "lock-ring-full" } else { "lock-ring" },
        what: if FULL {
            "the same with number and time in its header, and a consumer that looks away as ours does"
        } else {
            "a ring with busy and complete headers, reserved under a spin lock; futex"
        },
        idle: &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Ring<FULL>>;
    type Sender<const N: usize> = Producer<FULL>;
    type Receiver<const N: usize> = Consumer<FULL>;

    fn set_up<const N: usize>(_: &Setting) -> Result<Arc<Ring<FULL>>> {
        Ok(Arc::new(Ring {
            words: Shared::new()?,
            data: Data::new(RING)?,
            counter: Counter::new(),
        }))
    }

    fn sender<const N: usize>(ring: Arc<Ring<FULL>>, _: usize) -> Result<Producer<FULL>> {
        Ok(Producer { ring, wakes: 0 })
    }

    fn receiver<const N: usize>(ring: Arc<Ring<FULL>>) -> Result<Consumer<FULL>> {
        Ok(Consumer {
            ring,
            consumed: 0,
            next: 0,
            time: 0,
            due: None,
        })
    }

    fn share<const N: usize>(ring: &Arc<Ring<FULL>>) -> Result<Arc<Ring<FULL>>> {
        Ok(Arc::clone(ring))
    }
}

impl<const FULL: bool> Ring<FULL> {
    const HEADER: usize = if FULL { FULL_HEADER } else { LEAN };

    /// Bytes of the ring that a record of `len` bytes takes.
    const fn size(len: usize) -> usize {
        (Self::HEADER + len).next_multiple_of(Self::HEADER)
    }

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

    /// Of a full header, its number and its time.
    ///
    /// # Safety
    /// As [`Data::long`]: there is a header, or the caller may make one there.
    #[inline]
    unsafe fn details(&self, position: u64) -> [&AtomicU64; 2] {
        let offset = position as usize % RING;
        // SAFETY: as the caller says.
        let number = unsafe { self.data.long(offset + NUMBER) };
        // SAFETY: as the caller says.
        let time = unsafe { self.data.long(offset + TIME) };
        [number, time]
    }

    /// The position of a new busy header, with room for a record of `len` bytes behind it, and its number.
    #[inline]
    fn reserve(&self, len: usize) -> Option<(u64, u64)> {
        let size = Self::size(len);
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
            padded.store((padding - Self::HEADER) as u32, Ordering::Relaxed);
            state.store(PADDING, Ordering::Relaxed);
            position += padding as u64;
        }
        // SAFETY: likewise.
        let [length, state] = unsafe { self.header(position) };
        length.store(len as u32, Ordering::Relaxed);
        state.store(BUSY, Ordering::Relaxed);
        let mut number = 0;
        if FULL {
            number = self.words.records.load(Ordering::Relaxed);
            self.words.records.store(number + 1, Ordering::Relaxed);
        }
        let end = position + size as u64;
        self.words.reserved.store(end, Ordering::Release);
        Some((position, number))
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

impl<const FULL: bool, const N: usize> Sender<N> for Producer<FULL> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        // Before the lock is taken, so that nobody waits for it.
        let time = if FULL {
            self.ring.counter.system_time()
        } else {
            0
        };
        let Some((position, number)) = self.ring.reserve(N) else {
            return Ok(false);
        };
        if FULL {
            // SAFETY: our header.
            let [its_number, its_time] = unsafe { self.ring.details(position) };
            its_number.store(number, Ordering::Relaxed);
            its_time.store(time as u64, Ordering::Relaxed);
        }
        let offset = position as usize % RING + Ring::<FULL>::HEADER;
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

impl<const FULL: bool> Consumer<FULL> {
    /// Reads what a full header says of a record that is complete.
    #[inline]
    fn read_details(&mut self) -> Result<()> {
        // SAFETY: complete, and not given back.
        let [number, time] = unsafe { self.ring.details(self.consumed) };
        let number = number.load(Ordering::Relaxed);
        ensure!(number == self.next, "a record out of order");
        self.next += 1;
        self.time = time.load(Ordering::Relaxed) as i64;
        Ok(())
    }
}

impl<const FULL: bool, const N: usize> Receiver<N> for Consumer<FULL> {
    #[inline]
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut taken = 0;
        if let Some(due) = self.due.take() {
            clock::spin_until(due);
        }
        while taken < (RING / N) as u64
            && let Some((len, state)) = self.ring.next(self.consumed)
            && state != BUSY
        {
            if state == COMPLETE {
                if FULL {
                    self.read_details()?;
                }
                let offset = self.consumed as usize % RING + Ring::<FULL>::HEADER;
                // SAFETY: complete, and not given back.
                sink.record(unsafe { self.ring.data.record::<N>(offset) });
                taken += 1;
            }
            self.consumed += Ring::<FULL>::size(len) as u64;
            let consumed = &self.ring.words.consumed;
            consumed.store(self.consumed, Ordering::Release);
        }
        let away = look_away(taken as usize * Ring::<FULL>::size(N), BATCH);
        if FULL && taken > 0 && away > 0 {
            self.due = Some(clock::nanoseconds() + away);
        }
        std::hint::black_box(self.time);
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
        self.next = self.ring.words.records.load(Ordering::Acquire);
        let consumed = &self.ring.words.consumed;
        consumed.store(self.consumed, Ordering::Release);
        Ok(())
    }
}
