// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a contestant is: a way to bring records from producers to one consumer, in two halves over
//! something shared that is made before the processes part.
//!
//! All of it is generic over the length of a record, so that each contestant is compiled for the
//! length that it carries, as the code of a driver is.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::record::{Message, Sink};

/// How large every ring is, and every pipe as far as that can be said. With several rings, each.
pub(crate) const RING: usize = 1 << 20;

/// What the consumer does when it finds nothing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Idle {
    /// It sleeps at once.
    Sleeps,
    /// It looks for a few microseconds, and then sleeps.
    Spins,
    /// It never sleeps; it looks again after about two microseconds.
    Lazy,
    /// There is none: room for everything, and the cost of producing alone.
    Nobody,
}

/// What a contestant is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) producers: usize,
    pub(crate) idle: Idle,
    /// The stamp is the time; of interest only to those who do not take messages but make them.
    pub(crate) timed: bool,
}

/// What a contestant can do, and what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What its consumer may do when idle.
    pub(crate) idle: &'static [Idle],
    pub(crate) producers: usize,
    /// Threads of one process, because it cannot leave one.
    pub(crate) threads: bool,
    /// A producer wakes a sleeping consumer for each record, so none is found late.
    pub(crate) wakes_for_each: bool,
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There was something, or it was not known; nobody slept.
    NotAsleep,
    Called,
    TimedOut,
    /// All producers have closed their ends.
    Closed,
}

/// A way out of a kernel.
pub(crate) trait Contestant: 'static {
    const ABOUT: About;
    /// What both halves come from.
    type Shared<const N: usize>: Send;
    type Sender<const N: usize>: Sender<N>;
    type Receiver<const N: usize>: Receiver<N>;

    /// Whether this machine has it; an error says why not, and what would help.
    fn is_possible() -> Result<()> {
        Ok(())
    }

    fn set_up<const N: usize>(setting: &Setting) -> Result<Self::Shared<N>>;

    /// The half of one producer. Each process makes its own half from its own copy, and what it
    /// does not need it drops.
    fn sender<const N: usize>(shared: Self::Shared<N>, index: usize) -> Result<Self::Sender<N>>;

    fn receiver<const N: usize>(shared: Self::Shared<N>) -> Result<Self::Receiver<N>>;

    /// Another one for the same process: for threads, and for producers without a consumer.
    fn share<const N: usize>(_shared: &Self::Shared<N>) -> Result<Self::Shared<N>> {
        bail!("both halves cannot be in one process")
    }
}

/// A producer's half.
pub(crate) trait Sender<const N: usize> {
    /// How many messages are sent between two looks at whether to stop.
    const BURST: u64 = 64;

    /// Sends one message. `false` if there is no room.
    fn send(&mut self, message: Message) -> Result<bool>;

    /// For those who make messages themselves: sends up to `count`, from number `from` on, and says
    /// how many those were. `None` for all others.
    fn make(&mut self, _from: u64, _count: u64) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Nothing more will come: whoever waits for more than there is has to be told.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// How often it has woken the consumer, if it knows.
    fn wakes(&self) -> Option<u64> {
        None
    }
}

/// The consumer's half.
pub(crate) trait Receiver<const N: usize> {
    /// Its `wait` takes records as well, so that there is no need to look before.
    const TAKES_BY_WAITING: bool = false;

    /// Takes what is there. It may be more by the end, but the call ends.
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64>;

    /// Sleeps until there may be something, for that long at most.
    fn wait(&mut self, sink: &mut impl Sink<N>, patience: Duration) -> Result<Woken>;

    /// Forgets what is there without a look at it.
    fn skip(&mut self) -> Result<()> {
        bail!("it cannot skip records")
    }
}
