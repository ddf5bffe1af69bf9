// SPDX-License-Identifier: MIT OR Apache-2.0
//! One attached service: its port, its identity, and the thread that sends it its stream.

use crate::access::Access;
use crate::driver::Driver;
use crate::receiver::TELLS_AFTER;
use crate::tag;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use fltport_abi::fixed::Fixed;
use fltport_abi::frame::{FRAME_RECORDS, FrameHeader, MAGIC};
use fltport_abi::limits::MAX_FRAME;
use fltport_nt::bindings::STATUS_INSUFFICIENT_RESOURCES;
use fltport_nt::ex::{FastMutex, PoolArc, PoolBytes};
use fltport_nt::flt::{ClientPort, PendingPort, SendOutcome};
use fltport_nt::ke::{Event, EventKind, SpinLock, Timeout};
use fltport_nt::ps::SystemThread;
use fltport_nt::{NtError, Result};

/// How long the sender waits for a reader before it looks whether it should end, and then waits
/// again.
const SEND_SLICE: Timeout = Timeout::from_millis(1000);

/// So many of a service's commands that bring megabytes of memory along may run at a time.
const MAX_LARGE: u32 = 2;

/// What is known of a service since it connected.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) number: u32,
    pub(crate) pid: u32,
    pub(crate) since: i64,
    pub(crate) rights: u32,
    pub(crate) generation: u32,
    pub(crate) version: u16,
    pub(crate) name: [u8; 48],
}

/// One attached service. The fields are dropped in this order; the port before the proof that the
/// connection exists, for the unload waits for the latter before it unregisters the filter, which
/// the port holds.
pub(crate) struct Connection {
    sender: FastMutex<Option<SystemThread>>,
    port: ClientPort,
    pub(crate) identity: Identity,
    pub(crate) access: Access,
    /// Set when there may be something to send and the sender had nothing left.
    pub(crate) wake: Event,
    /// Set for good when the service has been heard of, so that the Filter Manager certainly knows
    /// the connection, and when it ends.
    heard_of: Event,
    ending: AtomicBool,
    /// It was given rings: what it subscribes to from now on is marked by each processor.
    has_rings: AtomicBool,
    /// The sender has something to tell, after a while.
    tells_later: AtomicBool,
    /// Commands that bring much memory along and run now.
    large: AtomicU32,
    alive: Alive,
}

/// A command that brings much memory along runs as long as this exists.
pub(crate) struct Large<'c>(&'c AtomicU32);

impl Drop for Large<'_> {
    fn drop(&mut self) {
        // Relaxed: a number, and nothing is published by it.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Proof that a connection exists, counted by the driver.
pub(crate) struct Alive(PoolArc<Driver>);

impl Alive {
    /// Fails with `STATUS_DELETE_PENDING` when the driver is being unloaded.
    pub(crate) fn new(driver: &PoolArc<Driver>) -> Result<Self> {
        driver.connection_made()?;
        Ok(Alive(driver.clone()))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.connection_gone();
    }
}

impl Connection {
    /// IRQL: PASSIVE_LEVEL. A connection, not yet accepted and without its sender.
    #[inline(never)]
    pub(crate) fn new(
        driver: &PoolArc<Driver>,
        identity: Identity,
        access: Access,
        port: ClientPort,
    ) -> Result<PoolArc<Self>> {
        let wake = Event::new(tag::CONNECTION, EventKind::Synchronization)?;
        let heard_of = Event::new(tag::CONNECTION, EventKind::Notification)?;
        let sender = FastMutex::new(tag::CONNECTION, None)?;
        let alive = Alive::new(driver)?;
        PoolArc::new(
            tag::CONNECTION,
            Connection {
                sender,
                port,
                identity,
                access,
                wake,
                heard_of,
                ending: AtomicBool::new(false),
                has_rings: AtomicBool::new(false),
                tells_later: AtomicBool::new(false),
                large: AtomicU32::new(0),
                alive,
            },
        )
    }

    /// IRQL: PASSIVE_LEVEL. Takes the port over and lets the sender begin. False if the connection
    /// has been ended meanwhile.
    pub(crate) fn accept(&self, port: PendingPort) -> bool {
        let accepted = self.port.accept(port);
        self.wake.set();
        accepted
    }

    pub(crate) fn port(&self) -> &ClientPort {
        &self.port
    }

    /// IRQL: PASSIVE_LEVEL. Starts the thread that sends the stream.
    pub(crate) fn start_sender(connection: &PoolArc<Self>) -> Result<()> {
        let buffer = SpinLock::new(Some(PoolBytes::zeroed(tag::BUFFER, MAX_FRAME)?));
        let sender = PoolArc::new(
            tag::CONNECTION,
            Sender {
                connection: connection.clone(),
                buffer,
            },
        )?;
        let thread = SystemThread::spawn(tag::CONNECTION, sender, Sender::run)?;
        *connection.sender.lock() = Some(thread);
        Ok(())
    }

    /// IRQL: PASSIVE_LEVEL. Ends it: wakes everybody who waits for the service, and the sender, and
    /// waits until the sender has ended. Any number of times.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.port.close();
        self.wake.set();
        self.heard_of.set();
        // The guard's drop comes before the thread's, which waits: nobody must hold a fast mutex
        // while waiting.
        let sender = self.sender.lock().take();
        drop(sender);
    }

    /// IRQL: any. It was given rings.
    pub(crate) fn note_rings(&self) {
        self.has_rings.store(true, Ordering::Relaxed);
    }

    /// IRQL: any. Whether it was given rings. Who asks for them has no subscriptions yet, as a rule; one that is made at the same
    /// time goes through the routes.
    pub(crate) fn has_rings(&self) -> bool {
        self.has_rings.load(Ordering::Relaxed)
    }

    /// IRQL: any. Whether the sender has something to tell, after a while.
    pub(crate) fn tells_later(&self, later: bool) {
        // Relaxed: the sender's own, under the lock of the routes.
        self.tells_later.store(later, Ordering::Relaxed);
    }

    /// How long the sender waits to be woken.
    fn pause(&self) -> Timeout {
        match self.tells_later.swap(false, Ordering::Relaxed) {
            true => TELLS_AFTER,
            false => SEND_SLICE,
        }
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// IRQL: any. A command begins that brings megabytes along before it can be refused. Fails with
    /// `STATUS_INSUFFICIENT_RESOURCES` while others of this service run: else its threads could take
    /// all the memory that there is, each for a moment.
    pub(crate) fn begin_large(&self) -> Result<Large<'_>> {
        let one_more = |running: u32| (running < MAX_LARGE).then_some(running + 1);
        // Relaxed: as where it ends.
        let begun = self
            .large
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        begun
            .map(|_| Large(&self.large))
            .map_err(|_| NtError(STATUS_INSUFFICIENT_RESOURCES))
    }

    /// IRQL: <= DISPATCH_LEVEL. The service has sent a command or taken a message.
    pub(crate) fn note_heard_of(&self) {
        if !self.heard_of.is_set() {
            self.heard_of.set();
        }
    }

    /// IRQL: <= DISPATCH_LEVEL. Whether the service has been heard of. Before that, a send that is
    /// answered with "disconnected" says nothing.
    pub(crate) fn was_heard_of(&self) -> bool {
        self.heard_of.is_set()
    }

    /// IRQL: <= APC_LEVEL. Waits until the service has been heard of, or the connection ends.
    pub(crate) fn wait_until_heard_of(&self, limit: Timeout) {
        self.heard_of.wait(limit);
    }
}

/// What the sending thread works with.
struct Sender {
    connection: PoolArc<Connection>,
    /// Taken out by the thread when it starts.
    buffer: SpinLock<Option<PoolBytes>>,
}

impl Sender {
    fn run(&self) {
        let taken = self.buffer.lock().take();
        let Some(mut buffer) = taken else {
            return;
        };
        let connection = &*self.connection;
        while !connection.is_ending() && !connection.port.is_open() {
            connection.wake.wait(SEND_SLICE);
        }
        while !connection.is_ending() {
            let filled = self.fill(&mut buffer);
            let Some(frame) = buffer.get(..filled).filter(|frame| !frame.is_empty()) else {
                connection.wake.wait(connection.pause());
                continue;
            };
            let delivered = self.deliver(frame);
            let mut routes = connection.alive.0.routes().lock();
            if !delivered {
                routes.undelivered(connection.identity.number, frame);
                return;
            }
            routes.delivered(connection.identity.number, frame);
        }
    }

    /// Puts the next records of the stream into the buffer; the frame's length, or 0 if there are
    /// none.
    fn fill(&self, buffer: &mut PoolBytes) -> usize {
        let number = self.connection.identity.number;
        let Some(body) = buffer.get_mut(FrameHeader::SIZE..) else {
            return 0;
        };
        let (records, bytes) = self.connection.alive.0.routes().lock().take(number, body);
        if records == 0 {
            return 0;
        }
        let length = FrameHeader::SIZE + bytes;
        let header = FrameHeader {
            magic: MAGIC,
            version: self.connection.identity.version,
            kind: FRAME_RECORDS,
            length: length as u32,
            records,
            deadline_ms: 0,
            connection: number,
        };
        if header.write(buffer).is_some() {
            length
        } else {
            0
        }
    }

    /// Sends a frame until somebody takes it; false if the connection ends first. The records stay
    /// in flight meanwhile, and what comes after them is queued or lost: a slow service costs
    /// nobody else anything.
    fn deliver(&self, frame: &[u8]) -> bool {
        let connection = &*self.connection;
        while !connection.is_ending() {
            match connection.port.send(frame, None, SEND_SLICE) {
                SendOutcome::Delivered => {
                    connection.note_heard_of();
                    return true;
                }
                SendOutcome::TimedOut => {}
                SendOutcome::Failed(_) => {
                    // No memory, most likely: try again when there may be some, and at the latest
                    // after a slice.
                    connection.wake.wait(RETRY_PAUSE);
                }
                SendOutcome::Disconnected => {
                    // Whether the Filter Manager answers this before the connect callback has
                    // returned is not documented, so it does not end the stream: the disconnect
                    // callback does, and wakes this.
                    connection.wake.wait(SEND_SLICE);
                }
                SendOutcome::Replied(_)
                | SendOutcome::ThreadTerminating
                | SendOutcome::ReplyTooLong => return false,
            }
        }
        false
    }
}

/// How long the sender waits after a send that failed for want of memory.
const RETRY_PAUSE: Timeout = Timeout::from_millis(20);
