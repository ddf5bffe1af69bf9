// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted kernel for tests of the client: speaks the socket protocol and answers commands as the
//! common driver would, and lets the test say what happens on the stream. The service's memory is
//! this process's own, so it is read and written through /proc/self/mem.

use crate::fake_rings::FakeRings;
use fltport_abi::command::{
    Command, ConnectionRow, FeaturesRow, FilteredSubscription, LedgerRow, Page, ProviderRow,
    RequestRow, RingsWanted, StreamRow, Subscription, features, own,
};
use fltport_abi::common_driver::ProviderChange;
use fltport_abi::fixed::{Fixed, name_to_bytes};
use fltport_abi::frame::{self, FrameHeader, RecordHeader, RecordKind, record_size};
use fltport_abi::hello::{Hello, StreamHello};
use fltport_abi::hosted::{
    CompletionHeader, MapView, Request, RequestHeader, Send, connection::MAPS_VIEWS,
};
use fltport_abi::limits::MAX_COMMAND;
use fltport_abi::message::Message;
use fltport_abi::process_monitor::{
    Exclusions, ExclusionsSet, GetExclusions, PROVIDER, SetExclusions,
};
use fltport_abi::{Text, TextList, status};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const NO_WAITER: i32 = 0xC01C_0020_u32 as i32;
const TOO_SMALL: i32 = 0x801C_0001_u32 as i32;
/// Rows of the ledger: three pages.
pub(crate) const LEDGER_ROWS: usize = 2 * (MAX_COMMAND / LedgerRow::SIZE) + 1;
const DISCONNECTED: i32 = status::PORT_DISCONNECTED;

/// One connection as the fake driver sees it.
pub(crate) struct Connection {
    pub(crate) hello: Hello,
    /// The stream that it wants.
    pub(crate) stream: Option<StreamHello>,
    pub(crate) number: u32,
    socket: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
    rings: OnceLock<FakeRings>,
}

#[derive(Default)]
struct State {
    gets: VecDeque<(u64, usize)>,
    subscriptions: Vec<Subscription>,
    filtered: Vec<(FilteredSubscription, Vec<u8>)>,
    replies: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    reply_status: i32,
    silent: bool,
    disconnected: bool,
    closes_behind_replies: bool,
    /// The service has ended the socket.
    ended: bool,
    gets_at_first_info: Option<usize>,
    register_while_subscribing: bool,
    acknowledged: Vec<u64>,
}

#[derive(Default)]
struct Driver {
    connections: Mutex<Vec<Arc<Connection>>>,
    arrived: Condvar,
    exclusions: Mutex<Vec<String>>,
    refuse: Mutex<Option<i32>>,
    subscribe_status: Mutex<i32>,
    schema: Mutex<Option<Vec<u8>>>,
    /// What it says of streams; a driver of version 1 says nothing.
    streams: Mutex<Option<StreamRow>>,
    /// How many rings a connection has; with none, this is a driver of before there were any.
    rings: AtomicU32,
    /// What who asks for rings is answered.
    rings_status: AtomicI32,
    /// The data of rings does not begin as it should.
    spoils_rings: AtomicBool,
    /// Who is told that somebody asks for rings, and until when there is no answer.
    holds_rings: Mutex<Option<(Sender<()>, Receiver<()>)>>,
    stopping: AtomicBool,
}

pub(crate) struct FakeHost {
    pub(crate) path: PathBuf,
    driver: Arc<Driver>,
    acceptor: Option<JoinHandle<()>>,
}

pub(crate) fn socket_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("fltport-test-{}-{n}.sock", std::process::id()))
}

impl FakeHost {
    pub(crate) fn new() -> FakeHost {
        FakeHost::at(&socket_path())
    }

    pub(crate) fn at(path: &Path) -> FakeHost {
        let listener = UnixListener::bind(path).unwrap();
        let driver = Arc::new(Driver::default());
        let acceptor = std::thread::spawn({
            let driver = driver.clone();
            move || {
                while let Ok((socket, _)) = listener.accept() {
                    if driver.stopping.load(Ordering::Acquire) {
                        break;
                    }
                    let driver = driver.clone();
                    std::thread::spawn(move || serve(&driver, socket));
                }
            }
        });
        FakeHost {
            path: path.to_owned(),
            driver,
            acceptor: Some(acceptor),
        }
    }

    /// Refuse connections with this status from now on.
    pub(crate) fn refuse(&self, status: Option<i32>) {
        *self.driver.refuse.lock().unwrap() = status;
    }

    /// Have streams from now on, and say this of each.
    pub(crate) fn streams(&self, former: u32, acknowledged: u64) {
        *self.driver.streams.lock().unwrap() = Some(StreamRow {
            next_sequence: acknowledged + 1,
            acknowledged,
            retention_ms: 1000,
            window: 1024 * 1024,
            unacknowledged: 0,
            former,
            resumed: u32::from(former != 0),
            taken_over: 0,
            again: 0,
            reserved: [0; 2],
        });
    }

    /// Have so many rings for each connection from now on.
    pub(crate) fn rings(&self, count: u32) {
        self.driver.rings.store(count, Ordering::Release);
    }

    /// Refuse rings with this status from now on.
    pub(crate) fn refuse_rings(&self, status: i32) {
        self.driver.rings_status.store(status, Ordering::Release);
    }

    /// Give rings from now on that are none.
    pub(crate) fn spoil_rings(&self) {
        self.driver.spoils_rings.store(true, Ordering::Release);
    }

    /// Tell the next time that rings are asked for, and do not answer until the sender is dropped; then refuse.
    pub(crate) fn hold_rings(&self) -> (Receiver<()>, Sender<()>) {
        let (asks, asked) = channel();
        let (holds, held) = channel();
        *self.driver.holds_rings.lock().unwrap() = Some((asks, held));
        (asked, holds)
    }

    /// Answer subscriptions with this status from now on.
    pub(crate) fn subscribe_status(&self, status: i32) {
        *self.driver.subscribe_status.lock().unwrap() = status;
    }

    /// Hand out these bytes as the provider's schema from now on.
    pub(crate) fn hand_out(&self, schema: Vec<u8>) {
        *self.driver.schema.lock().unwrap() = Some(schema);
    }

    /// The n-th connection that was ever made, once it is there.
    pub(crate) fn connection(&self, n: usize) -> Arc<Connection> {
        let mut connections = self.driver.connections.lock().unwrap();
        while connections.len() <= n {
            let waited = self
                .driver
                .arrived
                .wait_timeout(connections, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "nobody connected");
            connections = waited.0;
        }
        connections[n].clone()
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.driver.stopping.store(true, Ordering::Release);
        let _awake = UnixStream::connect(&self.path);
        let _panicked = self.acceptor.take().unwrap().join();
        for connection in self.driver.connections.lock().unwrap().iter() {
            connection.hang_up();
        }
        let _removed = std::fs::remove_file(&self.path);
    }
}

/// A record of the stream.
pub(crate) fn record(
    sequence: u64,
    kind: RecordKind,
    message: u16,
    payload: &[u8],
    fixed: usize,
) -> Vec<u8> {
    let header = RecordHeader {
        size: record_size(payload.len()) as u32,
        payload: payload.len() as u32,
        sequence,
        time: 133_000_000_000_000_000,
        provider: if kind == RecordKind::Gap { 0 } else { 1 },
        message: if kind == RecordKind::Gap { 0 } else { message },
        kind: kind as u16,
        fixed: fixed as u16,
    };
    let mut bytes = vec![0; record_size(payload.len())];
    header.write(&mut bytes).unwrap();
    bytes[RecordHeader::SIZE..][..payload.len()].copy_from_slice(payload);
    bytes
}

pub(crate) fn encode<'m, M: Message<'m>>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len()];
    message.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn notification<'m, M: Message<'m>>(sequence: u64, message: &M) -> Vec<u8> {
    record(
        sequence,
        RecordKind::Notification,
        M::NUMBER,
        &encode(message),
        M::FIXED,
    )
}

pub(crate) fn gap(first: u64, last: u64) -> Vec<u8> {
    let header = frame::GapHeader {
        first,
        entries: 1,
        reserved: 0,
    };
    let entry = frame::GapEntry {
        count: last - first + 1,
        provider: 1,
        message: 2,
        cause: 0,
        by: 1,
    };
    let payload = [bytes(&header), bytes(&entry)].concat();
    record(last, RecordKind::Gap, 0, &payload, 0)
}

pub(crate) fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    value.write(&mut bytes).unwrap();
    bytes
}

impl Connection {
    fn complete(&self, id: u64, status: i32, information: usize, payload: &[u8]) {
        let header = CompletionHeader::new(id, status, information as u32, payload.len());
        let message = [&bytes(&header), payload].concat();
        let _gone = self.socket.lock().unwrap().write_all(&message);
    }

    /// The connection's rings.
    pub(crate) fn rings(&self) -> &FakeRings {
        self.rings.get().unwrap()
    }

    /// Has the service map a file; the address.
    fn map(&self, reader: &mut UnixStream, view: (&File, usize, bool)) -> u64 {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let (file, length, writable) = view;
        let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        let descriptors = [file.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let question = bytes(&MapView::new(7, length, writable));
        let parts = [std::io::IoSlice::new(&question)];
        let socket = self.socket.lock().unwrap();
        sendmsg(&*socket, &parts, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        drop(socket);
        let (header, payload) = next_request(reader).unwrap();
        match Request::parse(&header, &payload).unwrap() {
            Request::Mapped(mapped) => mapped.address,
            other => panic!("{other:?}"),
        }
    }

    /// Answers who asks for rings.
    fn attach(&self, driver: &Driver, reader: &mut UnixStream, payload: &[u8]) -> (i32, Vec<u8>) {
        let holds = driver.holds_rings.lock().unwrap().take();
        if let Some((asks, held)) = holds {
            asks.send(()).unwrap();
            let _dropped = held.recv();
            return (DISCONNECTED, Vec::new());
        }
        let status = driver.rings_status.load(Ordering::Acquire);
        if status != 0 {
            return (status, Vec::new());
        }
        let wanted = RingsWanted::read(payload).unwrap();
        let rings = FakeRings::new(driver.rings.load(Ordering::Acquire), &wanted);
        if driver.spoils_rings.load(Ordering::Acquire) {
            rings.scribble(8, &[0xFF; 8]);
        }
        let addresses = rings.views().map(|view| self.map(reader, view));
        let row = bytes(&rings.row(addresses));
        assert!(self.rings.set(rings).is_ok(), "rings once more");
        (0, row)
    }

    /// Waits until `n` gets are at the port.
    pub(crate) fn wait_for_gets(&self, n: usize) {
        let mut state = self.state.lock().unwrap();
        while state.gets.len() < n {
            let waited = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "gets");
            state = waited.0;
        }
    }

    pub(crate) fn gets(&self) -> usize {
        self.state.lock().unwrap().gets.len()
    }

    /// Completes the oldest get with a message: the Filter Manager's header, then `frame`. If it
    /// does not fit, completes that get with "too small" and tries the next.
    pub(crate) fn deliver(&self, message_id: u64, reply_length: u32, frame: &[u8]) {
        loop {
            self.wait_for_gets(1);
            if self.deliver_to(0, message_id, reply_length, frame) {
                return;
            }
        }
    }

    /// The same with the n-th oldest get; false if it was too small.
    pub(crate) fn deliver_to(
        &self,
        n: usize,
        message_id: u64,
        reply_length: u32,
        frame: &[u8],
    ) -> bool {
        let mut message = vec![0; 16];
        message[..4].copy_from_slice(&reply_length.to_le_bytes());
        message[8..].copy_from_slice(&message_id.to_le_bytes());
        message.extend_from_slice(frame);
        let (id, capacity) = self.state.lock().unwrap().gets.remove(n).unwrap();
        let fits = message.len() <= capacity;
        if fits {
            self.complete(id, 0, message.len(), &message);
        } else {
            self.complete(id, TOO_SMALL, message.len(), &[]);
        }
        fits
    }

    /// A frame of this connection.
    pub(crate) fn frame(&self, kind: u16, deadline_ms: u32, records: &[Vec<u8>]) -> Vec<u8> {
        let body = records.concat();
        let header = FrameHeader {
            magic: frame::MAGIC,
            version: 1,
            kind,
            length: (FrameHeader::SIZE + body.len()) as u32,
            records: records.len() as u32,
            deadline_ms,
            connection: self.number,
        };
        [bytes(&header), body].concat()
    }

    pub(crate) fn batch(&self, records: &[Vec<u8>]) -> Vec<u8> {
        self.frame(frame::FRAME_RECORDS, 0, records)
    }

    pub(crate) fn stream(&self, records: &[Vec<u8>]) {
        self.deliver(0, 0, &self.batch(records));
    }

    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.state.lock().unwrap().subscriptions.clone()
    }

    /// Those with filters or flags, and the filters.
    pub(crate) fn filtered(&self) -> Vec<(FilteredSubscription, Vec<u8>)> {
        self.state.lock().unwrap().filtered.clone()
    }

    pub(crate) fn wait_for_subscription(&self) {
        self.wait_for_subscriptions(1);
    }

    pub(crate) fn wait_for_subscriptions(&self, n: usize) {
        let mut state = self.state.lock().unwrap();
        while state.subscriptions.len() < n {
            let waited = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "no subscription");
            state = waited.0;
        }
    }

    pub(crate) fn replies(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().replies.clone()
    }

    /// The payloads of the commands that answer.
    pub(crate) fn answers(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().answers.clone()
    }

    pub(crate) fn reply_status(&self, status: i32) {
        self.state.lock().unwrap().reply_status = status;
    }

    /// What has been acknowledged, once that is something new.
    pub(crate) fn wait_for_acknowledgement(&self, number: u64) {
        let mut state = self.state.lock().unwrap();
        while state.acknowledged.last() != Some(&number) {
            let waited = self
                .changed
                .wait_timeout(state, Duration::from_secs(10))
                .unwrap();
            assert!(!waited.1.timed_out(), "{:?}", waited.0.acknowledged);
            state = waited.0;
        }
    }

    pub(crate) fn acknowledgements(&self) -> Vec<u64> {
        self.state.lock().unwrap().acknowledged.clone()
    }

    /// How many gets waited when the service first asked who it is.
    pub(crate) fn gets_at_first_info(&self) -> Option<usize> {
        self.state.lock().unwrap().gets_at_first_info
    }

    /// Have the provider register while the next subscription is under way.
    pub(crate) fn register_while_subscribing(&self) {
        self.state.lock().unwrap().register_while_subscribing = true;
    }

    /// Answer nothing any more.
    pub(crate) fn fall_silent(&self) {
        self.state.lock().unwrap().silent = true;
    }

    /// From now on the driver closes the client port when it has taken a reply.
    pub(crate) fn close_behind_replies(&self) {
        self.state.lock().unwrap().closes_behind_replies = true;
    }

    fn close_before_completing(self: &Arc<Self>, id: u64, status: i32) {
        self.disconnect();
        let connection = self.clone();
        std::thread::spawn(move || {
            // As long as the reply is not complete the service must not end the socket; so this waits
            // in vain, if all is well.
            let state = connection.state.lock().unwrap();
            let ended = |state: &mut State| !state.ended;
            let waited = connection
                .changed
                .wait_timeout_while(state, Duration::from_millis(300), ended)
                .unwrap();
            drop(waited);
            connection.complete(id, status, 0, &[]);
        });
    }

    /// The driver closes the client port: gets complete with "disconnected", and so do those that the
    /// service has sent already and that are only read later.
    pub(crate) fn disconnect(&self) {
        let mut state = self.state.lock().unwrap();
        state.disconnected = true;
        let gets = std::mem::take(&mut state.gets);
        drop(state);
        for (id, _) in gets {
            self.complete(id, DISCONNECTED, 0, &[]);
        }
    }

    /// The hosted kernel's process ends.
    pub(crate) fn hang_up(&self) {
        let _gone = self
            .socket
            .lock()
            .unwrap()
            .shutdown(std::net::Shutdown::Both);
    }

    /// Writes what is not a completion.
    pub(crate) fn write_raw(&self, bytes: &[u8]) {
        self.socket.lock().unwrap().write_all(bytes).unwrap();
    }
}

fn next_request(socket: &mut UnixStream) -> Option<(RequestHeader, Vec<u8>)> {
    let mut header = [0; RequestHeader::SIZE];
    socket.read_exact(&mut header).ok()?;
    let header = RequestHeader::read(&header).unwrap();
    let mut payload = vec![0; header.payload_len().unwrap()];
    socket.read_exact(&mut payload).unwrap();
    Some((header, payload))
}

/// Runs a command, whose input and output are in the service's memory.
fn send(
    connection: &Connection,
    id: u64,
    send: &Send,
    command: impl FnOnce(&[u8]) -> (i32, Vec<u8>),
) {
    let mut options = File::options();
    let memory = options.read(true).write(true).open("/proc/self/mem");
    let memory = memory.unwrap();
    let mut input = vec![0; send.input_length as usize];
    memory.read_exact_at(&mut input, send.input).unwrap();
    let (status, output) = command(&input);
    let n = output.len().min(send.output_length as usize);
    memory.write_all_at(&output[..n], send.output).unwrap();
    connection.complete(id, status, n, &[]);
}

fn serve(driver: &Driver, mut socket: UnixStream) {
    let mut connection: Option<Arc<Connection>> = None;
    while let Some((header, payload)) = next_request(&mut socket) {
        let request = Request::parse(&header, &payload).unwrap();
        if let Request::Connect { name, context } = request {
            connection = connect(driver, &socket, header.id, name, context);
            continue;
        }
        let connection = connection.clone().unwrap();
        if connection.state.lock().unwrap().silent {
            continue;
        }
        match request {
            Request::Get(capacity) => {
                let mut state = connection.state.lock().unwrap();
                if !state.disconnected {
                    state.gets.push_back((header.id, capacity));
                } else {
                    drop(state);
                    connection.complete(header.id, DISCONNECTED, 0, &[]);
                }
            }
            Request::Reply(bytes) => {
                let mut state = connection.state.lock().unwrap();
                state.replies.push(bytes.to_vec());
                let (status, closes) = (state.reply_status, state.closes_behind_replies);
                drop(state);
                if closes {
                    connection.close_before_completing(header.id, status);
                } else {
                    connection.complete(header.id, status, 0, &[]);
                }
            }
            Request::Send(at) => send(&connection, header.id, &at, |input| {
                command(driver, &connection, input)
            }),
            Request::SendWithViews(at) => send(&connection, header.id, &at, |input| {
                let command = Command::parse(input).unwrap();
                assert_eq!(command.header.command, own::RINGS);
                connection.attach(driver, &mut socket, command.payload)
            }),
            other => panic!("{other:?}"),
        }
        connection.changed.notify_all();
    }
    if let Some(connection) = connection {
        connection.state.lock().unwrap().ended = true;
        connection.changed.notify_all();
    }
}

fn connect(
    driver: &Driver,
    socket: &UnixStream,
    id: u64,
    name: &[u8],
    context: &[u8],
) -> Option<Arc<Connection>> {
    assert_eq!(Text::Wire(name), Text::Utf8("\\FltPort"));
    let mut connections = driver.connections.lock().unwrap();
    let stream = StreamHello::parse(context).unwrap();
    let connection = Arc::new(Connection {
        hello: Hello::parse(context).unwrap(),
        stream,
        number: 40 + connections.len() as u32,
        socket: Mutex::new(socket.try_clone().unwrap()),
        state: Mutex::default(),
        changed: Condvar::new(),
        rings: OnceLock::new(),
    });
    if let Some(status) = *driver.refuse.lock().unwrap() {
        connection.complete(id, status, 0, &[]);
        return None;
    }
    if stream.is_some() && driver.streams.lock().unwrap().is_none() {
        connection.complete(id, status::INVALID_PARAMETER, 0, &[]);
        return None;
    }
    connections.push(connection.clone());
    driver.arrived.notify_all();
    let can = match driver.rings.load(Ordering::Acquire) {
        0 => 0,
        _ => MAPS_VIEWS as usize,
    };
    connection.complete(id, 0, can, &[]);
    Some(connection)
}

fn command(driver: &Driver, connection: &Connection, input: &[u8]) -> (i32, Vec<u8>) {
    let Some(command) = Command::parse(input) else {
        return (status::INVALID_DEVICE_REQUEST, Vec::new());
    };
    match (command.header.provider, command.header.command) {
        (0, own::INFO) => {
            let mut state = connection.state.lock().unwrap();
            let gets = state.gets.len();
            state.gets_at_first_info.get_or_insert(gets);
            (0, bytes(&connection_row(connection)))
        }
        (0, own::FEATURES) if driver.rings.load(Ordering::Acquire) != 0 => {
            let all_zero = FeaturesRow::read(&[0; FeaturesRow::SIZE]).unwrap();
            let row = FeaturesRow {
                features: features::RINGS,
                ..all_zero
            };
            (0, bytes(&row))
        }
        (0, own::PROVIDERS) => (0, page(command.payload, &[provider_row()])),
        (0, own::SCHEMA) if command.payload == [1, 0, 0, 0] => {
            let other = driver.schema.lock().unwrap().clone();
            (0, other.unwrap_or_else(schema))
        }
        (0, own::SUBSCRIBE) => {
            let status = *driver.subscribe_status.lock().unwrap();
            if std::mem::take(&mut connection.state.lock().unwrap().register_while_subscribing) {
                connection.stream(&[provider_change(1, "process-monitor", true)]);
            }
            if status == 0 {
                let subscription = Subscription::read(command.payload).unwrap();
                connection
                    .state
                    .lock()
                    .unwrap()
                    .subscriptions
                    .push(subscription);
            }
            (status, Vec::new())
        }
        (0, own::SUBSCRIBE_FILTERED) => {
            let status = *driver.subscribe_status.lock().unwrap();
            if status == 0 {
                let wanted = FilteredSubscription::read(command.payload).unwrap();
                let filters = command.payload[FilteredSubscription::SIZE..].to_vec();
                let mut state = connection.state.lock().unwrap();
                state.filtered.push((wanted, filters));
                state.subscriptions.push(Subscription {
                    provider: wanted.provider,
                    reserved: 0,
                    observe: wanted.observe,
                    decide: wanted.decide,
                });
            }
            (status, Vec::new())
        }
        (0, own::STREAM) => (0, bytes(&driver.streams.lock().unwrap().unwrap())),
        (0, own::ACKNOWLEDGE) => {
            let number = u64::read(command.payload).unwrap();
            connection.state.lock().unwrap().acknowledged.push(number);
            (0, Vec::new())
        }
        (0, own::ANSWER) => {
            let mut state = connection.state.lock().unwrap();
            state.answers.push(command.payload.to_vec());
            (state.reply_status, Vec::new())
        }
        (0, own::CONNECTIONS) => (0, page(command.payload, &[connection_row(connection)])),
        (0, own::LEDGER) => (0, page(command.payload, &vec![ledger_row(); LEDGER_ROWS])),
        (0, own::REQUESTS) => (0, page::<RequestRow>(command.payload, &[])),
        (1, 6) => set_exclusions(driver, command.payload),
        (1, 7) => exclusions(driver, command.payload),
        (0, _) => (status::INVALID_DEVICE_REQUEST, Vec::new()),
        _ => (status::NOT_FOUND, Vec::new()),
    }
}

/// The process monitor's schema.
pub(crate) fn schema() -> Vec<u8> {
    let mut schema = vec![0; 16 * 1024];
    let n = PROVIDER.encode(&mut schema).unwrap();
    schema.truncate(n);
    schema
}

fn set_exclusions(driver: &Driver, payload: &[u8]) -> (i32, Vec<u8>) {
    let list = SetExclusions::decode(payload).unwrap();
    let images: Vec<String> = list.images.iter().map(|t| t.to_string()).collect();
    let count = images.len() as u32;
    *driver.exclusions.lock().unwrap() = images;
    (0, encode(&ExclusionsSet { count }))
}

fn exclusions(driver: &Driver, payload: &[u8]) -> (i32, Vec<u8>) {
    GetExclusions::decode(payload).unwrap();
    let images = driver.exclusions.lock().unwrap();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let images = TextList::Strings(&images);
    (0, encode(&Exclusions { images }))
}

/// As many rows as fit, as the driver does it.
fn page<R: Fixed>(payload: &[u8], rows: &[R]) -> Vec<u8> {
    let skip = Page::read(payload).unwrap().skip as usize;
    rows.iter()
        .skip(skip)
        .take(MAX_COMMAND / R::SIZE)
        .flat_map(bytes)
        .collect()
}

fn provider_row() -> ProviderRow {
    ProviderRow {
        provider: 1,
        schema: 100,
        hash: PROVIDER.hash(),
        backlog: 0,
        backlog_used: 0,
        since: 1,
        name: name_to_bytes("process-monitor").unwrap(),
    }
}

fn connection_row(connection: &Connection) -> ConnectionRow {
    ConnectionRow {
        connection: connection.number,
        pid: std::process::id(),
        since: 1,
        rights: connection.hello.rights,
        generation: connection.hello.generation,
        next_sequence: 1,
        queued: 0,
        queued_peak: 0,
        capacity: 1,
        version: 1,
        own: 1,
        name: connection.hello.name,
    }
}

fn ledger_row() -> LedgerRow {
    LedgerRow {
        connection: 1,
        provider: 1,
        message: 1,
        offered: 3,
        delivered: 2,
        in_flight: 1,
        lost: [0; 10],
        in_flight_peak: 0,
    }
}

/// The common driver's own notification, which comes without a subscription.
pub(crate) fn provider_change(sequence: u64, name: &str, registered: bool) -> Vec<u8> {
    let change = ProviderChange {
        provider: 1,
        registered,
        name: Text::Utf8(name),
    };
    let mut record = notification(sequence, &change);
    // The provider's number in the record's header.
    record[24..26].copy_from_slice(&[0, 0]);
    record
}
