// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests that come in the stream and are answered by a command.

use crate::fake_host::{Connection, FakeHost, NO_WAITER, bytes, encode, notification, record};
use fltport::process_monitor::{ProcessCreate, ProcessExit, ProcessVerdict};
use fltport::{Client, Error, Event, MessageSet, Options, Pid, Request, Status, StreamKey, Text};
use fltport_abi::Message;
use fltport_abi::frame::{AsyncRequestHeader, RecordKind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SOON: Duration = Duration::from_secs(10);
const ID: u64 = 1 << 63 | 0x1234;

fn connected(host: &FakeHost) -> Client {
    let options = Options::new("test").socket(&host.path).reconnect(false);
    let client = Client::connect(options).unwrap();
    client
        .subscribe("process-monitor", [2], MessageSet::from(5))
        .unwrap();
    client
}

fn question() -> ProcessCreate<'static> {
    ProcessCreate {
        pid: Pid(77),
        parent_pid: Pid(1),
        creating_pid: Pid(1),
        creating_tid: Pid(1),
        image: Some(Text::Utf8("/bin/nc")),
        command_line: None,
        truncated: false,
    }
}

/// The record of a question that was asked so many milliseconds ago.
fn asked(sequence: u64, deadline_ms: u32, ago_ms: u64) -> Vec<u8> {
    let header = AsyncRequestHeader {
        request: ID,
        deadline_ms,
        fixed: ProcessCreate::FIXED as u32,
    };
    let payload = [bytes(&header), encode(&question())].concat();
    let mut record = record(sequence, RecordKind::AsyncRequest, 5, &payload, 16);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let time = unix.as_nanos() as i64 / 100 + 116_444_736_000_000_000 - ago_ms as i64 * 10_000;
    record[16..24].copy_from_slice(&time.to_le_bytes());
    record
}

fn exit(n: u32) -> ProcessExit {
    ProcessExit {
        pid: Pid(n),
        exit_status: Status(0),
    }
}

fn next(client: &Client) -> Request {
    match client.next(SOON) {
        Some(Event::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn started() -> (FakeHost, Client, std::sync::Arc<Connection>) {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    (host, client, connection)
}

#[test]
fn it_comes_in_its_turn_and_is_answered_by_a_command() {
    let (_host, client, connection) = started();
    connection.stream(&[
        notification(1, &exit(1)),
        asked(2, 60_000, 1_000),
        notification(3, &exit(2)),
    ]);
    let first = client.next(SOON);
    assert!(matches!(first, Some(Event::Notification(_))), "{first:?}");
    let event = client.next(SOON).unwrap();
    assert_eq!(event.last_sequence(), Some(2));
    let Event::Request(request) = event else {
        panic!("{event:?}")
    };
    assert!(request.is_asynchronous());
    assert_eq!((request.id(), request.record.sequence()), (ID, 2));
    assert_eq!(request.record.decode::<ProcessCreate<'_>>(), Ok(question()));
    let left = request.remaining();
    assert!(
        left < Duration::from_secs(60) && left > Duration::from_secs(40),
        "{left:?}"
    );
    request.reply(&ProcessVerdict { deny: true }).unwrap();
    let mut expected = b"FPRE\x01\0\x05\0".to_vec();
    expected.extend(ID.to_le_bytes());
    expected.extend([1, 0, 0, 0]);
    assert_eq!(connection.answers(), [expected]);
    assert!(connection.replies().is_empty());
    assert!(matches!(
        client.next(SOON),
        Some(Event::Notification(record)) if record.sequence() == 3
    ));
    assert_eq!(client.statistics().requests, 1);
}

#[test]
fn a_late_answer_has_the_same_name_as_a_late_reply_and_a_large_one_is_not_sent() {
    let (_host, client, connection) = started();
    connection.reply_status(NO_WAITER);
    connection.stream(&[asked(1, 50, 0), asked(2, 50, 0)]);
    let late = next(&client).reply(&ProcessVerdict { deny: false });
    assert!(matches!(late, Err(Error::TooLate(_))), "{late:?}");
    let large = next(&client).reply_bytes(&[0; 4097]);
    assert!(matches!(large, Err(Error::Encode(_))), "{large:?}");
    assert_eq!(connection.answers().len(), 1);
}

#[test]
fn one_whose_deadline_has_passed_keeps_its_place_in_the_stream() {
    let (_host, client, connection) = started();
    connection.stream(&[asked(1, 10, 5_000)]);
    connection.stream(&[notification(2, &exit(1))]);
    let request = next(&client);
    assert_eq!(request.remaining(), Duration::ZERO);
    assert!(matches!(client.next(SOON), Some(Event::Notification(_))));
    assert_eq!(client.statistics().missing, 0);
}

#[test]
fn one_that_is_cut_short_is_damage_and_not_a_request() {
    let (_host, client, connection) = started();
    for fixed in [37, u32::MAX] {
        let header = AsyncRequestHeader {
            request: ID,
            deadline_ms: 50,
            fixed,
        };
        let payload = [bytes(&header), encode(&question())].concat();
        let hostile = record(1, RecordKind::AsyncRequest, 5, &payload[..50], 16);
        connection.stream(&[hostile]);
    }
    let short = record(1, RecordKind::AsyncRequest, 5, &[0; 15], 0);
    connection.stream(&[short]);
    connection.stream(&[notification(1, &exit(1))]);
    assert!(matches!(client.next(SOON), Some(Event::Notification(_))));
    assert_eq!(client.statistics().damaged, 3);
}

/// A client with a stream, over which two requests have come, and the second connection that goes on
/// with it, or not.
fn reconnecting(former: u32) -> (FakeHost, Client, [Request; 2]) {
    let host = FakeHost::new();
    host.streams(0, 0);
    let key = StreamKey::new(*b"a key of 16 byte").unwrap();
    let options = Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
        .stream(key, Duration::from_secs(30));
    let client = Client::connect(options).unwrap();
    client
        .subscribe("process-monitor", [2], MessageSet::from(5))
        .unwrap();
    let connection = host.connection(0);
    connection.stream(&[asked(1, 60_000, 0), asked(2, 60_000, 0)]);
    let taken = next(&client);
    host.streams(former, 0);
    connection.disconnect();
    // The other one lay in the queue when the connection ended.
    let queued = next(&client);
    (host, client, [taken, queued])
}

#[test]
fn what_has_come_is_answered_over_the_connection_that_goes_on_with_the_stream() {
    let (host, client, requests) = reconnecting(40);
    for request in requests {
        request.reply(&ProcessVerdict { deny: true }).unwrap();
    }
    let connection = host.connection(1);
    assert_eq!(connection.answers().len(), 2);
    // The driver sends again what has not been acknowledged; that has come.
    connection.stream(&[
        asked(1, 60_000, 0),
        asked(2, 60_000, 0),
        notification(3, &exit(1)),
    ]);
    let events: Vec<_> = std::iter::from_fn(|| client.next(SOON)).take(3).collect();
    assert!(
        matches!(
            &events[..],
            [
                Event::Disconnected { .. },
                Event::Resumed { .. },
                Event::Notification(_)
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn what_has_come_in_a_stream_that_is_over_or_closed_cannot_be_answered_any_more() {
    let (host, client, [taken, queued]) = reconnecting(0);
    let refused = taken.reply(&ProcessVerdict { deny: true });
    assert!(
        matches!(refused, Err(Error::Disconnected(_))),
        "{refused:?}"
    );
    assert_eq!(host.connection(1).answers().len(), 0);
    drop(client);
    let refused = queued.reply(&ProcessVerdict { deny: true });
    assert!(
        matches!(refused, Err(Error::Disconnected(_))),
        "{refused:?}"
    );
}
