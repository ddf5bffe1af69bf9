// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drivers whose messages are not what their schema says, and drivers whose schema makes no sense.

use crate::fake_host::{FakeHost, bytes, encode, notification, record, schema};
use fltport::process_monitor::{ProcessCreate, ProcessExit, ThreadChange};
use fltport::{Client, Corrupt, DecodeError, Error, Event, MessageSet, Options, Pid, Status, Text};
use fltport_abi::frame::{FRAME_REQUEST, OutcomeHeader, RecordKind};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn connected(host: &FakeHost) -> Client {
    let options = Options::new("test").socket(&host.path).reconnect(false);
    let client = Client::connect(options).unwrap();
    client
        .subscribe("process-monitor", [1, 2, 3], MessageSet::from(5))
        .unwrap();
    client
}

fn corrupt(client: &Client) -> Corrupt {
    match client.next(SOON) {
        Some(Event::Corrupt(corrupt)) => corrupt,
        other => panic!("{other:?}"),
    }
}

fn exit(n: u32) -> ProcessExit {
    ProcessExit {
        pid: Pid(n),
        exit_status: Status(0),
    }
}

/// A request to create a process, its image's path addressed at this offset.
fn create(image_at: u32) -> Vec<u8> {
    let mut payload = encode(&ProcessCreate {
        pid: Pid(1),
        parent_pid: Pid(2),
        creating_pid: Pid(2),
        creating_tid: Pid(3),
        image: Some(Text::Utf8("/bin/x")),
        command_line: None,
        truncated: false,
    });
    payload[16..20].copy_from_slice(&image_at.to_le_bytes());
    payload
}

#[test]
fn a_corrupt_record_is_told_in_its_place_and_not_handed_out() {
    let host = FakeHost::new();
    let client = connected(&host);
    let mut change = encode(&ThreadChange {
        pid: Pid(1),
        tid: Pid(2),
        created: true,
    });
    change[8] = 2;
    let bad = record(2, RecordKind::Notification, 3, &change, 12);
    let connection = host.connection(0);
    connection.stream(&[notification(1, &exit(1)), bad, notification(3, &exit(3))]);
    assert!(matches!(client.next(SOON), Some(Event::Notification(_))));
    let told = corrupt(&client);
    assert_eq!((told.sequence, told.provider), (2, 1));
    assert_eq!(told.message_name(), Some("thread"));
    assert_eq!(told.error, DecodeError::BadValue);
    assert!(matches!(client.next(SOON), Some(Event::Notification(_))));
    let statistics = client.statistics();
    assert_eq!((statistics.corrupt_records, statistics.missing), (1, 0));
}

#[test]
fn a_corrupt_request_is_not_asked() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    let ask = |id, image_at| {
        let request = record(id, RecordKind::Request, 5, &create(image_at), 36);
        let frame = connection.frame(FRAME_REQUEST, 60_000, &[request]);
        connection.deliver(1000 + id, 36, &frame);
    };
    for (id, image_at) in [(7, 4), (8, 4000)] {
        ask(id, image_at);
        let told = corrupt(&client);
        assert_eq!((told.sequence, told.error), (id, DecodeError::OutOfBounds));
    }
    ask(9, 36);
    let Some(Event::Request(request)) = client.next(SOON) else {
        panic!()
    };
    assert_eq!(request.record.sequence(), 9);
    assert!(connection.replies().is_empty());
    assert_eq!(client.statistics().corrupt_records, 2);
}

#[test]
fn an_outcome_is_corrupt_if_its_request_or_its_reply_is() {
    let host = FakeHost::new();
    let client = connected(&host);
    let outcome = |sequence, request: Vec<u8>, deny: u8| {
        let header = OutcomeHeader {
            request: 3,
            waited_us: 400,
            decider: 40,
            payload: request.len() as u32,
            reply: 4,
            outcome: 0,
        };
        let mut payload = [bytes(&header), request].concat();
        payload.resize(payload.len().next_multiple_of(8), 0);
        payload.extend([deny, 0, 0, 0]);
        record(sequence, RecordKind::Outcome, 5, &payload, 24)
    };
    host.connection(0).stream(&[
        outcome(1, create(36), 1),
        outcome(2, create(4), 1),
        outcome(3, create(36), 2),
    ]);
    assert!(matches!(client.next(SOON), Some(Event::Outcome(_))));
    assert_eq!(corrupt(&client).sequence, 2);
    assert_eq!(corrupt(&client).error, DecodeError::BadValue);
}

#[test]
fn a_provider_whose_schema_makes_no_sense_cannot_be_subscribed_to() {
    let host = FakeHost::new();
    let options = Options::new("test").socket(&host.path).reconnect(false);
    let client = Client::connect(options).unwrap();
    let mut twice = schema();
    // Two messages with one number, which stands six bytes before the name's length.
    let at = twice.windows(5).position(|w| w == b"\x04exit").unwrap();
    twice[at - 6..at - 4].copy_from_slice(&1_u16.to_le_bytes());
    host.hand_out(twice);
    for count in 1..=2 {
        let refused = client
            .subscribe("process-monitor", 1, MessageSet::NONE)
            .unwrap_err();
        assert!(matches!(refused, Error::Schema(_)), "{refused:?}");
        assert!(refused.to_string().contains("corrupt"), "{refused}");
        assert_eq!(client.statistics().corrupt_schemas, count);
    }
    host.hand_out(schema());
    client
        .subscribe("process-monitor", 1, MessageSet::NONE)
        .unwrap();
}
