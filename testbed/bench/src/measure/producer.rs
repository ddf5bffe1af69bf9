// SPDX-License-Identifier: MIT OR Apache-2.0

//! A producer with a consumer at the other end.

use std::hint::spin_loop;
use std::thread::yield_now;

use anyhow::Result;

use super::{PAUSE, Part, Plan, Work};
use crate::clock;
use crate::contestant::{Contestant, Sender};
use crate::control::Control;
use crate::process::Processors;
use crate::record::Message;

/// How long one looks away when there is no room. Then others may run, if they want to.
const LOOKS: u32 = 32;

/// The whole life of a producer.
pub(super) fn run<C: Contestant, const N: usize>(
    plan: &Plan,
    control: &Control,
    shared: C::Shared<N>,
    index: usize,
) -> Result<Part> {
    Processors::pin(&[plan.producer(index)])?;
    let mut sender = C::sender::<N>(shared, index)?;
    let mut probes = Vec::new();
    control.ready(1)?;
    if let Some(side) = plan.producer_side(index) {
        probes.push(control.probe(side)?);
    }
    control.ready(2)?;
    let mut producer = Producer {
        sender: &mut sender,
        index,
        sent: 0,
        full: 0,
    };
    match plan.work {
        Work::Flow => producer.flow::<N>(control, plan.limit())?,
        Work::Delay => producer.delayed::<N>(plan.limit())?,
    }
    let full = producer.full;
    control.done(index, producer.sent);
    sender.finish()?;
    control.ready(3)?;
    if let Some(side) = plan.producer_side(index) {
        probes.push(control.probe(side)?);
    }
    // Both sides would tell the same.
    if index > 0 {
        probes.clear();
    }
    Ok(Part::Producer {
        full,
        wakes: sender.wakes(),
        probes,
    })
}

/// A producer at work.
pub(super) struct Producer<'a, S> {
    pub(super) sender: &'a mut S,
    pub(super) index: usize,
    pub(super) sent: u64,
    pub(super) full: u64,
}

impl<S> Producer<'_, S> {
    /// Sends until it is stopped, or has sent `limit`.
    fn flow<const N: usize>(&mut self, control: &Control, limit: u64) -> Result<()>
    where
        S: Sender<N>,
    {
        while self.sent < limit && !control.is_stopped() {
            self.burst(S::BURST.min(limit - self.sent))?;
        }
        Ok(())
    }

    /// Sends `count` records, or as many as there is room for if the contestant makes them.
    #[inline]
    pub(super) fn burst<const N: usize>(&mut self, count: u64) -> Result<()>
    where
        S: Sender<N>,
    {
        if let Some(made) = self.sender.make(self.sent, count)? {
            self.sent += made;
            if made == 0 {
                self.full += 1;
                look_away();
            }
            return Ok(());
        }
        for _ in 0..count {
            self.send(Message::counted(self.index, self.sent))?;
        }
        Ok(())
    }

    #[inline]
    fn send<const N: usize>(&mut self, message: Message) -> Result<()>
    where
        S: Sender<N>,
    {
        while !self.sender.send(message)? {
            self.full += 1;
            look_away();
        }
        self.sent += 1;
        Ok(())
    }

    /// Sends `count` records with pauses.
    fn delayed<const N: usize>(&mut self, count: u64) -> Result<()>
    where
        S: Sender<N>,
    {
        while self.sent < count {
            clock::spin(PAUSE);
            match self.sender.make(self.sent, 1)? {
                Some(made) => self.sent += made,
                None => {
                    let now = clock::nanoseconds();
                    self.send(Message::timed(self.index, self.sent, now))?;
                }
            }
        }
        Ok(())
    }
}

#[cold]
fn look_away() {
    for _ in 0..LOOKS {
        spin_loop();
    }
    yield_now();
}
