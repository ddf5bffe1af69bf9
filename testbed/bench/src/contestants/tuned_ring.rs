// SPDX-License-Identifier: MIT OR Apache-2.0

//! The limit: a single-producer ring for records of whole cache lines, in which each side keeps its
//! own copy of the other's index and looks again only when there seems to be no room or no record.
//! It publishes every record. With two producers there are two of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};
use crate::shared::Indices;
use crate::shared::bell::Bell;
use crate::shared::memory::{Data, Shared};

pub(crate) struct TunedRing;

struct Ring {
    /// Of records.
    indices: Shared<Indices>,
    data: Data,
}

pub(crate) struct Rings {
    rings: Vec<Ring>,
    bell: Shared<Bell>,
    /// Somebody may sleep.
    may_sleep: bool,
}

pub(crate) struct Producer {
    rings: Arc<Rings>,
    index: usize,
    tail: u64,
    head_seen: u64,
    wakes: u64,
}

pub(crate) struct Consumer {
    rings: Arc<Rings>,
    heads: Vec<u64>,
}

impl Contestant for TunedRing {
    const ABOUT: About = About {
        name: "tuned-ring",
        what: "the same, tuned: whole lines, cached indices; nobody is woken unless it may sleep",
        idle: &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Rings>;
    type Sender<const N: usize> = Producer;
    type Receiver<const N: usize> = Consumer;

    fn set_up<const N: usize>(setting: &Setting) -> Result<Arc<Rings>> {
        const { assert!(RING.is_multiple_of(N) && N.is_multiple_of(64)) };
        let mut rings = Vec::new();
        for _ in 0..setting.producers {
            rings.push(Ring {
                indices: Shared::new()?,
                data: Data::new(RING)?,
            });
        }
        let may_sleep = matches!(setting.idle, Idle::Sleeps | Idle::Spins);
        Ok(Arc::new(Rings {
            rings,
            bell: Shared::new()?,
            may_sleep,
        }))
    }

    fn sender<const N: usize>(rings: Arc<Rings>, index: usize) -> Result<Producer> {
        Ok(Producer {
            rings,
            index,
            tail: 0,
            head_seen: 0,
            wakes: 0,
        })
    }

    fn receiver<const N: usize>(rings: Arc<Rings>) -> Result<Consumer> {
        let heads = vec![0; rings.rings.len()];
        Ok(Consumer { rings, heads })
    }

    fn share<const N: usize>(rings: &Arc<Rings>) -> Result<Arc<Rings>> {
        Ok(Arc::clone(rings))
    }
}

impl<const N: usize> Sender<N> for Producer {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        let ring = &self.rings.rings[self.index];
        let room = (RING / N) as u64;
        if self.tail - self.head_seen == room {
            self.head_seen = ring.indices.head.load(Ordering::Acquire);
            if self.tail - self.head_seen == room {
                return Ok(false);
            }
        }
        let offset = (self.tail as usize % (RING / N)) * N;
        // SAFETY: there is room for it, and the consumer does not read it before the tail says so.
        unsafe { ring.data.fill::<N>(offset, message) };
        self.tail += 1;
        ring.indices.tail.store(self.tail, Ordering::Release);
        if self.rings.may_sleep {
            self.wakes += u64::from(self.rings.bell.ring()?);
        }
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
        for (ring, head) in self.rings.rings.iter().zip(&mut self.heads) {
            let tail = ring.indices.tail.load(Ordering::Acquire);
            // Some is given back before all is read, or the producer would wait for it.
            while *head < tail {
                let end = tail.min(*head + (RING / N / 8) as u64);
                for number in *head..end {
                    let offset = (number as usize % (RING / N)) * N;
                    // SAFETY: before the tail, and not given back.
                    sink.record(unsafe { ring.data.record::<N>(offset) });
                }
                taken += end - *head;
                *head = end;
                ring.indices.head.store(end, Ordering::Release);
            }
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        let rings = || self.rings.rings.iter().zip(&self.heads);
        let is_ready =
            || rings().any(|(ring, head)| ring.indices.tail.load(Ordering::Acquire) != *head);
        self.rings.bell.wait(patience, is_ready)
    }

    fn skip(&mut self) -> Result<()> {
        for (ring, head) in self.rings.rings.iter().zip(&mut self.heads) {
            *head = ring.indices.tail.load(Ordering::Acquire);
            ring.indices.head.store(*head, Ordering::Release);
        }
        Ok(())
    }
}
