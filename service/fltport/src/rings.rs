// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection's rings: who reads them, and what wakes that thread.
//!
//! One thread at a time reads: the connection's own, which puts what comes into the queue, or one of the program's that
//! [serves](crate::Client::serve). It holds the lock of the [`Reader`] while it does. What frames bring beside the
//! rings lies in a box for it; whoever puts something there, or ends the connection, sets the signal that producers
//! set as well, and that the thread sleeps on.

use crate::connection::Connection;
use crate::edge::{MappedRings, Signal};
use crate::error::Error;
use crate::event::Event;
use crate::failure::Fault;
use crate::lock::lock;
use crate::reader::{Owner, Reader};
use crate::supervisor::Shared;
use crate::transport::{NoRings, Transport};
use fltport_abi::command::{RingsRow, RingsWanted, features, own};
use fltport_abi::fixed::Fixed;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// No thread sleeps for longer without looking.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What a frame or a ring brings to the stream: an event, and the numbers that it stands for.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The event, and the bytes of its payload.
    pub(crate) event: (Event, usize),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) signal: Arc<Signal>,
    reader: Mutex<Reader>,
    letters: Mutex<Letters>,
    /// There are some.
    has_letters: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// The connection has ended: nothing more is to be read.
    ended: AtomicBool,
}

/// What frames have brought and nobody has looked at.
#[derive(Debug, Default)]
struct Letters {
    items: Vec<Item>,
    /// How many frames brought them.
    frames: u32,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Events may come: whatever comes before them is in the queue.
    open: bool,
    /// Everything that is to come has been handed on.
    finished: bool,
    /// Nobody waits for that: the client is being closed.
    abandoned: bool,
}

impl Connection {
    /// Asks the driver for rings; says how records will come.
    pub(crate) fn attach_rings(&self, shared: &Shared) -> Result<(), Error> {
        let (transport, rings) = match self.rings_or_why_not(shared)? {
            Ok(rings) => {
                let shape = lock(&rings.reader).shape();
                let transport = Transport::Rings {
                    rings: shape.rings(),
                    bytes: shape.capacity(),
                };
                (transport, Some(rings))
            }
            Err(why) => (Transport::Port(why), None),
        };
        self.set_transport(transport, rings);
        Ok(())
    }

    fn rings_or_why_not(&self, shared: &Shared) -> Result<Result<Rings, NoRings>, Error> {
        let Some(capacity) = shared.options.rings else {
            return Ok(Err(NoRings::NotWanted));
        };
        if self.has_stream {
            return Ok(Err(NoRings::Stream));
        }
        if self.features()?.features & features::RINGS == 0 {
            return Ok(Err(NoRings::DriverTooOld));
        }
        if !self.maps_views() {
            return Ok(Err(NoRings::HostTooOld));
        }
        let signal = match Signal::new() {
            Ok(signal) => signal,
            Err(failure) => return Ok(Err(NoRings::NoEvent(failure.code))),
        };
        let wanted = RingsWanted {
            capacity,
            reserved: 0,
            event: signal.handle(),
        };
        let mut payload = [0; RingsWanted::SIZE];
        // It fits: the array was made for it.
        let _fits = wanted.write(&mut payload);
        match self.command_with_views(0, own::RINGS, &payload, RingsRow::SIZE) {
            Ok(row) => self.rings_in(&row, signal).map(Ok),
            Err(failure) => match failure.fault {
                Fault::Disconnected | Fault::Cancelled | Fault::NoAnswer | Fault::Protocol(_) => {
                    Err(self.error(failure))
                }
                _ => Ok(Err(NoRings::Refused(failure.code))),
            },
        }
    }

    /// The rings that the driver has made. It uses them from now on, so there is no way back.
    fn rings_in(&self, row: &[u8], signal: Signal) -> Result<Rings, Error> {
        let row = RingsRow::read(row).ok_or(Error::Protocol("a short answer about rings"))?;
        let view = |address, size| self.take_view(address, size as usize);
        let views = view(row.data, row.data_size).zip(view(row.consumer, row.consumer_size));
        let mapped = views.and_then(|(data, words)| MappedRings::new(data, words));
        let mapped = mapped.ok_or(Error::Protocol("rings that are none"))?;
        Ok(Rings {
            signal: Arc::new(signal),
            reader: Mutex::new(Reader::new(mapped, self.first())),
            letters: Mutex::default(),
            has_letters: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
        })
    }
}

impl Rings {
    /// A frame has come, and has brought this. Whoever sleeps is woken, unless something else is about to.
    pub(crate) fn deliver(&self, items: &mut Vec<Item>, wakes: bool) {
        let mut letters = lock(&self.letters);
        // One without records, as requests are, says nothing of what is missing.
        letters.frames += u32::from(!items.is_empty());
        letters.bytes += items.iter().map(|item| item.event.1).sum::<usize>();
        letters.items.append(items);
        self.has_letters.store(true, Ordering::Release);
        drop(letters);
        if wakes {
            self.wake();
        }
    }

    /// Bytes that frames have brought and nobody has looked at.
    pub(crate) fn unread(&self) -> usize {
        match self.has_letters() {
            true => lock(&self.letters).bytes,
            false => 0,
        }
    }

    pub(crate) fn has_letters(&self) -> bool {
        self.has_letters.load(Ordering::Acquire)
    }

    /// What frames have brought since, and how many brought it.
    pub(crate) fn letters(&self) -> (Vec<Item>, u32) {
        let mut letters = lock(&self.letters);
        self.has_letters.store(false, Ordering::Release);
        let letters = std::mem::take(&mut *letters);
        (letters.items, letters.frames)
    }

    /// Wakes who reads.
    pub(crate) fn wake(&self) {
        // An event can be set as long as it exists.
        let _set = self.signal.set();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until events may come, which is soon, or none will.
    pub(crate) fn wait_until_open(&self) {
        self.wait_until(|state| state.open || self.has_ended());
    }

    pub(crate) fn is_finished(&self) -> bool {
        lock(&self.state).finished
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Events may come from now on.
    pub(crate) fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// The connection has ended.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.change(|_| ());
        self.wake();
    }

    /// And nobody is to wait until the program has been told all.
    pub(crate) fn abandon(&self) {
        self.change(|state| state.abandoned = true);
    }

    /// The program has been told all.
    pub(crate) fn finish(&self) {
        self.change(|state| state.finished = true);
    }

    /// Somebody else may read now.
    pub(crate) fn yield_to_others(&self) {
        self.change(|_| ());
    }

    /// What reads, for who is to.
    pub(crate) fn reader(&self) -> MutexGuard<'_, Reader> {
        lock(&self.reader)
    }

    /// Waits until this is so.
    fn wait_until(&self, is_so: impl Fn(&State) -> bool) {
        let mut state = lock(&self.state);
        while !is_so(&state) {
            let waited = self.changed.wait_timeout(state, LONG);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The connection's own thread: puts what comes into the queue until the connection ends; why it
    /// should, if that is found here.
    pub(crate) fn pump(&self, connection: &Arc<Connection>, shared: &Shared) -> Option<Error> {
        self.wait_until_open();
        loop {
            let serving = || shared.is_serving();
            self.wait_until(|state| state.finished || state.abandoned || !serving());
            if self.is_finished() || serving() && lock(&self.state).abandoned {
                return None;
            }
            let mut reader = self.reader();
            let ended = self.pump_while_alone(&mut reader, connection, shared);
            drop(reader);
            if let ControlFlow::Break(error) = ended {
                self.finish();
                return error;
            }
        }
    }

    /// Until the connection ends, or a thread of the program wants to serve.
    fn pump_while_alone(
        &self,
        reader: &mut Reader,
        connection: &Arc<Connection>,
        shared: &Shared,
    ) -> ControlFlow<Option<Error>> {
        let owner = Owner {
            rings: self,
            connection,
            shared,
        };
        while !shared.is_serving() {
            let ended = self.has_ended();
            if !ended && shared.queue.is_full_for(&self.signal) {
                if let Err(failure) = self.signal.wait(LONG) {
                    return ControlFlow::Break(Some(connection.error(failure)));
                }
                continue;
            }
            match reader.events(&owner, ended) {
                Err(error) => return ControlFlow::Break(Some(error)),
                Ok(events) if events.is_empty() && ended => return ControlFlow::Break(None),
                Ok(events) if events.is_empty() => {
                    let slept = reader.sleep(&owner, || shared.is_serving());
                    if let Err(failure) = slept {
                        return ControlFlow::Break(Some(connection.error(failure)));
                    }
                }
                Ok(events) => {
                    owner.note(events.iter().map(|(event, _)| event));
                    shared.queue.push(events);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// That rings hold what cannot be.
pub(crate) fn corrupt(corrupt: fltport_ring::Corrupt) -> Error {
    Error::CorruptRing {
        ring: corrupt.ring,
        position: corrupt.position,
    }
}
