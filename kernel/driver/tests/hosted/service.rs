// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service made by hand, so that it can also misbehave.

use crate::machine::Machine;
use crate::ring_reader::RingReader;
use fltmgr::GetOutcome;
use fltport_abi::command::{
    BACKLOG, CommandHeader, ConnectionRow, FilteredSubscription, LedgerRow, Limits, Page,
    ProviderRow, RequestRow, StreamRow, Subscription, UsageRow, own,
};
use fltport_abi::fixed::{Fixed, name_from_bytes};
use fltport_abi::frame::{
    FRAME_REQUEST, Frame, FrameHeader, Gap, GapEntry, REPLY_MAGIC, RecordHeader, RecordKind,
    ReplyHeader,
};
use fltport_abi::hello::{Hello, StreamHello, rights};
use fltport_abi::limits::{MAX_COMMAND, PORT_NAME};
use nt_host::flt::UserPort;
use nt_host::{Process, UserSlice};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Long enough for anything that is going to happen on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const BUFFER: usize = 16 + 64 * 1024;

/// A record, copied out of its frame.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) header: RecordHeader,
    pub(crate) kind: RecordKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) gap: Vec<GapEntry>,
}

/// A request, to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) message_id: u64,
    pub(crate) header: RecordHeader,
    pub(crate) payload: Vec<u8>,
    pub(crate) deadline_ms: u32,
}

pub(crate) struct Service {
    pub(crate) port: Arc<UserPort>,
    pub(crate) process: Arc<Process>,
    gets: Sender<Incoming>,
    outcomes: Receiver<Incoming>,
    /// Its rings, where it has some; all tests but those of `hosted_rings` do without.
    rings: Option<RingReader>,
    /// Records that came by the port before it was their turn, by the first number that they stand for.
    early: BTreeMap<u64, Record>,
    records: VecDeque<Record>,
    requests: VecDeque<Request>,
    next: u64,
}

/// What wakes a service that waits.
pub(crate) enum Incoming {
    Got(GetOutcome),
    /// Its event was set.
    Rings,
}

/// The port's name as connect wants it.
pub(crate) fn port_name() -> Vec<u16> {
    PORT_NAME.encode_utf16().collect()
}

impl Service {
    /// Connects with all rights and two gets outstanding.
    pub(crate) fn connect(machine: &Machine) -> Self {
        Self::connect_with(machine, &Hello::new("test", rights::ALL, 0).to_bytes())
            .expect("connects")
    }

    pub(crate) fn connect_with(machine: &Machine, context: &[u8]) -> Result<Self, i32> {
        let process = machine.kernel.peer(std::process::id(), 0);
        Self::connect_from(process, context)
    }

    /// As [`Service::connect`], and without rings whatever others have: what it does not read is in its queue.
    pub(crate) fn with_a_queue(machine: &Machine) -> Self {
        let process = machine.kernel.peer(std::process::id(), 0);
        let hello = Hello::new("test", rights::ALL, 0);
        Self::at_the_port(process, &hello.to_bytes()).expect("connects")
    }

    /// Connects from a process, which is this one, whosever it is.
    pub(crate) fn connect_from(process: Arc<Process>, context: &[u8]) -> Result<Self, i32> {
        let mut service = Self::at_the_port(process, context)?;
        if crate::RINGS {
            // A stream has none. Not so large that nothing is ever lost.
            let _refused = service.want_rings(512 * 1024);
        }
        Ok(service)
    }

    fn at_the_port(process: Arc<Process>, context: &[u8]) -> Result<Self, i32> {
        let port = UserPort::connect(&process, &port_name(), context)?;
        let (gets, outcomes) = channel();
        let service = Service {
            port,
            process,
            gets,
            outcomes,
            rings: None,
            early: BTreeMap::new(),
            records: VecDeque::new(),
            requests: VecDeque::new(),
            next: 1,
        };
        service.post_get();
        service.post_get();
        Ok(service)
    }

    /// Connects with all rights and this stream; what it has dealt with is in it.
    pub(crate) fn with_stream(machine: &Machine, stream: &StreamHello) -> Result<Self, i32> {
        let hello = Hello::new("test", rights::ALL, 0);
        let mut service = Self::connect_with(machine, &stream.to_bytes(&hello))?;
        service.goes_on_behind(service.stream().acknowledged);
        Ok(service)
    }

    /// Records up to this number are not sent to it.
    pub(crate) fn goes_on_behind(&mut self, number: u64) {
        self.next = number + 1;
    }

    /// The number of the next record. One that must come is waited for.
    pub(crate) fn next_if(&mut self, may_not_come: bool) -> Option<u64> {
        let patience = if may_not_come {
            Duration::ZERO
        } else {
            PATIENCE
        };
        while self.records.is_empty() && self.receive(patience) {}
        Some(self.records.pop_front()?.header.sequence)
    }

    /// As [`Service::stream`], where calls may fail.
    pub(crate) fn try_stream(&self) -> Result<StreamRow, i32> {
        let row = self.command(0, own::STREAM, &[])?;
        Ok(StreamRow::read(&row).expect("a row"))
    }

    /// What the driver knows of this connection's stream.
    pub(crate) fn stream(&self) -> StreamRow {
        let row = self.command(0, own::STREAM, &[]).expect("a stream");
        StreamRow::read(&row).expect("a row")
    }

    /// Everything up to this number has been dealt with.
    pub(crate) fn acknowledge(&self, number: u64) -> Result<(), i32> {
        self.command(0, own::ACKNOWLEDGE, &number.to_le_bytes())
            .map(drop)
    }

    /// The number of the last record that has come.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    pub(crate) fn post_get(&self) {
        let gets = self.gets.clone();
        // A service that has been dropped does not listen any more.
        self.port
            .get(BUFFER, Box::new(move |got| drop(gets.send(Incoming::Got(got)))));
    }

    /// Sends a command and gives its result.
    pub(crate) fn command(
        &self,
        provider: u32,
        command: u16,
        payload: &[u8],
    ) -> Result<Vec<u8>, i32> {
        self.command_with_room(provider, command, payload, 64 * 1024)
    }

    /// The same with room for so many bytes of the result.
    pub(crate) fn command_with_room(
        &self,
        provider: u32,
        command: u16,
        payload: &[u8],
        room: usize,
    ) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; 16];
        CommandHeader::new(provider, command, payload.len())
            .write(&mut bytes)
            .unwrap();
        bytes.extend(payload);
        self.send_with_room(&bytes, room)
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) -> Result<Vec<u8>, i32> {
        self.send_with_room(bytes, 64 * 1024)
    }

    fn send_with_room(&self, bytes: &[u8], room: usize) -> Result<Vec<u8>, i32> {
        let mut out = vec![0_u8; room];
        let input = UserSlice {
            address: bytes.as_ptr().addr() as u64,
            length: bytes.len() as u32,
        };
        let output = UserSlice {
            address: out.as_mut_ptr().addr() as u64,
            length: out.len() as u32,
        };
        let (status, returned) = self.port.send(&self.process, input, output);
        // The kernel wrote to it behind the compiler's back.
        let mut out = std::hint::black_box(out);
        out.truncate(returned as usize);
        if status == 0 { Ok(out) } else { Err(status) }
    }

    fn rows<T: Fixed>(&self, command: u16) -> Vec<T> {
        self.try_rows(command).expect("a list")
    }

    /// All rows of a list of the common driver's.
    pub(crate) fn try_rows<T: Fixed>(&self, command: u16) -> Result<Vec<T>, i32> {
        let mut rows = Vec::new();
        loop {
            let mut page = [0; 8];
            Page {
                skip: rows.len() as u32,
                reserved: 0,
            }
            .write(&mut page)
            .unwrap();
            let result = self.command(0, command, &page)?;
            if result.is_empty() {
                return Ok(rows);
            }
            rows.extend(
                result
                    .chunks_exact(T::SIZE)
                    .map(|row| T::read(row).unwrap()),
            );
            // Else the list would not be of one moment.
            if result.len() + T::SIZE <= MAX_COMMAND {
                return Ok(rows);
            }
        }
    }

    pub(crate) fn providers(&self) -> Vec<ProviderRow> {
        self.rows(own::PROVIDERS)
    }

    /// The ledger; every row of it must balance.
    pub(crate) fn ledger(&self) -> Vec<LedgerRow> {
        self.try_ledger().expect("the ledger")
    }

    /// As [`Service::ledger`], where calls may fail.
    pub(crate) fn try_ledger(&self) -> Result<Vec<LedgerRow>, i32> {
        let rows: Vec<LedgerRow> = self.try_rows(own::LEDGER)?;
        for row in &rows {
            assert!(row.balances(), "does not balance: {row:?}");
        }
        Ok(rows)
    }

    /// The ledger when nothing is in flight towards this connection any more: what has been
    /// delivered is written down a moment later.
    pub(crate) fn settled_ledger(&mut self) -> Vec<LedgerRow> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = self.ledger();
            let own = self.info().connection;
            if rows
                .iter()
                .all(|row| row.connection != own || row.in_flight == 0)
            {
                return rows;
            }
            assert!(
                Instant::now() < deadline,
                "the ledger does not come to rest: {rows:?}"
            );
            while self.receive(Duration::from_millis(1)) {}
        }
    }

    /// What the driver knows of this connection.
    pub(crate) fn info(&self) -> ConnectionRow {
        self.try_info().expect("info")
    }

    /// As [`Service::info`], where calls may fail.
    pub(crate) fn try_info(&self) -> Result<ConnectionRow, i32> {
        let row = self.command(0, own::INFO, &[])?;
        Ok(ConnectionRow::read(&row).expect("a row"))
    }

    pub(crate) fn connections(&self) -> Vec<ConnectionRow> {
        self.rows(own::CONNECTIONS)
    }

    /// Has the sender wait for this service, which does not read any more: what `offer` offers from
    /// now on stays in the queue. What came before is dropped.
    pub(crate) fn stall(&mut self, mut offer: impl FnMut()) {
        self.drain();
        // Two gets are outstanding; the third frame waits for one.
        for _ in 0..2 {
            let before = self.delivered();
            offer();
            while self.delivered() == before {
                std::thread::yield_now();
            }
        }
        offer();
        while self.info().queued != 0 {
            std::thread::yield_now();
        }
    }

    fn delivered(&self) -> u64 {
        let own = self.info().connection;
        let rows = self.ledger().into_iter();
        rows.filter(|row| row.connection == own)
            .map(|row| row.delivered)
            .sum()
    }

    /// What a provider may do as a whole.
    pub(crate) fn usage_as_a_whole(&self, provider: u32) -> UsageRow {
        let rows: Vec<UsageRow> = self.rows(own::USAGE);
        let mut whole = rows.into_iter().filter(|row| row.connection == BACKLOG);
        whole
            .find(|row| row.provider == provider)
            .expect("is registered")
    }

    /// Sets this connection's limits.
    pub(crate) fn limit(&self, queue: u32, rate: u32, burst: u32) -> Result<(), i32> {
        let limits = Limits {
            queue,
            rate,
            burst,
            reserved: 0,
        };
        let mut payload = [0; Limits::SIZE];
        limits.write(&mut payload).unwrap();
        self.command(0, own::LIMITS, &payload).map(drop)
    }

    pub(crate) fn request_rows(&self) -> Vec<RequestRow> {
        self.rows(own::REQUESTS)
    }

    /// What this connection's subscription to a provider takes, and leaves out.
    pub(crate) fn usage_of(&self, provider: u32) -> UsageRow {
        let own = self.info().connection;
        let rows: Vec<UsageRow> = self.rows(own::USAGE);
        let mut rows = rows.into_iter();
        let row = rows.find(|row| (row.connection, row.provider) == (own, provider));
        row.expect("a row of this connection")
    }

    /// The number of the provider with this name.
    pub(crate) fn provider(&self, name: &str) -> Option<u32> {
        let rows = self.providers();
        rows.iter()
            .find(|row| name_from_bytes(&row.name) == Some(name))
            .map(|row| row.provider)
    }

    /// As [`Service::provider`], where the driver may be going.
    pub(crate) fn try_provider(&self, name: &str) -> Option<u32> {
        let rows = self.command(0, own::PROVIDERS, &[0; 8]).ok()?;
        let rows = rows
            .chunks_exact(ProviderRow::SIZE)
            .filter_map(ProviderRow::read);
        rows.into_iter()
            .find(|row| name_from_bytes(&row.name) == Some(name))
            .map(|row| row.provider)
    }

    pub(crate) fn subscribe(&self, provider: u32, observe: u64, decide: u64) -> Result<(), i32> {
        let mut payload = [0; 24];
        Subscription {
            provider,
            reserved: 0,
            observe,
            decide,
        }
        .write(&mut payload)
        .unwrap();
        self.command(0, own::SUBSCRIBE, &payload).map(drop)
    }

    /// Subscribes with these flags and no filters.
    pub(crate) fn subscribe_flagged(
        &self,
        provider: u32,
        observe: u64,
        flags: u32,
    ) -> Result<(), i32> {
        let mut payload = [0; FilteredSubscription::SIZE];
        FilteredSubscription {
            provider,
            flags,
            observe,
            decide: 0,
            hash: 0,
            filters: 0,
            reserved: 0,
        }
        .write(&mut payload)
        .unwrap();
        self.command(0, own::SUBSCRIBE_FILTERED, &payload).map(drop)
    }

    /// Subscribes to messages of the process monitor by their numbers.
    pub(crate) fn watch(&self, observe: &[u16], decide: &[u16]) -> u32 {
        let provider = self
            .provider("process-monitor")
            .expect("the process monitor is registered");
        let set = |numbers: &[u16]| numbers.iter().fold(0, |set, n| set | 1 << n);
        self.subscribe(provider, set(observe), set(decide))
            .expect("subscribes");
        provider
    }

    /// Takes in what the driver has sent, waiting for it; false if nothing came in time or the
    /// connection has ended.
    pub(crate) fn receive(&mut self, timeout: Duration) -> bool {
        if self.read_rings() {
            return true;
        }
        let incoming = match timeout {
            Duration::ZERO => self.outcomes.try_recv().map_err(|_| RecvTimeoutError::Timeout),
            timeout if self.rings.as_mut().is_none_or(RingReader::sleeps) => {
                self.outcomes.recv_timeout(timeout)
            }
            // Something came at the last moment.
            _ => return true,
        };
        match incoming {
            Ok(Incoming::Got(GetOutcome::Message(bytes))) => {
                self.post_get();
                self.take_in(&bytes);
                true
            }
            Ok(Incoming::Got(GetOutcome::TooSmall { needed })) => {
                panic!("a frame of {needed} bytes does not fit the largest buffer")
            }
            Ok(Incoming::Got(GetOutcome::Cancelled | GetOutcome::Disconnected))
            | Err(RecvTimeoutError::Timeout) => self.read_rings(),
            Ok(Incoming::Rings) => {
                self.read_rings();
                true
            }
            Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
        }
    }

    /// Asks for rings of so many bytes each.
    pub(crate) fn want_rings(&mut self, capacity: u32) -> Result<(), i32> {
        self.rings = Some(RingReader::new(self, capacity, self.gets.clone())?);
        Ok(())
    }

    /// Its rings.
    pub(crate) fn rings(&mut self) -> &mut RingReader {
        self.rings.as_mut().expect("it has asked for rings")
    }

    /// Takes in what is next, as far as it is there; whether there was anything.
    fn read_rings(&mut self) -> bool {
        let before = self.next;
        loop {
            if let Some(record) = self.early.remove(&self.next) {
                self.enter(record);
                continue;
            }
            let Some(rings) = &mut self.rings else {
                break;
            };
            let Some(record) = rings.read(self.next) else {
                break;
            };
            self.enter(record);
        }
        before != self.next
    }

    fn enter(&mut self, record: Record) {
        self.next = record.header.sequence + 1;
        self.records.push_back(record);
    }

    fn take_in(&mut self, bytes: &[u8]) {
        let message_id = u64::read(&bytes[8..]).unwrap();
        let frame = Frame::parse(&bytes[16..]).expect("a frame");
        for record in frame.records() {
            let record = record.expect("a record");
            if frame.header.kind == FRAME_REQUEST {
                let FrameHeader { deadline_ms, .. } = frame.header;
                let payload = record.payload.to_vec();
                self.requests.push_back(Request {
                    message_id,
                    header: record.header,
                    payload,
                    deadline_ms,
                });
                continue;
            }
            let (first, gap) = match record.kind {
                RecordKind::Gap => {
                    let gap = Gap::parse(&record).expect("a gap that adds up");
                    (gap.first, gap.entries().collect())
                }
                _ => (record.header.sequence, Vec::new()),
            };
            if self.rings.is_none() {
                assert_eq!(
                    first, self.next,
                    "no number is missing without a gap record, which begins where the stream stopped"
                );
            }
            assert!(first >= self.next, "it came before");
            let record = Record {
                header: record.header,
                kind: record.kind,
                payload: record.payload.to_vec(),
                gap,
            };
            self.early.insert(first, record);
            self.read_rings();
        }
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Option<Record> {
        while self.records.is_empty() && self.receive(PATIENCE) {}
        self.records.pop_front()
    }

    /// A request that is here already.
    pub(crate) fn take_request(&mut self) -> Option<Request> {
        while self.receive(Duration::ZERO) {}
        self.requests.pop_front()
    }

    /// The next request.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        while self.requests.is_empty() && self.receive(PATIENCE) {}
        self.requests.pop_front()
    }

    /// Everything that was offered to this connection so far, waiting until all of it has come or
    /// has been told to be lost.
    pub(crate) fn drain(&mut self) -> Vec<Record> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while self.receive(Duration::ZERO) {}
            let rows = self.settled_ledger();
            // Behind the ledger: what that calls delivered has its number by now.
            let own = self.info();
            if self.has_all(&own, &rows) {
                return self.records.drain(..).collect();
            }
            assert!(
                Instant::now() < deadline,
                "{own:?} got up to {} of {rows:?}",
                self.next
            );
            std::thread::yield_now();
        }
    }

    /// Whether everything that these books say was offered to this connection has come, or has
    /// been told to be lost.
    pub(crate) fn has_all(&self, own: &ConnectionRow, rows: &[LedgerRow]) -> bool {
        let rows = rows.iter().filter(|r| r.connection == own.connection);
        let offered: u64 = rows.map(|r| r.offered).sum();
        own.next_sequence > offered && self.next == own.next_sequence
    }

    /// So many records, waiting for them.
    pub(crate) fn drain_until(&mut self, count: usize) -> Vec<Record> {
        while self.records.len() < count && self.receive(PATIENCE) {}
        self.records.drain(..).collect()
    }

    /// What is here already.
    pub(crate) fn drain_available(&mut self) -> Vec<Record> {
        while self.receive(Duration::ZERO) {}
        self.records.drain(..).collect()
    }

    /// Answers a request with this payload; the status.
    pub(crate) fn reply(&self, request: &Request, payload: &[u8]) -> i32 {
        let header = ReplyHeader {
            magic: REPLY_MAGIC,
            provider: request.header.provider,
            message: request.header.message,
            request: request.header.sequence,
        };
        let mut bytes = vec![0; 32];
        bytes[8..16].copy_from_slice(&request.message_id.to_le_bytes());
        header.write(&mut bytes[16..]).unwrap();
        bytes.extend(payload);
        self.port.reply(&bytes)
    }

    /// Closes the handle, as the death of the process does.
    pub(crate) fn close(&self) {
        self.port.close();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.port.close();
    }
}
