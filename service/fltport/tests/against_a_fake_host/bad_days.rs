// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts that refuse, hang or lie, places where none can be, and programs that do not listen.

use crate::fake_host::{self, FakeHost, bytes, encode, notification, provider_change, record};
use fltport::process_monitor::{ProcessExit, ProcessVerdict};
use fltport::{Client, Error, Event, MessageSet, Options, Pid, Status};
use fltport_abi::frame::{FRAME_REQUEST, RecordKind};
use fltport_abi::hosted::{CompletionHeader, NO_REQUEST, TOO_MANY_SOCKETS};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn options(socket: &Path) -> Options {
    Options::new("test")
        .socket(socket)
        .reconnect(false)
        .patience(Duration::from_millis(300))
}

fn exit(n: u32) -> ProcessExit {
    ProcessExit {
        pid: Pid(n),
        exit_status: Status(0),
    }
}

/// A socket whose host does this with everybody who connects.
fn serving(with: impl Fn(std::os::unix::net::UnixStream) + Send + 'static) -> std::path::PathBuf {
    let path = fake_host::socket_path();
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            with(socket);
        }
    });
    path
}

#[test]
fn a_host_with_too_many_sockets_says_so_in_words() {
    let path = serving(|mut socket| {
        let refusal = bytes(&CompletionHeader::new(NO_REQUEST, TOO_MANY_SOCKETS, 0, 0));
        socket.write_all(&refusal).unwrap();
    });
    for _ in 0..20 {
        let refused = Client::connect(options(&path)).unwrap_err();
        assert!(matches!(refused, Error::TooManySockets(_)), "{refused:?}");
        let told = fltport::describe_host(&path, SOON).unwrap_err().to_string();
        assert!(told.contains("as many sockets as it takes"), "{told}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn half_an_answer_costs_its_patience_only() {
    let (keep, kept) = std::sync::mpsc::channel();
    let path = serving(move |mut socket| {
        socket.read_exact(&mut [0; 24]).unwrap();
        socket.write_all(b"FPH").unwrap();
        keep.send(socket).unwrap();
    });
    let begun = Instant::now();
    let silent = Client::connect(options(&path)).unwrap_err();
    assert!(matches!(silent, Error::NoAnswer(_)), "{silent:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(kept);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_host_that_is_stopped_costs_its_patience_only() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let path = fake_host::socket_path();
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    // Fills the queue of those who wait to be accepted.
    let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let begun = Instant::now();
    let silent = Client::connect(options(&path)).unwrap_err();
    assert!(matches!(silent, Error::NoAnswer(_)), "{silent:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn places_where_no_socket_can_be_are_named() {
    let long = std::env::temp_dir().join("x".repeat(108));
    for path in [long.as_path(), Path::new("/dev/null/host.sock")] {
        let told = Client::connect(options(path)).unwrap_err();
        assert!(matches!(told, Error::NotAPlace { .. }), "{told:?}");
        assert!(told.to_string().contains(path.to_str().unwrap()), "{told}");
    }
}

#[test]
fn no_get_waits_before_the_connection_knows_its_number() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host.path)).unwrap();
    let connection = host.connection(0);
    connection.wait_for_gets(4);
    assert_eq!(connection.gets_at_first_info(), Some(0));
    connection.stream(&[provider_change(1, "x", true)]);
    let first = client.next(SOON);
    assert!(matches!(first, Some(Event::CommonDriver(_))), "{first:?}");
    assert_eq!(client.statistics().foreign_frames, 0);
}

#[test]
fn a_provider_that_registers_anew_while_it_is_subscribed_to_is_subscribed_to_again() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host.path)).unwrap();
    let connection = host.connection(0);
    connection.wait_for_gets(4);
    connection.register_while_subscribing();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::NONE)
        .unwrap();
    connection.wait_for_subscriptions(2);
}

#[test]
fn requests_that_nobody_takes_are_forgotten_at_their_deadline() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host.path).queue(2000)).unwrap();
    let connection = host.connection(0);
    let ask = |id: u64, deadline_ms| {
        let request = record(id, RecordKind::Request, 5, &encode(&exit(1)), 8);
        let frame = connection.frame(FRAME_REQUEST, deadline_ms, &[request]);
        connection.deliver(id, 100, &frame);
    };
    // Many more than the queue has room for, were they kept.
    for id in 1..=100 {
        ask(id, 0);
    }
    ask(101, 60_000);
    client.info().unwrap();
    let Some(Event::Request(mut request)) = client.next(SOON) else {
        panic!()
    };
    let forgotten = client.statistics().overdue;
    assert!(forgotten >= 99, "{forgotten}");
    while request.record.sequence() != 101 {
        request = match client.next(SOON) {
            Some(Event::Request(request)) => request,
            other => panic!("{other:?}"),
        };
    }
    request.reply(&ProcessVerdict { deny: true }).unwrap();
}

#[test]
fn requests_hold_gets_back_as_everything_does() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host.path).queue(1000).outstanding_gets(1)).unwrap();
    let connection = host.connection(0);
    let mut asked = 0;
    connection.wait_for_gets(1);
    while connection.gets() > 0 {
        asked += 1;
        assert!(asked < 20, "no end to what is kept");
        let request = record(asked, RecordKind::Request, 5, &encode(&exit(1)), 8);
        let frame = connection.frame(FRAME_REQUEST, 60_000, &[request]);
        connection.deliver(asked, 100, &frame);
        // When the first is answered, the get that follows has been written; the second comes
        // after.
        client.info().unwrap();
        client.info().unwrap();
    }
    assert!(asked > 1);
    while asked > 0 {
        assert!(matches!(client.next(SOON), Some(Event::Request(_))));
        asked -= 1;
    }
    connection.wait_for_gets(1);
}

#[test]
fn many_callers_take_turns() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host.path).patience(SOON)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..150 {
            scope.spawn(|| client.info().unwrap());
        }
    });
    host.connection(0).stream(&[notification(1, &exit(1))]);
    assert!(matches!(client.next(SOON), Some(Event::Notification(_))));
}
