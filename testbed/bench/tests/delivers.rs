// SPDX-License-Identifier: MIT OR Apache-2.0

//! Each contestant brings everything over, in order and whole, in every way that it can; and the
//! program says what it has done. Nothing here is timed.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// One at a time: all of them run on the same two processors.
static TURN: Mutex<()> = Mutex::new(());

fn bench(arguments: &[&str]) -> Output {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(arguments).output().expect("bench starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two processors are needed for any of it, and the program says so where there is one.
fn is_possible(output: &Output) -> bool {
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("two processors are needed") {
        println!("not tested: {complaint}");
        return false;
    }
    true
}

/// Every line of a check is a number of records, or a contestant that cannot run here.
fn check(name: &str, rows: usize) {
    let output = bench(&["--check", "--only", name]);
    if !is_possible(&output) {
        return;
    }
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    if told.starts_with(&format!("{name}: skipped: ")) {
        println!("not tested: {told}");
        return;
    }
    assert_eq!(told.lines().count(), rows, "{told}");
    for line in told.lines() {
        assert!(line.ends_with(" records"), "{line}");
        let two = line.contains(": 64 B, 2 producers") && !line.contains("nobody");
        assert!(!two || line.ends_with(": 40960 records"), "{line}");
    }
}

#[test]
fn pipe() {
    check("pipe", 7);
}

#[test]
fn seqpacket() {
    check("seqpacket", 7);
}

#[test]
fn eventfd() {
    check("eventfd", 4);
}

#[test]
fn bpf() {
    check("bpf", 16);
}

#[test]
fn bpf_with_a_wake_up_for_64_kib() {
    check("bpf-64k", 6);
}

#[test]
fn bpf_with_a_call_for_each_record() {
    check("bpf-each", 7);
}

#[test]
fn lock_ring() {
    check("lock-ring", 16);
}

#[test]
fn lock_ring_full() {
    check("lock-ring-full", 16);
}

#[test]
fn wintun_ring() {
    check("wintun-ring", 10);
}

#[test]
fn fltport_ring() {
    check("fltport-ring", 16);
}

#[test]
fn rtrb() {
    check("rtrb", 3);
}

#[test]
fn bare_ring() {
    check("bare-ring", 16);
}

#[test]
fn tuned_ring() {
    check("tuned-ring", 16);
}

#[test]
fn a_run_leaves_its_files() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("a-run");
    let path = folder.to_str().expect("a path that is text");
    let output = bench(&[
        "--rounds",
        "1",
        "--seconds",
        "0.01",
        "--only",
        "lock-ring",
        "--output",
        path,
    ]);
    if !is_possible(&output) {
        return;
    }
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("64 B, 2 producers, consumer sleeps when idle"),
        "{told}"
    );
    let json = std::fs::read_to_string(folder.join("results.json")).expect("results.json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let cells = json["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 16);
    for cell in cells {
        assert_eq!(cell["outcomes"].as_array().map(Vec::len), Some(1), "{cell}");
    }
    assert!(folder.join("chart.svg").exists());
}

#[test]
fn the_list_names_everybody() {
    let told = text(&bench(&["--list"]));
    for name in [
        "pipe",
        "seqpacket",
        "eventfd",
        "iceoryx2",
        "bpf",
        "lock-ring",
        "lock-ring-full",
        "fltport-ring",
        "wintun-ring",
        "rtrb",
        "bare-ring",
        "tuned-ring",
    ] {
        assert!(told.lines().any(|line| line.starts_with(name)), "{name}");
    }
}
