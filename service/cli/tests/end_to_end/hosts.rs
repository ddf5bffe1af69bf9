// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fltport host`, and the commands that use one.

use crate::bench::{Directory, Running, fltport, host, is_root, json, signal, watch};
use std::process::Command;

fn run(directory: &Directory, arguments: &[&str]) -> crate::bench::Ended {
    let mut command = fltport(directory);
    command.args(arguments);
    Running::start(command).end()
}

#[test]
fn a_running_host_is_used_and_keeps_the_exclusions() {
    let directory = Directory::new();
    let host = host(&directory);
    assert!(run(&directory, &["exclusions"]).lines.is_empty());
    let watched = run(
        &directory,
        &["--for", "200ms", "--exclude", "a", "--exclude", "*/b"],
    );
    assert!(watched.status.success(), "{}", watched.errors);
    assert_eq!(run(&directory, &["exclusions"]).lines, ["a", "*/b"]);
    let first_line = watched.errors.lines().next().unwrap_or_default();
    assert!(first_line.contains("records come by"), "{first_line}");
    let status = run(&directory, &["status", "--json"]);
    let status = json(&status.lines[0]);
    let names = status["providers"].as_array().unwrap();
    assert!(
        names.iter().any(|p| p["name"] == "process-monitor"),
        "{status}"
    );
    assert_eq!(status["connections"][0]["name"], "fltport status");
    let ledger = status["ledger"].as_array().unwrap();
    assert!(
        !ledger.is_empty() && ledger.iter().all(|row| row["balances"] == true),
        "{status}"
    );
    let text = run(&directory, &["status"]);
    assert!(
        text.lines.iter().any(|l| l.contains("rights: observe")),
        "{:?}",
        text.lines
    );
    host.interrupt();
    let ended = host.end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(!directory.0.join("host.sock").exists());
    assert!(!directory.0.join("host.sock.lock").exists());
}

#[test]
fn records_come_by_rings_and_the_operator_sees_how_full_they_are() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let watched = watch(&directory, &[]);
    let status = run(&directory, &["status", "--json"]);
    let status = json(&status.lines[0]);
    let of_watch = &status["connections"][0];
    assert_eq!(of_watch["name"], "fltport watch");
    // Who only asks has none.
    let rings = status["rings"].as_array().unwrap();
    assert!(!rings.is_empty());
    let mut records = 0;
    for row in rings {
        assert_eq!(row["connection"], of_watch["number"], "{status}");
        assert_eq!(row["nonsense"], 0, "{status}");
        assert!(row["used_peak"].as_u64() <= row["ring_bytes"].as_u64());
        records += row["records"].as_u64().unwrap();
    }
    assert!(records > 0, "{status}");
    let text = run(&directory, &["status"]).lines;
    let told = match rings.len() {
        1 => ", 1 ring of ".to_owned(),
        count => format!(", {count} rings of "),
    };
    assert!(text.iter().any(|line| line.contains(&told)), "{text:?}");
    let ended = {
        watched.interrupt();
        watched.end()
    };
    let first_line = ended.errors.lines().next().unwrap_or_default();
    assert!(first_line.contains("records come by"), "{first_line}");
    drop(host);
}

#[test]
fn a_second_host_is_refused_with_the_reason() {
    let directory = Directory::new();
    let first = host(&directory);
    let second = run(&directory, &["host"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(second.errors.contains("listens at"), "{}", second.errors);
    drop(first);
}

#[test]
fn the_death_of_the_host_is_told() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let host = host(&directory);
    let watch = watch(&directory, &[]);
    signal(host.child.id(), "KILL");
    let ended = watch.end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.errors.contains("fltport: the connection has ended"),
        "{}",
        ended.errors
    );
    // Its socket's file is left over; the next host replaces it.
    drop(host);
    drop(crate::bench::host(&directory));
}

#[test]
fn a_private_host_ends_with_its_command_even_if_that_is_killed() {
    if !is_root() {
        return;
    }
    let directory = Directory::new();
    let mut watch = watch(&directory, &[]);
    let children = format!("/proc/{0}/task/{0}/children", watch.child.id());
    let host: u32 = std::fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    watch.child.kill().unwrap();
    watch.child.wait().unwrap();
    let gone = (0..600).any(|_| {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        !std::path::Path::new(&format!("/proc/{host}/exe")).exists()
    });
    assert!(gone, "the host {host} runs on");
    assert!(Command::new("/bin/true").status().unwrap().success());
}

#[test]
fn wrong_arguments_and_wrong_places_are_told() {
    let directory = Directory::new();
    let usage = run(&directory, &["watch", "--for", "5 parsecs"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(usage.errors.contains("ms, s, m or h"), "{}", usage.errors);
    let nowhere = run(&directory, &["status", "--socket", "/nonexistent/x.sock"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        nowhere
            .errors
            .starts_with("fltport: no hosted kernel listens at /nonexistent"),
        "{}",
        nowhere.errors
    );
    let deep = directory.0.join("missing/run/host.sock");
    let deep = run(&directory, &["host", "--socket", deep.to_str().unwrap()]);
    assert_eq!(deep.status.code(), Some(1));
    assert!(
        deep.errors.contains("there is no directory"),
        "{}",
        deep.errors
    );
    assert!(!directory.0.join("missing").exists());
    let helped = run(&directory, &["--help"]);
    assert!(helped.status.success());
    assert!(helped.lines.iter().any(|l| l.contains("exclusions")));
}

#[test]
fn a_host_that_stops_at_the_first_report_has_none() {
    let directory = Directory::new();
    let mut command = fltport(&directory);
    command.args(["host", "--verifier", "bugcheck"]);
    let host = Running::start(command);
    host.find("ready line", |line| line.contains("listens").then_some(()));
    let watched = run(&directory, &["--for", "200ms"]);
    assert!(watched.status.success(), "{}", watched.errors);
    host.interrupt();
    let ended = host.end();
    assert!(ended.status.success(), "{}", ended.errors);
    assert!(!ended.errors.contains("*** STOP"), "{}", ended.errors);
    let private = run(
        &directory,
        &["watch", "--for", "200ms", "--verifier", "bugcheck"],
    );
    assert!(private.status.success(), "{}", private.errors);
    let unknown = run(&directory, &["host", "--verifier", "quiet"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.errors.contains("bugcheck"), "{}", unknown.errors);
}
