// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two thousand processes as fast as the machine can, with a service that lives and with one that
//! is killed.

use crate::bench::{Directory, Running, fltport, host, is_root, json, signal, watch};
use crate::{alone, crowd};
use std::cell::RefCell;

const CROWD: usize = 2_000;

/// The driver's books.
fn status(directory: &Directory) -> serde_json::Value {
    let mut command = fltport(directory);
    command.args(["status", "--json"]);
    let ended = Running::start(command).end();
    json(&ended.lines[0])
}

#[test]
fn every_start_and_exit_of_a_flood_is_accounted_for() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let watched = watch(&directory, &[]);
    let program = crowd::program(&directory);
    let pids = crowd::run(&program, CROWD);

    // Lines that `watch` has looked through begin before the crowd; the numbering goes on.
    let account = RefCell::new(crowd::Account::new(&program));
    watched.replay(|line| account.borrow_mut().take(line));
    watched.find("rest of the crowd", |line| {
        let mut account = account.borrow_mut();
        account.take(line);
        let starts = account.started.len() as u64 + account.told_of("start");
        let exits = account.exits() as u64 + account.told_of("exit");
        (starts >= CROWD as u64 && exits >= CROWD as u64).then_some(())
    });
    let account = account.into_inner();
    if account.told.is_empty() {
        let mut started = account.started.clone();
        let mut expected = pids;
        started.sort_unstable();
        expected.sort_unstable();
        assert_eq!(started, expected, "exactly the processes that were started");
        assert_eq!(account.exits(), CROWD);
    }
    watched.interrupt();
    let ended = watched.end();
    assert!(ended.status.success());
    assert!(
        ended.errors.contains("the ledger balances"),
        "{}",
        ended.errors
    );
    host.interrupt();
    let ended = host.end();
    assert!(ended.status.success(), "{}", ended.errors);
}

#[test]
fn a_service_killed_in_the_flood_leaves_an_honest_gap() {
    let _alone = alone();
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let first = watch(&directory, &[]);
    let program = crowd::program(&directory);
    let flood = std::thread::spawn({
        let program = program.clone();
        move || crowd::run(&program, CROWD)
    });
    let before = RefCell::new(crowd::Account::new(&program));
    first.replay(|line| before.borrow_mut().take(line));
    first.find("a part of the crowd", |line| {
        before.borrow_mut().take(line);
        (before.borrow().exits() > CROWD / 10).then_some(())
    });
    signal(first.child.id(), "KILL");
    // What it had written before it died is still in the pipe.
    for line in first.rest() {
        before.borrow_mut().take(&line);
    }
    let before = before.into_inner();

    let mut command = fltport(&directory);
    command.args(["watch", "--json"]);
    let second = Running::start(command);
    let after = RefCell::new(crowd::Account::new(&program));
    let pids = flood.join().unwrap();
    assert_eq!(pids.len(), CROWD);
    // The ended connection's books: what it was handed and never wrote is nobody's to tell.
    let books = status(&directory);
    let ended = books["ledger"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["connection"] == "ended");
    let handed: u64 = ended.map(|row| row["delivered"].as_u64().unwrap()).sum();
    let unwritten = handed.saturating_sub(before.records);
    // Each start and each exit has been written by one of the two, or told of, or was handed to the
    // one that died. (What the latter did not write may be of any kind.)
    second.find("rest of the crowd", |line| {
        after.borrow_mut().take(line);
        let after = after.borrow();
        let starts = before.started.len() + after.started.len();
        let exits = before.exits() + after.exits() + after.ended_unseen.len();
        let told = after.told_of("start") + after.told_of("exit");
        let accounted = (starts + exits) as u64 + told + unwritten;
        (accounted >= 2 * CROWD as u64).then_some(())
    });
    second.interrupt();
    let ended = second.end();
    assert!(
        ended.errors.contains("the ledger balances"),
        "{}",
        ended.errors
    );
    host.interrupt();
    let ended = host.end();
    assert!(ended.status.success(), "{}", ended.errors);
}
