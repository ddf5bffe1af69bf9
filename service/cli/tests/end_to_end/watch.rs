// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport watch` and what it shows of real processes.

use crate::bench::{Directory, Running, about, fltport, host, is_root, json, watch};
use serde_json::Value;
use std::process::{Command, Stdio};

#[test]
fn the_lines_add_up() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let program = directory.program("target");
    let watch = watch(&directory, &[]);
    let pids: Vec<u64> = (0..100)
        .map(|_| {
            let mut child = Command::new(&program).spawn().unwrap();
            child.wait().unwrap();
            child.id().into()
        })
        .collect();
    let failing = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn();
    let mut failing = failing.unwrap();
    failing.wait().unwrap();
    watch.find("last exit", |line| {
        let line = json(line);
        (line["message"] == "exit" && line["pid"] == failing.id()).then_some(())
    });
    watch.interrupt();
    let ended = watch.end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(
        ended.errors.contains("the ledger balances"),
        "{}",
        ended.errors
    );
    let lines: Vec<Value> = ended.lines.iter().map(|l| json(l)).collect();
    let starts = about(&lines, "start", &program);
    let seen: Vec<u64> = starts.iter().map(|l| l["pid"].as_u64().unwrap()).collect();
    assert_eq!(seen, pids, "each once, in order");
    for start in starts {
        assert_eq!(start["provider"], "process-monitor");
        assert_eq!(start["parent_pid"], std::process::id());
        assert_eq!(start["creating_pid"], std::process::id());
        assert_eq!(start["command_line"], program.to_str().unwrap());
        assert!(start["time"].as_str().unwrap().ends_with('Z'));
        let exits = lines
            .iter()
            .filter(|l| l["message"] == "exit" && l["pid"] == start["pid"]);
        let exits: Vec<&Value> = exits.collect();
        assert_eq!(exits.len(), 1, "{start}");
        assert_eq!(exits[0]["exit_status"], 0);
        assert!(exits[0]["seq"].as_u64() > start["seq"].as_u64());
    }
    let numbers: Vec<u64> = lines.iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted());
    let last = lines
        .iter()
        .find(|l| l["message"] == "exit" && l["pid"] == failing.id());
    assert_eq!(last.map(|l| &l["exit_status"]), Some(&7.into()));
}

#[test]
fn a_denied_image_does_not_start_and_the_others_do() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let (denied, other) = (directory.program("denied-one"), directory.program("other"));
    let watch = watch(&directory, &["--deny", "denied-*"]);
    let refused = Command::new(&denied).status().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(Command::new(&other).status().unwrap().success());
    let verdict = watch.find("verdict", |line| {
        line.contains(denied.to_str().unwrap()).then(|| json(line))
    });
    assert_eq!(verdict["message"], "create");
    assert_eq!(verdict["outcome"], "answered");
    assert_eq!(verdict["deny"], true);
    assert!(verdict["waited_us"].is_u64() && verdict["decider"].is_u64());
    let allowed = watch.find("verdict", |line| {
        line.contains(other.to_str().unwrap()).then(|| json(line))
    });
    assert_eq!(
        (&allowed["message"], &allowed["deny"]),
        (&"create".into(), &false.into())
    );
    watch.interrupt();
    let ended = watch.end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(
        Command::new(&denied).status().unwrap().success(),
        "nobody decides any more"
    );
}

#[test]
fn excluded_images_are_not_shown() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let (quiet, loud) = (directory.program("quiet"), directory.program("loud"));
    let watch = watch(&directory, &["--exclude", "*/quiet", "--exclude", "x"]);
    Command::new(&quiet).status().unwrap();
    Command::new(&loud).status().unwrap();
    watch.find("loud", |line| {
        assert!(!line.contains("/quiet\""), "{line}");
        line.contains("/loud\"").then_some(())
    });
}

#[test]
fn only_what_the_filters_want_is_shown() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let (wanted, other) = (directory.program("Wanted"), directory.program("other"));
    let watch = watch(
        &directory,
        &[
            "--where",
            "start: image ends '/wanted' or image ends case '/sentinel'",
            "--where",
            "process-monitor/exit: exit_status != 0",
            "--where",
            "create: image ends '/wanted'",
        ],
    );
    for _ in 0..20 {
        assert!(Command::new(&other).status().unwrap().success());
    }
    assert!(Command::new(&wanted).status().unwrap().success());
    let failing = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn();
    let mut failing = failing.unwrap();
    failing.wait().unwrap();
    watch.find("the exit", |line| {
        let line = json(line);
        (line["message"] == "exit" && line["pid"] == failing.id()).then_some(())
    });
    watch.interrupt();
    let ended = watch.end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(
        ended.errors.contains("the ledger balances"),
        "{}",
        ended.errors
    );
    let lines: Vec<Value> = ended.lines.iter().map(|l| json(l)).collect();
    assert_eq!(about(&lines, "start", &wanted).len(), 1);
    assert_eq!(about(&lines, "start", &other).len(), 0);
    let exits = lines.iter().filter(|l| l["message"] == "exit");
    exits.for_each(|l| assert_ne!(l["exit_status"], 0));
    // What was left out has no number.
    let numbers: Vec<u64> = lines.iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
}

#[test]
fn a_filter_that_is_none_is_refused_with_the_reason() {
    for (filter, expected) in [
        ("start: imge ends 'x'", "has no field \"imge\""),
        (
            "begin: pid == 4",
            "no provider tells of a message \"begin\"",
        ),
        ("pid == 4", "it does not say which messages it is about"),
    ] {
        let directory = Directory::new();
        let mut command = fltport(&directory);
        command.args(["watch", "--for", "1s", "--where", filter]);
        let ended = Running::start(command).end();
        assert!(!ended.status.success(), "{filter}");
        assert!(ended.errors.contains(expected), "{}", ended.errors);
    }
}

#[test]
fn the_table_is_plain_in_a_pipe_and_ends_with_the_ledger() {
    let directory = Directory::new();
    let mut command = fltport(&directory);
    command.args(["--for", "1s"]);
    let ended = Running::start(command).end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(ended.lines[0].starts_with("time "), "{:?}", ended.lines);
    assert!(!ended.lines.iter().any(|l| l.contains('\u{1b}')));
    let last = ended.lines.last().unwrap();
    assert!(last.contains("ledger"), "{last}");
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let directory = Directory::new();
    let mut command = fltport(&directory);
    command.args(["watch", "--json"]).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    // Every process that starts is a line that cannot be written.
    let status = loop {
        let _seen = Command::new("/bin/true").status();
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_slip_in_a_filter_does_not_lose_what_was_kept() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let program = directory.program("kept");
    assert!(Command::new(&program).status().unwrap().success());
    for (filter, told) in [
        ("strat: pid == 4", "no provider tells of a message"),
        (
            "create: pdi == 4",
            "about \"create\": the filter is wrong at \"pdi\"",
        ),
    ] {
        let mut slip = fltport(&directory);
        slip.args(["watch", "--where", filter]);
        let slip = Running::start(slip).end();
        assert!(!slip.status.success());
        assert!(slip.errors.contains(told), "{}", slip.errors);
    }
    let mut second = fltport(&directory);
    second.args(["watch", "--json"]);
    let second = Running::start(second);
    second.find("what was kept", |line| {
        assert!(!line.contains("disconnected"), "{line}");
        line.contains(program.to_str().unwrap()).then_some(())
    });
    drop(host);
}
