// SPDX-License-Identifier: MIT OR Apache-2.0

//! rtrb, a well-known single-producer ring for threads. It knows no sleep.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};

pub(crate) struct Rtrb;

/// Each half is there until it is taken.
pub(crate) struct Halves<const N: usize> {
    producer: Option<rtrb::Producer<[u8; N]>>,
    consumer: Option<rtrb::Consumer<[u8; N]>>,
}

impl Contestant for Rtrb {
    const ABOUT: About = About {
        name: "rtrb",
        what: "the crate rtrb; two threads",
        idle: &[Idle::Lazy],
        producers: 1,
        threads: true,
        wakes_for_each: false,
    };
    type Shared<const N: usize> = Arc<Mutex<Halves<N>>>;
    type Sender<const N: usize> = rtrb::Producer<[u8; N]>;
    type Receiver<const N: usize> = rtrb::Consumer<[u8; N]>;

    fn set_up<const N: usize>(_: &Setting) -> Result<Self::Shared<N>> {
        let (producer, consumer) = rtrb::RingBuffer::new(RING / N);
        let halves = Halves {
            producer: Some(producer),
            consumer: Some(consumer),
        };
        Ok(Arc::new(Mutex::new(halves)))
    }

    fn sender<const N: usize>(shared: Self::Shared<N>, _: usize) -> Result<Self::Sender<N>> {
        let taken = shared
            .lock()
            .ok()
            .and_then(|mut halves| halves.producer.take());
        taken.ok_or_else(|| anyhow!("there is one producer"))
    }

    fn receiver<const N: usize>(shared: Self::Shared<N>) -> Result<Self::Receiver<N>> {
        let taken = shared
            .lock()
            .ok()
            .and_then(|mut halves| halves.consumer.take());
        taken.ok_or_else(|| anyhow!("there is one consumer"))
    }

    fn share<const N: usize>(shared: &Self::Shared<N>) -> Result<Self::Shared<N>> {
        Ok(Arc::clone(shared))
    }
}

impl<const N: usize> Sender<N> for rtrb::Producer<[u8; N]> {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        Ok(self.push(message.bytes::<N>()).is_ok())
    }
}

impl<const N: usize> Receiver<N> for rtrb::Consumer<[u8; N]> {
    #[inline]
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut taken = 0;
        while taken < (RING / N) as u64
            && let Ok(record) = self.pop()
        {
            sink.record(&record);
            taken += 1;
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, _: Duration) -> Result<Woken> {
        bail!("rtrb cannot sleep")
    }
}
