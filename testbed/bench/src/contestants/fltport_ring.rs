// SPDX-License-Identifier: MIT OR Apache-2.0

//! fltport's own rings, by the crate that the common driver and the service library use: one ring for each
//! producer, one order for all, and a full header with number and time in front of each record.
//!
//! A producer does what the driver does for a notification that is simple: it takes the time, looks
//! for room, settles what has been read if there is none, copies, takes a number, publishes and
//! looks at the bell. The consumer copies a batch of all rings, in the order of the numbers, gives
//! the room back, reads the records in its copy, and looks away for a moment if they were few, as
//! the service library does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{RecordHeader, RecordKind, record_size};
use fltport_ring as ring;
use fltport_ring::{Account, Bell, LogEntry, look_away, stride};

use crate::clock::{self, Counter};
use crate::contestant::{About, Contestant, Idle, RING, Receiver, Sender, Setting, Woken};
use crate::record::{Message, Sink};
use crate::shared::bell;
use crate::shared::memory::Shared;
use crate::shared::rings::RingMemory;

pub(crate) struct FltportRing;

/// As many records are settled in one go as the driver settles in one hold of its lock.
const SETTLED_AT_ONCE: usize = 1024;
/// A batch of the consumer's, as the service library has it.
const BATCH: usize = 32 * 1024;
/// What records are published with, and what comes back when they are read.
const TAG: u16 = 0x8001;

pub(crate) struct Connection {
    memory: RingMemory,
    /// The event that the bell rings: 1 if it is set.
    event: Shared<AtomicU32>,
    counter: Counter,
}

type Ours = Arc<Account<Vec<LogEntry>>>;

pub(crate) struct Producer {
    // Dropped in this order: what uses the memory, then the memory.
    producer: ring::Producer<Ours>,
    settler: ring::Settler<Ours>,
    bell: Bell,
    connection: Arc<Connection>,
    delivered: u64,
    wakes: u64,
}

pub(crate) struct Consumer {
    consumer: ring::Consumer<Vec<ring::Cursor>>,
    connection: Arc<Connection>,
    next: u64,
    batch: Box<[u8]>,
    /// When to look again, if not at once.
    due: Option<u64>,
}

impl Contestant for FltportRing {
    const ABOUT: About = About {
        name: "fltport-ring",
        what: "fltport's own: a ring for each producer, one order; full header with number and time",
        idle: &[Idle::Sleeps, Idle::Spins, Idle::Lazy, Idle::Nobody],
        producers: 2,
        threads: false,
        wakes_for_each: true,
    };
    type Shared<const N: usize> = Arc<Connection>;
    type Sender<const N: usize> = Producer;
    type Receiver<const N: usize> = Consumer;

    fn set_up<const N: usize>(setting: &Setting) -> Result<Arc<Connection>> {
        Ok(Arc::new(Connection {
            memory: RingMemory::new(setting.producers, RING)?,
            event: Shared::new()?,
            counter: Counter::new(),
        }))
    }

    fn sender<const N: usize>(connection: Arc<Connection>, index: usize) -> Result<Producer> {
        let memory = &connection.memory;
        let places = (0..memory.shape.records()).map(|_| LogEntry::new());
        let account = Arc::new(Account::new(places.collect()));
        let (producer, settler) =
            ring::Producer::new(memory.shape, index, &memory.data, &memory.consumer, account)
                .context("no such ring")?;
        Ok(Producer {
            producer,
            settler,
            bell: Bell::new(&memory.consumer),
            connection,
            delivered: 0,
            wakes: 0,
        })
    }

    fn receiver<const N: usize>(connection: Arc<Connection>) -> Result<Consumer> {
        let memory = &connection.memory;
        let cursors = vec![ring::Cursor::default(); memory.shape.rings()];
        let consumer = ring::Consumer::new(memory.shape, &memory.data, &memory.consumer, cursors);
        Ok(Consumer {
            consumer: consumer.context("no such rings")?,
            connection,
            next: 1,
            batch: vec![0; BATCH].into_boxed_slice(),
            due: None,
        })
    }

    fn share<const N: usize>(connection: &Arc<Connection>) -> Result<Arc<Connection>> {
        Ok(Arc::clone(connection))
    }
}

impl Producer {
    /// Accounts for what has been read.
    #[cold]
    fn settle(&mut self) {
        let delivered = &mut self.delivered;
        self.settler.settle(SETTLED_AT_ONCE, |gone| {
            *delivered += u64::from(gone.tag == TAG);
        });
    }

    #[cold]
    fn wake(&mut self) -> Result<()> {
        self.wakes += 1;
        self.connection.event.store(1, Ordering::Release);
        bell::wake(&self.connection.event)
    }
}

impl<const N: usize> Sender<N> for Producer {
    #[inline]
    fn send(&mut self, message: Message) -> Result<bool> {
        const { assert!(record_size(0) + N <= BATCH) };
        let size = record_size(N);
        // Whoever notifies has it already.
        let payload = message.bytes::<N>();
        let time = self.connection.counter.system_time();
        if !self.producer.has_room(stride(size)) {
            self.settle();
            if !self.producer.has_room(stride(size)) {
                return Ok(false);
            }
        }
        let Some(mut room) = self.producer.room(size) else {
            return Ok(false);
        };
        ensure!(room.write(0, &payload), "a record of no room");
        let header = RecordHeader {
            size: 0,
            payload: N as u32,
            sequence: self.connection.memory.order.take(1),
            time,
            provider: 1,
            message: 1,
            kind: RecordKind::Notification as u16,
            fixed: N as u16,
        };
        room.commit(&header, TAG);
        if self.bell.is_to_ring() {
            self.wake()?;
        }
        Ok(true)
    }

    fn wakes(&self) -> Option<u64> {
        Some(self.wakes)
    }
}

/// Hands on the records of a batch.
#[inline]
fn hand_on<const N: usize>(mut batch: &[u8], sink: &mut impl Sink<N>) -> Result<()> {
    while !batch.is_empty() {
        let header = RecordHeader::read(batch).context("no header")?;
        let (record, rest) = batch
            .split_at_checked(header.size as usize)
            .context("a record that is cut off")?;
        let payload = record
            .get(RecordHeader::SIZE..)
            .and_then(<[u8]>::first_chunk);
        sink.record(payload.context("a short record")?);
        batch = rest;
    }
    Ok(())
}

impl<const N: usize> Receiver<N> for Consumer {
    #[inline]
    fn drain(&mut self, sink: &mut impl Sink<N>) -> Result<u64> {
        let mut taken = 0;
        // A ring's length, so that a busy one ends, too.
        while taken < (RING / N) as u64 {
            if let Some(due) = self.due.take() {
                clock::spin_until(due);
            }
            let (records, bytes, next) = self.consumer.fill(self.next, &mut self.batch)?;
            if records == 0 {
                break;
            }
            self.next = next;
            let away = look_away(bytes, BATCH);
            if away > 0 {
                self.due = Some(clock::nanoseconds() + away);
            }
            self.consumer.release();
            hand_on(&self.batch[..bytes], sink)?;
            taken += u64::from(records);
        }
        Ok(taken)
    }

    fn wait(&mut self, _: &mut impl Sink<N>, patience: Duration) -> Result<Woken> {
        let event = &self.connection.event;
        event.store(0, Ordering::Relaxed);
        if !self.consumer.arm() {
            return Ok(Woken::NotAsleep);
        }
        let woken = bell::sleep(event, 0, patience)?;
        self.consumer.disarm();
        Ok(woken)
    }

    fn skip(&mut self) -> Result<()> {
        self.next = self.connection.memory.order.next();
        // Passes over what it has found; there are no records before number 0, so it finds all there is.
        while self.consumer.front(0)? != ring::Front::Empty {
            self.consumer.pass_over(self.next)?;
        }
        self.consumer.release();
        Ok(())
    }
}
