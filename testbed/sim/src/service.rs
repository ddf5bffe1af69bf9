// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service, connected: gets, commands, replies, and the books it reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fltmgr::GetOutcome;
use fltport_abi::command::{
    CommandHeader, ConnectionRow, LedgerRow, Limits, Page, ProviderRow, RequestRow, RingsRow,
    RingsWanted, Subscription, own,
};
use fltport_abi::fixed::{Fixed, name_from_bytes};
use fltport_abi::frame::{REPLY_MAGIC, ReplyHeader};
use fltport_abi::hello::{Hello, rights};
use fltport_abi::limits::PORT_NAME;
use nt_host::clock::Deadline;
use nt_host::flt::UserPort;
use nt_host::sched::{self, Waiter};
use nt_host::{Kernel, Process, UserEvent, UserSlice};
use parking_lot::Mutex;

use crate::plan;
use crate::rings::Rings;
use crate::stream::{MESSAGE_HEADER, Request, Stream};

/// Bytes of a get's buffer: the largest frame and the Filter Manager's header.
pub const BUFFER: usize = MESSAGE_HEADER + 64 * 1024;

/// Bytes for a list of the driver's: more rows than a run ever has.
const LIST: usize = 16 * 1024;

/// A connection and its service's side of it.
pub struct Service {
    port: Arc<UserPort>,
    process: Arc<Process>,
    inbox: Arc<Inbox>,
    /// Its rings, if it has some.
    rings: Option<Rings>,
    /// What was read.
    pub stream: Stream,
}

/// The handle, for whoever closes it from outside.
#[derive(Clone)]
pub struct Closer {
    port: Arc<UserPort>,
    inbox: Arc<Inbox>,
}

impl Closer {
    /// Closes the handle, as the death of the process does: from here on nothing is read.
    pub fn close(&self) {
        self.inbox.ended.store(true, Ordering::Relaxed);
        self.port.close();
    }
}

#[derive(Default)]
struct Inbox {
    outcomes: Mutex<VecDeque<GetOutcome>>,
    arrived: Waiter,
    /// What its reader sleeps on if it has rings: the driver sets it as well.
    event: Mutex<Option<Arc<UserEvent>>>,
    /// Nothing more is read from rings.
    ended: AtomicBool,
}

impl Inbox {
    fn put(&self, outcome: GetOutcome) {
        self.outcomes.lock().push_back(outcome);
        sched::wake(&self.arrived);
        let event = self.event.lock().clone();
        if let Some(event) = event {
            event.set();
        }
    }
}

/// What a read gave.
pub enum Received {
    /// Records, which the stream has taken in.
    Records,
    /// A request.
    Request(Request),
    /// Nothing by the deadline.
    Nothing,
    /// The connection has ended.
    Ended,
}

impl Service {
    /// Connects as the process `pid`, with so many gets outstanding, the first ones with buffers of
    /// so many bytes. The error is the driver's.
    pub fn connect(
        kernel: &Kernel,
        pid: u32,
        gets: usize,
        first_buffer: usize,
    ) -> Result<Service, i32> {
        let process = kernel.peer(pid, 0);
        let name: Vec<u16> = PORT_NAME.encode_utf16().collect();
        let hello = Hello::new("simulated", rights::ALL, 0).to_bytes();
        let port = UserPort::connect(&process, &name, &hello)?;
        let service = Service {
            port,
            process,
            inbox: Arc::default(),
            rings: None,
            stream: Stream::default(),
        };
        (0..gets).for_each(|_| service.post_get(first_buffer));
        Ok(service)
    }

    /// For whoever closes it from outside.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer {
            port: self.port.clone(),
            inbox: self.inbox.clone(),
        }
    }

    /// Asks for rings. The error is the driver's: then records come by the port.
    ///
    /// # Panics
    /// What the driver gives are no rings.
    pub fn attach_rings(&mut self, plan: &plan::Rings) -> Result<(), i32> {
        let event = Arc::new(UserEvent::new(&self.process));
        let wanted = RingsWanted {
            capacity: plan.capacity,
            reserved: 0,
            event: event.handle(),
        };
        let mut payload = [0; RingsWanted::SIZE];
        wanted.write(&mut payload).expect("its own size");
        let row = self.command(0, own::RINGS, &payload)?;
        let row = RingsRow::read(&row).expect("one row");
        *self.inbox.event.lock() = Some(event.clone());
        self.rings = Some(Rings::new(&row, event, self.process.clone(), plan));
        self.stream.by_rings = true;
        self.stream.spoilt = plan.scribbles.is_some();
        Ok(())
    }

    /// Has the driver send so many records a second at most, and so many at once.
    pub fn limit_rate(&self, rate: u32, burst: u32) -> Result<(), i32> {
        let mut payload = [0; Limits::SIZE];
        let limits = Limits {
            queue: 0,
            rate,
            burst,
            reserved: 0,
        };
        limits.write(&mut payload).expect("its own size");
        self.command(0, own::LIMITS, &payload).map(drop)
    }

    /// Takes in what rings hold next; whether there was anything.
    fn read_rings(&mut self) -> bool {
        let Some(rings) = &mut self.rings else {
            return false;
        };
        let ended = || self.inbox.ended.load(Ordering::Relaxed);
        let batch = rings.read(self.stream.next(), ended);
        self.stream.take_batch(&batch);
        !batch.is_empty()
    }

    /// Sleeps until something comes.
    fn sleep(&mut self, deadline: Deadline) {
        match &mut self.rings {
            Some(rings) if !self.inbox.ended.load(Ordering::Relaxed) => rings.sleep(deadline),
            _ => drop(sched::block(&self.inbox.arrived, Some(deadline))),
        }
    }

    fn post_get(&self, capacity: usize) {
        let inbox = self.inbox.clone();
        let done = move |outcome| inbox.put(outcome);
        self.port.get(capacity, Box::new(done));
    }

    /// Waits for what the driver sends.
    pub fn receive(&mut self, deadline: Deadline) -> Received {
        loop {
            let outcome = self.inbox.outcomes.lock().pop_front();
            match outcome {
                Some(GetOutcome::Message(message)) => {
                    self.post_get(BUFFER);
                    return match self.stream.take(&message) {
                        Some(request) => Received::Request(request),
                        None => Received::Records,
                    };
                }
                Some(GetOutcome::TooSmall { needed }) => {
                    assert!(needed <= BUFFER, "a frame of {needed} bytes is too large");
                    self.post_get(BUFFER);
                }
                Some(GetOutcome::Cancelled | GetOutcome::Disconnected) => return Received::Ended,
                None if self.read_rings() => return Received::Records,
                None if deadline.remaining().is_zero() => return Received::Nothing,
                None => self.sleep(deadline),
            }
        }
    }

    /// Sends a command; its result.
    pub fn command(&self, provider: u32, command: u16, payload: &[u8]) -> Result<Vec<u8>, i32> {
        self.command_for(provider, command, payload, 4096)
    }

    /// Sends a command with room for so many bytes of result.
    fn command_for(
        &self,
        provider: u32,
        command: u16,
        payload: &[u8],
        room: usize,
    ) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; CommandHeader::SIZE];
        let header = CommandHeader::new(provider, command, payload.len());
        header.write(&mut bytes).expect("the header's own size");
        bytes.extend(payload);
        let mut out = vec![0_u8; room];
        let slice = |address: *const u8, length: usize| UserSlice {
            address: address.addr() as u64,
            length: u32::try_from(length).expect("a small buffer"),
        };
        let input = slice(bytes.as_ptr(), bytes.len());
        let output = slice(out.as_mut_ptr(), out.len());
        let (status, returned) = self.port.send(&self.process, input, output);
        // The kernel wrote to it behind the compiler's back.
        let mut out = std::hint::black_box(out);
        out.truncate(returned as usize);
        if status == 0 { Ok(out) } else { Err(status) }
    }

    /// Sends bytes that are no command; `salt` says which.
    ///
    /// # Panics
    /// The driver takes them.
    pub fn send_garbage(&self, salt: u32) {
        let bytes = salt.wrapping_mul(0x9E37_79B9).to_le_bytes().repeat(6);
        let length = salt as usize % bytes.len();
        let input = UserSlice {
            address: bytes.as_ptr().addr() as u64,
            length: u32::try_from(length).expect("a small buffer"),
        };
        let (status, returned) = self.port.send(&self.process, input, UserSlice::default());
        assert!(
            status < 0 && returned == 0,
            "garbage was taken: {status:#x}"
        );
    }

    fn rows<T: Fixed>(&self, command: u16) -> Result<Vec<T>, i32> {
        let mut rows = Vec::new();
        loop {
            let mut page = [0; Page::SIZE];
            let skip = u32::try_from(rows.len()).expect("few rows");
            Page { skip, reserved: 0 }
                .write(&mut page)
                .expect("the page's own size");
            let result = self.command_for(0, command, &page, LIST)?;
            if result.is_empty() {
                return Ok(rows);
            }
            rows.extend(result.chunks_exact(T::SIZE).filter_map(T::read));
            // Else the list would not be of one moment.
            if result.len() + T::SIZE <= LIST {
                return Ok(rows);
            }
        }
    }

    /// The ledger.
    ///
    /// # Panics
    /// A row of it does not balance.
    pub fn ledger(&self) -> Result<Vec<LedgerRow>, i32> {
        let rows: Vec<LedgerRow> = self.rows(own::LEDGER)?;
        for row in &rows {
            assert!(row.balances(), "the ledger does not balance: {row:?}");
        }
        crate::laws::ended_is_ended(&rows);
        Ok(rows)
    }

    /// What the driver knows of this connection.
    pub fn info(&self) -> Result<ConnectionRow, i32> {
        let row = self.command(0, own::INFO, &[])?;
        Ok(ConnectionRow::read(&row).expect("one row"))
    }

    /// The accounts of requests.
    pub fn requests(&self) -> Result<Vec<RequestRow>, i32> {
        self.rows(own::REQUESTS)
    }

    /// The number of the provider with this name; none if it is not registered.
    pub fn provider(&self, name: &str) -> Result<Option<u32>, i32> {
        let rows: Vec<ProviderRow> = self.rows(own::PROVIDERS)?;
        let row = rows
            .iter()
            .find(|row| name_from_bytes(&row.name) == Some(name));
        Ok(row.map(|row| row.provider))
    }

    /// Subscribes to messages by their bits.
    pub fn subscribe(&self, provider: u32, observe: u64, decide: u64) -> Result<(), i32> {
        let mut payload = [0; Subscription::SIZE];
        let subscription = Subscription {
            provider,
            reserved: 0,
            observe,
            decide,
        };
        subscription
            .write(&mut payload)
            .expect("the subscription's own size");
        self.command(0, own::SUBSCRIBE, &payload).map(drop)
    }

    /// Answers a request with this payload; the status.
    pub fn reply(&self, request: &Request, payload: &[u8]) -> i32 {
        let header = ReplyHeader {
            magic: REPLY_MAGIC,
            provider: request.header.provider,
            message: request.header.message,
            request: request.header.sequence,
        };
        let mut bytes = vec![0; MESSAGE_HEADER + ReplyHeader::SIZE];
        bytes[8..16].copy_from_slice(&request.message_id.to_le_bytes());
        header
            .write(&mut bytes[MESSAGE_HEADER..])
            .expect("the reply header's own size");
        bytes.extend(payload);
        self.port.reply(&bytes)
    }

    /// Answers with bytes that are no reply; the status.
    pub fn reply_garbage(&self, request: &Request, kind: u8) -> i32 {
        let mut header = ReplyHeader {
            magic: REPLY_MAGIC,
            provider: request.header.provider,
            message: request.header.message,
            request: request.header.sequence,
        };
        let length = match kind {
            0 => 7,
            1 => {
                header.request ^= 1;
                ReplyHeader::SIZE + 8
            }
            2 => {
                header.message ^= 1;
                ReplyHeader::SIZE + 8
            }
            // Half a field.
            3 => ReplyHeader::SIZE + 3,
            // More than a newer version may have.
            _ => ReplyHeader::SIZE + 2000,
        };
        let mut bytes = vec![0xEE; MESSAGE_HEADER + ReplyHeader::SIZE + 2000];
        bytes[8..16].copy_from_slice(&request.message_id.to_le_bytes());
        header
            .write(&mut bytes[MESSAGE_HEADER..])
            .expect("the reply header's own size");
        bytes.truncate(MESSAGE_HEADER + length);
        self.port.reply(&bytes)
    }

    /// Takes in what was taken from the driver and not looked at.
    pub fn read_the_rest(&mut self) {
        self.stream.late = true;
        let outcomes = std::mem::take(&mut *self.inbox.outcomes.lock());
        for outcome in outcomes {
            if let GetOutcome::Message(message) = outcome {
                self.stream.take(&message);
            }
        }
        let rings = &mut self.rings;
        let mut unread = |next| rings.as_mut().map(|rings| rings.unread(next));
        self.stream.end(|next| unread(next).unwrap_or_default());
    }

    /// Closes the handle, as the death of the process does.
    pub fn close(&self) {
        self.closer().close();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.port.close();
    }
}
