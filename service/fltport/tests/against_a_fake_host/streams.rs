// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that outlive a connection, against a fake hosted kernel.

use crate::fake_host::{FakeHost, gap, notification, record};
use fltport::process_monitor::ProcessExit;
use fltport::{Acknowledge, Client, Error, Event, Options, Pid, Status, StreamKey, Subscription};
use fltport_abi::command::flags;
use fltport_abi::frame::RecordKind;
use fltport_abi::hello::stream;
use fltport_abi::status;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
/// Nothing is to come any more; what would, is there already.
const NOW: Duration = Duration::ZERO;

fn options(host: &FakeHost) -> Options {
    let key = StreamKey::new(*b"a key of 16 byte").unwrap();
    Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_millis(5), Duration::from_millis(50))
        .stream(key, Duration::from_secs(30))
}

fn exits(numbers: std::ops::RangeInclusive<u64>) -> Vec<Vec<u8>> {
    let exit = |n: u64| {
        notification(
            n,
            &ProcessExit {
                pid: Pid(n as u32),
                exit_status: Status(0),
            },
        )
    };
    numbers.map(exit).collect()
}

/// The next notification's number.
fn next(client: &Client) -> u64 {
    match client.next(SOON) {
        Some(Event::Notification(record)) => record.sequence(),
        other => panic!("{other:?}"),
    }
}

fn lose_connection(host: &FakeHost, n: usize, client: &Client) {
    host.connection(n).disconnect();
    let event = client.next(SOON);
    assert!(
        matches!(event, Some(Event::Disconnected { .. })),
        "{event:?}"
    );
}

#[test]
fn what_the_program_has_taken_is_acknowledged_when_it_asks_for_more() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host)).unwrap();
    let connection = host.connection(0);
    let wanted = connection.stream.unwrap();
    assert_eq!(wanted.key, *b"a key of 16 byte");
    assert_eq!((wanted.flags, wanted.former), (stream::RESUME, 0));
    assert_eq!(wanted.retention_ms, 30_000);
    connection.stream(&exits(1..=3));
    assert_eq!((next(&client), next(&client)), (1, 2));
    assert_eq!(connection.acknowledgements(), [], "it may still be at it");
    assert_eq!(next(&client), 3);
    assert!(client.next(NOW).is_none());
    connection.wait_for_acknowledgement(3);
    connection.stream(&[gap(4, 9)]);
    assert!(matches!(client.next(SOON), Some(Event::Gap(_))));
    assert!(client.next(NOW).is_none());
    connection.wait_for_acknowledgement(9);
    assert_eq!(connection.acknowledgements(), [3, 9], "not each alone");
}

/// Or the next process would be sent all of it again.
#[test]
fn what_the_program_has_dealt_with_is_acknowledged_when_it_ends() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host)).unwrap();
    let connection = host.connection(0);
    connection.stream(&exits(1..=9));
    (1..=4).for_each(|n| assert_eq!(next(&client), n));
    drop(client);
    assert_eq!(connection.acknowledgements(), [3], "it may still be at 4");
}

#[test]
fn a_program_can_say_itself_what_it_has_dealt_with() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let options = options(&host).acknowledge(Acknowledge::Explicitly);
    let client = Client::connect(options).unwrap();
    let connection = host.connection(0);
    connection.stream(&exits(1..=3));
    while client.next(Duration::from_millis(100)).is_some() {}
    assert_eq!(connection.acknowledgements(), []);
    client.acknowledge(2).unwrap();
    assert_eq!(connection.acknowledgements(), [2]);
}

#[test]
fn a_stream_goes_on_and_nothing_comes_twice() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host)).unwrap();
    host.connection(0).stream(&exits(1..=5));
    assert_eq!((next(&client), next(&client)), (1, 2));
    host.streams(40, 1);
    host.connection(0).disconnect();
    assert_eq!(
        [next(&client), next(&client), next(&client)],
        [3, 4, 5],
        "what had come is not lost"
    );
    let event = client.next(SOON);
    assert!(
        matches!(event, Some(Event::Disconnected { .. })),
        "{event:?}"
    );
    let event = client.next(SOON);
    assert!(
        matches!(event, Some(Event::Resumed { generation: 1 })),
        "{event:?}"
    );
    let connection = host.connection(1);
    let wanted = connection.stream.unwrap();
    assert_eq!((wanted.former, wanted.flags), (40, stream::RESUME));
    // From behind what was acknowledged, as the driver knows it.
    connection.stream(&exits(2..=7));
    assert_eq!((next(&client), next(&client)), (6, 7));
    assert_eq!(client.statistics().missing, 0);
    assert_eq!(client.stream().unwrap().unwrap().former, Some(40));
}

#[test]
fn another_process_goes_on_behind_what_was_acknowledged_and_can_read_it() {
    let host = FakeHost::new();
    host.streams(12, 7);
    let client = Client::connect(options(&host)).unwrap();
    host.connection(0).stream(&exits(8..=8));
    let Some(Event::Notification(record)) = client.next(SOON) else {
        panic!()
    };
    assert_eq!(record.sequence(), 8);
    assert_eq!(
        record.fields().count(),
        2,
        "the schema is there without a subscription"
    );
}

#[test]
fn when_the_retention_was_over_a_new_stream_begins() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host)).unwrap();
    host.connection(0).stream(&exits(1..=5));
    (1..=5).for_each(|n| assert_eq!(next(&client), n));
    lose_connection(&host, 0, &client);
    let event = client.next(SOON);
    assert!(
        matches!(event, Some(Event::Reconnected { .. })),
        "{event:?}"
    );
    host.connection(1).stream(&exits(1..=1));
    assert_eq!(next(&client), 1);
}

/// The numbers of what it has still to take of a stream that is over say nothing in the next one.
#[test]
fn what_is_taken_late_of_a_former_stream_acknowledges_nothing_of_the_next_one() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host)).unwrap();
    host.connection(0).stream(&exits(1..=50));
    assert_eq!(next(&client), 1);
    for n in 0..2 {
        host.connection(n).disconnect();
        host.connection(n + 1).wait_for_gets(1);
    }
    let connection = host.connection(2);
    connection.stream(&exits(1..=3));
    (2..=50).for_each(|n| assert_eq!(next(&client), n));
    let early = client.acknowledge(50);
    assert!(matches!(early, Err(Error::NoSuchRecord(_))), "{early:?}");
    for _ in 0..2 {
        let event = client.next(SOON);
        assert!(
            matches!(event, Some(Event::Disconnected { .. })),
            "{event:?}"
        );
        let event = client.next(SOON);
        assert!(
            matches!(event, Some(Event::Reconnected { .. })),
            "{event:?}"
        );
    }
    assert_eq!(next(&client), 1);
    assert_eq!((next(&client), next(&client)), (2, 3));
    assert!(client.next(NOW).is_none());
    connection.wait_for_acknowledgement(3);
    assert_eq!(connection.acknowledgements(), [3]);
}

#[test]
fn an_instance_that_was_taken_over_stops() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host).take_over(true)).unwrap();
    let flags = host.connection(0).stream.unwrap().flags;
    assert_eq!(flags, stream::RESUME | stream::TAKE_OVER);
    host.refuse(Some(status::CONNECTION_ABORTED));
    lose_connection(&host, 0, &client);
    let event = client.next(SOON);
    assert!(matches!(event, Some(Event::TakenOver)), "{event:?}");
    assert!(client.next(SOON).is_none());
    assert!(client.is_over());
}

#[test]
fn a_stream_that_is_in_use_is_named() {
    let host = FakeHost::new();
    host.streams(0, 0);
    host.refuse(Some(status::CONNECTION_ACTIVE));
    let refused = Client::connect(options(&host));
    assert!(matches!(refused, Err(Error::StreamInUse(_))), "{refused:?}");
}

#[test]
fn with_a_driver_of_before_there_were_streams_the_client_says_so_and_goes_on() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host)).unwrap();
    let event = client.next(SOON);
    assert!(matches!(event, Some(Event::NoStream)), "{event:?}");
    assert_eq!(client.stream().unwrap(), None);
    let connection = host.connection(0);
    assert_eq!(connection.stream, None);
    assert_eq!(
        (connection.hello.min_version, connection.hello.max_version),
        (1, 2)
    );
    connection.stream(&exits(1..=2));
    assert_eq!((next(&client), next(&client)), (1, 2));
    assert!(client.next(NOW).is_none());
    assert_eq!(connection.acknowledgements(), []);
    host.connection(0).disconnect();
    let event = client.next(SOON);
    assert!(
        matches!(event, Some(Event::Disconnected { .. })),
        "{event:?}"
    );
    let event = client.next(SOON);
    assert!(
        matches!(event, Some(Event::Reconnected { .. })),
        "{event:?}"
    );
}

#[test]
fn a_snapshot_is_asked_for_with_a_new_stream_and_not_with_one_that_goes_on() {
    let host = FakeHost::new();
    host.streams(0, 0);
    let client = Client::connect(options(&host)).unwrap();
    let subscription = Subscription::to("process-monitor").observe([1, 2]);
    client.subscribe_with(subscription.snapshot()).unwrap();
    let flags_of = |n: usize| {
        let connection = host.connection(n);
        connection.wait_for_subscription();
        connection
            .filtered()
            .first()
            .map(|(wanted, _)| wanted.flags)
    };
    assert_eq!(flags_of(0), Some(flags::SNAPSHOT));
    let mut records = exits(1..=2);
    records[0][28] = RecordKind::Snapshot as u8;
    records[1] = record(2, RecordKind::SnapshotEnd, 0, &[], 0);
    host.connection(0).stream(&records);
    assert!(matches!(client.next(SOON), Some(Event::Snapshot(_))));
    let Some(Event::SnapshotEnd {
        provider: 1,
        sequence: 2,
        schema: Some(schema),
        ..
    }) = client.next(SOON)
    else {
        panic!("the snapshot has an end, and it says whose it is")
    };
    assert_eq!(schema.provider, "process-monitor");
    host.streams(40, 2);
    lose_connection(&host, 0, &client);
    assert!(matches!(client.next(SOON), Some(Event::Resumed { .. })));
    assert_ne!(flags_of(1), Some(flags::SNAPSHOT), "the stream has had it");
    host.streams(0, 0);
    lose_connection(&host, 1, &client);
    assert!(matches!(client.next(SOON), Some(Event::Reconnected { .. })));
    assert_eq!(flags_of(2), Some(flags::SNAPSHOT));
}
