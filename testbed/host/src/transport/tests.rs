// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use fltport_abi::fixed::Fixed;
use fltport_abi::hosted::connection::MAPS_VIEWS;
use fltport_abi::hosted::{self, CompletionHeader, RequestHeader, op};
use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod views;

type Done = Box<dyn FnOnce(Got) + Send>;

/// A device that notes what happens; a send with an input of 99 bytes blocks until `release`.
#[derive(Default)]
struct Scripted {
    gets: Mutex<Vec<(u64, usize, Done)>>,
    next: AtomicU64,
    log: Mutex<Vec<String>>,
    changed: Condvar,
    released: Mutex<bool>,
    release: Condvar,
    /// What a send of [`views::MAPS`] bytes has mapped.
    memory: views::Memory,
}

impl Scripted {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().push(what.into());
        self.changed.notify_all();
    }

    fn wait_for(&self, what: &str) {
        let mut log = self.log.lock();
        while !log.iter().any(|l| l == what) {
            let waited = self.changed.wait_for(&mut log, Duration::from_secs(10));
            assert!(!waited.timed_out(), "no {what} in {log:?}");
        }
    }
}

struct TestDevice(Arc<Scripted>);
struct TestHandle(Arc<Scripted>);

impl Device for TestDevice {
    type Handle = TestHandle;
    fn connect(&self, peer: &Peer, name: &[u16], context: &[u8]) -> Result<Arc<TestHandle>, i32> {
        assert_eq!(peer.pid, std::process::id());
        let name = String::from_utf16_lossy(name);
        self.0.note(format!("connect {name} {context:?}"));
        if name == "\\Port" {
            Ok(Arc::new(TestHandle(self.0.clone())))
        } else {
            Err(0xC000_0034_u32 as i32)
        }
    }
}

impl Handle for TestHandle {
    type Get = u64;
    fn get(&self, capacity: usize, done: Done) -> u64 {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        if capacity == 1 {
            done(Got::TooSmall(77));
            return id;
        }
        self.0.gets.lock().push((id, capacity, done));
        self.0.note("get");
        id
    }
    fn cancel(&self, get: Option<u64>) {
        let mut gets = self.0.gets.lock();
        let (cancelled, kept) = gets
            .drain(..)
            .partition(|(id, ..)| get.is_none_or(|g| g == *id));
        *gets = kept;
        drop(gets);
        let cancelled: Vec<(u64, usize, Done)> = cancelled;
        cancelled
            .into_iter()
            .for_each(|(_, _, done)| done(Got::Failed(-7)));
    }
    fn reply(&self, bytes: &[u8]) -> i32 {
        self.0.note(format!("reply {bytes:?}"));
        i32::from(bytes.is_empty())
    }
    fn send(&self, buffers: SendBuffers, views: Option<Arc<dyn MapViews>>) -> (i32, u32) {
        self.0.note("send");
        if buffers.input.1 == views::MAPS {
            return (self.0.map_view(views), 0);
        }
        if buffers.input.1 == 99 {
            let mut released = self.0.released.lock();
            while !*released {
                self.0.release.wait(&mut released);
            }
        }
        self.0.note("sent");
        (0, buffers.input.1 * 10)
    }
    fn close(&self) {
        self.cancel(None);
        self.0.note("close");
    }
}

struct Bench {
    device: Arc<Scripted>,
    server: Option<Server>,
    path: PathBuf,
    told: Arc<Mutex<Vec<String>>>,
}

fn directory() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("transport-test-{}-{n}", std::process::id()))
}

impl Bench {
    fn new() -> Bench {
        let path = directory().join("host.sock");
        let device = Arc::new(Scripted::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = {
            let told = told.clone();
            Arc::new(move |line: &str| told.lock().push(line.to_owned()))
        };
        let capabilities = Capabilities {
            holds_process_creation: true,
            sees_every_process: false,
            missing: vec!["no fanotify. Run as root".into()],
        };
        let server = Server::bind(&path, TestDevice(device.clone()), &capabilities, log).unwrap();
        Bench {
            device,
            server: Some(server),
            path,
            told,
        }
    }

    fn socket(&self) -> UnixStream {
        let socket = UnixStream::connect(&self.path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    }

    fn connected(&self) -> UnixStream {
        let mut socket = self.socket();
        ask(&mut socket, op::CONNECT, 1, &connect("\\Port", &[]));
        assert_eq!(answer(&mut socket), Some((1, 0, MAPS_VIEWS, vec![])));
        socket
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.server.take());
        let _removed = std::fs::remove_dir_all(self.path.parent().unwrap());
    }
}

fn bytes<T: Fixed>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; T::SIZE];
    value.write(&mut bytes).unwrap();
    bytes
}

fn connect(name: &str, context: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let header = hosted::Connect {
        name: name.len() as u32,
        context: context.len() as u32,
    };
    [bytes(&header), name, context.to_vec()].concat()
}

fn ask(socket: &mut UnixStream, op: u32, id: u64, payload: &[u8]) {
    let header = bytes(&RequestHeader::new(op, id, payload.len()));
    socket.write_all(&[&header, payload].concat()).unwrap();
}

fn get(socket: &mut UnixStream, id: u64, capacity: u32) {
    let payload = bytes(&hosted::Get {
        capacity,
        reserved: 0,
    });
    ask(socket, op::GET, id, &payload);
}

fn send(socket: &mut UnixStream, id: u64, length: u32) {
    send_as(socket, op::SEND, id, length);
}

fn send_as(socket: &mut UnixStream, op: u32, id: u64, length: u32) {
    let payload = bytes(&hosted::Send {
        input: 1,
        output: 2,
        input_length: length,
        output_length: 1000,
    });
    ask(socket, op, id, &payload);
}

/// The next completion: id, status, information, payload; `None` at the socket's end.
fn answer(socket: &mut UnixStream) -> Option<(u64, i32, u32, Vec<u8>)> {
    let mut header = [0; CompletionHeader::SIZE];
    match socket.read(&mut header[..1]) {
        Ok(1) => socket.read_exact(&mut header[1..]).unwrap(),
        Ok(_) => return None,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
        Err(e) => panic!("{e}"),
    }
    let header = CompletionHeader::read(&header).unwrap();
    let mut payload = vec![0; header.payload_len().unwrap()];
    socket.read_exact(&mut payload).unwrap();
    Some((header.id, header.status, header.information, payload))
}

#[test]
fn every_operation_has_its_completion() {
    let bench = Bench::new();
    let mut socket = bench.socket();
    ask(&mut socket, op::DESCRIBE, 9, &[]);
    let (_, status, _, description) = answer(&mut socket).unwrap();
    assert_eq!((status, description[0]), (0, 1));
    assert_eq!(&description[8..], b"no fanotify. Run as root\n");
    get(&mut socket, 1, 100);
    assert_eq!(answer(&mut socket).unwrap().1, 0xC000_0008_u32 as i32);
    ask(&mut socket, op::CONNECT, 2, &connect("\\Other", &[]));
    assert_eq!(answer(&mut socket).unwrap().1, 0xC000_0034_u32 as i32);
    ask(&mut socket, op::CONNECT, 2, &connect("\\Port", &[5]));
    assert_eq!(answer(&mut socket), Some((2, 0, MAPS_VIEWS, vec![])));
    bench.device.wait_for("connect \\Port [5]");
    ask(&mut socket, op::REPLY, 3, b"ab");
    assert_eq!(answer(&mut socket), Some((3, 0, 0, vec![])));
    bench.device.wait_for("reply [97, 98]");
    ask(&mut socket, op::REPLY, 4, b"");
    assert_eq!(answer(&mut socket), Some((4, 1, 0, vec![])));
    send(&mut socket, 5, 7);
    assert_eq!(answer(&mut socket), Some((5, 0, 70, vec![])));
    get(&mut socket, 6, 1);
    let too_small = 0x801C_0001_u32 as i32;
    assert_eq!(answer(&mut socket), Some((6, too_small, 77, vec![])));
}

#[test]
fn gets_complete_in_any_order_and_can_be_cancelled() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    for id in 10..14 {
        get(&mut socket, id, 100);
        bench.device.wait_for("get");
    }
    ask(&mut socket, op::CANCEL, 20, &12_u64.to_le_bytes());
    assert_eq!(answer(&mut socket), Some((12, -7, 0, vec![])));
    assert_eq!(answer(&mut socket), Some((20, 0, 0, vec![])));
    ask(&mut socket, op::CANCEL, 21, &12_u64.to_le_bytes());
    assert_eq!(
        answer(&mut socket),
        Some((21, 0xC000_000D_u32 as i32, 0, vec![])),
        "cancelled before"
    );
    let (_, _, done) = bench.device.gets.lock().pop().unwrap();
    done(Got::Message(vec![1, 2, 3]));
    assert_eq!(answer(&mut socket), Some((13, 0, 3, vec![1, 2, 3])));
    ask(&mut socket, op::CANCEL, 22, &[0; 8]);
    let ids = [(); 3].map(|()| answer(&mut socket).unwrap().0);
    assert_eq!(ids, [10, 11, 22]);
}

#[test]
fn a_send_that_blocks_does_not_hold_up_the_rest() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    send(&mut socket, 30, 99);
    bench.device.wait_for("send");
    send(&mut socket, 31, 1);
    assert_eq!(answer(&mut socket).unwrap().0, 31);
    ask(&mut socket, op::REPLY, 32, b"x");
    assert_eq!(answer(&mut socket).unwrap().0, 32);
    *bench.device.released.lock() = true;
    bench.device.release.notify_all();
    assert_eq!(answer(&mut socket).unwrap().0, 30);
}

#[test]
fn the_socket_ends_only_after_the_last_send() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    send(&mut socket, 30, 99);
    bench.device.wait_for("send");
    socket.shutdown(Shutdown::Write).unwrap();
    bench.device.wait_for("close");
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let early = socket.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    *bench.device.released.lock() = true;
    bench.device.release.notify_all();
    bench.device.wait_for("sent");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(answer(&mut socket).unwrap().0, 30);
    assert_eq!(answer(&mut socket), None);
}

#[test]
fn whoever_breaks_the_protocol_loses_this_socket_only() {
    let bench = Bench::new();
    let mut good = bench.connected();
    let huge = RequestHeader {
        length: u32::MAX,
        ..RequestHeader::new(op::REPLY, 1, 0)
    };
    let odd = RequestHeader::new(99, 1, 0);
    for broken in [
        vec![0; 24],
        bytes(&huge),
        bytes(&odd),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ] {
        let mut bad = bench.connected();
        bad.write_all(&broken).unwrap();
        assert_eq!(answer(&mut bad), None);
    }
    let mut twice = bench.connected();
    get(&mut twice, 5, 100);
    get(&mut twice, 5, 100);
    while answer(&mut twice).is_some() {}
    let mut again = bench.connected();
    ask(&mut again, op::CONNECT, 2, &connect("\\Port", &[]));
    assert_eq!(answer(&mut again), None);
    let mut half = bench.connected();
    half.write_all(&[b'F'; 3]).unwrap();
    drop(half);
    ask(&mut good, op::REPLY, 3, b"x");
    assert_eq!(answer(&mut good), Some((3, 0, 0, vec![])));
    let told = bench.told.lock();
    assert!(
        told.iter().any(|l| l.contains("a length is out of bounds")),
        "{told:?}"
    );
    assert!(told.iter().any(|l| l.contains("no such operation")));
}

#[test]
fn gets_are_bounded_and_the_rest_goes_on() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    for id in 0..lane::MAX_GETS as u64 + 1 {
        get(&mut socket, 100 + id, 100);
    }
    let refused = answer(&mut socket).unwrap();
    assert_eq!(refused.0, 100 + lane::MAX_GETS as u64);
    assert_eq!(refused.1, 0xC000_009A_u32 as i32);
    ask(&mut socket, op::REPLY, 1, b"x");
    assert_eq!(answer(&mut socket), Some((1, 0, 0, vec![])));
}

#[test]
fn a_peer_that_asks_but_does_not_listen_is_not_read_any_further() {
    let mut bench = Bench::new();
    let mut socket = bench.connected();
    socket
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    // Descriptions are the longest completions that can be had for the asking.
    let request = bytes(&RequestHeader::new(op::DESCRIBE, 1, 0));
    let stuck = (0..1_000_000).find(|_| socket.write_all(&request).is_err());
    assert!(stuck.is_some(), "all of it was read");
    // A stop is not held up by it.
    bench.server.take().unwrap().stop();
    bench.device.wait_for("close");
}

#[test]
fn one_socket_too_many_is_told_so() {
    let bench = Bench::new();
    let mut sockets: Vec<UnixStream> = (0..listener::MAX_SOCKETS)
        .map(|_| bench.connected())
        .collect();
    let refusal = Some((hosted::NO_REQUEST, hosted::TOO_MANY_SOCKETS, 0, vec![]));
    for _ in 0..3 {
        let mut refused = bench.socket();
        // The request may be too late to be written; the refusal is there all the same.
        let header = bytes(&RequestHeader::new(op::DESCRIBE, 1, 0));
        let _ended = refused.write_all(&header);
        assert_eq!(answer(&mut refused), refusal);
    }
    let told = bench.told.lock().clone();
    let refusals = told.iter().filter(|l| l.contains("too many sockets"));
    assert_eq!(refusals.count(), 1, "{told:?}");
    drop(sockets.pop());
    bench.device.wait_for("close");
    // The place is free a moment after the handle is closed.
    let admitted = (0..1000).any(|_| {
        let mut socket = bench.socket();
        let _ended = socket.write_all(&bytes(&RequestHeader::new(op::DESCRIBE, 1, 0)));
        answer(&mut socket).is_some_and(|(id, ..)| id == 1)
    });
    assert!(admitted);
}

#[test]
fn other_users_cannot_keep_the_service_out() {
    use listener::{MAX_FOREIGN, MAX_SOCKETS, has_room};
    let foreigners = || std::iter::repeat_n(true, MAX_FOREIGN);
    assert!(has_room(foreigners().skip(1), true));
    assert!(!has_room(foreigners(), true));
    assert!(has_room(foreigners(), false));
    let own = std::iter::repeat_n(false, MAX_SOCKETS - MAX_FOREIGN);
    assert!(!has_room(foreigners().chain(own), false));
}

#[test]
fn a_path_that_no_socket_can_have_is_told_before_anything_is_made() {
    let parent = directory();
    let path = parent.join("x".repeat(108)).join("host.sock");
    let refused = Endpoint::bind(&path).unwrap_err();
    assert!(matches!(refused, BindError::TooLong(_)), "{refused}");
    assert!(refused.to_string().contains("107"), "{refused}");
    assert!(!parent.exists());
}

#[test]
fn a_missing_directory_is_made_and_those_above_are_not() {
    let parent = directory();
    let path = parent.join("run/host.sock");
    let refused = Endpoint::bind(&path).unwrap_err();
    assert!(matches!(refused, BindError::NoDirectory(_)), "{refused}");
    assert!(refused.to_string().contains("Make it"), "{refused}");
    assert!(!parent.exists());
    std::fs::create_dir(&parent).unwrap();
    let mut endpoint = Endpoint::bind(&path).unwrap();
    let made = std::fs::metadata(path.parent().unwrap()).unwrap();
    // For everybody if root's, for this user else.
    let open = std::os::unix::fs::PermissionsExt::mode(&made.permissions()) & 0o055 != 0;
    assert_eq!(open, listener::own_uid() == 0);
    // And one that is there is taken.
    drop(endpoint);
    endpoint = Endpoint::bind(&path).unwrap();
    drop(endpoint);
    std::fs::remove_dir_all(parent).unwrap();
}

#[test]
fn the_lock_is_no_file_of_somebody_elses_choice() {
    let path = directory().join("host.sock");
    let directory = path.parent().unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let elsewhere = directory.join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, directory.join("host.sock.lock")).unwrap();
    let refused = Endpoint::bind(&path).unwrap_err();
    assert!(matches!(refused, BindError::Io(..)), "{refused}");
    assert!(!elsewhere.exists());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn death_is_a_close() {
    let bench = Bench::new();
    let mut socket = bench.connected();
    get(&mut socket, 1, 100);
    bench.device.wait_for("get");
    drop(socket);
    bench.device.wait_for("close");
    assert!(bench.device.gets.lock().is_empty());
}

#[test]
fn stopping_closes_everybody_and_removes_the_socket() {
    let mut bench = Bench::new();
    let mut socket = bench.connected();
    get(&mut socket, 1, 100);
    bench.device.wait_for("get");
    bench.server.take().unwrap().stop();
    bench.device.wait_for("close");
    assert_eq!(answer(&mut socket), Some((1, -7, 0, vec![])));
    assert_eq!(answer(&mut socket), None);
    assert!(!bench.path.exists());
}

#[test]
fn a_dead_hosts_socket_is_replaced_and_a_live_ones_is_not() {
    let path = directory().join("deep/host.sock");
    let bind = || {
        let device = TestDevice(Arc::default());
        Server::bind(
            &path,
            device,
            &Capabilities::default(),
            Arc::new(|_: &str| {}),
        )
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = bind().unwrap();
    let refused = bind().unwrap_err();
    assert!(matches!(refused, BindError::InUse(_)), "{refused}");
    assert!(refused.to_string().contains("listens"));
    server.stop();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind().unwrap_err(), BindError::NotASocket(_)));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
}

/// Random numbers that are the same at every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// A request of any kind, whole or broken, or no request at all.
    fn garbage(&mut self) -> Vec<u8> {
        let payload: Vec<u8> = (0..self.roll(40)).map(|_| self.roll(4) as u8).collect();
        let codes = [
            op::DESCRIBE,
            op::CONNECT,
            op::CANCEL,
            op::SEND,
            op::GET,
            op::REPLY,
        ];
        match codes.get(self.roll(7) as usize) {
            Some(code) => {
                let header = RequestHeader::new(*code, self.roll(4), payload.len());
                [bytes(&header), payload].concat()
            }
            None => payload,
        }
    }
}

/// Whatever is written: the server neither panics nor stops to serve others, and the handle is
/// closed.
#[test]
fn any_bytes() {
    for seed in 1..=200_u64 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let bench = Bench::new();
        *bench.device.released.lock() = true;
        let mut socket = bench.connected();
        for _ in 0..dice.roll(12) {
            if socket.write_all(&dice.garbage()).is_err() {
                break;
            }
        }
        drop(socket);
        bench.device.wait_for("close");
        bench.connected();
    }
}
