// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings that hold what no driver writes.

use super::{SOON, connected, exit, expect, gap, number, reason};
use crate::fake_host::{FakeHost, record};
use fltport::{Client, Error, Event, Options};
use fltport_abi::frame::RecordKind;
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::time::Instant;

/// Where the word lies that says up to where the first ring is filled.
const PUBLISHED: usize = 128;

#[test]
fn a_ring_that_holds_no_record_ends_the_connection_with_a_name_and_the_next_one_is_good() {
    let (host, client, connection) = connected(2, |o| o);
    let rings = connection.rings();
    rings.publish(0, &exit(1));
    expect(&client, 1..=1);
    rings.wait_for_sleep();
    // The second ring is filled, it says, and there is nothing.
    rings.scribble(PUBLISHED + 128, &4096_u64.to_le_bytes());
    rings.signal();
    let reason = reason(&client);
    let found = matches!(
        reason,
        Error::CorruptRing {
            ring: 1,
            position: 0
        }
    );
    assert!(found, "{reason:?}");
    assert!(
        reason
            .to_string()
            .starts_with("ring 1 holds at position 0 what is no record")
    );
    assert!(matches!(client.next(SOON), Some(Event::Reconnected { .. })));
    host.connection(1).rings().publish(0, &exit(1));
    expect(&client, 1..=1);
}

#[test]
fn rings_that_are_none_are_refused_at_the_connect() {
    let host = FakeHost::new();
    host.rings(1);
    host.spoil_rings();
    let refused = Client::connect(Options::new("test").socket(&host.path)).unwrap_err();
    assert!(
        matches!(refused, Error::Protocol("rings that are none")),
        "{refused:?}"
    );
}

#[test]
fn what_came_before_a_corruption_is_handed_on() {
    let (_host, client, connection) = connected(1, |o| o);
    let rings = connection.rings();
    // Numbers that go back within a ring.
    for n in [2, 3, 1] {
        rings.publish(0, &exit(n));
    }
    connection.wait_for_gets(4);
    connection.stream(&[exit(1)]);
    assert_eq!(number(client.next(SOON)), 1);
    assert_eq!(number(client.next(SOON)), 2);
    let reason = reason(&client);
    assert!(matches!(reason, Error::CorruptRing { .. }), "{reason:?}");
}

#[test]
fn a_record_that_is_damaged_is_missing_and_those_behind_it_are_not() {
    let (_host, client, connection) = connected(1, |o| o);
    let rings = connection.rings();
    let mut odd = exit(1);
    // The kind, and then more fixed part than there is payload; a gap that is none; a request.
    odd[28] = 99;
    rings.publish(0, &odd);
    let mut long = exit(2);
    long[30] = 200;
    rings.publish(0, &long);
    let mut lies = gap(3, 9);
    lies[32 + 16] += 1;
    rings.publish(0, &lies);
    rings.publish(0, &record(10, RecordKind::Request, 5, &[0; 8], 8));
    rings.publish(0, &exit(11));
    for (first, last) in [(1, 1), (2, 2), (3, 9), (10, 10)] {
        let told = client.next(SOON);
        let is_it =
            matches!(told, Some(Event::Missing { first: a, last: b }) if (a, b) == (first, last));
        assert!(is_it, "{first} to {last}: {told:?}");
    }
    expect(&client, 11..=11);
    let seen = client.statistics();
    assert_eq!((seen.damaged, seen.missing), (4, 10));
}

#[test]
fn a_message_that_is_not_what_its_schema_says_is_told_as_such() {
    let (_host, client, connection) = connected(1, |o| o);
    // Two bytes of a fixed part in which a process id has four.
    let short = record(1, RecordKind::Notification, 2, &[1, 2], 2);
    connection.rings().publish(0, &short);
    connection.rings().publish(0, &exit(2));
    let corrupt = client.next(SOON);
    assert!(matches!(corrupt, Some(Event::Corrupt(_))), "{corrupt:?}");
    expect(&client, 2..=2);
}

/// Has a client of a driver whose rings hold these bytes read all that it can.
fn read_all(host: &FakeHost, rings: usize, bytes: &[u8], published: [u64; 2], serve: bool) {
    let options = Options::new("test").socket(&host.path).reconnect(false);
    let client = Client::connect(options).unwrap();
    let connection = host.connection(0);
    let fake = connection.rings();
    fake.wait_for_sleep();
    let first = fake.shape().data_size() - rings * fake.shape().capacity();
    fake.scribble(first, bytes);
    for (ring, end) in published.iter().enumerate().take(rings) {
        fake.scribble(PUBLISHED + 128 * ring, &end.to_le_bytes());
    }
    let begun = Instant::now();
    let events = std::thread::scope(|scope| {
        let reading = scope.spawn(|| count_events(&client, serve));
        fake.wake();
        // Until it has read what it can, or has ended the connection.
        while !fake.is_asleep() && client.transport().is_ok() {
            assert!(begun.elapsed() < SOON, "it neither sleeps nor ends");
            std::thread::yield_now();
        }
        client.close();
        reading.join().unwrap()
    });
    assert!(begun.elapsed() < SOON, "it hung");
    assert!(events <= bytes.len() + 1, "{events} events");
}

/// Takes what comes until the client is closed.
fn count_events(client: &Client, serve: bool) -> usize {
    let mut events = 0;
    if serve {
        let served = client.serve(|_| {
            events += 1;
            ControlFlow::<()>::Continue(())
        });
        assert!(served.unwrap().is_none());
    }
    while !client.is_over() {
        events += usize::from(client.next(SOON).is_some());
    }
    events
}

/// Bytes that look like records now and then.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        3 => Just(0_u64),
        3 => 0..5_u64,
        2 => prop_oneof![Just(32), Just(40), Just(64), Just(96)],
        1 => (0..3_u64, 0..9_u64, 0..64_u64).prop_map(|(a, kind, fixed)| a | kind << 32 | fixed << 48),
        1 => (32..200_u64, 0..70_u64).prop_map(|(size, payload)| size & !7 | payload << 32),
        1 => any::<u64>(),
    ];
    let words = prop::collection::vec(word, 0..400);
    words.prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Up to where a ring is filled, it says.
fn end() -> impl Strategy<Value = u64> {
    prop_oneof![4 => (0_u64..600).prop_map(|n| n * 32), 1 => 0_u64..70_000, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_in_the_rings_do_the_client_harm(
        rings in 1_usize..3,
        bytes in bytes(),
        published in [end(), end()],
        serve in any::<bool>(),
    ) {
        let host = FakeHost::new();
        host.rings(rings as u32);
        read_all(&host, rings, &bytes, published, serve);
    }
}
