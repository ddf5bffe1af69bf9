// SPDX-License-Identifier: MIT OR Apache-2.0

//! Linux' own way out of the kernel: the BPF ring buffer. The producer is a BPF program, made
//! of instructions here, that the kernel runs many times in one call (BPF_PROG_TEST_RUN), or once.
//! The consumer maps the ring as the kernel lays it out (linux/bpf.h and its ring buffer
//! documentation): a page with its own position, a page with the producers', then the data twice in a
//! row, so that no record is cut at the end.

mod program;
mod syscall;

use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::ProtFlags;
use rustix::param::page_size;
use rustix::time::Timespec;

use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, PRODUCERS, Sink};
use crate::shared::Line;
use crate::shared::memory::{Data, Mapping, Shareable};
use program::{Notify, Source};

/// The kernel wakes the consumer when it has caught up; many records in a call.
pub(crate) type Adaptive = Bpf<0>;
/// The program asks for a wake-up when 64 KiB are waiting; many records in a call.
pub(crate) type Batched = Bpf<1>;
/// As [`Adaptive`], one record in a call.
pub(crate) type EachCall = Bpf<2>;

pub(crate) struct Bpf<const KIND: u8>;

const HEADER: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// What a program and the processes know in common: how many records it has made.
#[repr(C)]
struct Counters {
    made: [Line<AtomicU64>; PRODUCERS],
}

// SAFETY: atomics and padding.
unsafe impl Shareable for Counters {}

/// The maps, which are descriptors, and their memory.
pub(crate) struct Maps {
    ring: OwnedFd,
    counters: OwnedFd,
    notify: Notify,
    timed: bool,
}

impl<const KIND: u8> Contestant for Bpf<KIND> {
    const ABOUT: About = About {
        name: ["bpf", "bpf-64k", "bpf-each"][KIND as usize],
        what: [
            "BPF ring buffer, 500 records in a call; adaptive wake-up, none if the consumer polls",
            "BPF ring buffer, 500 records in a call; woken when 64 KiB are waiting",
            "BPF ring buffer, one record in a call; adaptive wake-up",
        ][KIND as usize],
        idle: match KIND {
            0 => &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
            _ => &[Idle::Sleeps],
        },
        producers: 2,
        threads: false,
        wakes_for_each: KIND != 1,
    };
    type Shared<const N: usize> = Arc<Maps>;
    type Sender<const N: usize> = Producer<KIND, N>;
    type Receiver<const N: usize> = Consumer;

    fn is_possible() -> Result<()> {
        let maps = Self::set_up::<64>(&Setting {
            producers: 1,
            idle: Idle::Nobody,
            timed: false,
        })?;
        Self::sender::<64>(maps, 0).map(drop)
    }

    fn set_up<const N: usize>(setting: &Setting) -> Result<Arc<Maps>> {
        let ring = syscall::create_ring(RING).context(
            "the kernel makes no BPF ring; it takes root (CAP_BPF, CAP_NET_ADMIN) and Linux 5.8",
        )?;
        let counters = syscall::create_array(size_of::<Counters>())
            .context("the kernel makes no BPF array")?;
        let notify = match (KIND, setting.idle) {
            (_, Idle::Lazy | Idle::Nobody) => Notify::Never,
            (1, _) => Notify::At(1 << 16),
            _ => Notify::Adaptive,
        };
        Ok(Arc::new(Maps {
            ring,
            counters,
            notify,
            timed: setting.timed,
        }))
    }

    fn sender<const N: usize>(maps: Arc<Maps>, index: usize) -> Result<Producer<KIND, N>> {
        let source = Source {
            ring: maps.ring.as_fd(),
            counters: maps.counters.as_fd(),
            counter: size_of::<Line<AtomicU64>>() * index,
            producer: index,
            len: N,
            notify: maps.notify,
            timed: maps.timed,
        };
        let program =
            syscall::load(&source.assemble()).context("the kernel refuses the program")?;
        let counters = Mapping::of(maps.counters.as_fd(), 0, page_size(), both())?;
        Ok(Producer {
            program,
            counters: Words::of(counters),
            index,
            len: PhantomData,
        })
    }

    fn receiver<const N: usize>(maps: Arc<Maps>) -> Result<Consumer> {
        let page = page_size();
        let mine = Mapping::of(maps.ring.as_fd(), 0, page, both())?;
        let len = page + 2 * RING;
        let theirs = Mapping::of(maps.ring.as_fd(), page as u64, len, ProtFlags::READ)?;
        Ok(Consumer {
            data: Data::of(theirs),
            page,
            mine: Words::of(mine),
            consumed: 0,
            maps,
        })
    }

    fn share<const N: usize>(maps: &Arc<Maps>) -> Result<Arc<Maps>> {
        Ok(Arc::clone(maps))
    }
}

fn both() -> ProtFlags {
    ProtFlags::READ | ProtFlags::WRITE
}

/// 64-bit words that the kernel shares with us.
struct Words {
    data: Data,
}

impl Words {
    fn of(mapping: Mapping) -> Words {
        Words {
            data: Data::of(mapping),
        }
    }

    #[inline]
    fn at(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: these mappings are used as words only.
        unsafe { self.data.long(offset) }
    }
}

pub(crate) struct Producer<const KIND: u8, const N: usize> {
    program: OwnedFd,
    counters: Words,
    index: usize,
    len: PhantomData<[u8; N]>,
}

impl<const KIND: u8, const N: usize> Sender<N> for Producer<KIND, N> {
    const BURST: u64 = if KIND == 2 { 1 } else { 500 };

    fn send(&mut self, _: Message) -> Result<bool> {
        anyhow::bail!("the program makes the records itself")
    }

    fn make(&mut self, from: u64, count: u64) -> Result<Option<u64>> {
        let repeat = u32::try_from(count)?;
        syscall::run(&self.program, repeat).context("the kernel does not run the program")?;
        let offset = size_of::<Line<AtomicU64>>() * self.index;
        let made = self.counters.at(offset).load(Ordering::Acquire);
        Ok(Some(made - from))
    }
}

pub(crate) struct Consumer {
    /// The producers' page, and the data twice.
    data: Data,
    page: usize,
    mine: Words,
    consumed: u64,
    maps: Arc<Maps>,
}

impl Consumer {
    #[inline]
    fn reserved(&self) -> u64 {
        // SAFETY: the page before the data holds the producers' position, which is no record.
        unsafe { self.data.long(0) }.load(Ordering::Acquire)
    }
}

impl<const N: usize> Receiver<N> for Consumer {
    #[inline]
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut taken = 0;
        let reserved = self.reserved();
        while self.consumed < reserved {
            let offset = self.page + self.consumed as usize % RING;
            // SAFETY: what is reserved begins with a header.
            let len = unsafe { self.data.word(offset) }.load(Ordering::Acquire);
            if len & BUSY != 0 {
                break;
            }
            if len & DISCARDED == 0 {
                // SAFETY: submitted, and not given back.
                sink.record(unsafe { self.data.record::<N>(offset + HEADER) });
                taken += 1;
            }
            let len = (len & !DISCARDED) as usize;
            self.consumed += (HEADER + len).next_multiple_of(HEADER) as u64;
            // For each record, as is usual: the kernel looks at it to see who has caught up.
            self.mine.at(0).store(self.consumed, Ordering::Release);
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        let patience = Timespec::try_from(patience).context("too long a patience")?;
        let mut descriptors = [PollFd::new(&self.maps.ring, PollFlags::IN)];
        match poll(&mut descriptors, Some(&patience)).context("cannot wait for the ring")? {
            0 => Ok(Woken::TimedOut),
            _ => Ok(Woken::Called),
        }
    }

    fn skip(&mut self) -> Result<()> {
        self.consumed = self.reserved();
        self.mine.at(0).store(self.consumed, Ordering::Release);
        Ok(())
    }
}
