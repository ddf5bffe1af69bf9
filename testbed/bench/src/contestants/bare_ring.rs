// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring of bytes for one producer, without header or order, for records of any length: the least
//! that a ring can be. With two producers there are two of them, and the consumer looks at both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};
use crate::shared::Indices;
use crate::shared::bell::Bell;
use crate::shared::memory::{Data, Shared};

pub(crate) struct BareRing;

/// One ring.
pub(crate) struct Ring {
    /// Of bytes.
    indices: Shared<Indices>,
    data: Data,
}

impl Ring {
    pub(crate) fn new() -> Result<Ring> {
        Ok(Ring {
            indices: Shared::new()?,
            data: Data::new(RING)?,
        })
    }

    /// For the only producer. `false` if there is no room.
    #[inline]
    pub(crate) fn push(&self, record: &[u8]) -> bool {
        let tail = self.indices.tail.load(Ordering::Relaxed);
        let used = tail - self.indices.head.load(Ordering::Acquire);
        if (RING as u64 - used) < record.len() as u64 {
            return false;
        }
        let offset = tail as usize % RING;
        let (one, other) = record.split_at(record.len().min(RING - offset));
        // SAFETY: the consumer has given back what is before its head, and reads nothing from the
        // tail on; there is one producer.
        unsafe { self.data.copy_in(offset, one) };
        // SAFETY: likewise.
        unsafe { self.data.copy_in(0, other) };
        let tail = tail + record.len() as u64;
        self.indices.tail.store(tail, Ordering::Release);
        true
    }

    /// For the only consumer. `false` if there is no record.
    #[inline]
    pub(crate) fn pop(&self, record: &mut [u8]) -> bool {
        let head = self.indices.head.load(Ordering::Relaxed);
        if self.indices.tail.load(Ordering::Acquire) == head {
            return false;
        }
        let offset = head as usize % RING;
        let len = record.len().min(RING - offset);
        let (one, other) = record.split_at_mut(len);
        // SAFETY: before the tail it was published, and it is not written again before the head
        // has passed it, below.
        unsafe { self.data.copy_out(offset, one) };
        // SAFETY: likewise.
        unsafe { self.data.copy_out(0, other) };
        let head = head + record.len() as u64;
        self.indices.head.store(head, Ordering::Release);
        true
    }

    pub(crate) fn has_records(&self) -> bool {
        let head = self.indices.head.load(Ordering::Relaxed);
        self.indices.tail.load(Ordering::Acquire) != head
    }

    fn skip(&self) {
        let tail = self.indices.tail.load(Ordering::Acquire);
        self.indices.head.store(tail, Ordering::Release);
    }
}

pub(crate) struct Rings {
    rings: Vec<Ring>,
    bell: Shared<Bell>,
}

pub(crate) struct Producer {
    rings: Arc<Rings>,
    index: usize,
    wakes: u64,
}

pub(crate) struct Consumer {
    rings: Arc<Rings>,
}

impl Contestant for BareRing {
    const ABOUT: About = About {
        name: "bare-ring",
        what: "a single-producer byte ring, no header, no order; publishes every record, futex",
        idle: &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Rings>;
    type Sender<const N: usize> = Producer;
    type Receiver<const N: usize> = Consumer;

    fn set_up<const N: usize>(setting: &Setting) -> Result<Arc<Rings>> {
        let rings = (0..setting.producers).map(|_| Ring::new());
        let rings = rings.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Rings {
            rings,
            bell: Shared::new()?,
        }))
    }

    fn sender<const N: usize>(rings: Arc<Rings>, index: usize) -> Result<Producer> {
        Ok(Producer {
            rings,
            index,
            wakes: 0,
        })
    }

    fn receiver<const N: usize>(rings: Arc<Rings>) -> Result<Consumer> {
        Ok(Consumer { rings })
    }

    fn share<const N: usize>(rings: &Arc<Rings>) -> Result<Arc<Rings>> {
        Ok(Arc::clone(rings))
    }
}

impl<const N: usize> Sender<N> for Producer {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        if !self.rings.rings[self.index].push(&message.bytes::<N>()) {
            return Ok(false);
        }
        self.wakes += u64::from(self.rings.bell.ring()?);
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
        let mut record = [0; N];
        for ring in &self.rings.rings {
            // A ring's length, so that a busy one ends, too.
            for _ in 0..RING / N {
                if !ring.pop(&mut record) {
                    break;
                }
                sink.record(&record);
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        let rings = &self.rings.rings;
        let is_ready = || rings.iter().any(Ring::has_records);
        self.rings.bell.wait(patience, is_ready)
    }

    fn skip(&mut self) -> Result<()> {
        self.rings.rings.iter().for_each(Ring::skip);
        Ok(())
    }
}
