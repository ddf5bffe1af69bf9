// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport watch --stream` and `--snapshot`, with real processes.

use crate::bench::{Directory, Running, about, fltport, host, is_root, json, watch};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Starts the program and waits for its end; its process id.
fn run(program: &Path) -> u64 {
    let mut child = Command::new(program).spawn().unwrap();
    child.wait().unwrap();
    child.id().into()
}

fn starts_of(lines: &[String], program: &Path) -> Vec<u64> {
    let lines: Vec<Value> = lines.iter().map(|l| json(l)).collect();
    let starts = about(&lines, "start", program);
    starts.iter().map(|l| l["pid"].as_u64().unwrap()).collect()
}

fn until_exit(watch: &Running, pid: u64) {
    watch.find("exit", |line| {
        let line = json(line);
        (line["message"] == "exit" && line["pid"] == pid).then_some(())
    });
}

#[test]
fn a_watch_that_is_started_again_goes_on_where_it_stopped() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let program = directory.program("target");
    let stream = ["--stream", "nightly", "--retention", "5m"];
    let first = watch(&directory, &stream);
    let mut pids: Vec<u64> = (0..5).map(|_| run(&program)).collect();
    until_exit(&first, pids[4]);
    first.interrupt();
    let ended = first.end();
    assert!(ended.status.success(), "{}", ended.errors);
    let mut seen = starts_of(&ended.lines, &program);

    pids.extend((0..5).map(|_| run(&program)));
    let mut status = fltport(&directory);
    status.arg("status");
    let status = Running::start(status).end().lines.join("\n");
    assert!(status.contains("its stream waits for it"), "{status}");
    let second = watch(&directory, &stream);
    pids.push(run(&program));
    until_exit(&second, pids[10]);

    let mut refused = fltport(&directory);
    refused.arg("watch").args(stream);
    let refused = Running::start(refused).end();
    assert!(!refused.status.success());
    assert!(
        refused.errors.contains("take the stream over"),
        "{}",
        refused.errors
    );

    let third = watch(&directory, &[&stream[..], &["--take-over"]].concat());
    let taken_over = second.end();
    assert!(!taken_over.status.success());
    let told = "another instance of this service has taken the stream over";
    assert!(taken_over.errors.contains(told), "{}", taken_over.errors);
    let told = "the stream goes on behind number";
    assert!(taken_over.errors.contains(told), "{}", taken_over.errors);
    assert!(!ended.errors.contains(told), "the first one began it");
    seen.extend(starts_of(&taken_over.lines, &program));
    pids.push(run(&program));
    until_exit(&third, pids[11]);
    third.interrupt();
    let ended = third.end();
    assert!(ended.status.success(), "{}", ended.errors);
    seen.extend(starts_of(&ended.lines, &program));
    assert_eq!(seen, pids, "each once, in order, over three commands");
    drop(host);
}

#[test]
fn a_snapshot_shows_what_runs() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let mut before = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let host = host(&directory);
    let mut sleeping = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let program = directory.program("gone");
    let gone = run(&program);
    // The backlog goes to this one.
    let first = watch(&directory, &[]);
    let is_its_exit = |line: &str| {
        let line = json(line);
        line["message"] == "exit" && line["pid"] == gone
    };
    // It may have come with what `watch` has looked through.
    let mut has_come = false;
    first.replay(|line| has_come |= is_its_exit(line));
    if !has_come {
        first.find("exit", |line| is_its_exit(line).then_some(()));
    }
    let second = watch(&directory, &["--snapshot"]);
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    until_exit(&second, sleeping.id().into());
    before.kill().unwrap();
    before.wait().unwrap();
    until_exit(&second, before.id().into());
    second.interrupt();
    let ended = second.end();
    assert!(ended.status.success(), "{}", ended.errors);
    let lines: Vec<Value> = ended.lines.iter().map(|l| json(l)).collect();
    let end = lines.iter().position(|l| l["message"] == "snapshot-end");
    let (present, live) = lines.split_at(end.expect("an end"));
    assert!(
        present
            .iter()
            .all(|l| l["snapshot"] == true || l["provider"] == "fltport")
    );
    let is_present = |pid: u64| {
        let mut starts = present.iter().filter(|l| l["message"] == "start");
        starts.any(|l| l["pid"] == pid)
    };
    assert!(is_present(sleeping.id().into()), "it ran");
    assert!(!is_present(gone), "it had ended");
    assert!(
        is_present(std::process::id().into()),
        "it ran before the host"
    );
    let older = present
        .iter()
        .filter(|l| l["message"] == "start" && l["pid"] == before.id());
    let images: Vec<_> = older.map(|l| l["image"].as_str()).collect();
    assert_eq!(images.len(), 1, "{images:?}");
    assert!(images[0].is_some_and(|image| image.ends_with("/sleep")));
    assert!(live.iter().all(|l| l["snapshot"] != true));
    drop((first, host));
}
