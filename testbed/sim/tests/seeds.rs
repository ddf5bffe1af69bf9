// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeds that have found something stay here, and a seed is the same run wherever it runs.
//!
//! A seed means the same run as long as the plan of a seed and the calls of the drivers stay what
//! they are; one with faults only as long as the program does. What a seed has found gets a test
//! of its own, too, where that can be written without the schedule.

use std::process::{Command, Stdio};

use fltport_sim::plan::{Plan, Size};
use fltport_sim::scenario;
use nt_host::sim;

/// Runs a seed that failed once, when services read by the port only.
fn regression(seed: u64, size: Size) {
    let run = move |seed| scenario::play(seed, &Plan::by_port(seed, size));
    let outcome = sim::explore(seed..seed + 1, run);
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A service that connected during the unload was ended by nobody, and the unload waited for it for
/// ever.
#[test]
fn a_connect_during_the_unload_is_ended() {
    regression(172, Size::Small);
    regression(1627, Size::Full);
}

/// What was kept while a service had let go of its subscription came in front of the backlog that
/// it had not read yet.
#[test]
fn a_second_backlog_comes_behind_the_first() {
    regression(11_012, Size::Full);
    regression(25_112, Size::Full);
}

/// A list of the driver's that was read in two parts showed a backlog, and what it had already been
/// passed on to: a list that fits is read in one.
#[test]
fn a_list_is_of_one_moment() {
    regression(27_703, Size::Full);
}

/// The lines that the program prints about its seeds.
fn fingerprints(arguments: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
        .args(arguments)
        .output()
        .expect("starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text
        .lines()
        .filter_map(|line| line.rsplit_once(", fingerprint "));
    lines.map(|(_, it)| it.to_owned()).collect()
}

#[test]
fn a_seed_is_the_same_run_in_every_process() {
    for size in ["small", "full"] {
        let arguments = [
            "--size", size, "--jobs", "1", "--from", "40", "--seeds", "30",
        ];
        let first = fingerprints(&arguments);
        assert_eq!(first.len(), 1);
        assert_eq!(first, fingerprints(&arguments), "{size}");
    }
}

/// In a process of its own: seeds are counted for all that run in one.
#[test]
fn some_records_come_by_rings() {
    let output = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
        .args(["--jobs", "1", "--seeds", "30"])
        .output()
        .expect("starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let (before, _) = text.split_once(" records by rings").expect("says how many");
    let count = before.rsplit(' ').next().map(str::parse::<u64>);
    assert!(
        count.is_some_and(|it| it.is_ok_and(|it| it > 100)),
        "{text}"
    );
}

#[test]
fn processes_share_the_seeds() {
    let arguments = ["--size", "small", "--jobs", "3", "--seeds", "8"];
    let output = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
        .args(arguments)
        .output()
        .expect("starts");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "seeds 0..3:",
        "seeds 3..6:",
        "seeds 6..8:",
        "8 seeds of the small",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_trace_shows_the_plan_and_every_call() {
    let output = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
        .args(["--size", "small", "--from", "2", "--trace"])
        .output()
        .expect("starts");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "Plan {",
        "a load",
        "FltRegisterFilter",
        "FilterConnectCommunicationPort",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_trace_that_nobody_reads_to_its_end_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
        .args(["--size", "small", "--from", "2", "--trace"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_would_run_no_seed_is_refused() {
    for (arguments, said) in [
        (vec!["--seeds", "0"], "'--seeds <N>'"),
        (vec!["--jobs", "0"], "'--jobs <N>'"),
        (vec!["--from", "18446744073709551615"], "below 2^64"),
        (
            vec!["--trace", "--from", "18446744073709551615"],
            "below 2^64",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
            .args(&arguments)
            .output()
            .expect("starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn the_processes_that_share_seeds_end_with_the_one_that_started_them() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fltport-sim"))
        .args(["--private", "--jobs", "1", "--seeds", "1000000000"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("ends").code(), Some(1));
}
