// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler in the thread that reads.

use super::{SOON, connected, exit, expect, gap, options};
use crate::fake_host::{Connection, FakeHost, encode, record};
use fltport::process_monitor::{ProcessExit, ProcessVerdict};
use fltport::{Client, Error, Event, EventRef, MessageSet, Pid, Status};
use fltport_abi::frame::{FRAME_REQUEST, RecordKind};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What a handler is told, as one word each.
fn word(event: &EventRef<'_>) -> String {
    match event {
        EventRef::Notification(record) => {
            let message = record.decode::<ProcessExit>().unwrap();
            assert_eq!(u64::from(message.pid.0), record.sequence());
            let kept = record.to_record();
            assert_eq!(kept.payload(), record.payload());
            assert_eq!(kept.decode::<ProcessExit>().unwrap().pid, message.pid);
            let names: Vec<&str> = record.fields().map(|(name, _)| name).collect();
            assert_eq!(names, ["pid", "exit_status"]);
            record.sequence().to_string()
        }
        EventRef::Other(Event::Gap(gap)) => format!("{}-{}", gap.first, gap.last),
        EventRef::Other(Event::Request(request)) => format!("request {}", request.id()),
        EventRef::Other(Event::Disconnected { .. }) => "disconnected".to_owned(),
        EventRef::Other(Event::Reconnected { .. }) => "reconnected".to_owned(),
        EventRef::Other(Event::Corrupt(corrupt)) => format!("corrupt {}", corrupt.sequence),
        other => format!("{other:?}"),
    }
}

/// Serves until so many words have come.
fn serve(client: &Client, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    let done = client.serve(|event| {
        words.push(word(&event));
        match words.len() == count {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    assert!(done.unwrap().is_some(), "it is over: {words:?}");
    words
}

/// Serves in a thread until the client is closed, and sends on what comes.
fn serve_on(client: &Client, words: &Sender<String>) {
    let over = client.serve(|event| {
        words.send(word(&event)).unwrap();
        ControlFlow::<()>::Continue(())
    });
    assert!(over.unwrap().is_none());
}

fn next(words: &Receiver<String>) -> String {
    words.recv_timeout(SOON).unwrap()
}

fn ask(connection: &Connection, id: u64) {
    let question = ProcessExit {
        pid: Pid(1),
        exit_status: Status(0),
    };
    let request = record(id, RecordKind::Request, 2, &encode(&question), 8);
    connection.deliver(
        id,
        100,
        &connection.frame(FRAME_REQUEST, 60_000, &[request]),
    );
}

#[test]
fn a_handler_is_told_what_the_queue_would_bring_wherever_it_breaks() {
    let (_host, client, connection) = connected(2, |o| o);
    let rings = connection.rings();
    connection.wait_for_gets(4);
    (1..=10).for_each(|n| rings.publish((n % 2) as usize, &exit(n)));
    // These are in the queue before anybody serves.
    rings.wait_for_sleep();
    assert_eq!(serve(&client, 3), ["1", "2", "3"]);
    (11..=20).for_each(|n| rings.publish((n % 2) as usize, &exit(n)));
    rings.publish(0, &gap(21, 25));
    connection.stream(&[exit(26)]);
    rings.publish(1, &exit(27));
    // Breaks within a batch; the queue goes on, and then a handler again.
    let told = serve(&client, 10);
    assert_eq!(
        (told[0].as_str(), told[9].as_str()),
        ("4", "13"),
        "{told:?}"
    );
    expect(&client, 14..=16);
    let told = serve(&client, 7);
    assert_eq!(told, ["17", "18", "19", "20", "21-25", "26", "27"]);
    let seen = client.statistics();
    assert_eq!((seen.missing, seen.repeated, seen.records), (0, 0, 23));
}

#[test]
fn a_handler_that_waits_is_woken_by_rings_and_by_requests() {
    let (_host, client, connection) = connected(1, |o| o);
    let (sender, words) = channel();
    connection.wait_for_gets(4);
    std::thread::scope(|scope| {
        scope.spawn(|| serve_on(&client, &sender));
        for n in 1..=50 {
            connection.rings().wait_for_sleep();
            connection.rings().publish(0, &exit(n));
            assert_eq!(next(&words), n.to_string());
            connection.rings().wait_for_sleep();
            ask(&connection, 1000 + n);
            assert_eq!(next(&words), format!("request {}", 1000 + n));
        }
        client.close();
    });
}

#[test]
fn a_number_on_its_way_is_waited_for_however_many_requests_come_meanwhile() {
    let (_host, client, connection) = connected(2, |o| o);
    connection.wait_for_gets(4);
    connection.rings().publish(0, &exit(2));
    connection.rings().wait_for_sleep();
    for n in 1..=1100 {
        ask(&connection, 1000 + n);
        assert_eq!(serve(&client, 1), [format!("request {}", 1000 + n)]);
    }
    connection.rings().publish(1, &exit(1));
    assert_eq!(serve(&client, 2), ["1", "2"]);
    assert_eq!(client.statistics().missing, 0);
}

#[test]
fn a_request_overtakes_what_was_copied_from_the_rings() {
    let (_host, client, connection) = connected(1, |o| o);
    connection.wait_for_gets(4);
    (1..=300).for_each(|n| connection.rings().publish(0, &exit(n)));
    let mut told = 0;
    let at = client.serve(|event| {
        told += 1;
        if told == 5 {
            ask(&connection, 7);
            // When this is answered, the request is in the queue.
            client.info().unwrap();
        }
        match event {
            EventRef::Other(Event::Request(request)) => {
                request.reply(&ProcessVerdict { deny: true }).unwrap();
                ControlFlow::Break(told)
            }
            _ => ControlFlow::Continue(()),
        }
    });
    assert_eq!(at.unwrap(), Some(6));
    assert_eq!(connection.replies().len(), 1);
    expect(&client, 6..=300);
}

#[test]
fn a_handler_is_told_of_the_end_in_its_place_and_goes_on_with_the_next_connection() {
    let (host, client, connection) = connected(2, |o| o);
    let (sender, words) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| serve_on(&client, &sender));
        connection.rings().publish(0, &exit(1));
        assert_eq!(next(&words), "1");
        connection.rings().wait_for_sleep();
        for n in 1..5 {
            host.connection(n - 1).disconnect();
            assert_eq!(next(&words), "disconnected");
            assert_eq!(next(&words), "reconnected");
            let connection = host.connection(n);
            connection.wait_for_subscriptions(1);
            connection.rings().publish(1, &exit(1));
            connection.rings().publish(0, &exit(2));
            assert_eq!(next(&words), "1");
            assert_eq!(next(&words), "2");
        }
        client.close();
    });
}

#[test]
fn a_handler_that_is_slow_has_the_ring_fill_up_and_gets_all_that_it_held() {
    let (_host, client, connection) = connected(1, |o| o);
    let rings = connection.rings();
    let (began, has_begun) = channel();
    let (go_on, may_go_on) = channel::<u64>();
    let served = &client;
    std::thread::scope(|scope| {
        let handler = scope.spawn(move || {
            let (mut next, mut last) = (1, 0);
            let served = served.serve(|event| {
                assert_eq!(word(&event), next.to_string());
                if next <= 2 {
                    began.send(()).unwrap();
                }
                if next == 2 {
                    last = may_go_on.recv_timeout(SOON).unwrap();
                }
                next += 1;
                match next > last && last > 0 {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            assert!(served.unwrap().is_some());
        });
        // The first may come by way of the queue, from before there was a handler.
        for n in 1..=2 {
            rings.publish(0, &exit(n));
            has_begun.recv_timeout(SOON).unwrap();
        }
        let mut last = 2;
        while rings.try_publish(0, &exit(last + 1)) {
            last += 1;
        }
        // Of what the handler has not dealt with nothing was told to be read.
        assert_eq!(
            last as usize - 1,
            64 * 1024 / fltport_ring::stride(exit(1).len())
        );
        go_on.send(last).unwrap();
        handler.join().unwrap();
        assert_eq!(rings.used(0), 0);
    });
}

#[test]
fn a_corrupt_ring_ends_the_connection_of_a_handler_as_well() {
    let (_host, client, connection) = connected(1, |o| o.reconnect(false));
    connection.rings().scribble(128, &4096_u64.to_le_bytes());
    connection.rings().signal();
    let reason = client.serve(|event| match event {
        EventRef::Other(Event::Disconnected { reason }) => ControlFlow::Break(reason),
        other => panic!("{other:?}"),
    });
    let reason = reason.unwrap();
    let is_it = matches!(
        reason,
        Some(Error::CorruptRing {
            ring: 0,
            position: 0
        })
    );
    assert!(is_it, "{reason:?}");
    assert!(
        client
            .serve(|_| ControlFlow::<()>::Continue(()))
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_its_schema_does_not_allow_is_no_notification() {
    let (_host, client, connection) = connected(1, |o| o);
    let short = record(1, RecordKind::Notification, 2, &[1, 2], 2);
    connection.rings().publish(0, &short);
    connection.rings().publish(0, &exit(2));
    assert_eq!(serve(&client, 2), ["corrupt 1", "2"]);
}

#[test]
fn one_thread_serves_at_a_time_and_may_close_the_client() {
    let (_host, client, connection) = connected(1, |o| o);
    connection.rings().publish(0, &exit(1));
    let over = client.serve(|event| {
        assert_eq!(word(&event), "1");
        let again = client.serve(|_| ControlFlow::Break(()));
        assert!(matches!(again, Err(Error::AlreadyServing)), "{again:?}");
        client.close();
        ControlFlow::<()>::Continue(())
    });
    assert!(over.unwrap().is_none() && client.is_over());
}

#[test]
fn who_closes_a_client_that_is_being_given_rings_waits_for_neither_driver_nor_handler() {
    let (host, client, connection) = connected(1, |o| o.patience(6 * SOON));
    let client = Arc::new(client);
    // A thread that does not end fails the test, and does not hold it up.
    let in_a_thread = |what: fn(&Client)| {
        let (client, (done, is_done)) = (client.clone(), channel());
        std::thread::spawn(move || {
            what(&client);
            done.send(()).unwrap();
        });
        is_done
    };
    let served = in_a_thread(|client| {
        let over = client.serve(|_| ControlFlow::<()>::Continue(()));
        assert!(over.unwrap().is_none());
    });
    let (asked, _holds) = host.hold_rings();
    connection.disconnect();
    asked.recv_timeout(SOON).unwrap();
    let closed = in_a_thread(Client::close);
    closed.recv_timeout(SOON).expect("it is closed");
    served.recv_timeout(SOON).expect("it serves no more");
}

#[test]
fn without_rings_it_is_the_same() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host)).unwrap();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    connection.wait_for_gets(4);
    connection.stream(&[exit(1), gap(2, 4)]);
    connection.stream(&[exit(5)]);
    assert_eq!(serve(&client, 3), ["1", "2-4", "5"]);
    let (sender, words) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| serve_on(&client, &sender));
        connection.wait_for_gets(4);
        connection.stream(&[exit(6)]);
        assert_eq!(next(&words), "6");
        ask(&connection, 9);
        assert_eq!(next(&words), "request 9");
        connection.disconnect();
        assert_eq!(next(&words), "disconnected");
        assert_eq!(next(&words), "reconnected");
        host.connection(1).wait_for_subscriptions(1);
        host.connection(1).stream(&[exit(1)]);
        assert_eq!(next(&words), "1");
        client.close();
    });
    assert!(client.next(Duration::ZERO).is_none());
}
