// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that come by rings, and what comes by the port beside them.

mod broken;
mod served;

use crate::fake_host::{Connection, FakeHost, encode, gap, notification, provider_change, record};
use fltport::process_monitor::{ProcessExit, ProcessVerdict};
use fltport::{Client, Error, Event, MessageSet, NoRings, Options, Pid, Status, Transport};
use fltport_abi::frame::{FRAME_REQUEST, RecordKind};
use fltport_abi::status;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn options(host: &FakeHost) -> Options {
    Options::new("test")
        .socket(&host.path)
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
}

/// A driver with so many rings, a client of it, and the connection.
fn connected(
    rings: u32,
    with: impl FnOnce(Options) -> Options,
) -> (FakeHost, Client, Arc<Connection>) {
    let host = FakeHost::new();
    host.rings(rings);
    let client = Client::connect(with(options(&host))).unwrap();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    (host, client, connection)
}

/// The record of this number, which says it once more.
fn exit(number: u64) -> Vec<u8> {
    let message = ProcessExit {
        pid: Pid(number as u32),
        exit_status: Status(0),
    };
    notification(number, &message)
}

/// The number of a notification, which must say the same as its header.
fn number(event: Option<Event>) -> u64 {
    let Some(Event::Notification(record)) = event else {
        panic!("{event:?}")
    };
    let message = record.decode::<ProcessExit>().unwrap();
    assert_eq!(u64::from(message.pid.0), record.sequence());
    record.sequence()
}

/// Takes these numbers, in order.
fn expect(client: &Client, numbers: std::ops::RangeInclusive<u64>) {
    for expected in numbers {
        assert_eq!(number(client.next(SOON)), expected);
    }
}

#[test]
fn several_rings_are_one_stream_and_the_client_says_that_they_are_there() {
    let (_host, client, connection) = connected(3, |o| o);
    let rings = connection.rings();
    let told = Transport::Rings {
        rings: 3,
        bytes: 64 * 1024,
    };
    assert_eq!(client.transport().unwrap(), told);
    assert_eq!(told.to_string(), "3 rings of 64 KiB");
    for n in 1..=600 {
        rings.publish((n % 3) as usize, &exit(n));
    }
    rings.publish(1, &gap(601, 700));
    rings.publish(0, &exit(701));
    expect(&client, 1..=600);
    let gap = client.next(SOON);
    assert!(matches!(&gap, Some(Event::Gap(g)) if (g.first, g.last) == (601, 700)));
    expect(&client, 701..=701);
    let seen = client.statistics();
    assert_eq!((seen.records, seen.ring_records), (602, 602));
    assert_eq!((seen.missing, seen.explained), (0, 100));
    // All of it is the driver's again.
    rings.wait_for_sleep();
    assert_eq!([0, 1, 2].map(|ring| rings.used(ring)), [0; 3]);
}

#[test]
fn the_ring_size_is_asked_for() {
    let (_host, client, _) = connected(2, |o| o.ring_size(200_000));
    let told = client.transport().unwrap();
    assert_eq!(told.to_string(), "2 rings of 256 KiB");
}

#[test]
fn what_the_port_brings_is_merged_by_number_whichever_comes_first() {
    let (_host, client, connection) = connected(2, |o| o);
    let rings = connection.rings();
    connection.wait_for_gets(4);
    // Before the client sleeps, and while it does.
    connection.stream(&[exit(1), exit(2)]);
    rings.publish(0, &exit(3));
    expect(&client, 1..=3);
    rings.publish(1, &exit(5));
    rings.wait_for_sleep();
    assert!(
        client.next(Duration::ZERO).is_none(),
        "number 4 comes first"
    );
    connection.stream(&[exit(4)]);
    expect(&client, 4..=5);
    connection.stream(&[exit(7), exit(9)]);
    connection.stream(&[exit(11)]);
    rings.publish(1, &exit(8));
    rings.publish(0, &exit(6));
    rings.publish(0, &exit(10));
    expect(&client, 6..=11);
    let seen = client.statistics();
    assert_eq!((seen.records, seen.ring_records), (11, 5));
    assert_eq!((seen.missing, seen.repeated), (0, 0));
}

#[test]
fn a_processor_that_publishes_late_is_waited_for_asleep() {
    let (_host, client, connection) = connected(2, |o| o.spin_before_sleep(Duration::ZERO));
    let rings = connection.rings();
    for n in (2..100).step_by(2) {
        rings.publish(0, &exit(n));
        rings.wait_for_sleep();
        rings.publish(1, &exit(n - 1));
        expect(&client, n - 1..=n);
    }
    assert!(client.statistics().sleeps >= 49);
}

#[test]
fn a_number_that_never_comes_is_told_and_one_that_comes_too_late_is_no_corruption() {
    let (_host, client, connection) = connected(2, |o| o);
    let rings = connection.rings();
    rings.publish(0, &exit(3));
    let begun = Instant::now();
    let missing = client.next(SOON);
    let is_told = matches!(missing, Some(Event::Missing { first: 1, last: 2 }));
    assert!(
        is_told && begun.elapsed() > Duration::from_secs(4),
        "{missing:?}"
    );
    expect(&client, 3..=3);
    rings.publish(1, &exit(2));
    rings.publish(0, &exit(4));
    rings.publish(1, &exit(5));
    expect(&client, 4..=5);
    let seen = client.statistics();
    assert_eq!((seen.missing, seen.repeated), (2, 1));
    rings.wait_for_sleep();
    assert_eq!(rings.used(1), 0);
}

#[test]
fn requests_come_by_the_port_and_overtake() {
    let (_host, client, connection) = connected(1, |o| o);
    let rings = connection.rings();
    connection.wait_for_gets(4);
    (1..=5).for_each(|n| rings.publish(0, &exit(n)));
    rings.wait_for_sleep();
    let asked = record(
        77,
        RecordKind::Request,
        5,
        &encode(&ProcessVerdict { deny: true }),
        4,
    );
    // It is no such request, but nobody looks as long as it is not decoded; what counts is the way.
    let asked = connection.frame(FRAME_REQUEST, 60_000, &[asked]);
    connection.deliver(9, 100, &asked);
    client.info().unwrap();
    let first = client.next(SOON);
    let overtook = matches!(first, Some(Event::Request(_) | Event::Corrupt(_)));
    assert!(overtook, "{first:?}");
    expect(&client, 1..=5);
}

#[test]
fn a_provider_that_registers_anew_is_subscribed_to_by_way_of_a_ring_as_well() {
    let (_host, client, connection) = connected(1, |o| o);
    connection.wait_for_subscriptions(1);
    connection
        .rings()
        .publish(0, &provider_change(1, "process-monitor", true));
    connection.wait_for_subscriptions(2);
    assert!(matches!(client.next(SOON), Some(Event::CommonDriver(_))));
}

#[test]
fn a_program_that_is_slow_has_the_rings_fill_up_and_gets_all_that_they_held() {
    const QUEUE: usize = 20_000;
    let (_host, client, connection) = connected(1, |o| o.queue(QUEUE));
    let rings = connection.rings();
    let mut published = 0;
    let mut full_since = None;
    // Until it has been full for a while: nobody takes anything.
    while full_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(300)) {
        if rings.try_publish(0, &exit(published + 1)) {
            published += 1;
            full_since = None;
        } else {
            full_since.get_or_insert_with(Instant::now);
            std::thread::yield_now();
        }
    }
    // The ring, the queue, and the batch that made it full.
    let each = exit(1).len();
    let most = 64 * 1024 / each + QUEUE / 160 + 32 * 1024 / each + 2;
    assert!(published <= most as u64, "{published} of {most}");
    expect(&client, 1..=published);
    rings.publish(0, &exit(published + 1));
    expect(&client, published + 1..=published + 1);
    assert_eq!(client.statistics().missing, 0);
}

#[test]
fn a_connection_that_ends_while_the_client_sleeps_is_followed_by_another_one() {
    let (host, client, connection) = connected(2, |o| o);
    connection.rings().publish(1, &exit(1));
    expect(&client, 1..=1);
    connection.rings().wait_for_sleep();
    connection.disconnect();
    let ended = client.next(SOON);
    assert!(
        matches!(ended, Some(Event::Disconnected { .. })),
        "{ended:?}"
    );
    let again = client.next(SOON);
    assert!(matches!(again, Some(Event::Reconnected { generation: 1 })));
    let connection = host.connection(1);
    connection.wait_for_subscriptions(1);
    connection.rings().publish(1, &exit(1));
    connection.rings().publish(0, &exit(2));
    expect(&client, 1..=2);
    connection.rings().wait_for_sleep();
    let begun = Instant::now();
    client.close();
    assert!(begun.elapsed() < Duration::from_secs(5));
    // A subscription that was being made again may have failed.
    while client.next(Duration::ZERO).is_some() {}
    assert!(client.is_over());
}

#[test]
fn where_there_are_no_rings_the_port_serves_and_the_client_says_why() {
    let host = FakeHost::new();
    let connect = |change: fn(Options) -> Options| {
        let client = Client::connect(change(options(&host))).unwrap();
        (client.transport().unwrap(), client)
    };
    let (transport, client) = connect(|o| o);
    assert_eq!(transport, Transport::Port(NoRings::DriverTooOld));
    host.connection(0).stream(&[exit(1)]);
    expect(&client, 1..=1);
    assert_eq!(client.statistics().ring_records, 0);
    host.rings(1);
    let (transport, _client) = connect(|o| o.rings(false));
    assert_eq!(transport, Transport::Port(NoRings::NotWanted));
    host.refuse_rings(status::NOT_SUPPORTED);
    let (transport, client) = connect(|o| o);
    let refused = Transport::Port(NoRings::Refused(fltport::Code::Status(
        status::NOT_SUPPORTED,
    )));
    assert_eq!(transport, refused);
    let told = transport.to_string();
    assert!(
        told.starts_with("the port: the driver gives no rings (NTSTATUS"),
        "{told}"
    );
    host.connection(2).stream(&[exit(1)]);
    expect(&client, 1..=1);
    host.streams(0, 0);
    let key = fltport::StreamKey::new([1; 16]).unwrap();
    let with_stream = options(&host).stream(key, Duration::ZERO);
    let client = Client::connect(with_stream).unwrap();
    assert_eq!(
        client.transport().unwrap(),
        Transport::Port(NoRings::Stream)
    );
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "current_thread")]
async fn rings_are_awaited() {
    let host = FakeHost::new();
    host.rings(2);
    let client = fltport::AsyncClient::connect(options(&host)).await.unwrap();
    let connection = host.connection(0);
    for n in 1..=100 {
        connection.rings().publish((n % 2) as usize, &exit(n));
    }
    for n in 1..=100 {
        assert_eq!(number(client.next().await), n);
    }
    client.close().await;
    assert!(client.next().await.is_none());
}

/// What ended a client's first connection.
fn reason(client: &Client) -> Error {
    loop {
        match client.next(SOON) {
            Some(Event::Disconnected { reason }) => return reason,
            Some(_) => {}
            None => panic!("nothing ended"),
        }
    }
}
