// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring as Wintun has it: head, tail and a flag *alertable* in a row; a packet is a word with its
//! length and the bytes; one that begins before the end of the ring is whole behind it. The
//! producer's side has a lock, taken once to find room and once to publish. It sets an event whenever
//! it finds the flag set, which the consumer sets before it sleeps and takes off afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use anyhow::Result;

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};
use crate::shared::Line;
use crate::shared::bell;
use crate::shared::lock::SpinLock;
use crate::shared::memory::{Data, Shareable, Shared};

pub(crate) struct WintunRing;

const HEADER: usize = 4;
/// Room behind the end for a packet that begins before it.
const TRAILING: usize = 1 << 16;

#[repr(C)]
struct Words {
    /// Next to each other, as they are there.
    head: AtomicU32,
    tail: AtomicU32,
    alertable: AtomicU32,
    lock: Line<SpinLock>,
    event: Line<AtomicU32>,
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
}

impl Contestant for WintunRing {
    const ABOUT: About = About {
        name: "wintun-ring",
        what: "a ring of Wintun's kind: an event whenever the consumer's flag is set",
        idle: &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
        producers: 1,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Ring>;
    type Sender<const N: usize> = Producer;
    type Receiver<const N: usize> = Consumer;

    fn set_up<const N: usize>(_: &Setting) -> Result<Arc<Ring>> {
        Ok(Arc::new(Ring {
            words: Shared::new()?,
            data: Data::new(RING + TRAILING)?,
        }))
    }

    fn sender<const N: usize>(ring: Arc<Ring>, _: usize) -> Result<Producer> {
        Ok(Producer { ring, wakes: 0 })
    }

    fn receiver<const N: usize>(ring: Arc<Ring>) -> Result<Consumer> {
        Ok(Consumer { ring })
    }

    fn share<const N: usize>(ring: &Arc<Ring>) -> Result<Arc<Ring>> {
        Ok(Arc::clone(ring))
    }
}

/// The room of a packet.
fn room(len: usize) -> usize {
    (HEADER + len).next_multiple_of(HEADER)
}

impl Ring {
    /// Where the next packet goes. One word stays free: full is not empty.
    #[inline]
    fn allocate(&self, len: usize) -> Option<usize> {
        let _held = self.words.lock.acquire();
        let head = self.words.head.load(Ordering::Acquire) as usize;
        let tail = self.words.tail.load(Ordering::Relaxed) as usize;
        let free = (head + RING - tail - HEADER) % RING;
        if free < room(len) {
            return None;
        }
        // SAFETY: free, and not yet published.
        let length = unsafe { self.data.word(tail) };
        length.store(len as u32, Ordering::Relaxed);
        Some(tail)
    }

    /// Publishes the packet at the tail. Whether the event was set.
    #[inline]
    fn publish(&self, len: usize) -> Result<bool> {
        {
            let _held = self.words.lock.acquire();
            let tail = self.words.tail.load(Ordering::Relaxed) as usize;
            let tail = (tail + room(len)) % RING;
            self.words.tail.store(tail as u32, Ordering::Release);
        }
        fence(Ordering::SeqCst);
        if self.words.alertable.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        self.words.event.store(1, Ordering::Release);
        bell::wake(&self.words.event)?;
        Ok(true)
    }

    fn is_empty(&self) -> bool {
        let head = self.words.head.load(Ordering::Relaxed);
        self.words.tail.load(Ordering::Acquire) == head
    }
}

impl<const N: usize> Sender<N> for Producer {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        let Some(offset) = self.ring.allocate(N) else {
            return Ok(false);
        };
        // SAFETY: free, and not yet published; there is one producer.
        unsafe { self.ring.data.fill::<N>(offset + HEADER, message) };
        self.wakes += u64::from(self.ring.publish(N)?);
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
        let words = &self.ring.words;
        while taken < (RING / N) as u64 && !self.ring.is_empty() {
            let head = words.head.load(Ordering::Relaxed) as usize;
            // SAFETY: published, and not given back.
            let len = unsafe { self.ring.data.word(head) }.load(Ordering::Relaxed) as usize;
            // SAFETY: likewise.
            sink.record(unsafe { self.ring.data.record::<N>(head + HEADER) });
            let next = (head + room(len)) % RING;
            words.head.store(next as u32, Ordering::Release);
            taken += 1;
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        let words = &self.ring.words;
        words.alertable.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let woken = match self.ring.is_empty() {
            true => bell::sleep(&words.event, 0, patience)?,
            false => Woken::NotAsleep,
        };
        words.alertable.store(0, Ordering::Relaxed);
        words.event.store(0, Ordering::Relaxed);
        Ok(woken)
    }

    fn skip(&mut self) -> Result<()> {
        let tail = self.ring.words.tail.load(Ordering::Acquire);
        self.ring.words.head.store(tail, Ordering::Release);
        Ok(())
    }
}
