// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts by services that hang, die, or start processes themselves.

use crate::alone;
use crate::bench::{Directory, fltport, host, is_root, json, signal, watch};
use fltport::{Client, Event, MessageSet, Options};
use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_stopped_decider_holds_an_exec_no_longer_than_the_deadline() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let decider = watch(&directory, &["--deny", "*/forbidden"]);
    let forbidden = directory.program("forbidden");
    let denied = Command::new(&forbidden).status().unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);

    stop(decider.child.id());
    let begun = Instant::now();
    let status = Command::new(&forbidden)
        .status()
        .expect("the miss policy allows it");
    let held = begun.elapsed();
    signal(decider.child.id(), "CONT");
    assert!(status.success());
    assert!(held >= Duration::from_millis(400), "it was asked: {held:?}");
    // Well below the watchdog, which would let it go after five seconds whatever the drivers do.
    assert!(held < Duration::from_secs(4), "{held:?}");
    let missed = decider.find("missed verdict", |line| {
        let line = json(line);
        let own = line["image"] == forbidden.to_str().unwrap();
        (own && line["outcome"] == "missed").then_some(line)
    });
    assert_eq!(missed["deny"], false);
    // By the driver's own clock: the deadline, and what a busy machine adds to it.
    let waited = missed["waited_us"].as_u64().unwrap();
    assert!((500_000..2_000_000).contains(&waited), "{waited}");
    drop(decider);
    host.interrupt();
    assert!(host.end().status.success());
}

/// Stops a process, and waits until every thread of it stands still.
fn stop(pid: u32) {
    signal(pid, "STOP");
    let until = Instant::now() + crate::bench::LONG;
    let stands_still = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
        // A thread that has gone meanwhile does nothing more either.
        stat.is_ok_and(|stat| stat.contains(") T ") || stat.contains(") t "))
    };
    while !std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .all(stands_still)
    {
        assert!(Instant::now() < until, "it does not stop");
        std::thread::yield_now();
    }
}

#[test]
fn a_decider_that_starts_processes_does_not_wait_for_itself() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let options = Options::new("self-starter").socket(directory.0.join("host.sock"));
    let client = Client::connect(options).unwrap();
    let create = MessageSet::from(5);
    client.subscribe("process-monitor", create, create).unwrap();
    let program = directory.program("child");
    // Nobody takes requests from the client meanwhile: an answer could only come late.
    let begun = Instant::now();
    for _ in 0..5 {
        assert!(Command::new(&program).status().unwrap().success());
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let row = &client.requests().unwrap()[0];
    let from_decider = row.outcomes[fltport::Outcome::FromDecider.index()];
    assert!(from_decider >= 5, "{row:?}");
    drop(client);
    host.interrupt();
    assert!(host.end().status.success());
}

#[test]
fn of_two_services_one_is_killed_and_the_other_goes_on() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let observer = watch(&directory, &[]);
    let decider = watch(&directory, &["--deny", "*/forbidden"]);
    let forbidden = directory.program("forbidden");
    assert!(Command::new(&forbidden).status().is_err());
    observer.find("denial", |line| (json(line)["deny"] == true).then_some(()));
    signal(decider.child.id(), "KILL");
    drop(decider);
    let until = Instant::now() + crate::bench::LONG;
    while Command::new(&forbidden).status().is_err() {
        assert!(Instant::now() < until, "the dead decider still denies");
    }
    let image = forbidden.to_str().unwrap().to_owned();
    observer.find("start", |line| {
        let line = json(line);
        (line["message"] == "start" && line["image"] == image.as_str()).then_some(())
    });
    let successor = watch(&directory, &["--deny", "*/forbidden"]);
    assert!(
        Command::new(&forbidden).status().is_err(),
        "the role is free again"
    );
    drop((successor, observer));
    host.interrupt();
    assert!(host.end().status.success());
}

#[test]
fn a_second_decider_is_refused_with_the_reason() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let _host = host(&directory);
    let _first = watch(&directory, &["--deny", "x"]);
    let mut command = fltport(&directory);
    command.args(["watch", "--deny", "y", "--for", "5s"]);
    let ended = crate::bench::Running::start(command).end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.errors.contains("another service"), "{}", ended.errors);
}

#[test]
fn a_client_sees_the_driver_go_and_come_back() {
    let _alone = alone();
    let directory = Directory::new();
    let first = host(&directory);
    let options = Options::new("patient")
        .socket(directory.0.join("host.sock"))
        .backoff(Duration::from_millis(10), Duration::from_millis(100));
    let client = Client::connect(options).unwrap();
    client
        .subscribe(
            "process-monitor",
            MessageSet::from([1, 2]),
            MessageSet::NONE,
        )
        .unwrap();
    first.interrupt();
    assert!(first.end().status.success());
    wait_for(&client, |event| matches!(event, Event::Disconnected { .. }));
    let second = host(&directory);
    wait_for(&client, |event| matches!(event, Event::Reconnected { .. }));
    let program = directory.program("witness");
    assert!(Command::new(&program).status().unwrap().success());
    wait_for(&client, |event| matches!(event, Event::Notification(_)));
    drop(client);
    second.interrupt();
    assert!(second.end().status.success());
}

fn wait_for(client: &Client, wanted: impl Fn(&Event) -> bool) {
    let until = Instant::now() + crate::bench::LONG;
    while Instant::now() < until {
        if client
            .next(Duration::from_secs(1))
            .is_some_and(|event| wanted(&event))
        {
            return;
        }
    }
    panic!("the event does not come");
}
