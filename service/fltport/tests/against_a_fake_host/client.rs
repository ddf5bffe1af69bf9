// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blocking client against a fake hosted kernel.

use crate::fake_host::{FakeHost, LEDGER_ROWS, NO_WAITER, encode, gap, notification, record};
use fltport::process_monitor::{
    Exclusions, GetExclusions, ProcessCreate, ProcessExit, ProcessStart, ProcessVerdict,
    SetExclusions,
};
use fltport::{Client, Error, Event, MessageSet, Options, Pid, Status, Text, TextList};
use fltport_abi::frame::{FRAME_REQUEST, OutcomeHeader, RecordKind};
use fltport_abi::status;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn options(host: &FakeHost) -> Options {
    Options::new("test").socket(&host.path).reconnect(false)
}

fn connected(host: &FakeHost) -> Client {
    let client = Client::connect(options(host)).unwrap();
    client
        .subscribe("process-monitor", [1, 2, 5], MessageSet::from(5))
        .unwrap();
    client
}

fn exit(n: u32) -> ProcessExit {
    ProcessExit {
        pid: Pid(n),
        exit_status: Status(-1),
    }
}

fn pid_of(event: Option<Event>) -> u32 {
    match event {
        Some(Event::Notification(record)) => record.decode::<ProcessExit>().unwrap().pid.0,
        other => panic!("{other:?}"),
    }
}

fn create(n: u32) -> ProcessCreate<'static> {
    ProcessCreate {
        pid: Pid(n),
        parent_pid: Pid(1),
        creating_pid: Pid(1),
        creating_tid: Pid(1),
        image: Some(Text::Utf8("/bin/nc")),
        command_line: None,
        truncated: false,
    }
}

#[test]
fn connects_with_a_hello_and_learns_who_it_is() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host).rights(fltport::rights::OBSERVE)).unwrap();
    let hello = host.connection(0).hello;
    assert_eq!((hello.rights, hello.generation), (1, 0));
    let info = client.info().unwrap();
    assert_eq!(
        (info.name.as_str(), info.number, info.own),
        ("test", 40, true)
    );
    assert_eq!(client.providers().unwrap()[0].name, "process-monitor");
    assert_eq!(client.connections().unwrap().len(), 1);
    assert_eq!(
        client.ledger().unwrap().len(),
        LEDGER_ROWS,
        "in three pages"
    );
    assert!(client.requests().unwrap().is_empty());
    let schema = client.schema("process-monitor").unwrap();
    assert_eq!(schema.message(1).unwrap().name, "start");
    assert!(matches!(client.schema("x"), Err(Error::NoProvider(name)) if name == "x"));
}

#[test]
fn notifications_are_typed_or_read_with_the_schema() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    let start = ProcessStart {
        pid: Pid(7),
        parent_pid: Pid(1),
        creating_pid: Pid(1),
        creating_tid: Pid(1),
        image: Some(Text::Utf8("/bin/a")),
        command_line: None,
        truncated: false,
    };
    connection.stream(&[notification(1, &start), notification(2, &exit(7))]);
    let Some(Event::Notification(record)) = client.next(SOON) else {
        panic!()
    };
    assert_eq!(record.decode::<ProcessStart>(), Ok(start));
    assert!(record.decode::<ProcessExit>().is_err());
    let fields: Vec<String> = record
        .fields()
        .map(|(name, value)| format!("{name}={:?}", value.unwrap()))
        .collect();
    assert_eq!(fields[0], "pid=Pid(Pid(7))");
    assert_eq!(fields[5], "command_line=Absent");
    assert_eq!(fields[6], "truncated=Bool(false)");
    assert_eq!(pid_of(client.next(SOON)), 7);
    assert!(client.next(Duration::from_millis(1)).is_none());
    assert_eq!(client.statistics().records, 2);
}

#[test]
fn frames_that_come_in_another_order_are_put_in_order() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    connection.wait_for_gets(4);
    let frame = |n: u32| connection.batch(&[notification(n.into(), &exit(n))]);
    assert!(connection.deliver_to(1, 0, 0, &frame(3)));
    assert!(connection.deliver_to(1, 0, 0, &frame(2)));
    assert!(client.next(Duration::from_millis(50)).is_none());
    assert!(connection.deliver_to(0, 0, 0, &frame(1)));
    assert_eq!([(); 3].map(|()| pid_of(client.next(SOON))), [1, 2, 3]);
}

#[test]
fn a_gap_is_told_where_it_is_and_a_hole_is_an_error() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host).outstanding_gets(1)).unwrap();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    connection.stream(&[
        notification(1, &exit(1)),
        gap(2, 9),
        notification(10, &exit(10)),
    ]);
    connection.stream(&[notification(13, &exit(13))]);
    assert_eq!(pid_of(client.next(SOON)), 1);
    let Some(Event::Gap(gap)) = client.next(SOON) else {
        panic!()
    };
    assert_eq!((gap.first, gap.last), (2, 9));
    let loss = &gap.losses[0];
    assert_eq!((loss.count, loss.message_name()), (8, Some("exit")));
    assert_eq!(loss.provider_name(), Some("process-monitor"));
    assert_eq!(loss.cause, Some(fltport::Cause::RingFull));
    assert_eq!(
        (loss.by, loss.by_name()),
        (Some(1), Some("process-monitor"))
    );
    assert_eq!(pid_of(client.next(SOON)), 10);
    let missing = client.next(SOON);
    assert!(
        matches!(
            missing,
            Some(Event::Missing {
                first: 11,
                last: 12
            })
        ),
        "{missing:?}"
    );
    assert_eq!(pid_of(client.next(SOON)), 13);
    let statistics = client.statistics();
    assert_eq!((statistics.explained, statistics.missing), (8, 2));
}

#[test]
fn frames_of_another_connection_and_damaged_ones_are_dropped_and_counted() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    let mut foreign = connection.batch(&[notification(1, &exit(99))]);
    foreign[20] ^= 1;
    connection.deliver(0, 0, &foreign);
    let mut damaged = connection.batch(&[notification(1, &exit(98))]);
    damaged[24] ^= 0x40;
    connection.deliver(0, 0, &damaged);
    connection.deliver(0, 0, b"short");
    connection.stream(&[notification(1, &exit(1))]);
    assert_eq!(pid_of(client.next(SOON)), 1);
    let statistics = client.statistics();
    assert_eq!((statistics.foreign_frames, statistics.damaged), (1, 2));
}

#[test]
fn a_buffer_that_is_too_small_grows() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host).buffer(64).outstanding_gets(2)).unwrap();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    connection.wait_for_gets(2);
    let records: Vec<_> = (1..=20).map(|n| notification(n.into(), &exit(n))).collect();
    connection.stream(&records);
    for n in 1..=20 {
        assert_eq!(pid_of(client.next(SOON)), n);
    }
    assert!(client.statistics().grown >= 1);
}

/// Whether one message fails one get that is too small for it, or all of them, is not documented.
#[test]
fn all_gets_may_be_too_small_for_one_message() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host).buffer(64).outstanding_gets(32)).unwrap();
    client
        .subscribe("process-monitor", [1, 2], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    connection.wait_for_gets(32);
    let records: Vec<_> = (1..=20).map(|n| notification(n.into(), &exit(n))).collect();
    connection.stream(&records);
    for n in 1..=20 {
        assert_eq!(pid_of(client.next(SOON)), n);
    }
    let statistics = client.statistics();
    assert_eq!((statistics.grown, statistics.reconnects), (32, 0));
}

fn ask(connection: &crate::fake_host::Connection, id: u64, deadline_ms: u32) {
    let payload = encode(&create(id as u32));
    let request = record(id, RecordKind::Request, 5, &payload, 36);
    let frame = connection.frame(FRAME_REQUEST, deadline_ms, &[request]);
    connection.deliver(1000 + id, 16 + 16 + 4, &frame);
}

fn next_request(client: &Client) -> fltport::Request {
    match client.next(SOON) {
        Some(Event::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_answered_from_any_thread_with_exactly_the_bytes() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    connection.stream(&[notification(1, &exit(1))]);
    ask(&connection, 77, 60_000);
    connection.wait_for_gets(4);
    let request = next_request(&client);
    assert_eq!(request.record.decode::<ProcessCreate>(), Ok(create(77)));
    assert!(request.remaining() > Duration::from_secs(50));
    let answered = std::thread::spawn(move || request.reply(&ProcessVerdict { deny: true }));
    answered.join().unwrap().unwrap();
    let expected: &[u8] = &[
        0, 0, 0, 0, 0, 0, 0, 0, 0x35, 4, 0, 0, 0, 0, 0, 0, b'F', b'P', b'R', b'E', 1, 0, 5, 0, 77,
        0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
    ];
    assert_eq!(connection.replies(), [expected]);
    assert_eq!(pid_of(client.next(SOON)), 1, "the request overtook it");
}

/// When a stream is taken over its former connection ends, perhaps just behind a reply.
#[test]
fn a_reply_that_the_driver_has_taken_succeeds_although_the_connection_ends() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    connection.close_behind_replies();
    ask(&connection, 1, 60_000);
    let reply = next_request(&client).reply(&ProcessVerdict { deny: true });
    assert!(reply.is_ok(), "{reply:?}");
    assert_eq!(connection.replies().len(), 1);
}

#[test]
fn a_late_reply_is_told_so_and_a_large_one_is_not_sent() {
    let host = FakeHost::new();
    let client = connected(&host);
    let connection = host.connection(0);
    connection.reply_status(NO_WAITER);
    ask(&connection, 1, 5);
    let late = next_request(&client).reply(&ProcessVerdict { deny: false });
    assert!(matches!(late, Err(Error::TooLate(_))), "{late:?}");
    assert!(late.unwrap_err().to_string().contains("too late"));
    ask(&connection, 2, 5);
    let large = next_request(&client).reply_bytes(&[0; 5]);
    assert!(matches!(large, Err(Error::Encode(_))), "{large:?}");
    assert_eq!(connection.replies().len(), 1);
    ask(&connection, 3, 5);
    drop(next_request(&client));
    assert_eq!(
        connection.replies().len(),
        1,
        "a dropped request has no answer"
    );
}

#[test]
fn outcomes_are_split_into_request_and_reply() {
    let host = FakeHost::new();
    let client = connected(&host);
    let request = encode(&create(5));
    let header = OutcomeHeader {
        request: 3,
        waited_us: 400,
        decider: 40,
        payload: request.len() as u32,
        reply: 4,
        outcome: 1,
    };
    let mut payload = [crate::fake_host::bytes(&header), request].concat();
    payload.resize(payload.len().next_multiple_of(8), 0);
    payload.extend([1, 0, 0, 0]);
    let outcome = record(1, RecordKind::Outcome, 5, &payload, 24);
    host.connection(0).stream(&[outcome]);
    let Some(Event::Outcome(outcome)) = client.next(SOON) else {
        panic!()
    };
    assert_eq!(outcome.outcome(), Some(fltport::Outcome::Missed));
    assert_eq!((outcome.id(), outcome.decider()), (3, Some(40)));
    assert_eq!(outcome.decode_request::<ProcessCreate>(), Ok(create(5)));
    assert!(outcome.decode_reply::<ProcessVerdict>().unwrap().deny);
    assert_eq!(outcome.request_fields().count(), 7);
    let (name, deny) = outcome.reply_fields().next().unwrap();
    assert_eq!((name, deny), ("deny", Ok(fltport::Value::Bool(true))));
}

#[test]
fn commands_go_to_the_provider_and_their_results_come_back() {
    let host = FakeHost::new();
    let client = connected(&host);
    let images = TextList::Strings(&["*/nc", "b"]);
    let set = client
        .command("process-monitor", &SetExclusions { images })
        .unwrap();
    let set = set
        .decode::<fltport::process_monitor::ExclusionsSet>()
        .unwrap();
    assert_eq!(set.count, 2);
    let got = client
        .command("process-monitor", &GetExclusions {})
        .unwrap();
    assert_eq!(got.decode::<Exclusions>().unwrap().images, images);
    let unknown = client.command_bytes("process-monitor", 44, &[]);
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");
    let large = client.command_bytes("process-monitor", 6, &[0; 65_536]);
    assert!(matches!(large, Err(Error::Encode(_))), "{large:?}");
}

#[test]
fn refusals_have_names_and_cures() {
    let host = FakeHost::new();
    for (status, word) in [
        (status::ACCESS_DENIED, "access denied"),
        (status::ACCOUNT_RESTRICTION, "no right at any provider"),
        (status::PRIVILEGE_NOT_HELD, "one of the rights"),
        (status::IMAGE_NOT_ALLOWED, "this program"),
        (status::CONFIGURATION_UNREADABLE, "cannot understand"),
        (status::OTHER_PROCESS, "another process"),
        (status::REVISION_MISMATCH, "version"),
        (0xC000_0246_u32 as i32, "takes no more connections"),
        (0xC000_0034_u32 as i32, "no hosted kernel listens"),
        (status::DELETE_PENDING, "being unloaded"),
    ] {
        host.refuse(Some(status));
        let error = Client::connect(options(&host)).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.code(), fltport::Code::Status(status));
    }
    host.refuse(None);
    host.subscribe_status(status::SHARING_VIOLATION);
    let client = Client::connect(options(&host)).unwrap();
    let taken = client.subscribe("process-monitor", MessageSet::NONE, [5]);
    assert!(matches!(taken, Err(Error::DeciderTaken(_))), "{taken:?}");
    let nobody = Client::connect(Options::new("x").socket("/nonexistent/socket"));
    assert!(
        matches!(nobody, Err(Error::NotRunning { .. })),
        "{nobody:?}"
    );
}

#[test]
fn a_host_that_does_not_answer_costs_its_patience_only() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host).patience(Duration::from_millis(100))).unwrap();
    host.connection(0).fall_silent();
    let begun = Instant::now();
    assert!(matches!(client.info(), Err(Error::NoAnswer(_))));
    drop(client);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_host_that_breaks_the_protocol_is_left() {
    let host = FakeHost::new();
    let client = connected(&host);
    host.connection(0).write_raw(&[b'X'; 24]);
    let event = client.next(SOON);
    let Some(Event::Disconnected { reason }) = event else {
        panic!("{event:?}")
    };
    assert!(matches!(reason, Error::Protocol(_)), "{reason:?}");
    assert!(client.next(SOON).is_none() && client.is_over());
}

#[test]
fn a_program_that_does_not_take_its_events_holds_the_gets_back() {
    let host = FakeHost::new();
    let client = Client::connect(options(&host).queue(1000).outstanding_gets(2)).unwrap();
    client
        .subscribe("process-monitor", [2], MessageSet::NONE)
        .unwrap();
    let connection = host.connection(0);
    let mut sent: u32 = 0;
    connection.wait_for_gets(2);
    while connection.gets() > 0 {
        sent += 1;
        connection.stream(&[notification(sent.into(), &exit(sent))]);
        // When the first is answered, the get that follows has been written; the second comes
        // after.
        client.info().unwrap();
        client.info().unwrap();
    }
    assert!(
        (5..20).contains(&sent),
        "{sent} taken with 1000 bytes of room"
    );
    for n in 1..=sent {
        assert_eq!(pid_of(client.next(SOON)), n);
    }
    connection.wait_for_gets(2);
}

#[test]
fn closing_wakes_everybody() {
    let host = FakeHost::new();
    let client = std::sync::Arc::new(connected(&host));
    let connection = host.connection(0);
    connection.fall_silent();
    let waiting = {
        let client = client.clone();
        std::thread::spawn(move || client.next(Duration::from_secs(60)).is_none())
    };
    let commanding = {
        let client = client.clone();
        std::thread::spawn(move || client.info().is_err())
    };
    while std::sync::Arc::strong_count(&client) < 3 {
        std::thread::yield_now();
    }
    client.close();
    assert!(waiting.join().unwrap() && commanding.join().unwrap());
    assert!(client.is_over());
    assert!(matches!(client.info(), Err(Error::Closed)));
    client.close();
}

#[test]
fn threads_end_with_their_client() {
    // Threads of this process that were started by threads of this name, and no other test's.
    let threads = |pid: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.count()
    };
    let host = FakeHost::new();
    let mut counts = Vec::new();
    for _ in 0..20 {
        let client = connected(&host);
        drop(client);
        counts.push(threads("self"));
    }
    // Other tests run beside this one; a leak of two threads per client would show as forty.
    let least = counts.iter().skip(10).min().unwrap();
    assert!(least < &(counts[0] + 30), "{counts:?}");
}
