// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long it takes to get a message across and an answer back, and one way after a pause, with the
//! bare means of the system. Both sides sleep whenever they wait.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::contestant::Woken;
use crate::measure::Delay;
use crate::process::{self, Processors};
use crate::record::Message;
use crate::shared::bell;
use crate::shared::memory::{Data, Shared};

const LEN: usize = 64;
/// Nobody is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way for one message in one direction.
trait Wire: Sized {
    fn new() -> Result<Self>;
    fn send(&self, message: &[u8; LEN]) -> Result<()>;
    fn receive(&self, message: &mut [u8; LEN]) -> Result<()>;
}

/// Shared memory, and a futex that is woken for each message.
struct Futex {
    data: Data,
    full: Shared<AtomicU32>,
}

impl Wire for Futex {
    fn new() -> Result<Futex> {
        Ok(Futex {
            data: Data::new(4096)?,
            full: Shared::new()?,
        })
    }

    fn send(&self, message: &[u8; LEN]) -> Result<()> {
        // SAFETY: the last message was answered or is long read; the receiver waits for the word.
        unsafe { self.data.copy_in(0, message) };
        self.full.store(1, Ordering::Release);
        bell::wake(&self.full)
    }

    fn receive(&self, message: &mut [u8; LEN]) -> Result<()> {
        while self.full.load(Ordering::Acquire) == 0 {
            let woken = bell::sleep(&self.full, 0, PATIENCE)?;
            ensure!(woken != Woken::TimedOut, "no message came");
        }
        // SAFETY: the word says that it is there; the next one is sent after a pause or an answer.
        unsafe { self.data.copy_out(0, message) };
        self.full.store(0, Ordering::Release);
        Ok(())
    }
}

/// Shared memory, and an eventfd.
struct Event {
    data: Data,
    event: OwnedFd,
}

impl Wire for Event {
    fn new() -> Result<Event> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Event {
            data: Data::new(4096)?,
            event,
        })
    }

    fn send(&self, message: &[u8; LEN]) -> Result<()> {
        // SAFETY: the last message was answered or is long read; the receiver waits for the event.
        unsafe { self.data.copy_in(0, message) };
        write(&self.event, &1u64.to_ne_bytes()).context("cannot signal an eventfd")?;
        Ok(())
    }

    fn receive(&self, message: &mut [u8; LEN]) -> Result<()> {
        read(&self.event, &mut [0; 8]).context("cannot wait for an eventfd")?;
        // SAFETY: the event says that it is there; the next one is sent after a pause or an answer.
        unsafe { self.data.copy_out(0, message) };
        Ok(())
    }
}

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Wire for Pipe {
    fn new() -> Result<Pipe> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Pipe { out, into })
    }

    fn send(&self, message: &[u8; LEN]) -> Result<()> {
        ensure!(write(&self.into, message)? == LEN, "a pipe took a part");
        Ok(())
    }

    fn receive(&self, message: &mut [u8; LEN]) -> Result<()> {
        ensure!(read(&self.out, message)? == LEN, "a pipe gave a part");
        Ok(())
    }
}

struct SeqPacket {
    out: OwnedFd,
    into: OwnedFd,
}

impl Wire for SeqPacket {
    fn new() -> Result<SeqPacket> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (out, into) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok(SeqPacket { out, into })
    }

    fn send(&self, message: &[u8; LEN]) -> Result<()> {
        ensure!(write(&self.into, message)? == LEN, "a socket took a part");
        Ok(())
    }

    fn receive(&self, message: &mut [u8; LEN]) -> Result<()> {
        ensure!(read(&self.out, message)? == LEN, "a socket gave a part");
        Ok(())
    }
}

/// One of the bare means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means {
    pub(crate) name: &'static str,
    pub(crate) measure: fn(Processors, u64) -> Result<Times>,
}

pub(crate) const ALL: [Means; 4] = [
    Means {
        name: "futex",
        measure: measure::<Futex>,
    },
    Means {
        name: "eventfd",
        measure: measure::<Event>,
    },
    Means {
        name: "pipe",
        measure: measure::<Pipe>,
    },
    Means {
        name: "seqpacket",
        measure: measure::<SeqPacket>,
    },
];

/// What is found out about one of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) one_way: Delay,
    pub(crate) round_trip: Delay,
}

/// Round trips one after the other, then single messages after pauses; `count` of each.
fn measure<W: Wire>(processors: Processors, count: u64) -> Result<Times> {
    let (there, back) = (W::new()?, W::new()?);
    let heard = Shared::<AtomicU64>::new()?;
    let deadline = Instant::now() + PATIENCE;
    let far = process::start(|| {
        Processors::pin(&[processors.second])?;
        answer(&there, &back, count)?;
        listen(&there, &heard, count)
    })?;
    let near = process::start(|| {
        Processors::pin(&[processors.first])?;
        let round_trip = ask(&there, &back, count)?;
        tell(&there, &heard, count)?;
        Ok(round_trip)
    })?;
    let one_way = far.outcome(deadline)?;
    let round_trip = near.outcome(deadline)?;
    Ok(Times {
        one_way,
        round_trip,
    })
}

fn ask(there: &impl Wire, back: &impl Wire, count: u64) -> Result<Delay> {
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut answer = [0; LEN];
    for number in 0..count {
        let message = Message::counted(0, number).bytes();
        let began = clock::nanoseconds();
        there.send(&message)?;
        back.receive(&mut answer)?;
        histogram.record(clock::nanoseconds() - began)?;
        ensure!(answer == message, "another message came back");
    }
    Ok(Delay::of(&histogram))
}

fn answer(there: &impl Wire, back: &impl Wire, count: u64) -> Result<()> {
    let mut message = [0; LEN];
    for _ in 0..count {
        there.receive(&mut message)?;
        back.send(&message)?;
    }
    Ok(())
}

fn tell(there: &impl Wire, heard: &AtomicU64, count: u64) -> Result<()> {
    let limit = Instant::now() + PATIENCE;
    for number in 0..count {
        // There is room for one message.
        while heard.load(Ordering::Acquire) < number {
            ensure!(Instant::now() < limit, "a message was not heard");
        }
        clock::spin(crate::measure::PAUSE);
        there.send(&Message::timed(0, number, clock::nanoseconds()).bytes())?;
    }
    Ok(())
}

fn listen(there: &impl Wire, heard: &AtomicU64, count: u64) -> Result<Delay> {
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut message = [0; LEN];
    for _ in 0..count {
        there.receive(&mut message)?;
        let now = clock::nanoseconds();
        let (words, _) = message.as_chunks::<8>();
        let sent = words.last().map_or(0, |word| u64::from_le_bytes(*word));
        histogram.record(now.saturating_sub(sent).max(1))?;
        heard.fetch_add(1, Ordering::Release);
    }
    Ok(Delay::of(&histogram))
}
