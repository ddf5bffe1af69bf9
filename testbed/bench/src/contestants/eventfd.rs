// SPDX-License-Identifier: MIT OR Apache-2.0

//! A ring with an eventfd that is written for every record, as is simple and often seen.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use super::bare_ring::Ring;
use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};

pub(crate) struct EventFd;

pub(crate) struct Both {
    ring: Ring,
    event: OwnedFd,
}

impl Contestant for EventFd {
    const ABOUT: About = About {
        name: "eventfd",
        what: "a ring, and an eventfd that is written for every record",
        idle: &[Idle::Sleeps],
        producers: 1,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Both>;
    type Sender<const N: usize> = Producer;
    type Receiver<const N: usize> = Consumer;

    fn set_up<const N: usize>(_: &Setting) -> Result<Arc<Both>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
        Ok(Arc::new(Both {
            ring: Ring::new()?,
            event,
        }))
    }

    fn sender<const N: usize>(both: Arc<Both>, _: usize) -> Result<Producer> {
        Ok(Producer { both, wakes: 0 })
    }

    fn receiver<const N: usize>(both: Arc<Both>) -> Result<Consumer> {
        Ok(Consumer { both })
    }
}

pub(crate) struct Producer {
    both: Arc<Both>,
    wakes: u64,
}

pub(crate) struct Consumer {
    both: Arc<Both>,
}

impl Producer {
    fn signal(&mut self) -> Result<()> {
        let one = 1u64.to_ne_bytes();
        write(&self.both.event, &one).context("cannot signal an eventfd")?;
        self.wakes += 1;
        Ok(())
    }
}

impl<const N: usize> Sender<N> for Producer {
    fn send(&mut self, message: Message) -> Result<bool> {
        if !self.both.ring.push(&message.bytes::<N>()) {
            return Ok(false);
        }
        self.signal()?;
        Ok(true)
    }

    fn finish(&mut self) -> Result<()> {
        self.signal()
    }

    fn wakes(&self) -> Option<u64> {
        Some(self.wakes)
    }
}

impl<const N: usize> Receiver<N> for Consumer {
    const TAKES_BY_WAITING: bool = true;

    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut record = [0; N];
        let mut taken = 0;
        while taken < (RING / N) as u64 && self.both.ring.pop(&mut record) {
            sink.record(&record);
            taken += 1;
        }
        Ok(taken)
    }

    fn wait(&mut self, sink: &mut impl Sink<N>, _: Duration) -> Result<Woken> {
        let mut count = [0; 8];
        read(&self.both.event, &mut count).context("cannot wait for an eventfd")?;
        self.drain(sink)?;
        Ok(Woken::Called)
    }
}
