// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hosted kernel for tests of the client: speaks the socket protocol and answers commands as the
//! common driver would, and lets the test say what happens on the stream. The service's memory is
//! this process's own, so it is read and written through /proc/self/mem.

mod commands;
mod connection;
mod records;

use commands::command;
use connection::{next_request, send};
use fltport_abi::Text;
use fltport_abi::command::{Command, StreamRow, own};
use fltport_abi::hello::{Hello, StreamHello};
use fltport_abi::hosted::{Request, connection::MAPS_VIEWS};
use fltport_abi::status;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use commands::LEDGER_ROWS;
pub(crate) use connection::Connection;
pub(crate) use records::{bytes, encode, gap, notification, provider_change, record, schema};

pub(crate) const NO_WAITER: i32 = 0xC01C_0020_u32 as i32;
const DISCONNECTED: i32 = status::PORT_DISCONNECTED;

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
